# SPDX-License-Identifier: Apache-2.0
"""The doctor in this folder: it tries five steps, and leaves what is there as it was."""

import json
import os
import subprocess
import sys

import pytest
from conftest import FOLDER, TINY, draw_set

SETTINGS = ["--epoch=4", "--save_epoch_freq=2", "--keep_checkpoints=2"] + TINY


def ask(*words, **environment):
    """Returns (exit status, the JSON) of the doctor; run like a person does, in the folder."""
    command = [sys.executable, "-m", "harness.doctor", "--json"] + list(map(str, words))
    environment = dict(os.environ, **environment)
    done = subprocess.run(command, cwd=FOLDER, env=environment, capture_output=True, check=False)
    assert done.stdout, done.stderr.decode()
    return done.returncode, json.loads(done.stdout.decode())


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return draw_set(tmp_path_factory.mktemp("数据 集") / "my pairs")


def _state(values, topic):
    return [one["state"] for one in values["findings"] if one["topic"] == topic]


def test_what_four_epochs_take_is_known_from_five_steps(data, tmp_path):
    mine = tmp_path / "mine"  # an output of the training that lies elsewhere
    words = ["--data_path=" + data, "--output_path", tmp_path / "out", "--checkpoint_dir", mine]
    status, values = ask(*(words + SETTINGS))
    assert status == 0, values["problem"]
    (one,) = values["measured"]["runs"]
    assert (one["steps"], one["tried"]) == (20, 5)
    first, each = one["first_step_seconds"], one["seconds_per_step"]
    assert 0 < each < first
    assert values["measured"]["seconds"] == pytest.approx(first + 19 * each)
    assert values["measured"]["peak_memory_bytes"] > 2**26
    assert one["disk_bytes"] % 4 == 0  # the 2 newest, and those of the epochs 2 and 4
    assert one["disk_bytes"] > 4 * 2**16
    assert "5 training pairs" in "".join(f["text"] for f in values["findings"])
    assert _state(values, "device") == ["ok"]
    assert os.listdir(str(tmp_path)) == []


def test_the_trial_tells_what_the_training_would(data, tmp_path):
    words = ["--data_path=" + data, "--output_path", tmp_path / "out", "--fine_size=2816"]
    status, values = ask(*(words + ["--load_size=2900", "--batch_size=6"] + TINY))
    assert status == 1
    assert values["problem"]["topic"] == "data"
    assert "--batch_size 6 on 1 device(s) needs more than the 5" in values["problem"]["text"]


def test_the_device_is_chosen_as_the_training_does(data, tmp_path):
    status, values = ask("--data_path=" + data, "--output_path", tmp_path / "out", "--device=npu")
    assert status == 1
    assert values["problem"]["topic"] == "device"
    assert "npu_bridge is not installed" in values["problem"]["text"]
