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


def worse(found):
    return {name for name, one in found.items() if one["status"] == "worse"}


def test_a_run_that_does_as_the_baseline_did_is_ok(run):
    assert run("--update")[0] == 0
    status, found = run()
    assert status == 0
    assert {one["status"] for one in found.values()} == {"ok"}
    whats = {"cost", "first_cost", "memory", "gflop"}
    for step in ("train float32", "train bfloat16", "infer float32", "infer bfloat16"):
        assert {name.split("/")[2] for name in found if name.startswith(f"steps/{step}")} == whats
    assert found["steps/train float32/cost"]["measured"]["value"] == pytest.approx(0.2 * 160)
    assert found["steps/train bfloat16/cost"]["measured"]["value"] == pytest.approx(0.2 * 320)
    assert found["growth/pixels/time exponent"]["measured"]["value"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("changed", "caught"),
    [
        ({"seconds": 0.35}, {"steps/train float32/cost", "steps/train bfloat16/cost", "case/cost"}),
        ({"infer": 0.08}, {"steps/infer float32/cost", "steps/infer bfloat16/cost"}),
        ({"first": 2.5}, {"steps/train float32/first_cost", "case/first_cost"}),
        ({"memory": 1100}, {"steps/train float32/memory", "case/memory"}),
        ({"gflop": 50.5}, {"steps/train float32/gflop", "steps/infer float32/gflop"}),
        ({"waiting": 0.4}, {"case/waiting"}),
        ({"time": 1.4}, {f"growth/{axis}/time exponent" for axis in ("batch", "pixels")}),
        ({"space": 1.3}, {f"growth/{axis}/memory exponent" for axis in ("batch", "pixels")}),
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
    assert "steps/train float32/gflop" in worse(run("--only", "steps", gflop=49)[1])


def test_what_is_faster_is_no_failure(run):
    run("--update", "--only", "steps")
    status, found = run("--only", "steps", seconds=0.1)
    assert status == 0
    assert found["steps/train float32/cost"]["status"] == "better"


def test_the_same_step_on_a_slower_machine_is_ok(run, monkeypatch):
    run("--update", "--only", "steps", "cases")
    slower = {name: rate / 3 for name, rate in timing.rates(None).items()}
    monkeypatch.setattr(timing, "rates", lambda environment: slower)
    assert run("--only", "steps", "cases", seconds=0.6)[0] == 0
    assert run("--only", "steps", "cases", seconds=0.2)[1]["case/cost"]["status"] == "better"


def test_a_command_of_versus_takes_its_turn(run, tmp_path, monkeypatch):
    text = 'print(\'{"sec_per_step": 0.25, "images_per_step": 2, "peak_rss_mb": 7}\')'
    (tmp_path / "other.py").write_text(text)
    words = [f"--versus=other={sys.executable} {tmp_path / 'other.py'}", "--only", "steps"]
    path = tmp_path / "figures.json"
    run("--update", "--only", "steps")
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
        (["Pix3Pix"], "MODEL Pix3Pix: it must be one of NEURAL-STYLE"),
        (["--ranks", "2"], "give 1 and then larger ones"),
        (["--count=0"], "--count 0: it must be at least 1"),
        (["--full", "Pix2Pix"], "--full needs --data_path NAME=PATH for Pix2Pix"),
        (["--update", "--with_option=--ngf=8"], "leave --with_option out"),
        (["--versus=sleep 1"], "it must be NAME=COMMAND"),
        (["--versus=a=sleep 1", "--only", "growth"], "--versus takes turns with the steps"),
        (["--full", "--growth"], "--only, --growth and --full: give one of them"),
        (["--full", "Pix2Pix", "--data_path=pix2pix"], "--data_path pix2pix: it must be NAME=PATH"),
        (["--update", "--repeats=1"], "--update needs at least --repeats 2"),
        (["--nothing"], "unrecognized arguments: --nothing"),
    ],
)
def test_a_wrong_command_line_is_status_2_and_one_sentence(words, said):
    program = Path(performance_run.__file__).with_name("performance.py")
    done = subprocess.run([sys.executable, program, *words], capture_output=True, text=True)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
