# SPDX-License-Identifier: Apache-2.0
"""ci/calibration.py: rates are work over median time, measured with another Python."""

import itertools
import json
import os
import sys

import calibration
import pytest

RATES = {"matmul_gflops": 100.5, "copy_gbytes": 20.25, "float32": 150.5}


def write_python(tmp_path, text):
    """Returns the path of a program that stands in for an environment's Python."""
    path = tmp_path / "python"
    path.write_text(f"#!{sys.executable}\nimport sys\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_rate_is_the_median_of_at_least_five_calls(monkeypatch):
    durations = itertools.chain([9.0], [0.5, 0.1, 0.2, 0.1, 0.9], itertools.repeat(7.0))
    clock = [0.0]
    monkeypatch.setattr(calibration.time, "perf_counter", lambda: clock[0])

    def work():
        clock[0] += next(durations)

    assert calibration.median_seconds(work, seconds=1.0) == pytest.approx(0.2)


def test_short_work_is_repeated_until_the_time_is_over(monkeypatch):
    clock, calls = [0.0], []
    monkeypatch.setattr(calibration.time, "perf_counter", lambda: clock[0])

    def work():
        calls.append(clock[0])
        clock[0] += 0.125

    assert calibration.median_seconds(work, seconds=2.0) == 0.125
    assert len(calls) == 17


def test_the_matrix_product_and_the_copy_have_rates_of_this_world():
    assert 0.1 < calibration.matmul_gflops(seconds=0.05, size=256) < 1e5
    assert 0.1 < calibration.copy_gbytes(seconds=0.05, size=2**22) < 1e5


def test_the_convolution_counts_a_multiplication_and_an_addition_a_weight():
    assert calibration.CONVOLUTION_FLOPS == 2 * 64 * 64 * 128 * (3 * 3 * 128)


def test_the_rates_come_from_the_python_that_is_named(tmp_path):
    text = f"print('hello')\nprint(sys.argv[2])\nprint({json.dumps(RATES)!r})"
    python = write_python(tmp_path, text)
    assert calibration.rates(python, "tensorflow") == RATES


def test_a_python_without_the_framework_is_told_with_its_last_words(tmp_path):
    python = write_python(tmp_path, "sys.exit('No module named tensorflow')")
    with pytest.raises(RuntimeError, match="ended with 1:\nNo module named tensorflow"):
        calibration.rates(python, "tensorflow")


@pytest.mark.skipif(not os.environ.get("TF2_PYTHON"), reason="TF2_PYTHON names no environment")
def test_tensorflow_has_a_rate_for_each_precision_of_this_cpu():
    found = calibration.rates(os.environ["TF2_PYTHON"], "tensorflow")
    wanted = {"matmul_gflops", "copy_gbytes", "float32"}
    assert found.keys() == wanted | ({"bfloat16"} if calibration.has_bfloat16() else set())
    assert min(found.values()) > 0
