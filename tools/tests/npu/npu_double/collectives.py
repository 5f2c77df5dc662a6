# SPDX-License-Identifier: Apache-2.0
"""Collectives over processes on one machine: every value is a file in NPU_BRIDGE_EXCHANGE.

A collective is known by its number in its graph, so the ranks must make the same ones in the same
order. HCCL also needs them to be started in one order on all ranks, which is for the compiler to
see to and is not compared: here each waits in a thread of its own, and any order will do.
"""

import os
import time

import numpy as np
import tensorflow.compat.v1 as tf

from npu_double import ContractError, table
from npu_double import fusion as fusions
from npu_double.record import record
from npu_double.world import rank_and_size

TIMEOUT_SECONDS = 300
POLL_SECONDS = 0.002
REDUCTIONS = {"sum": np.add, "prod": np.multiply, "min": np.minimum, "max": np.maximum}
REDUCED = ("int8", "int16", "int32", "float16", "float32")
SENT = {"r1.5": REDUCED, "r1.10": REDUCED + ("int64",), "master": REDUCED + ("int64",)}
WORLD = "hccl_world_group"
START = "NPU_BRIDGE_START"  # how often this process has begun anew, by exec
os.environ[START] = str(int(os.environ.get(START, "0")) + 1)


def _meet(key: str, value: np.ndarray) -> list:
    """Returns the values of all ranks for `key`, in the order of the ranks.

    Raises:
      ContractError: if a rank does not come, or brings another type or shape.
    """
    rank, size = rank_and_size()
    folder = os.environ.get("NPU_BRIDGE_EXCHANGE")
    if not folder:
        raise ContractError("RANK_SIZE %d needs NPU_BRIDGE_EXCHANGE, an empty folder" % size)
    paths = [os.path.join(folder, "%s.%d.npy" % (key, other)) for other in range(size)]
    if os.path.exists(paths[rank]):
        raise ContractError("%s is in use; give NPU_BRIDGE_EXCHANGE an empty folder" % folder)
    hidden = paths[rank] + ".tmp"
    with open(hidden, "wb") as file:
        np.save(file, value)
    os.rename(hidden, paths[rank])
    deadline, values = time.monotonic() + TIMEOUT_SECONDS, []
    for other, path in enumerate(paths):
        while not os.path.exists(path):
            if time.monotonic() > deadline:
                text = "rank %d waited %d s for rank %d at collective %s"
                raise ContractError(text % (rank, TIMEOUT_SECONDS, other, key))
            time.sleep(POLL_SECONDS)
        values.append(np.load(path))
        if (values[-1].dtype, values[-1].shape) != (value.dtype, value.shape):
            text = "collective %s: %s %s on rank %d, %s %s on rank %d"
            theirs = (values[-1].dtype, values[-1].shape, other)
            raise ContractError(text % ((key, value.dtype, value.shape, rank) + theirs))
    return values


def _collective(name, tensor, combine, fused):
    """Returns the tensor that `combine` makes of the values of all ranks.

    Args:
      name: of the operation on an NPU.
      tensor: this rank's value.
      combine: a function of the list of all ranks' values.
      fused: (fusion, fusion_id).
    """
    record(name, {"tensor": tensor, "fusion": fused[0], "fusion_id": fused[1]})
    number = fusions.count(tensor.graph) + 1
    form = "%s_%s_%d_fusion_%d_%d_run_%%d" % ((os.environ[START], name, number) + fused)
    calls = []

    def run(value):
        calls.append(None)
        values = _meet(form % len(calls), value)
        if len(calls) > 1:  # all have read what was written the time before
            before = "%s.%d.npy" % (form % (len(calls) - 1), rank_and_size()[0])
            os.remove(os.path.join(os.environ["NPU_BRIDGE_EXCHANGE"], before))
        return np.asarray(combine(values), value.dtype)

    result = tf.numpy_function(run, [tensor], tensor.dtype.base_dtype, name=name)
    result.set_shape(tensor.shape)
    fusions.note(result.op, name, fused)
    return result


