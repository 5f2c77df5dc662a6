# SPDX-License-Identifier: Apache-2.0
"""The page of a run, read as data."""

import json
import os
import subprocess
import sys
import types

import numpy as np
import pytest
from made_runs import Page, change, make_case, make_run, make_test, page_of, write_lines

from harness import report, runs
from harness.errors import UserError
from harness.files import read_jsonl, write_json

pytest.importorskip("jinja2")
HOSTILE = "</script><script>alert(1)</script>\"'&.png"


def test_the_page_of_a_case_shows_what_training_and_test_left(tmp_path):
    page = page_of(make_case(tmp_path))
    for words in (
        "Some Model full case \u00b7 cpu \u00b7 2026-01-02 03:04 UTC",
        "FID 12.5 clean, 8 pictures",
        "Images per second 5.25",
        "Steps 600",
        "Peak memory 2.00 GiB",
        "Duration 1 h 02 min",
        "Learning rate 0.0002 constant",
        "batch 4 1 ",
        "Run the case again cd '/my data' && bash /models/test/full.sh '--name=two words' Copy",
        "Test again python3 main.py --phase=test Copy",
        "2026-01-02T03:04:05+00:00 data, test 2 pictures, 0a0b0c0d",
    ):
        assert words in page.text
    assert "--phase=train" not in page.text  # the case starts it
    assert "Look at this first" not in page.text
    assert "Go on where" not in page.text
    pictures = [attrs["src"] for tag, attrs in page.tags if tag == "img"]
    assert len(pictures) == 3 + 2 * 3  # sample grids; before, after, target
    assert all(src.startswith("data:image/jpeg;base64,") for src in pictures)


def test_the_curves_are_the_numbers_of_the_log(tmp_path):
    folder = make_run(tmp_path)
    with open(os.path.join(folder, "log.jsonl"), encoding="utf-8") as file:
        log = [json.loads(line) for line in file]
    page = page_of(folder)
    for name in ("d_loss", "g_l1", "images_per_second", "memory_mb"):
        assert page.lines(name)["x"] == [record["step"] for record in log]
        np.testing.assert_allclose(page.lines(name)["y"], [r[name] for r in log], rtol=1e-5)


def test_a_page_is_whole_in_itself_and_the_same_each_time(tmp_path):
    pages_of = [page_of(make_case(tmp_path / name / "case")) for name in ("a", "b")]
    assert pages_of[0].source == pages_of[1].source
    for tag, attrs in pages_of[0].tags:
        assert tag not in ("link", "iframe", "object")
        assert attrs.get("src", "data:").startswith("data:")
        assert attrs.get("href", "#").startswith("#")


def test_weights_of_losses_are_multiplied_unless_the_log_has_them_multiplied(tmp_path):
    folder = make_run(tmp_path)
    write_lines(os.path.join(folder, "log.jsonl"), [{"step": 7, "d_loss": 4.0, "g_l1": 0.06}])
    assert "d_loss 0.5 4 2 25.0 % g_l1 100 0.06 6 75.0 %" in page_of(folder).text
    change(os.path.join(folder, "config.json"), losses_are_weighted=True)
    assert "d_loss 0.5 8 4 98.5 % g_l1 100 0.0006 0.06 1.5 %" in page_of(folder).text


@pytest.mark.parametrize("key", ["title", "metric", "protocol", "loss", "option", "command"])
def test_names_cannot_become_part_of_the_page(tmp_path, key):
    tags = [tag for tag, _ in page_of(make_case(tmp_path)).tags]
    test, run = (str(tmp_path / name) for name in ("test", "ckpt/run"))
    tested, config = os.path.join(test, "tested.json"), os.path.join(run, "config.json")
    if key == "title":
        make_test(test, names=(HOSTILE, "2.jpg"))
    elif key in ("metric", "protocol"):
        names = {"metric": (HOSTILE, "text"), "protocol": ("fid", HOSTILE)}[key]
        change(tested, metrics={names[0]: 1.5}, protocol={names[0]: names[1]})
    elif key == "loss":
        path = os.path.join(run, "log.jsonl")
        with open(path, encoding="utf-8") as file:
            text = file.read().replace('"g_l1"', json.dumps(HOSTILE))
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        change(config, loss_weights={HOSTILE: 1.0, "d_loss": 0.5})
    elif key == "option":
        change(config, options={HOSTILE: HOSTILE, "batch": 4}, defaults={"batch": 1})
    else:
        change(str(tmp_path / "case.json"), command=["echo", HOSTILE])
    page = page_of(tmp_path)
    assert [tag for tag, _ in page.tags].count("script") == tags.count("script")
    assert "alert(1)" in page.text
    if key == "loss":
        assert len(page.lines(HOSTILE)["y"]) == 60


