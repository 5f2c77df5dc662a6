# SPDX-License-Identifier: Apache-2.0
import json
import pathlib
import sys

import accuracy
import broken
import pytest
import scripts
import trainings
import verdicts
from conftest import has_ended

MODEL = "Pix2Pix_ID0359_for_TensorFlow"
SCRIPT = """#!/usr/bin/env bash
for word in "$@"; do case $word in
    --output_path=*) output=${word#*=} ;;
    --seed=*) seed=${word#*=} ;;
    --train_steps=1) short=1 ;;
esac; done
[ ! -f "$output/../fails" ] || { echo out of memory; exit 3; }
echo "$PATH" > "$output/path.txt"
LEVEL=good
echo "{\\"level\\": \\"${short:-$LEVEL}\\", \\"seed\\": $seed}" > "$output/result.json"
"""
LEVELS = {
    "good": {"colour_error": 5.0, "texture_energy": 0.9},
    "bad": {"colour_error": 5.5, "texture_energy": 0.2},
    "1": {"colour_error": 90.0, "texture_energy": 0.1},
}


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A folder whose script leaves a level; what is measured is that of the level."""
    folder = tmp_path / "models" / MODEL
    (folder / "test").mkdir(parents=True)
    (folder / "test" / "train_full_1p.sh").write_text(SCRIPT)

    def measure(model, data, output):
        result = json.loads((output / "result.json").read_text())
        values = dict(LEVELS[result["level"]])
        values["colour_error"] += 0.1 * result["seed"]
        return values

    change = broken.Replacement("test/train_full_1p.sh", "LEVEL=good", "LEVEL=bad")
    none = broken.Replacement("test/train_full_1p.sh", "echo out of", "echo  out of")
    variants = {
        "untrained": broken.Variant(words=("--train_steps=1",)),
        "blurred": broken.Variant((change,)),
    }
    monkeypatch.setattr(broken, "ROOT", tmp_path / "models")
    monkeypatch.setattr(broken, "VARIANTS", {MODEL: variants})
    monkeypatch.setattr(trainings.train, "__defaults__", (measure, 60))
    here = scripts.Environment("tf2", pathlib.Path(sys.executable), "tensorflow")
    monkeypatch.setattr(scripts, "environment_of", lambda model, tf1: here)
    monkeypatch.setattr(trainings.drawing, "draw", lambda model, folder: folder.mkdir())
    words = ["pix2pix", "--output", str(tmp_path / "out"), "--baselines", str(tmp_path / "b.json")]
    return words, tmp_path, variants, broken.Variant((none,))


def change_script(folder, old, new):
    script = folder / "models" / MODEL / "test" / "train_full_1p.sh"
    script.write_text(script.read_text().replace(old, new))


def statuses(folder):
    results = json.loads((folder / "out" / "results.json").read_text())
    return {one["measured"]["name"]: one["status"] for one in results["verdicts"]}


def test_a_model_without_bars_is_told_so_and_does_not_pass(fake, capsys):
    words, folder, *_ = fake
    assert accuracy.main(words) == 1
    assert set(statuses(folder).values()) == {"no baseline"}
    assert "the same command with --update stores one" in capsys.readouterr().out


def test_an_update_writes_bars_from_the_seeds_and_the_variants(fake):
    words, folder, *_ = fake
    assert accuracy.main([*words, "--update"]) == 0
    entry = verdicts.read_baselines(folder / "b.json")["values"][f"{MODEL}/drawn/colour_error"]
    assert entry["samples"] == [5.0, 5.1, 5.2]
    assert entry["low"] is None
    assert entry["high"] == pytest.approx(5.1 + 4.0)  # the metric's least band
    assert entry["broken"] == {"untrained": 90.0, "blurred": 5.5}


def test_a_bar_that_is_missed_ends_with_status_1(fake):
    words, folder, *_ = fake
    accuracy.main([*words, "--update"])
    change_script(folder, "LEVEL=good", "LEVEL=bad")
    assert accuracy.main(words) == 1
    assert "texture_energy" in (folder / "out" / "junit.xml").read_text()


def test_every_variant_that_misses_a_bar_proves_the_bars(fake, capsys):
    words, *_ = fake
    accuracy.main([*words, "--update"])
    assert accuracy.main([*words, "--prove"]) == 0
    text = capsys.readouterr().out
    assert f"{MODEL}: blurred: texture_energy 0.2 (at least 0.8)" in text


def test_a_variant_that_misses_no_bar_fails_the_proof(fake, capsys):
    words, _, variants, harmless = fake
    accuracy.main([*words, "--update"])
    variants["harmless"] = harmless
    assert accuracy.main([*words, "--prove"]) == 1
    assert f"{MODEL}: harmless: not caught" in capsys.readouterr().out


def test_a_training_that_fails_is_no_missed_bar_but_a_failure(fake, capsys):
    words, folder, *_ = fake
    accuracy.main([*words, "--update"])
    (folder / "out" / "runs" / MODEL / "fails").touch()
    assert accuracy.main([*words, "--prove"]) == 1
    text = capsys.readouterr().out
    assert f"train_full_1p.sh ended with status 3, see {folder}" in text
    assert "4 failed" in text
    assert "out of memory" in (folder / "out" / "runs" / MODEL / "seed_0.log").read_text()


def test_a_failed_update_leaves_the_bars_as_they_were(fake):
    words, folder, *_ = fake
    accuracy.main([*words, "--update"])
    before = (folder / "b.json").read_text()
    (folder / "out" / "runs" / MODEL / "fails").touch()
    assert accuracy.main([*words, "--update"]) == 1
    assert (folder / "b.json").read_text() == before


def test_bars_that_would_not_catch_a_variant_are_not_stored(fake, capsys):
    words, folder, variants, harmless = fake
    accuracy.main([*words, "--update"])
    before = (folder / "b.json").read_text()
    variants["harmless"] = harmless
    assert accuracy.main([*words, "--update"]) == 1
    assert (folder / "b.json").read_text() == before
    assert "the new bars would not catch harmless" in capsys.readouterr().out


def test_bars_that_cannot_be_written_do_not_pass(fake, monkeypatch):
    words, folder, *_ = fake
    accuracy.main([*words, "--update"])

    def refused(*words):
        raise PermissionError("b.json")

    monkeypatch.setattr(verdicts, "update", refused)
    assert accuracy.main([*words, "--update"]) == 1
    assert statuses(folder)[f"{MODEL}/run"] == "failed"


def test_in_a_full_run_a_lost_picture_is_worse():
    metrics = {"pictures": 106.0, "psnr": 12.0, "l1": 0.3}
    measured = accuracy.measured_of(MODEL, {"full": trainings.Trained(metrics, 1.0, "")})
    assert [one.better for one in measured] == ["same", "higher", "lower"]
    entry = accuracy.bar_of(measured[0], {})
    lost = verdicts.Measured(measured[0].name, 1.0)
    assert verdicts.judge(lost, entry).status == "worse"


def test_the_script_finds_the_python_of_its_environment(fake):
    words, folder, *_ = fake
    accuracy.main(words)
    path = (folder / "out" / "runs" / MODEL / "seed_0" / "path.txt").read_text()
    assert path.startswith(str(pathlib.Path(sys.executable).parent))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["Pix3Pix"], "MODEL Pix3Pix: it must be one of NEURAL-STYLE"),
        ([""], "MODEL : it must be one of "),
        (["pix", "--full"], f"--full needs --data_path {MODEL}=FOLDER"),
        (["pix", "--full", "--prove", "--data_path", "pix=."], "leave --prove out"),
        (["pix", "--tf1", "--update"], "--tf1 with --update: the bars are TensorFlow 2's"),
        (["pix", "--repeats=1"], "--repeats 1: it is for --update and at least 2"),
        (["pix", "--data_path", "pix=."], "--data_path and --with_option are for --full"),
    ],
)
def test_a_wrong_command_is_one_sentence_and_status_2(words, message, capsys):
    with pytest.raises(SystemExit) as ended:
        accuracy.main(words)
    assert ended.value.code == 2
    text = capsys.readouterr().err
    assert message in text
    assert text.count("\n") == 1


def test_a_full_case_is_judged_by_what_its_result_says(fake):
    words, folder, *_ = fake
    script = folder / "models" / MODEL / "test" / "train_full_1p.sh"
    written = (
        'echo \'{"metrics": {"l1": 0.3, "psnr": 12.5, "fid": null}}\' > "$output/result.json"\n'
    )
    script.write_text(script.read_text() + written)
    words = [*words, "--full", "--data_path", f"pix={folder}"]
    assert accuracy.main([*words, "--update"]) == 0
    values = verdicts.read_baselines(folder / "b.json")["values"]
    assert values[f"{MODEL}/full/l1"]["high"] == pytest.approx(0.33)
    assert values[f"{MODEL}/full/psnr"]["low"] == pytest.approx(11.25)
    script.write_text(script.read_text().replace("0.3,", "0.4,"))
    words[words.index("--output") + 1] += "/second"
    assert accuracy.main(words) == 1


def test_a_full_case_never_touches_a_folder_that_holds_something(fake, capsys):
    words, folder, *_ = fake
    mine = folder / "out" / "full" / MODEL / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("precious")
    with pytest.raises(SystemExit) as ended:
        accuracy.main([*words, "--full", "--data_path", f"pix={folder}"])
    assert ended.value.code == 2
    assert "is not empty; move it away or choose another --output" in capsys.readouterr().err
    assert mine.read_text() == "precious"


@pytest.mark.parametrize("name", ["data", "runs"])
def test_a_folder_of_others_is_not_emptied(fake, name):
    words, folder, *_ = fake
    mine = folder / "out" / name / MODEL / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("precious")
    with pytest.raises(scripts.UserError, match="holds what this program did not make"):
        accuracy.main(words)
    assert mine.read_text() == "precious"


def test_a_measure_that_breaks_or_gives_nan_is_a_failure_of_its_training_alone(fake, monkeypatch):
    words, folder, *_ = fake
    accuracy.main([*words, "--update"])
    good, _ = trainings.train.__defaults__

    def measure(model, data, output):
        if output.name == "untrained":
            raise KeyError("metrics")
        return dict(good(model, data, output), colour_error=float("nan"))

    monkeypatch.setattr(trainings.train, "__defaults__", (measure, 60))
    assert accuracy.main([*words, "--prove"]) == 1
    assert set(statuses(folder).values()) == {"failed"}
    text = (folder / "out" / "junit.xml").read_text()
    assert "colour_error is nan" in text
    assert "KeyError: 'metrics'" in text


def test_a_training_that_takes_too_long_is_ended_with_what_it_started(fake, monkeypatch):
    words, folder, *_ = fake
    accuracy.main([*words, "--update"])
    monkeypatch.setattr(trainings.train, "__defaults__", (None, 0.3))
    change_script(folder, "LEVEL=good", 'sleep 60 & echo $! > "$output/../pid"; wait')
    assert accuracy.main(words) == 1
    text = (folder / "out" / "report.md").read_text()
    assert "took more than 0.3 s" in text
    assert has_ended((folder / "out" / "runs" / MODEL / "pid").read_text().strip())


def test_other_models_go_on_after_one_that_fails_or_has_no_environment(fake, monkeypatch, capsys):
    words, folder, *_ = fake
    first, second = "StarGAN_ID1472_for_TensorFlow", "U-GAT-IT_for_MindSpore"
    there = scripts.environment_of(MODEL, False)
    missing = scripts.Environment("ms", folder / "none", "mindspore")
    monkeypatch.setattr(
        scripts, "environment_of", lambda model, tf1: missing if model == second else there
    )
    monkeypatch.setattr(broken, "VARIANTS", {MODEL: {}, first: {}, second: {}})
    assert accuracy.main(["stargan", "u-gat-it", *words]) == 1  # there is no folder of StarGAN's
    found = statuses(folder)
    assert found[f"{first}/drawn/shape_overlap"] == "failed"
    assert found[f"{second}/drawn/all"] == "not measured"
    assert found[f"{MODEL}/drawn/colour_error"] == "no baseline"
    text = capsys.readouterr().out
    assert "there is no .venv/ms; python3 ci/environments.py ms makes it" in text
    assert text.index("is not measured") < text.index(f"{MODEL}, seed 0")


def test_ctrl_c_leaves_a_report_of_what_was_measured(fake, monkeypatch):
    words, folder, *_ = fake
    accuracy.main([*words, "--update"])
    before = (folder / "b.json").read_text()
    train = trainings.train

    def stopped(model, where, data, output, *more):
        if output.name == "untrained":
            raise KeyboardInterrupt
        return train(model, where, data, output, *more)

    monkeypatch.setattr(trainings, "train", stopped)
    assert accuracy.main([*words, "--update"]) == 1
    found = statuses(folder)
    assert found[f"{MODEL}/drawn/colour_error"] == "ok"
    assert found[f"{MODEL}/broken/untrained"] == "failed"
    assert "stopped by Ctrl-C" in (folder / "out" / "report.md").read_text()
    assert (folder / "b.json").read_text() == before


def test_a_bar_that_nothing_measures_is_reported_and_dropped_by_an_update(fake):
    words, folder, *_ = fake
    accuracy.main([*words, "--update"])
    content = json.loads((folder / "b.json").read_text())
    content["values"][f"{MODEL}/drawn/gone"] = {"value": 1.0, "low": 0.9, "high": None}
    (folder / "b.json").write_text(json.dumps(content))
    assert accuracy.main(words) == 1
    assert statuses(folder)[f"{MODEL}/drawn/gone"] == "not measured"
    assert accuracy.main([*words, "--update", "--repeats=2"]) == 0
    content = json.loads((folder / "b.json").read_text())
    assert f"{MODEL}/drawn/gone" not in content["values"]
    assert len(content["values"][f"{MODEL}/drawn/colour_error"]["samples"]) == 2
    (made,) = content["runs"].values()
    assert made["command"].startswith("ci/accuracy.py pix2pix --output ")
    assert made["command"].endswith("--update --repeats=2")
