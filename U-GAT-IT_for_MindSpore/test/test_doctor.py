# SPDX-License-Identifier: Apache-2.0
"""The doctor in this folder: it tries five steps, and leaves what is there as it was."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest
from conftest import DATASET, FOLDER, TINY

pytestmark = pytest.mark.skipif(
    not importlib.util.find_spec("mindspore") or sys.version_info < (3, 8),
    reason="the MindSpore that trains is not installed",
)


def ask(*words):
    """Returns (exit status, the JSON) of the doctor; run like a person does, in the folder."""
    command = [sys.executable, "-m", "harness.doctor", "--json"] + list(map(str, words))
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, check=False)
    assert done.stdout, done.stderr.decode()
    return done.returncode, json.loads(done.stdout.decode())


def test_what_thirty_epochs_take_is_known_from_five_steps(shapes, tmp_path):
    out = tmp_path / "out"
    words = ["--data_path=" + shapes, "--output_path", out, "--epoch=30"]
    status, values = ask(*(words + TINY))
    assert status == 0, values["problem"]
    training, weights = values["measured"]["runs"]
    assert (training["steps"], training["tried"]) == (450, 5)
    first, each = training["first_step_seconds"], training["seconds_per_step"]
    assert values["measured"]["seconds"] == pytest.approx(first + 449 * each)
    assert weights["disk_bytes"] > 2**12
    assert weights["disk_bytes"] % 4 == 0  # the latest, and those of the epochs 10, 20 and 30
    found = {one["topic"]: one["text"] for one in values["findings"]}
    assert "trainA 4, trainB 5" in found["data"]
    assert "device CPU, float32, PyNative" in found["device"]
    assert not out.exists()
    assert not [name for name in os.listdir(str(tmp_path)) if name.startswith(".doctor-")]


def test_a_run_with_other_settings_cannot_go_on(shapes, tmp_path):
    folder = tmp_path / "out" / "results" / DATASET / "checkpoint"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"must_agree": {"lr": 0.5}}')
    words = ["--data_path=" + shapes, "--output_path", tmp_path / "out", "--continue_train"]
    status, values = ask(*(words + TINY))
    assert status == 1
    assert values["problem"]["topic"] == "run"
    assert "--lr was 0.5 and is 0.0001" in values["problem"]["text"]
