# SPDX-License-Identifier: Apache-2.0
"""Loss scaling as of npu_bridge.

A process has one device, and that has one float status. A gradient that is not finite, or that
NPU_BRIDGE_OVERFLOW names, sets it when it has been computed; whichever optimiser reads it next
clears it and leaves out its step. What overflows outside of the gradients does not set it here.

With NPU_BRIDGE_INF_NAN=1 there is no status: each optimiser looks at the gradients that it is to
apply, and those that NPU_BRIDGE_OVERFLOW names are infinite.
"""

import os

import numpy as np
import tensorflow.compat.v1 as tf

from npu_double import ContractError, collectives, table, world
from npu_double.record import record

_status = [False]  # of this process's device


def clear_status() -> None:
    """Forgets an overflow that nothing has read."""
    _status[0] = False


def is_inf_nan_enabled() -> bool:
    """Returns whether the device keeps infinities instead of saturating and setting its status.

    Raises:
      ContractError: if NPU_BRIDGE_INF_NAN asks for it in another release than master.
    """
    enabled = os.environ.get("NPU_BRIDGE_INF_NAN") == "1"
    if enabled and table.release() != "master":
        raise ContractError(
            "NPU_BRIDGE_INF_NAN=1: npu_bridge %s has no such mode" % table.release()
        )
    return enabled


def planned_overflows(scope: str) -> set:
    """Returns the numbers of the applications that overflow, from 1, of the optimiser in `scope`.

    Raises:
      ContractError: if NPU_BRIDGE_OVERFLOW cannot be read.
    """
    text, numbers = os.environ.get("NPU_BRIDGE_OVERFLOW", ""), set()
    here = str(world.rank_and_size()[0])
    for part in filter(None, text.split(";")):
        place, _, words = part.rpartition(":")
        name, _, rank = place.partition("@")
        if not all(word.isdigit() for word in words.split(",")):
            raise ContractError("NPU_BRIDGE_OVERFLOW=%s: it must be like 1,2 or scope:1,2" % text)
        if name in ("", scope) and rank in ("", here):
            numbers.update(map(int, words.split(",")))
    return numbers


class LossScaleManager:
    """Base class of the two."""

    def get_loss_scale(self):
        """Returns the scale as a float32 scalar."""
        raise NotImplementedError

    def update_loss_scale(self, finite_grads):
        """Returns the operation that takes note of a step that was finite, or was not."""
        raise NotImplementedError


class FixedLossScaleManager(LossScaleManager):
    """A scale that stays."""

    def __init__(self, loss_scale, enable_overflow_check=True):
        if loss_scale < 1:
            raise ValueError("loss_scale %s: it must be at least 1" % loss_scale)
        self._loss_scale = tf.convert_to_tensor(loss_scale, tf.float32)
        self._enable_overflow_check = enable_overflow_check

    def get_loss_scale(self):
        """Returns the scale as a float32 scalar."""
        return self._loss_scale

    def update_loss_scale(self, finite_grads):
        """Returns an operation that does nothing."""
        return tf.no_op()

    def get_enable_overflow_check(self):
        """Returns whether a step that overflows is left out."""
        return self._enable_overflow_check


class ExponentialUpdateLossScaleManager(LossScaleManager):
    """A scale that rises after good steps and falls after bad ones, to 1 at the least."""

    def __init__(
        self,
        init_loss_scale,
        incr_every_n_steps,
        decr_every_n_nan_or_inf=2,
        incr_ratio=2,
        decr_ratio=0.8,
    ):
        self._every = (incr_every_n_steps, decr_every_n_nan_or_inf)
        self._ratios = (incr_ratio, decr_ratio)
        first = tf.convert_to_tensor(init_loss_scale, tf.float32)
        self._loss_scale = tf.Variable(first, trainable=False, name="loss_scale")
        self._good = tf.Variable(0, trainable=False, name="good_steps", dtype=tf.int32)
        self._bad = tf.Variable(0, trainable=False, name="bad_steps", dtype=tf.int32)

    def get_loss_scale(self):
        """Returns the scale, a variable."""
        return self._loss_scale

    def update_loss_scale(self, finite_grads):
        """Returns the operation that takes note of a step that was finite, or was not."""
        scale, good, bad = self._loss_scale.read_value(), self._good, self._bad
        risen = scale * self._ratios[0]
        risen = tf.where(tf.is_finite(risen), risen, scale)
        fallen = tf.maximum(1.0, scale * self._ratios[1])
        now_good, now_bad = good.read_value() + 1, bad.read_value() + 1
        is_rise = tf.logical_and(finite_grads, now_good >= self._every[0])
        is_fall = tf.logical_and(tf.logical_not(finite_grads), now_bad >= self._every[1])
        new_scale = tf.where(is_rise, risen, tf.where(is_fall, fallen, scale))
        # A change begins both counts anew; a bad step begins the good ones, a good one no bad ones.
        reset, zero = tf.logical_or(is_rise, is_fall), tf.zeros([], tf.int32)
        new_good = tf.where(tf.logical_or(reset, tf.logical_not(finite_grads)), zero, now_good)
        new_bad = tf.where(reset, zero, tf.where(finite_grads, now_bad - 1, now_bad))
        with tf.control_dependencies([new_scale, new_good, new_bad]):
            pairs = ((self._loss_scale, new_scale), (good, new_good), (bad, new_bad))
            return tf.group(*[tf.assign(variable, value) for variable, value in pairs])


