# SPDX-License-Identifier: Apache-2.0
"""The documented command lines: what they print, leave, and answer to wrong input."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import FOLDER, TINY, draw_set, run
from PIL import Image

from harness.images import read_image

CASE = "Pix2Pix_ID0359_for_TensorFlow"
RESULT_LINES = (
    "Final Performance images/sec : ",
    "Final Performance sec/step : ",
    "Final Train Accuracy : ",
    "E2E Training Duration sec : ",
)


def _case(script, *words, cwd):
    """Runs a test script the way a person does; python3 is this Python."""
    folder = os.path.dirname(sys.executable)
    environment = dict(os.environ, PATH=folder + os.pathsep + os.environ["PATH"])
    environment.pop("ASCEND_DEVICE_ID", None)
    return subprocess.run(
        ["bash", os.path.join(FOLDER, "test", script)] + [str(word) for word in words],
        cwd=str(cwd),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        check=False,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished performance case, its data given relative to where the caller stands."""
    folder = tmp_path_factory.mktemp("数据 集")
    draw_set(folder / "my pairs")
    words = ["--data_path=my pairs", "--output_path", "out put", "--train_steps=3"] + TINY
    done = _case("train_performance_1p.sh", *words, cwd=folder)
    assert done.returncode == 0, done.stdout
    return folder, done.stdout


def test_a_case_prints_the_documented_results(finished):
    folder, printed = finished
    results = dict(line.rsplit(" : ", 1) for line in printed.splitlines() if " : " in line)
    for key in RESULT_LINES:
        assert float(results[key[:-3]]) > 0, printed
    result = json.load((folder / "out put" / "result.json").open())
    assert result["steps"] == 3
    assert result["exit_status"] == 0
    assert result["accuracy"]["metric"] == "L1"
    assert set(result["metrics"]) == {"pictures", "l1", "psnr", "ssim"}
    assert "%.4f" % result["accuracy"]["value"] == results["Final Train Accuracy"]


def test_a_case_leaves_the_documented_files(finished):
    folder, _ = finished
    out, name = folder / "out put", os.path.basename(FOLDER) + "_bs1_1p_perf"
    for path in ("train_0.log", "ckpt/facades_1_256/pix2pix.model-3.index", "test/test_0001.png"):
        assert (out / path).exists(), path
    lines = dict(line.split(" = ") for line in (out / (name + ".log")).read_text().splitlines())
    keys = "Network RankSize BatchSize DeviceType CaseName ActualFPS TrainingTime ActualLoss"
    keys += " ActualLoss1 TrainAccuracy E2ETrainingTime"
    assert list(lines) == keys.split()
    assert lines["CaseName"] == name
    assert abs(float(lines["ActualFPS"]) * float(lines["TrainingTime"]) / 1000 - 1) < 0.05
    for ending in ("_dloss.log", "_gloss.log"):
        losses = np.loadtxt(str(out / (name + ending)))
        assert losses.shape == (3,)
        assert np.all(losses > 0)
    assert "Epoch: [ 0] [   3/   5]" in (out / "train_0.log").read_text()


def test_the_test_phase_records_the_surroundings_that_the_training_had(finished):
    folder, printed = finished
    training, tested = (
        json.load((folder / "out put" / name).open())
        for name in ("ckpt/facades_1_256/training.json", "test/tested.json")
    )
    around, before = tested["surroundings"], training["surroundings"]
    assert around.pop("data").startswith("2 pairs, ")
    assert around == {name: before[name] for name in before if name != "data"}
    assert not [word for word in tested["command"] if "report" in word]
    assert printed.splitlines()[-6] == "report: %s" % (folder / "out put" / "report.html")
    assert printed.count("report.html") == 1


