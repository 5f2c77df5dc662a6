# SPDX-License-Identifier: Apache-2.0
"""Puts the check scripts on the import path of their tests; folders that only pretend to train."""

import json
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import performance_cases
import performance_results
import performance_run
import scripts
import timing

NAME = "Pix2Pix_ID0359_for_TensorFlow"
RATES = {"matmul_gflops": 80.0, "copy_gbytes": 20.0, "float32": 160.0, "bfloat16": 320.0}
GOOD = {"seconds": 0.2, "first": 1.0, "infer": 0.05, "memory": 900, "gflop": 50, "waiting": 0.01}
GOOD.update(time=1.0, space=1.0)  # exponents of growth
SPEED = """
import json, sys
values = json.loads({values!r})
options = dict(word[2:].split("=", 1) for word in sys.argv[2:])
what = "infer" if sys.argv[1] == "infer" else "seconds"
batch, side = int(options.get("batch_size", 1)), int(options.get("fine_size", 256))
size = batch * (side / 256) ** 2
mixed = options["precision_mode"] != "force_fp32"
print("device: cpu")
print(json.dumps({{
    "seconds": [values[what] * size ** values["time"]] * int(options["count"]),
    "first_seconds": values["first"], "images": batch,
    "flops": int(values["gflop"] * 1e9), "precision": "bfloat16" if mixed else "float32",
    "base_memory_mb": 500, "peak_memory_mb": 500 + values["memory"] * size ** values["space"],
}}))
"""
SCRIPT = """
output=$(printf '%s\\n' "$@" | sed -n 's/^--output_path=//p')
mkdir -p "$output/run"
echo '{{"run_folder": "run"}}' > "$output/case.json"
echo '{{"seconds_per_step": {seconds}, "first_step_seconds": {first}, "images_per_second": 9}}' \\
    > "$output/result.json"
echo '{{"peak_memory_mb": {memory}, "share_of_time_waiting_for_data": {waiting}}}' \\
    > "$output/run/training.json"
"""


def has_ended(pid, seconds=10):
    """Returns whether a process ends within some seconds; one that nobody waits for has."""
    state = Path("/proc", pid, "stat")
    for _ in range(10 * seconds):
        try:
            if state.read_text().split()[2] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.1)
    return False


def write_folder(top, **changed):
    """Returns a folder that pretends to be a model's, as GOOD but for `changed`."""
    values, folder = dict(GOOD, **changed), top / NAME
    (folder / "test").mkdir(parents=True, exist_ok=True)
    (folder / "test" / "speed.py").write_text(SPEED.format(values=json.dumps(values)))
    (folder / "test" / "train_performance_1p.sh").write_text(SCRIPT.format(**values))
    return folder


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Returns a function that measures a pretended folder: (status, {value: verdict}).

    The folder is tmp_path / NAME, its reports are in tmp_path / "out".
    """
    environment = scripts.Environment("tf2", Path(sys.executable), "tensorflow")
    monkeypatch.setattr(scripts, "environment_of", lambda name, tf1: environment)
    monkeypatch.setattr(timing, "rates", lambda environment: RATES)
    monkeypatch.setattr(performance_cases.drawing, "draw", lambda name, folder: folder)
    monkeypatch.setattr(performance_results.calibration, "has_bfloat16", lambda: True)
    monkeypatch.setattr(performance_run.os, "sched_setaffinity", lambda pid, cores: None)
    output = tmp_path / "out"

    def measure(*words, **changed):
        folder = write_folder(tmp_path, **changed)
        base = ["performance.py", str(folder), f"--output={output}", "--repeats=2", "--count=2"]
        monkeypatch.setattr(sys, "argv", [*base, f"--baselines={tmp_path / 'b.json'}", *words])
        status = performance_run.main("what it says")
        capsys.readouterr()
        found = json.loads((output / "results.json").read_text())["verdicts"]
        return status, {one["measured"]["name"][len("tf2/Pix2Pix/") :]: one for one in found}

    return measure
