# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/tf_runtime/ranks.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""Several devices, one training: each rank has its share of the batch, gradients are averaged.

On NPUs HCCL does the work (npu_bridge); elsewhere TensorFlow's own collectives. One rank needs none
of it. tf.train.Server listens on every network interface without authentication: run several
ranks in a private network only.
"""

import os
import socket
import sys
import threading
import time
import zlib

import tensorflow.compat.v1 as tf
from tensorflow.python.ops import collective_ops

from harness import environment
from harness.errors import UserError
from tf_runtime import npu

TIMEOUT_SECONDS = 40  # longer than any pause that only rank 0 makes (samples, checkpoints)
FIRST_TIMEOUT_SECONDS = 600  # of the first step and what is before it, which may compile
START_SECONDS = 120  # for all ranks to start
STEPS_TO_WAIT = 10  # a lost rank is missed after so many of the slowest steps, if that is longer


class RankError(UserError):
    """A rank that did not start, or was lost."""


def connect(device_name: str) -> "Group":
    """Returns the group that `harness.environment` describes: one rank where RANK_SIZE is not set.

    Raises:
      UserError: if the environment contradicts itself, or lacks what several ranks need.
    """
    rank, size = environment.rank_and_size()
    if size > 1 and device_name == "npu":
        os.environ.setdefault("JOB_ID", "10087")  # npu_bridge asks for one
        environment.check_rank_table(rank, size)
    is_ring = size > 1 and device_name != "npu"
    return Group(rank, size, environment.addresses(size) if is_ring else (), device_name)


class Group:
    """The ranks that train together.

    Attributes:
      rank: this process, 0 to size - 1; only rank 0 writes shared files.
      size: how many ranks there are.
      target: what tf.Session connects to.
    """

    def __init__(self, rank, size, addresses, device_name):
        self.rank, self.size, self.target, self._addresses = rank, size, "", addresses
        self._ring = size > 1 and device_name != "npu"
        kind = "GPU" if device_name == "gpu" else "CPU"
        self._hint = environment.communication(device_name)
        self._device = "/job:worker/replica:0/task:%d/device:%s:0" % (rank, kind)
        self._keys, self._limit = {}, FIRST_TIMEOUT_SECONDS
        self._runs, self._slowest, self._optimizers = 0, 0.0, 0

    def start(self, config: tf.ConfigProto) -> None:
        """Starts this rank's server and waits until every other rank answers.

        Raises:
          RankError: if a rank does not answer within START_SECONDS.
        """
        if not self._ring:
            return
        config.experimental.collective_group_leader = "/job:worker/replica:0/task:0"
        config.experimental.collective_nccl = self._hint == "nccl"
        config.device_filters.append("/job:worker/task:%d" % self.rank)
        cluster = {"worker": list(self._addresses)}
        self.target = tf.train.Server(cluster, "worker", self.rank, config=config).target
        deadline = time.monotonic() + START_SECONDS
        for address in self._addresses:
            while True:
                try:
                    socket.create_connection(tuple(address.rsplit(":", 1)), 2).close()
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        text = "the rank at %s did not start within %d s; see its log"
                        raise RankError(text % (address, START_SECONDS)) from None
                    time.sleep(0.2)

    def _key(self, name):
        key = zlib.crc32(name.encode()) & 0x3FFFFFFF
        if self._keys.setdefault(key, name) != name:
            raise ValueError(
                "collectives %s and %s share a key; rename one" % (name, self._keys[key])
            )
        return key

    def _mean(self, tensor, name, fusion_id=0):
        if not self._ring:
            return npu.sum_over_ranks(tensor, fusion_id) / self.size
        with tf.device(self._device):
            tensor = tf.identity(tensor)
            key = self._key(name)
            return collective_ops.all_reduce(
                tensor, self.size, 1, key, "Add", "Div", communication_hint=self._hint
            )

    def average_gradients(self, gradients, name: str):
        """Returns [(gradient, variable)] with each gradient replaced by its mean over the ranks."""
        if self.size == 1:
            return gradients
        self._optimizers += 1
        number = self._optimizers
        return [(self._mean(g, "%s/%s" % (name, v.op.name), number), v) for g, v in gradients]

    def average_losses(self, losses: dict) -> dict:
        """Returns {name: scalar} with the mean over the ranks of every scalar in `losses`."""
        if self.size == 1:
            return losses
        values = tf.stack(list(losses.values()))
        values = self._mean(values, "losses/" + "/".join(losses))
        return dict(zip(losses, tf.unstack(values, len(losses))))

    def broadcast(self, variables) -> tf.Operation:
        """Returns the operation that gives every rank the variables of rank 0."""
        if self.size == 1:
            return tf.no_op()
        if not self._ring:
            return npu.broadcast(variables)
        done = []
        for variable in variables:
            with tf.device(self._device), tf.control_dependencies(done):
                key = self._key("broadcast/" + variable.op.name)
                words = (variable.shape, variable.dtype.base_dtype, self.size, 1, key)
                if self.rank == 0:
                    sent = collective_ops.broadcast_send(
                        tf.identity(variable), *words, communication_hint="ring"
                    )
                    done = [sent.op]
                else:
                    value = collective_ops.broadcast_recv(*words, communication_hint="ring")
                    done = [tf.assign(variable, value).op]
        return self.guard(tf.group(*done))

    def stop_vote(self):
        """Returns (a placeholder, its mean over the ranks): who wants to stop tells all."""
        mine = tf.placeholder_with_default(tf.constant(0.0), [], name="wants_to_stop")
        if self.size > 1:
            return mine, self._mean(mine, "stop_vote")
        return mine, tf.identity(mine)

    def guard(self, operation) -> tf.Operation:
        """Lets a time-out break a collective that waits for a lost rank (needed on 1.15)."""
        if not self._ring:
            return operation
        queue = tf.FIFOQueue(1, [tf.bool], [[]])
        with tf.control_dependencies([operation]):
            put = queue.enqueue(True)
        return tf.group(operation, put, queue.dequeue())

    def run(self, session, fetches, feed=None):
        """Runs `fetches`; with several ranks it fails with RankError when one of them is lost."""
        if not self._ring:
            return session.run(fetches, feed)
        # On 1.15 and before the ranks have met, TensorFlow's own limit may do nothing.
        watch = threading.Timer(1.5 * self._limit, self._give_up)
        watch.daemon = True
        watch.start()
        limit = tf.RunOptions(timeout_in_ms=int(1000 * self._limit))
        lost = (
            tf.errors.DeadlineExceededError,
            tf.errors.UnavailableError,
            tf.errors.CancelledError,
        )
        begin = time.monotonic()
        try:
            values = session.run(fetches, feed, options=limit)
            self._slowest = max(self._slowest, time.monotonic() - begin)
            self._runs += 1
            if self._runs > 1:  # the variables were shared, and a step was made
                self._limit = max(TIMEOUT_SECONDS, STEPS_TO_WAIT * self._slowest)
            return values
        except lost as error:
            raise RankError(self._loss(type(error).__name__)) from error
        finally:
            watch.cancel()

    def _loss(self, why) -> str:
        text = "rank %d lost another rank (%s); see the other logs, then start all ranks again "
        return (text + "with --continue_train to go on from the last checkpoint") % (self.rank, why)

    def _give_up(self):
        """Ends the process, as its main thread is inside TensorFlow for good."""
        sentence = self._loss("no answer for %.0f s" % (1.5 * self._limit))
        print("%s: error: %s" % (os.path.basename(sys.argv[0]), sentence), file=sys.stderr)
        sys.stderr.flush()
        os._exit(1)