def test_the_test_page_is_self_contained(finished):
    page = (finished[0] / "out put" / "test" / "index.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 2 * 3
    assert "http" not in page


def test_an_earlier_case_is_kept_once(finished, tmp_path):
    folder, _ = finished
    out = tmp_path / "again"
    os.rename(str(folder / "out put"), str(out))
    words = ["--data_path", folder / "my pairs", "--output_path", out, "--train_steps=1"]
    done = _case("train_performance_1p.sh", *(words + TINY), cwd=tmp_path)
    os.rename(str(out), str(folder / "out put"))
    assert done.returncode == 0, done.stdout
    assert (folder / "out put" / "previous" / "result.json").exists()
    os.rename(str(folder / "out put" / "previous"), str(tmp_path / "previous"))
    os.rename(str(folder / "out put"), str(tmp_path / "newer"))
    os.rename(str(tmp_path / "previous"), str(folder / "out put"))


def test_a_failed_case_shows_no_speed_of_an_earlier_one(finished, tmp_path):
    folder, out = finished[0], tmp_path / "out"
    shutil.copytree(str(folder / "out put"), str(out))
    words = ["--data_path", folder / "my pairs", "--output_path", out, "--continue_train"]
    done = _case("train_performance_1p.sh", *(words + TINY + ["--seed=9"]), cwd=tmp_path)
    assert done.returncode == 1
    assert "--seed was 0 and is 9" in done.stdout
    assert "Final Performance images/sec : None" in done.stdout
    result = json.load((out / "result.json").open())
    assert (result["steps"], result["images_per_second"], result["losses"]) == (0, None, {})


def test_own_pictures_are_translated_by_checkpoint_and_by_frozen_graph(finished, tmp_path):
    folder, _ = finished
    (tmp_path / "in").mkdir()
    picture = np.random.RandomState(0).randint(0, 255, (70, 90, 3)).astype(np.uint8)
    Image.fromarray(picture).save(str(tmp_path / "in" / "my house.png"))
    common = ["--checkpoint_dir", folder / "out put" / "ckpt", "--device=cpu"]
    common += ["--precision_mode=force_fp32"]
    words = common + ["--input_dir", "in", "--test_dir", "a"]
    done = run("main.py", "--phase", "test", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    done = run("frozen_graph.py", "--out_pb_path", "g.pb", *common, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "input -> output" in done.stdout
    words = ["--phase=test_pb", "--out_pb_path=g.pb", "--input_dir=in", "--test_dir=b"]
    done = run("frozen_graph.py", *(words + common[2:]), cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    by_checkpoint = read_image(str(tmp_path / "a" / "my house.png"))
    by_graph = read_image(str(tmp_path / "b" / "my house.png"))
    assert by_checkpoint.shape == (70, 90, 3)
    assert np.abs(by_checkpoint.astype(int) - by_graph).max() <= 1
    assert by_checkpoint.std() > 0


def test_two_pictures_of_one_name_are_refused(finished, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("x.png", "x.jpg"):
        Image.new("RGB", (8, 8)).save(str(tmp_path / "in" / name))
    words = ["--checkpoint_dir", finished[0] / "out put" / "ckpt", "--input_dir", "in"]
    done = run("main.py", "--phase", "test", *words, cwd=tmp_path)
    assert done.returncode == 1
    assert "would both be written as x.png" in done.stdout


def test_outputs_do_not_replace_inputs(finished, tmp_path):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (8, 8)).save(str(tmp_path / "in" / "x.png"))
    words = [
        "--checkpoint_dir",
        finished[0] / "out put" / "ckpt",
        "--input_dir=in",
        "--test_dir=in/",
    ]
    done = run("main.py", "--phase", "test", *words, cwd=tmp_path)
    assert done.returncode == 1
    assert "--input_dir in would be written to" in done.stdout
    assert os.listdir(str(tmp_path / "in")) == ["x.png"]


def test_a_case_neither_moves_the_data_nor_what_it_does_not_write(tmp_path):
    data_path = draw_set(tmp_path / "work" / "data", train=2, val=1)
    (tmp_path / "work" / "notes.txt").write_text("mine")
    words = ["--data_path", data_path, "--output_path", tmp_path / "work", "--train_steps=1"]
    done = _case("train_full_1p.sh", *words, cwd=tmp_path)
    assert done.returncode == 1
    assert "would lie in the output folder" in done.stdout
    from harness import cases as harness_cases

    for name in ("case.json", "result.json", "ckpt"):
        (tmp_path / "work" / name).write_text("{}")
    harness_cases.move_earlier(str(tmp_path / "work"), ["case.json", "result.json", "ckpt"])
    assert sorted(os.listdir(str(tmp_path / "work"))) == ["data", "notes.txt", "previous"]


@pytest.mark.parametrize("words", [[], ["--data_path="], ["--data_path=no such folder"]])
def test_a_case_without_data_says_so(tmp_path, words):
    done = _case("train_full_1p.sh", *words, cwd=tmp_path)
    assert done.returncode == 1
    assert '[Error] para "data_path" must be config' in done.stdout
    if words and words[0] != "--data_path=":
        assert "there is no folder %s" % (tmp_path / "no such folder") in done.stdout
    assert os.listdir(str(tmp_path)) == []


def test_a_case_fails_when_its_training_fails(dataset, tmp_path):
    words = ["--data_path", dataset, "--output_path", tmp_path / "out", "--train_steps=5"]
    done = _case("train_full_1p.sh", *(words + TINY + ["--learning_rate=1e25"]), cwd=tmp_path)
    assert done.returncode == 1
    assert "Final Train Accuracy : None" in done.stdout
    result = json.load((tmp_path / "out" / "result.json").open())
    assert result["exit_status"] == 1
    assert (tmp_path / "out" / (os.path.basename(FOLDER) + "_bs1_1p_acc.log")).exists()


def test_epochs_on_the_command_line_lift_the_performance_cases_limit_of_steps():
    import cases

    assert cases.settings("performance", {})["train_steps"] == 100
    assert "train_steps" not in cases.settings("performance", {"epoch": 3})
    assert cases.settings("full", {"train_steps": 7}) == {"epoch": 200, "train_steps": 7}


def test_help_lists_the_options_of_case_and_model(tmp_path):
    done = _case("train_full_8p.sh", "--help", cwd=tmp_path)
    assert done.returncode == 0
    flags = "data_path output_path train_steps train_epochs batch_size learning_rate rank_size "
    flags += "precision_mode loss_scale over_dump over_dump_path data_dump_flag data_dump_step "
    flags += "data_dump_path profiling profiling_dump_path autotune conda_name bind_core ngf"
    for flag in flags.split():
        assert "--%s " % flag in done.stdout


@pytest.mark.parametrize("name", ["modelarts_entry.py", "modelarts_entry_perf.py"])
def test_modelarts_entries_pass_status_and_tolerate_platform_parameters(dataset, tmp_path, name):
    words = ["--data_url", dataset, "--train_url", tmp_path / "job", "--train_steps=2"] + TINY
    path = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
    done = run(name, *(words + ["--num_gpus=1"]), cwd=tmp_path, PATH=path)
    assert done.returncode == 0, done.stdout
    assert "left out, not options of this model: --num_gpus=1" in done.stdout
    assert (tmp_path / "job" / "result.json").exists()
    failed = run(name, "--data_url", tmp_path / "nothing", cwd=tmp_path, PATH=path)
    assert failed.returncode == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--batch_size=-3"], "--batch_size -3 is too small; it must be at least 1"),
        (["--batch-size", "-3"], "--batch_size -3 is too small; it must be at least 1"),
        (["--lr=-0.1"], "--learning_rate -0.1 is too small"),
        (["--bach_size=3"], "unknown option --bach_size=3; did you mean --batch_size?"),
        (["--fine_size=300"], "--fine_size 300: it must be a multiple of 256"),
        (["--fine_size=512"], "--load_size 286 is below --fine_size 512"),
        (["--flip=maybe"], "'maybe' is neither True nor False"),
        (["--epoch=1.5"], "'1.5' is not a whole number"),
        (["--which_direction=CtoD"], "invalid choice: 'CtoD'"),
    ],
)
def test_wrong_options_are_answered_in_one_line(tmp_path, words, sentence):
    done = run("main.py", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert sentence in done.stdout
    assert len(done.stdout.splitlines()) == 1
    assert os.listdir(str(tmp_path)) == []


def test_missing_data_is_answered_in_one_sentence(tmp_path):
    done = run("main.py", "--data_path=nowhere", "--device=cpu", cwd=tmp_path)
    assert done.returncode == 1
    assert "main.py: error: there is no folder nowhere; it must hold train/" in done.stdout
    assert "Traceback" not in done.stdout