def test_a_run_of_which_little_is_left_shows_what_there_is(tmp_path):
    folder = make_run(tmp_path / "run")
    for name in ("config.json", "training.json", "samples.jsonl"):
        os.remove(os.path.join(folder, name))
    page = page_of(folder)
    assert page.lines("d_loss")["y"]
    assert "There is no training.json" in page.text
    assert "The last step in its log is 600" in page.text
    test = make_test(tmp_path / "test", metrics={}, protocol={})
    assert "Before and after" in page_of(test).text
    assert "Losses" not in page_of(test).text


def test_an_old_case_is_read_although_nothing_says_where_its_run_is(tmp_path):
    folder = make_case(tmp_path, metrics={"psnr": 21.5, "fid": 12.5})
    write_json(os.path.join(folder, "case.json"), {"preset": "full", "command": ["bash"]})
    make_run(tmp_path / "previous" / "ckpt", seed=5)
    page = page_of(folder)
    expected = runs.read_run(str(tmp_path / "ckpt" / "run")).lines["d_loss"]
    np.testing.assert_allclose(page.lines("d_loss")["y"], expected[1], rtol=1e-5)
    assert "psnr 21.5" in page.text
    assert "FID 12.5 clean, 8 pictures" in page.text


@pytest.mark.parametrize("missing", ["removed", "text", "empty"])
def test_a_picture_that_cannot_be_read_is_left_out_and_counted(tmp_path, missing):
    folder = make_test(make_run(tmp_path), names=("a", "b", "c"))
    for name in ("after_1.png", "sample/200.png"):
        path = os.path.join(folder, name)
        os.remove(path)
        if missing != "removed":
            with open(path, "w", encoding="utf-8") as file:
                file.write("no picture" if missing == "text" else "")
    page = page_of(folder)
    assert "1 pairs have pictures that are missing or damaged." in page.text
    assert "1 steps have pictures that are missing or damaged." in page.text
    assert [a["alt"] for t, a in page.tags if t == "img" and "before" in a["alt"]] == [
        "before, a",
        "before, c",
    ]


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("config.json", "{", "Expecting property name"),
        ("config.json", "[1]", "it must hold an object"),
        ("config.json", '{"loss_weights": {"d_loss": "0.5"}}', "loss_weights is {'d_loss': '0.5'}"),
        ("training.json", '{"losses": 3}', "losses is 3"),
        ("training.json", '{"seconds_per_step": "1"}', "seconds_per_step is '1'"),
        ("log.jsonl", '{"step": 1, "a": 2}\n{\n', "line 2 is '{'"),
        ("log.jsonl", '{"loss": 1}\n[\n', "line 1 is '{\"loss\": 1}' and 1 more"),
        ("log.jsonl", '{"step": 1, "a": 2}\n\n{"step": 1, "loss": null}\n', "line 2 is ''"),
        ("log.jsonl", '{"step": 1.5, "loss": 2}\n', "line 1 is "),
        ("samples.jsonl", "[]\n", "line 1 is '[]'"),
        ("samples.jsonl", '{"step": 1, "picture": [2]}\n', "line 1 is "),
        ("tested.json", '{"pairs": {}}', "pairs is {}"),
        ("tested.json", '{"pairs": [["a.png", "b.png"]]}', "pairs is [['a.png', 'b.png']]"),
        ("case.json", "\x00", "Expecting value"),
        ("case.json", '{"tested": [1]}', "tested is [1]"),
    ],
)
def test_a_damaged_file_is_a_warning_beside_what_is_sound(tmp_path, capsys, name, text, what):
    folder = make_test(make_run(tmp_path))
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        file.write(text)
    assert report.main([folder]) == 0
    page = Page(os.path.join(folder, "report.html"))
    assert os.path.join(folder, name) + " is damaged: " + what in page.text
    told = [one for one in report.warnings(runs.read_run(folder)) if " is damaged: " in one]
    assert len(told) == 1
    assert told[0].endswith("; mend or remove it")
    assert "Metrics" in page.text or name == "tested.json"
    assert "images_per_second" in page.source or name == "log.jsonl"


