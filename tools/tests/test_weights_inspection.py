# SPDX-License-Identifier: Apache-2.0
"""`python -m tools.weights inspect`: its table, its JSON, and what it says of damaged files."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
from conftest import TOOLS
from test_weights_files import _arrays, _save_checkpoint

from tools.weights import inspection, pytorch


def _inspect(*arguments):
    command = [sys.executable, "-m", "tools.weights", "inspect"] + list(arguments)
    return subprocess.run(command, cwd=os.path.dirname(TOOLS), capture_output=True, text=True)


def test_inspect_prints_a_table_and_json(tmp_path):
    path = str(tmp_path / "x.pt")
    pytorch.write(path, _arrays())
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    done = _inspect(path)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["kind", "PyTorch"] in lines
    assert ["sha-256", digest] in lines
    assert ["tensors", "3,", "29", "values"] in lines
    assert ["conv/kernel", "2x3x4", "float32", "96"] in lines
    assert ["steps", "one", "number", "int64", "8"] in lines
    content = json.loads(_inspect(path, "--json").stdout)
    assert content["files"] == [{"file": path, "bytes": os.path.getsize(path), "sha256": digest}]
    assert content["values"] == 29
    expected = {"name": "conv/bias", "shape": [4], "type": "float64", "bytes": 32}
    assert content["tensors"][1] == expected


def test_inspect_ends_with_one_sentence_for_a_damaged_file(tmp_path):
    path = str(tmp_path / "x.pt")
    pytorch.write(path, _arrays())
    with open(path, "r+b") as file:
        file.truncate(300)
    done = _inspect(path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "x.pt is damaged" in done.stderr


def test_a_name_that_would_move_the_cursor_is_shown_as_a_literal(tmp_path):
    path = str(tmp_path / "x.pt")
    pytorch.write(path, {"a\x1b[2J": np.ones(2, np.float32)})
    assert r"'a\x1b[2J'" in inspection.report(path)
    assert "\x1b" not in inspection.report(path)


def test_a_checkpoint_is_inspected_with_all_its_files(tmp_path):
    _save_checkpoint(str(tmp_path / "model-3"), _arrays())
    shutil.copy(str(tmp_path / "model-3.index"), str(tmp_path / "model-33.index"))
    names = [
        os.path.basename(one["file"])
        for one in inspection.contents(str(tmp_path / "model-3"))["files"]
    ]
    assert names == ["model-3.data-00000-of-00001", "model-3.index"]