def _check_type(name, tensor, types):
    if tensor.dtype.base_dtype.name not in types:
        text = "%s of %s in npu_bridge %s: the types are %s"
        words = (name, tensor.dtype.base_dtype.name, table.release(), ", ".join(types))
        raise TypeError(text % words)


def allreduce(tensor, reduction, fusion=1, fusion_id=-1, group=WORLD):
    """Returns the reduction of `tensor` over all ranks, of a list the list of them."""
    if isinstance(tensor, (list, tuple)):
        return [allreduce(one, reduction, fusion, fusion_id, group) for one in tensor]
    _check_type("HcomAllReduce", tensor, REDUCED)
    fusions.check_arguments(fusion, fusion_id)
    if reduction not in REDUCTIONS:
        text = "allreduce with reduction %r: it must be one of %s"
        raise ValueError(text % (reduction, ", ".join(sorted(REDUCTIONS))))
    if rank_and_size()[1] == 1:
        return tf.identity(tensor)
    combine = REDUCTIONS[reduction].reduce
    return _collective("HcomAllReduce", tensor, combine, (fusion, fusion_id))


def broadcast(tensor, root_rank, fusion=2, fusion_id=0, group=WORLD):
    """Returns the list of the root's values of a list of tensors."""
    if not isinstance(tensor, (list, tuple)):
        raise TypeError("broadcast of %s: it must be a list of tensors" % type(tensor).__name__)
    size, fused = rank_and_size()[1], (fusion, fusion_id)
    fusions.check_arguments(*fused)
    if not 0 <= root_rank < size:
        raise ValueError("broadcast from root_rank %s of %d ranks" % (root_rank, size))
    for one in tensor:
        _check_type("HcomBroadcast", one, SENT[table.release()])
    if size == 1:
        return [tf.identity(one) for one in tensor]
    return [_collective("HcomBroadcast", one, lambda v: v[root_rank], fused) for one in tensor]


class NPUDistributedOptimizer(tf.train.Optimizer):
    """Averages the gradients of another optimiser over the ranks."""

    def __init__(self, optimizer, is_weight_update_sharding=False, name=None):
        super().__init__(False, name or "Distributed" + type(optimizer).__name__)
        if is_weight_update_sharding:
            raise NotImplementedError("the double does not simulate is_weight_update_sharding")
        self._optimizer = optimizer

    def compute_gradients(self, *words, **options):
        """Returns [(mean gradient or None, variable)]."""
        gradients = self._optimizer.compute_gradients(*words, **options)
        size = rank_and_size()[1]
        if size == 1:
            return gradients
        if os.environ.get("JOB_ID") is None:
            raise AttributeError("RANK_SIZE %d needs JOB_ID in the environment" % size)
        return [(None if g is None else self._mean(g, size), v) for g, v in gradients]

    @staticmethod
    def _mean(gradient, size):
        if isinstance(gradient, tf.IndexedSlices):
            raise NotImplementedError("the double does not average IndexedSlices")
        return allreduce(gradient, "sum") / size

    def apply_gradients(self, grads_and_vars, global_step=None, name=None):
        """As the other optimiser."""
        return self._optimizer.apply_gradients(grads_and_vars, global_step, name)

    def get_slot(self, *words, **options):
        """As the other optimiser."""
        return self._optimizer.get_slot(*words, **options)

    def get_slot_names(self, *words, **options):
        """As the other optimiser."""
        return self._optimizer.get_slot_names(*words, **options)

    def variables(self, *words, **options):
        """As the other optimiser."""
        return self._optimizer.variables(*words, **options)


def npu_tf_optimizer(opt):
    """Returns `opt` in an NPUDistributedOptimizer."""
    return NPUDistributedOptimizer(opt)