def test_a_folder_with_nothing_but_a_damaged_file_gets_no_page(tmp_path, capsys):
    (tmp_path / "tested.json").write_text("{")
    with pytest.raises(UserError, match=r"tested\.json is damaged"):
        report.main([str(tmp_path)])
    report.write(str(tmp_path))
    said = capsys.readouterr().out
    assert said.startswith("no report.html: ")
    assert len(said.splitlines()) == 1
    assert os.listdir(str(tmp_path)) == ["tested.json"]


def test_a_half_written_last_line_of_a_log_is_no_damage(tmp_path):
    folder = make_run(tmp_path)
    with open(os.path.join(folder, "log.jsonl"), "a", encoding="utf-8") as file:
        file.write('{"step": 610, "d_lo')
    run = runs.read_run(folder)
    assert (run.damaged, run.last_step) == ([], 600)


def test_a_pair_that_names_no_file_is_left_out(tmp_path):
    pairs = [{"before": 3, "after": "after_0.png", "title": ["x"]}]
    page = page_of(make_test(tmp_path, pairs=pairs))
    assert "1 pairs have pictures that are missing or damaged." in page.text


def test_a_folder_that_holds_no_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        report.main([str(tmp_path)])
    with pytest.raises(UserError, match="there is no folder"):
        report.main([str(tmp_path / "nowhere")])
    make_run(tmp_path / "deep" / "down" / "below" / "run")
    with pytest.raises(UserError, match="holds no run"):
        report.main([str(tmp_path)])
    for name in ("one", "two"):
        make_run(tmp_path / "several" / name)
    with pytest.raises(UserError, match=r"several runs.*/one \S*/two$"):
        report.main([str(tmp_path / "several")])
    with pytest.raises(UserError, match="given twice"):
        report.main([str(tmp_path), str(tmp_path / ".")])
    assert list(tmp_path.rglob("report.html")) == []


def test_a_report_is_named_when_it_is_written_and_only_then(tmp_path, capsys, monkeypatch):
    folder = make_run(tmp_path)
    page, yes = os.path.join(folder, "report.html"), types.SimpleNamespace(report=True)
    report.write(folder, types.SimpleNamespace(report=False))
    with monkeypatch.context() as patch:
        patch.setenv(report.IN_A_CASE, "1")
        report.write(folder, yes)
    assert (os.path.exists(page), capsys.readouterr().out) == (False, "")
    monkeypatch.chdir(str(tmp_path.parent))
    report.write(tmp_path.name, yes)
    assert (os.path.exists(page), capsys.readouterr().out) == (True, "report: %s\n" % page)
    report.write(folder, yes, again=True)
    assert capsys.readouterr().out == ""


def test_a_mistake_begins_as_the_help_names_the_program(tmp_path):
    environment = dict(os.environ, PYTHONPATH=os.path.dirname(os.path.dirname(report.__file__)))
    command = [sys.executable, "-m", "harness.report", str(tmp_path / "nowhere")]
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    said = done.stderr.decode()
    assert said.startswith("harness.report: error: there is no folder %s; " % command[-1])
    assert len(said.splitlines()) == 1


def test_the_settings_that_differ_do_not_count_the_report(tmp_path):
    options = {"batch": 4, "report": False}
    text = page_of(make_run(tmp_path, options=options, defaults={"batch": 1, "report": True})).text
    assert "batch 4 1 " in text.partition("Settings that differ")[2]
    assert "report False" not in text


