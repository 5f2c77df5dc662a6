# SPDX-License-Identifier: Apache-2.0
"""ci/performance.py where something fails, is missing or is stopped: told, and no more is lost."""

import json
import subprocess
import sys
import time
from pathlib import Path

import calibration
import performance_cases
import performance_results
import performance_run
import performance_steps
import pytest
import scripts
import timing
from conftest import RATES, has_ended

STEPS = ["--only", "steps"]


def statuses(found, begin=""):
    return {one["status"] for name, one in found.items() if name.startswith(begin)}


def test_a_case_that_fails_is_a_verdict_and_does_not_end_the_others(run, monkeypatch):
    run("--update", "--only", "cases", "steps")
    original = scripts.run_case

    def broken(folder, *more):
        script = folder / "test" / "train_performance_1p.sh"
        script.write_text("echo 'no such data' >&2; exit 3")
        return original(folder, *more)

    monkeypatch.setattr(scripts, "run_case", broken)
    status, found = run("--only", "cases", "steps")
    assert status == 1
    assert statuses(found, "case/") == {"failed"}
    note = found["case/cost"]["measured"]["note"]
    assert "ended with status 3, see " in note
    assert "it said last: no such data" in note
    assert statuses(found, "steps/") == {"ok"}


@pytest.mark.parametrize("error", [RuntimeError("it fell over"), KeyError("flops")])
def test_a_step_that_fails_once_fails_alone(run, monkeypatch, error):
    run("--update", *STEPS)
    original = timing.run

    def broken(words, *more):
        if "infer" in words and "--precision_mode=force_fp32" in words:
            raise error
        return original(words, *more)

    monkeypatch.setattr(timing, "run", broken)
    status, found = run(*STEPS)
    assert status == 1
    assert statuses(found, "steps/infer float32/") == {"failed"}
    assert statuses(found, "steps/train") == {"ok"}


def test_a_machine_that_cannot_be_calibrated_is_told_in_the_report(run, monkeypatch, tmp_path):
    def broken(environment):
        raise RuntimeError("took more than 300 s")

    monkeypatch.setattr(timing, "rates", broken)
    status, found = run("--only", "cases", "steps")
    assert status == 1
    assert statuses(found) == {"failed"}
    assert "took more than 300 s" in (tmp_path / "out" / "report.md").read_text()
    assert "took more than 300 s" in (tmp_path / "out" / "junit.xml").read_text()


@pytest.mark.parametrize("words", [STEPS, ["--growth"]])
def test_seconds_that_are_no_number_are_a_failure(run, words):
    run("--update", *words)
    status, found = run(*words, seconds=float("nan"), infer=float("nan"))
    assert status == 1
    assert statuses(found) == {"failed"}


def test_a_missing_environment_does_not_pass(run, monkeypatch, tmp_path):
    run("--update", *STEPS)
    missing = scripts.Environment("tf2", tmp_path / "none", "tensorflow")
    monkeypatch.setattr(scripts, "environment_of", lambda name, tf1: missing)
    status, found = run(*STEPS)
    assert status == 1
    assert statuses(found) == {"not measured"}
    note = found["steps/train float32/cost"]["measured"]["note"]
    assert note == "there is no .venv/tf2; python3 ci/environments.py tf2 makes it"


def test_values_without_baseline_do_not_pass(run):
    status, found = run(*STEPS)
    assert status == 1
    assert statuses(found) == {"no baseline"}


def test_ctrl_c_leaves_a_report_of_what_was_measured(run, monkeypatch, tmp_path):
    run("--update", *STEPS)
    before = (tmp_path / "b.json").read_text()
    original, calls = performance_steps.one_repeat, []

    def stopped(*words):
        calls.append(words)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*words)

    monkeypatch.setattr(performance_steps, "one_repeat", stopped)
    status, found = run("--update", *STEPS)
    assert status == 1
    assert statuses(found, "steps/train") == {"ok"}
    assert statuses(found, "steps/infer") == {"not measured"}
    assert found["steps/infer float32/cost"]["measured"]["note"] == "stopped by Ctrl-C"
    assert (tmp_path / "b.json").read_text() == before


def test_a_baseline_that_nothing_measures_is_reported_and_dropped_by_an_update(run, tmp_path):
    run("--update", *STEPS)
    path = tmp_path / "b.json"
    content = json.loads(path.read_text())
    entry = content["values"]["tf2/Pix2Pix/steps/train float32/cost"]
    kept = ("tf2/Pix2Pix/case/cost", "tf1/Pix2Pix/steps/train float32/cost")
    dead = "tf2/Pix2Pix/steps/train64 float32/cost"
    content["values"].update(dict.fromkeys((dead, *kept), entry))
    path.write_text(json.dumps(content))
    status, found = run(*STEPS)
    assert status == 1
    assert found["steps/train64 float32/cost"]["status"] == "not measured"
    assert run("--update", *STEPS)[0] == 0
    names = json.loads(path.read_text())["values"].keys()
    assert dead not in names
    assert names >= set(kept)


def test_an_update_keeps_the_baselines_of_what_failed(run, tmp_path):
    run("--update", "--growth")
    before = json.loads((tmp_path / "b.json").read_text())["values"]
    assert run("--update", "--growth", seconds=float("nan"))[0] == 1
    assert json.loads((tmp_path / "b.json").read_text())["values"] == before


