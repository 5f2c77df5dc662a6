# SPDX-License-Identifier: Apache-2.0
"""ci/performance.py on folders that only pretend to train: every kind of regression is caught."""

import json
import subprocess
import sys
from pathlib import Path

import growth
import numpy as np
import performance_cases
import performance_run
import pytest
import timing

NAME = "Pix2Pix_ID0359_for_TensorFlow"
RATES = {"matmul_gflops": 80.0, "copy_gbytes": 20.0, "float32": 160.0, "bfloat16": 320.0}
GOOD = {"seconds": 0.2, "memory": 900, "gflop": 50, "waiting": 0.01, "time": 1.0, "space": 1.0}
SPEED = """
import json, sys
values = json.loads({values!r})
options = dict(word[2:].split("=", 1) for word in sys.argv[2:])
batch, side = int(options.get("batch_size", 1)), int(options.get("fine_size", 256))
size = batch * (side / 256) ** 2
mixed = options["precision_mode"] != "force_fp32"
print("device: cpu")
print(json.dumps({{
    "seconds": [values["seconds"] * size ** values["time"]] * int(options["count"]),
    "first_seconds": 5 * values["seconds"], "images": batch,
    "flops": int(values["gflop"] * 1e9), "precision": "bfloat16" if mixed else "float32",
    "base_memory_mb": 500, "peak_memory_mb": 500 + values["memory"] * size ** values["space"],
}}))
"""
SCRIPT = """
output=$(printf '%s\\n' "$@" | sed -n 's/^--output_path=//p')
mkdir -p "$output/run"
echo '{{"run_folder": "run"}}' > "$output/case.json"
echo '{{"seconds_per_step": {seconds}, "first_step_seconds": 1.5, "images_per_second": 9}}' \\
    > "$output/result.json"
echo '{{"peak_memory_mb": {memory}, "share_of_time_waiting_for_data": {waiting}}}' \\
    > "$output/run/training.json"
"""


