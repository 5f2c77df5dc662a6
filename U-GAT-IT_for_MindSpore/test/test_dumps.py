# SPDX-License-Identifier: Apache-2.0
"""Dumps: the wishes that MindSpore reads, that it follows them, and wishes that contradict."""

import json
import os
import subprocess
import sys

import pytest
from conftest import FOLDER

from harness.errors import UserError
from ugatit import dumps
from ugatit.config import Config

PROGRAM = """
import sys
import numpy as np
from ugatit import device
from ugatit.config import Config
device.prepare(Config(device="CPU", data_dump_flag=True, data_dump_step="1", data_dump_path="dump"))
import mindspore as ms
ms.set_context(device_target="CPU", mode=ms.GRAPH_MODE)
network, rng = ms.nn.Dense(3, 4), np.random.RandomState(0)
for _ in range(3):
    network(ms.Tensor(rng.rand(2, 3).astype(np.float32)))
"""


def test_the_wished_step_of_a_graph_is_dumped(tmp_path):
    environment = dict(os.environ, PYTHONPATH=str(FOLDER))
    subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, env=environment, check=True)
    steps = {path.parent.name for path in tmp_path.glob("dump/rank_0/ugatit/*/*/*.npy")}
    assert steps == {"1"}, sorted(map(str, tmp_path.rglob("*")))


def test_overflows_are_asked_for_in_every_step(tmp_path, monkeypatch):
    monkeypatch.setenv("MINDSPORE_DUMP_CONFIG", "")
    dumps.request(Config(over_dump=True, over_dump_path=str(tmp_path / "over")))
    assert os.environ["MINDSPORE_DUMP_CONFIG"] == str(tmp_path / "over" / "dump.json")
    wishes = json.loads((tmp_path / "over" / "dump.json").read_text())["common_dump_settings"]
    assert (wishes["op_debug_mode"], wishes["iteration"]) == (3, "all")
    assert wishes["path"] == str(tmp_path / "over")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"over_dump": True}, "share one dump; choose one"),
        ({"mode": "pynative"}, "--mode pynative: only graphs can be dumped"),
    ],
)
def test_wishes_that_contradict_are_an_error(tmp_path, options, sentence):
    with pytest.raises(UserError, match=sentence):
        dumps.request(Config(data_dump_flag=True, data_dump_path=str(tmp_path / "d"), **options))
    assert not (tmp_path / "d").exists()
