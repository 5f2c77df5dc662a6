# SPDX-License-Identifier: Apache-2.0
"""The double of npu_bridge in the process of a test."""

import importlib
import json
import os

import pytest
import tensorflow.compat.v1 as tf

HERE = os.path.dirname(os.path.abspath(__file__))
RELEASES = ("r1.5", "r1.10", "master")
MANAGER = "npu_loss_scale_manager"


class Bridge:
    """The double of one release in this process."""

    def __init__(self, record):
        self._record = str(record)

    def __call__(self, module):
        """Returns the module npu_bridge.`module`, which may be the last part of its name."""
        short = ("npu_optimizer", MANAGER, "npu_loss_scale_optimizer", "npu_config")
        prefix = "estimator.npu." if module in short else ""
        return importlib.import_module("npu_bridge." + prefix + module)

    def calls(self):
        """Returns what was recorded."""
        with open(self._record) as file:
            return [json.loads(line) for line in file]


@pytest.fixture(name="bridge")
def bridge_in_process(monkeypatch, tmp_path):
    """A function of a release: its double; undone at the end."""
    monkeypatch.syspath_prepend(HERE)
    for name in ("RANK_SIZE", "RANK_ID", "JOB_ID", "RANK_TABLE_FILE", "CM_WORKER_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("OVERFLOW", "INF_NAN", "EXCHANGE", "VALUES"):
        monkeypatch.delenv("NPU_BRIDGE_" + name, raising=False)
    monkeypatch.setenv("NPU_BRIDGE_RECORD", str(tmp_path / "calls.jsonl"))
    modules = importlib.import_module("npu_double.modules")

    def load(release):
        monkeypatch.setenv("NPU_BRIDGE_RELEASE", release)
        importlib.import_module("npu_bridge")
        return Bridge(tmp_path / "calls.jsonl")

    with tf.Graph().as_default():
        yield load
    modules.stop()
