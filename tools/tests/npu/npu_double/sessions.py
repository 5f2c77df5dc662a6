# SPDX-License-Identifier: Apache-2.0
"""Watches tf.Session: checks its NpuOptimizer entry, adds one where npu_init does, records it."""

import os

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.python.client import session

from npu_double import ContractError, fusion, rules, table, world
from npu_double.record import record

ENTRY = "NpuOptimizer"
_originals, _imported = {}, []


def watch() -> None:
    """Begins to watch; a second time does nothing."""
    for kind in (session.Session, session.InteractiveSession):
        if kind not in _originals:
            _originals[kind] = kind.__init__, kind.close
            kind.__init__ = _watched(kind.__init__, kind.__name__)
            kind.close = _closing(kind.close)
    if session.BaseSession not in _originals:
        _originals[session.BaseSession] = session.BaseSession.run
        session.BaseSession.run = _checking(session.BaseSession.run)


def unwatch() -> None:
    """Ends what `watch` and `npu_init_is_imported` began."""
    for kind, original in _originals.items():
        if kind is session.BaseSession:
            kind.run = original
        else:
            kind.__init__, kind.close = original
    _originals.clear()
    _imported.clear()


def npu_init_is_imported() -> None:
    """From now on sessions get an entry, in the releases whose npu_init adds it."""
    _imported.append(True)


def _watched(original, kind):
    def __init__(self, target="", graph=None, config=None):  # noqa: N807
        original(self, target, graph, prepared(config, kind, graph))

    return __init__


def _checking(original):
    """Returns Session.run that first checks the graph's collectives."""

    def run(self, *words, **options):
        fusion.check(self.graph)
        return original(self, *words, **options)

    return run


def _closing(original):
    """Returns Session.close that first writes all variables to NPU_BRIDGE_VALUES, if it is set."""

    def close(self):
        folder = os.environ.get("NPU_BRIDGE_VALUES")
        with self.graph.as_default():
            variables = {variable.op.name: variable for variable in tf.global_variables()}
        if folder and variables:
            path = os.path.join(folder, "rank_%d.npz" % world.rank_and_size()[0])
            np.savez(path, **self.run(variables))
        original(self)

    return close


def prepared(config, kind="Session", graph=None) -> tf.ConfigProto:
    """Returns the configuration that a session is made with.

    r1.5 runs a session without an entry on the host; that is recorded, not refused.

    Raises:
      ContractError: if the entry, or what is needed beside it, is wrong.
    """
    release, before = table.release(), config
    config = tf.ConfigProto()
    if before is not None:
        config.CopyFrom(before)
    rewrite = config.graph_options.rewrite_options
    entries = [entry for entry in rewrite.custom_optimizers if entry.name == ENTRY]
    if len(entries) > 1:
        raise ContractError("%d entries %s in one session" % (len(entries), ENTRY))
    added = not entries and bool(_imported) and release != "r1.5"
    if added:
        entries = [rewrite.custom_optimizers.add()]
        entries[0].name = ENTRY
        rewrite.remapping = rewrite.memory_optimization = rules.OFF
        config.allow_soft_placement = True
        config.graph_options.optimizer_options.global_jit_level = tf.OptimizerOptions.OFF
    values = rules.values_of(entries[0], release) if entries else {}
    how = "added" if added else "given" if entries else "none"
    record("tf." + kind, keys=values, entry=how, runs_on="device" if entries else "host")
    if entries:
        rules.check(values, release)
        rules.check_rewrites(rewrite)
        world.check()
    if world.rank_and_size()[1] > 1:
        # A collective waits in a thread of its own, so that any order on the ranks will do.
        config.use_per_session_threads = True
        config.inter_op_parallelism_threads = fusion.count(graph or tf.get_default_graph()) + 8
    return config
