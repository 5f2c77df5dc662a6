# SPDX-License-Identifier: Apache-2.0
import json
import pathlib
import sys

import accuracy
import broken
import measures
import pytest
import trainings
import verdicts

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
    monkeypatch.setattr(trainings.train, "__defaults__", (measure,))
    python = pathlib.Path(sys.executable)
    monkeypatch.setattr(trainings, "find_python", lambda model, tf1: python)
    monkeypatch.setattr(trainings.drawing, "draw", lambda model, folder: folder.mkdir() or folder)
    words = ["pix2pix", "--output", str(tmp_path / "out"), "--baselines", str(tmp_path / "b.json")]
    return words, tmp_path, variants, broken.Variant((none,))


def test_a_model_without_bars_is_new_and_no_failure(fake):
    words, folder, *_ = fake
    assert accuracy.main(words) == 0
    results = json.loads((folder / "out" / "results.json").read_text())
    assert [verdict["status"] for verdict in results["verdicts"]] == ["new", "new"]


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
    script = folder / "models" / MODEL / "test" / "train_full_1p.sh"
    script.write_text(script.read_text().replace("LEVEL=good", "LEVEL=bad"))
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


def test_the_script_finds_the_python_of_its_environment(fake):
    words, folder, *_ = fake
    accuracy.main(words)
    path = (folder / "out" / "runs" / MODEL / "seed_0" / "path.txt").read_text()
    assert path.startswith(str(pathlib.Path(sys.executable).parent))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["Pix3Pix"], "'Pix3Pix' is no model; give the beginning of "),
        ([""], "'' is no model"),
        (["pix", "--full"], f"--full needs --data_path {MODEL}=FOLDER"),
        (["pix", "--full", "--prove", "--data_path", "pix=."], "leave --prove and --tf1 out"),
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
    assert accuracy.main(words) == 1


def test_every_model_has_settings_metrics_and_variants():
    assert set(trainings.SETTINGS) == set(measures.METRICS) == set(broken.VARIANTS)
    assert all("untrained" in variants for variants in broken.VARIANTS.values())


def test_an_environment_that_is_there_is_not_made_anew(tmp_path, monkeypatch):
    there = tmp_path / ".venv" / "ms" / "bin" / "python"
    there.parent.mkdir(parents=True)
    there.touch()
    made = []
    monkeypatch.setattr(trainings.environments, "ROOT", tmp_path)
    monkeypatch.setattr(trainings.environments, "find_python", lambda version: "python" + version)
    monkeypatch.setattr(trainings.environments, "make", lambda *words: made.append(words))
    assert trainings.find_python("U-GAT-IT_for_MindSpore", tf1=True) == there
    assert made == []
    trainings.find_python(MODEL, tf1=True)
    assert made == [("tf1", "python3.7")]
    monkeypatch.setattr(trainings.environments, "find_python", lambda version: "")
    with pytest.raises(trainings.UserError, match=r"no Python 3\.11, which Pix2Pix"):
        trainings.find_python(MODEL, tf1=False)