def test_a_training_shows_where_and_how_it_was_started(tmp_path):
    folder = make_run(tmp_path, working_directory="/a/it's here")
    change(os.path.join(folder, "training.json"), first_step=51)
    text = page_of(folder).text
    words = """cd '/a/it'"'"'s here' && python3 main.py --phase=train '--name=two words' Copy"""
    assert "How it was trained " + words in text
    assert "from step 51 on" in text


def test_a_weight_of_zero_hides_a_loss_only_where_the_log_has_it_multiplied(tmp_path):
    folder = make_run(tmp_path, loss_weights={"d_loss": 1.0, "g_l1": 0.0})
    write_lines(os.path.join(folder, "log.jsonl"), [{"step": 7, "d_loss": 4.0, "g_l1": 6.0}])
    assert "g_l1 0 6 0 0.0 %" in page_of(folder).text
    change(os.path.join(folder, "config.json"), losses_are_weighted=True)
    assert "g_l1 0 - 6 60.0 %" in page_of(folder).text


@pytest.mark.parametrize("package", ["jinja2", "plotly.offline"])
def test_a_package_that_is_missing_is_one_line(tmp_path, capsys, monkeypatch, package):
    folder = make_run(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    report.write(folder)
    said = capsys.readouterr().out
    assert "no report.html: %s is not installed; pip install" % package in said
    assert len(said.splitlines()) == 1
    assert not os.path.exists(os.path.join(folder, "report.html"))


@pytest.mark.parametrize(
    ("training", "sentence"),
    [
        ({"stopped": True, "steps": 70}, "The training was stopped at step 70"),
        ({"share_of_time_waiting_for_data": 0.25}, "25 % of the time the training waited"),
    ],
)
def test_what_training_json_tells_is_warned_of(tmp_path, training, sentence):
    folder = make_run(tmp_path)
    assert report.warnings(runs.read_run(folder)) == []
    change(os.path.join(folder, "training.json"), **training)
    found = report.warnings(runs.read_run(folder))
    assert len(found) == 1
    assert sentence in found[0]


def test_a_stopped_run_says_how_it_goes_on(tmp_path):
    folder = make_run(tmp_path, resume_option="resume")
    change(os.path.join(folder, "training.json"), stopped=True)
    assert "'--name=two words' --resume" in page_of(folder).text


def test_what_the_log_tells_is_warned_of(tmp_path):
    folder = make_run(tmp_path)
    path = os.path.join(folder, "log.jsonl")
    log = read_jsonl(path)
    for number, record in enumerate(log):
        record.update(flat=3.0 + 1e-5 * number, unused=0.0)
        record["g/loss_scale"] = 65536.0 / 2 ** (number // 10)
    log[7]["d_loss"] = float("nan")
    write_lines(path, log)
    weights = {"unused": 0.0}
    change(os.path.join(folder, "config.json"), loss_weights=weights)
    found = report.warnings(runs.read_run(folder))
    assert found == [
        "d_loss is not finite at step 80.",
        "flat has not moved since step 310.",
        "g/loss_scale fell from 65536 to 2048: gradients overflowed in half precision.",
    ]
    assert len(page_of(folder).lines("d_loss")["y"]) == len(log) - 1


def test_a_failed_case_and_other_surroundings_are_warned_of(tmp_path):
    folder = make_case(tmp_path, exit_status=3)
    around = {"device": "gpu", "data": "other", "threads": 3}
    for name in ("training.json", "config.json"):
        before = {"device": "cpu", "data": "8 pictures", "threads": 8}
        change(os.path.join(folder, "ckpt", "run", name), surroundings=before)
    change(os.path.join(folder, "test", "tested.json"), surroundings=around)
    assert report.warnings(runs.read_run(folder)) == [
        "The case failed with exit status 3.",
        "device was cpu in the training and gpu in the test phase test.",
    ]
    page = page_of(folder).text
    assert "full case \u00b7 cpu" in page  # that of the training
    assert "device cpu data 8 pictures threads 8" in page
    assert "device, test gpu data, test other threads, test 3" in page
