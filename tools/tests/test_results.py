# SPDX-License-Identifier: Apache-2.0
"""The lines that a case prints and leaves."""

import subprocess
import sys
import types

import pytest

from harness import cases, report, results

START = "------------------ %s NOTICE START%s------------------"
END = "------------------ %s NOTICE END------------------"


@pytest.mark.parametrize(
    ("line", "kind", "blank", "text"),
    [
        (
            "tf_adapter/kernels/geop_npu.cc:765] The model has been compiled on the Ascend AI "
            "processor, current graph id is:1",
            "INFO",
            "",
            "INFO, your task have used Ascend NPU, please check your result.",
        ),
        (
            "device: npu, allow_mix_precision",
            "ERROR",
            " ",
            "ERROR, your task haven't used Ascend NPU, please check your npu Migration.",
        ),
    ],
)
def test_the_log_of_a_case_on_an_npu_says_whether_it_was_used(tmp_path, line, kind, blank, text):
    log = tmp_path / "train_0.log"
    log.write_bytes(b"step 1 \xff\n" + line.encode() + b"\n")
    expected = [START % (kind, blank), text, END % kind]
    assert results._npu_notice(str(log)).split("\n") == expected


def test_what_a_case_starts_knows_that_the_case_writes_the_report(tmp_path):
    path = tmp_path / "main.py"
    path.write_text("import os, sys; print(os.environ[%r], sys.argv[1:])" % report.IN_A_CASE)
    case = types.SimpleNamespace(root=str(tmp_path))
    command = cases.program(case, ["main.py", "--phase=train"], "")
    assert subprocess.check_output(command) == b"1 ['--phase=train']\n"
    conda = cases.program(case, ["main.py"], "some")
    assert conda[2:7] == ["conda", "run", "--no-capture-output", "-n", "some"]
    assert sys.executable not in conda
