# SPDX-License-Identifier: Apache-2.0
"""The lines that a case prints and leaves."""

import pytest

from harness import results

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