class NPULossScaleOptimizer(tf.train.Optimizer):
    """Scales the loss of another optimiser, and leaves out its steps that overflow."""

    def __init__(self, opt, loss_scale_manager, is_distributed=False):
        super().__init__(False, "NPULossScaleOptimizer")
        if isinstance(opt, NPULossScaleOptimizer):
            raise ContractError(
                "the loss is scaled already; there must be one NPULossScaleOptimizer"
            )
        if not isinstance(loss_scale_manager, LossScaleManager):
            raise ContractError("%r is no loss scale manager" % (loss_scale_manager,))
        size = world.rank_and_size()[1]
        if size > 1 and not is_distributed:
            text = "RANK_SIZE %d needs is_distributed=True, or the ranks leave out different steps"
            raise ContractError(text % size)
        self._opt, self._manager, self._float_status = opt, loss_scale_manager, None
        self._inf_nan = is_inf_nan_enabled()
        self._is_distributed = is_distributed and size > 1
        self._scope, self._calls = tf.get_variable_scope().name, []

    def __getattr__(self, name):
        if table.release() == "r1.5" or name.startswith("__") or "_opt" not in vars(self):
            text = "npu_bridge %s: NPULossScaleOptimizer has no %s"
            raise AttributeError(text % (table.release(), name))
        return getattr(self._opt, name)

    def compute_gradients(
        self,
        loss,
        var_list=None,
        gate_gradients=tf.train.Optimizer.GATE_OP,
        aggregation_method=None,
        colocate_gradients_with_ops=False,
        grad_loss=None,
    ):
        """Returns [(gradient, variable)] of the loss, computed from the scaled loss."""
        loss = loss() if callable(loss) else loss
        scale = self._manager.get_loss_scale()
        if table.release() == "r1.5":
            self._float_status = tf.zeros([1], name="NpuAllocFloatStatus")
        words = (gate_gradients, aggregation_method, colocate_gradients_with_ops, grad_loss)
        scaled = loss * tf.cast(scale, loss.dtype.base_dtype)
        pairs = self._opt.compute_gradients(scaled, var_list, *words)
        factor = self._watch([g for g, _ in pairs if g is not None])
        return [
            (None if g is None else g / tf.cast(scale, g.dtype) * tf.cast(factor, g.dtype), v)
            for g, v in pairs
        ]

    def _watch(self, gradients):
        """Returns the float32 scalar 1; it sets the status if the gradients overflow.

        With inf_nan it is infinity for gradients that are planned to overflow.
        """
        planned = planned_overflows(self._scope)

        def watch(finite):
            self._calls.append(None)
            is_planned = len(self._calls) in planned
            if self._inf_nan:
                return np.float32(np.inf if is_planned else 1)
            _status[0] = _status[0] or is_planned or not finite
            return np.float32(1)

        factor = tf.numpy_function(watch, [self._all_finite(gradients)], tf.float32)
        factor.set_shape([])
        return factor

    @staticmethod
    def _all_finite(gradients):
        return tf.reduce_all([tf.reduce_all(tf.is_finite(g)) for g in gradients])

    def apply_gradients(self, grads_and_vars, global_step=None, name=None):
        """Returns the operation of the step, and of the note that the manager takes of it."""
        pairs = tuple(grads_and_vars)
        fixed = isinstance(self._manager, FixedLossScaleManager)
        if fixed and not self._manager.get_enable_overflow_check():
            return self._opt.apply_gradients(pairs, global_step, name)
        is_finite = self._is_finite([g for g, _ in pairs if g is not None])
        step = tf.cond(
            is_finite,
            lambda: tf.group(self._opt.apply_gradients(pairs, global_step, name)),
            tf.no_op,
        )
        with tf.control_dependencies([step]):  # the scale is in use until here
            return tf.group(step, self._manager.update_loss_scale(is_finite))

    def _is_finite(self, gradients):
        """Returns the bool scalar that scripts fetch: no overflow on any rank."""
        is_v1, release = self._float_status is not None, table.release()
        if release == "r1.5" and not is_v1:
            text = "npu_bridge r1.5: apply_gradients needs compute_gradients of the same object"
            raise ContractError(text)
        if self._inf_nan:
            return self._all_finite(gradients)
        kind, shape = (tf.float32, [1]) if is_v1 else (tf.int32, [8])
        with tf.control_dependencies(gradients):
            op = "NpuGetFloatStatus" if is_v1 else "NpuGetFloatStatusV2"
            status = tf.numpy_function(self._read(kind, shape), [], kind, name=op)
        status.set_shape(shape)
        if self._is_distributed:
            status = collectives.allreduce(status, "sum", fusion=0)
        return tf.reduce_all(tf.equal(status, 0), name="overflow_status_reduce_all")

    def _read(self, kind, shape):
        """Returns the function that reads and clears the device's float status."""
        type_ = kind.as_numpy_dtype

        def read():
            overflow, _status[0] = _status[0], False
            record("float status", scope=self._scope, overflow=overflow)
            return np.full(shape, 1 if overflow else 0, type_)

        return read