def test_a_processor_without_bfloat16_leaves_its_baselines_out(run, monkeypatch):
    run("--update", *STEPS)
    monkeypatch.setattr(performance_results.calibration, "has_bfloat16", lambda: False)
    original = timing.run

    def narrow(words, *more):
        return dict(original(words, *more), precision="float32")

    monkeypatch.setattr(timing, "run", narrow)
    status, found = run(*STEPS)
    assert status == 0
    assert statuses(found, "steps/train bfloat16/") == {"left out"}
    assert statuses(found, "steps/train float32/") == {"ok"}


@pytest.mark.parametrize("fails", [False, True])
def test_mixed_precision_that_falls_back_is_not_taken_for_float32(run, monkeypatch, fails):
    run("--update", *STEPS)
    original = timing.run

    def narrow(words, *more):
        if fails and "--precision_mode=force_fp32" in words:
            raise RuntimeError("it fell over")
        return dict(original(words, *more), precision="float32")

    monkeypatch.setattr(timing, "run", narrow)
    status, found = run(*STEPS)
    assert status == 1
    assert statuses(found, "steps/train float32/") == {"failed" if fails else "ok"}
    assert statuses(found, "steps/train bfloat16/") == {"failed"}
    note = found["steps/train bfloat16/cost"]["measured"]["note"]
    assert note == "mixed precision was asked for, float32 ran"


def test_baselines_that_cannot_be_written_do_not_pass_and_lose_no_report(
    run, monkeypatch, tmp_path
):
    def full(*words):
        raise OSError(28, "No space left on device")

    run("--update", *STEPS)
    monkeypatch.setattr(performance_run.verdicts, "update", full)
    (tmp_path / "out" / "report.md").unlink()
    status, found = run("--update", *STEPS)
    assert status == 1
    assert statuses(found) == {"ok"}
    assert (tmp_path / "out" / "report.md").exists()


def test_after_a_failure_the_machine_is_measured_again(monkeypatch):
    measured, machine = [], timing.Machine()
    monkeypatch.setattr(timing, "rates", lambda environment: measured.append(1) or RATES)
    environment = scripts.Environment("tf2", Path(sys.executable), "tensorflow")
    machine.measure(environment)
    machine.rates(environment)  # is known; then something fails, and nothing is measured after it
    assert len(measured) == 1
    machine.rates(environment)
    assert len(measured) == 2


def test_what_a_program_does_not_tell_has_no_value():
    repeat = timing.one_repeat({"sec_per_step": 0.5}, dict(RATES, float32=2.0))
    assert (repeat["memory"], repeat["first_cost"], repeat["gflop"]) == (None, None, None)
    (value,) = timing.measured("tf2", "tools/fid/steps/network float32", [repeat])
    assert (value.name, value.value) == ("tf2/tools/fid/steps/network float32/cost", 1.0)
    assert timing.table({"fid": timing.summarise([repeat])})[1][0][-1] == "-"


def test_a_full_case_takes_the_settings_and_the_device_of_the_script(run, monkeypatch, tmp_path):
    words, original = [], scripts.run_case

    def record(folder, kind, data, output, given, *more):
        words.append(given)
        return original(folder, kind, data, output, given, *more)

    monkeypatch.setattr(scripts, "run_case", record)
    assert run("--only", "cases", "--update")[0] == 0
    name = "Pix2Pix_ID0359_for_TensorFlow"
    full = ["--full", f"--data_path={tmp_path / name}={tmp_path}"]
    status, found = run(*full, "--update")
    assert status == 0
    assert set(performance_cases.EVERYWHERE) <= set(words[0])
    assert words[-1] == []
    assert found["full/seconds"]["measured"]["unit"] == "s"
    with pytest.raises(SystemExit):
        run(*full)  # its output is there already
    assert (tmp_path / "out" / "full" / name / "result.json").exists()


def test_data_that_were_drawn_by_half_are_drawn_anew(run, monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(
        performance_cases.drawing, "draw", lambda name, folder: drawn.append(list(folder.iterdir()))
    )
    run("--only", "cases")
    data = next((tmp_path / "out" / "cases").glob("*/data"))
    (data / "half.png").write_text("")
    run("--only", "cases")
    assert drawn == [[], [], [], []]  # two repeats of two runs


def test_a_program_that_takes_too_long_ends_with_what_it_started(tmp_path):
    path = tmp_path / "pid"
    text = "import subprocess; p = subprocess.Popen(['sleep', '60']); "
    text += f"open({str(path)!r}, 'w').write(str(p.pid)); p.wait()"
    begin = time.monotonic()
    with pytest.raises(RuntimeError, match=r"took more than 1 s"):
        scripts.finish([sys.executable, "-c", text], 1)
    assert time.monotonic() - begin < 20
    assert has_ended(path.read_text())


def test_a_calibration_without_end_or_without_rates_is_told(tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nsleep 5\n")
    python.chmod(0o755)
    with pytest.raises(RuntimeError, match=r"took more than 0\.2 s"):
        calibration.rates(python, "tensorflow", timeout=0.2)
    python.write_text("#!/bin/sh\necho '{\"float32\": NaN}'\n")
    with pytest.raises(RuntimeError, match="printed no rates"):
        calibration.rates(python, "tensorflow")


def test_the_checks_start_on_an_old_python():
    program = Path(scripts.__file__).with_name("performance.py")
    old = scripts.ROOT / ".venv" / "tf1" / "bin" / "python"
    if not old.exists():
        pytest.skip("there is no Python 3.7; python3 ci/environments.py tf1 makes it")
    done = subprocess.run([old, program, "--count=0"], capture_output=True, text=True)
    assert "--count 0: it must be at least 1" in done.stderr