def write_folder(top, **changed):
    """Returns a folder that pretends to be a model's, as GOOD but for `changed`."""
    values, folder = dict(GOOD, **changed), top / NAME
    (folder / "test").mkdir(parents=True, exist_ok=True)
    (folder / "test" / "speed.py").write_text(SPEED.format(values=json.dumps(values)))
    (folder / "test" / "train_performance_1p.sh").write_text(SCRIPT.format(**values))
    return folder


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Returns a function that measures a pretended folder: (status, {value: status})."""
    environment = ("tf2", sys.executable, "tensorflow")
    monkeypatch.setattr(timing, "environment_of", lambda folder, tf1: environment)
    monkeypatch.setattr(timing, "rates", lambda command: RATES)
    monkeypatch.setattr(performance_cases.drawing, "draw", lambda name, folder: folder)
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


def worse(found):
    return {name for name, one in found.items() if one["status"] == "worse"}


def test_a_run_that_does_as_the_baseline_did_is_ok(run):
    assert run("--update")[0] == 0
    status, found = run()
    assert status == 0
    assert {one["status"] for one in found.values()} == {"ok"}
    whats = {"cost", "first_cost", "memory", "gflop"}
    for step in ("train float32", "train bfloat16", "infer float32", "infer bfloat16"):
        assert {name.split("/")[1] for name in found if name.startswith(step)} == whats
    assert found["train float32/cost"]["measured"]["value"] == pytest.approx(0.2 * 160)
    assert found["train bfloat16/cost"]["measured"]["value"] == pytest.approx(0.2 * 320)
    assert found["growth with pixels/time exponent"]["measured"]["value"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("changed", "caught"),
    [
        ({"seconds": 0.3}, {"train float32/cost", "infer bfloat16/cost", "case/cost"}),
        ({"memory": 1100}, {"train float32/memory", "case/memory"}),
        ({"gflop": 50.5}, {"train float32/gflop", "infer float32/gflop"}),
        ({"waiting": 0.4}, {"case/waiting"}),
        ({"time": 1.4}, {f"growth with {axis}/time exponent" for axis in ("batch", "pixels")}),
        ({"space": 1.3}, {f"growth with {axis}/memory exponent" for axis in ("batch", "pixels")}),
    ],
)
def test_every_kind_of_regression_is_caught(run, changed, caught):
    run("--update")
    status, found = run(**changed)
    assert status == 1
    assert caught <= worse(found)
    kinds = {name.rsplit("/", 1)[1] for name in caught}
    assert {name.rsplit("/", 1)[1] for name in worse(found)} == kinds


def test_fewer_operations_are_a_change_too(run):
    run("--update", "--only", "steps")
    assert "train float32/gflop" in worse(run("--only", "steps", gflop=49)[1])


def test_what_is_faster_is_no_failure(run):
    run("--update", "--only", "steps")
    status, found = run("--only", "steps", seconds=0.1)
    assert status == 0
    assert found["train float32/cost"]["status"] == "better"


def test_the_same_step_on_a_slower_machine_is_ok(run, monkeypatch):
    run("--update", "--only", "steps", "cases")
    monkeypatch.setattr(timing, "rates", lambda command: {k: v / 3 for k, v in RATES.items()})
    assert run("--only", "steps", "cases", seconds=0.6)[0] == 0
    assert run("--only", "steps", "cases", seconds=0.2)[1]["case/cost"]["status"] == "better"


def test_a_program_that_fails_is_a_verdict_and_does_not_end_the_others(run, tmp_path):
    folder = write_folder(tmp_path)
    script = folder / "test" / "train_performance_1p.sh"
    original = performance_cases.run_script

    def broken(where, *more):
        script.write_text("echo 'no such data' >&2; exit 3")
        return original(where, *more)

    performance_cases.run_script = broken
    try:
        status, found = run("--only", "cases", "steps")
    finally:
        performance_cases.run_script = original
    assert status == 1
    assert found["case/cost"]["status"] == "failed"
    assert "ended with 3: no such data" in found["case/cost"]["measured"]["note"]
    assert found["train float32/cost"]["status"] == "new"


def test_a_command_of_versus_takes_its_turn(run, tmp_path, monkeypatch):
    text = 'print(\'{"sec_per_step": 0.25, "images_per_step": 2, "peak_rss_mb": 7}\')'
    (tmp_path / "other.py").write_text(text)
    words = [f"--versus=other={sys.executable} {tmp_path / 'other.py'}", "--only", "steps"]
    path = tmp_path / "figures.json"
    assert run(*words, f"--json={path}")[0] == 0
    row = json.loads(path.read_text())["steps"]["tf2/other"]
    assert row["seconds_per_step"]["median"] == 0.25
    assert row["images_per_second"] == 8
    assert (row["peak_memory_mb"], row["repeats"]) == (7, 2)


@pytest.mark.parametrize("exponent", [0.4, 1.0, 1.5, 2.0])
def test_the_exponent_of_a_power_law_is_found_through_noise(exponent):
    rng, sizes = np.random.RandomState(0), [1, 2, 4, 8]
    exact = [3 * size**exponent for size in sizes]
    assert growth.slope(sizes, exact) == pytest.approx(exponent)
    noisy = [value * rng.uniform(0.95, 1.05) for value in exact]
    assert growth.slope(sizes, noisy) == pytest.approx(exponent, abs=0.07)


def test_an_exponent_of_nothing_fails_with_its_reason():
    found = growth.measured("a", [{"size": s, "seconds": 0.1 * s, "memory": 0} for s in (1, 2)])
    assert [one.value for one in found] == [pytest.approx(1.0), None]
    assert "must be above 0" in found[1].note


def test_every_axis_has_four_points_and_every_model_a_case_and_steps():
    names = {model.name for model in timing.MODELS}
    assert names == set(growth.AXES) == set(performance_cases.SETTINGS)
    axes = [axis for each in growth.AXES.values() for axis in each.values()]
    assert all(len(set(axis.points)) >= 4 for axis in axes)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["Pix3Pix"], "'Pix3Pix' is no folder and the beginning of no model's name"),
        (["--ranks", "2"], "give 1 and then larger ones"),
        (["--count=0"], "--count 0: it must be at least 1"),
        (["--full", "Pix2Pix"], "--full needs --data_path NAME=PATH for Pix2Pix"),
        (["--update", "--with_option=--ngf=8"], "leave --with_option out"),
        (["--versus=sleep 1"], "it must be NAME=COMMAND"),
        (["--nothing"], "unrecognized arguments: --nothing"),
    ],
)
def test_a_wrong_command_line_is_status_2_and_one_sentence(words, said):
    program = Path(performance_run.__file__).with_name("performance.py")
    done = subprocess.run([sys.executable, program, *words], capture_output=True, text=True)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
