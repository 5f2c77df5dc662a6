# SPDX-License-Identifier: Apache-2.0
"""The documented command lines: what they print, leave, and answer to wrong input."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from conftest import FOLDER, NETWORK, draw_data, draw_picture, run
from PIL import Image

from harness.files import read_jsonl
from harness.images import read_image
from tf_runtime.checkpoints import checkpoint_steps

CASE = "NEURAL-STYLE_ID2068_for_TensorFlow_bs1_1p_perf"
LOSSES = ["content", "style", "tv", "total"]
RESULT_LINES = (
    "Final Performance images/sec",
    "Final Performance sec/step",
    "Final Train Accuracy",
    "E2E Training Duration sec",
)
STEPS = 300  # so many that a run can be stopped on its way


def _inputs(folder, **others):
    """Returns words that name the content, the style and the network in `folder`."""
    names = {"content": "1-content.jpg", "styles": "1-style.jpg", "network": NETWORK}
    names = dict({name: os.path.join(str(folder), file) for name, file in names.items()}, **others)
    return ["--%s=%s" % item for item in names.items() if item[1]]


def _json(path):
    return json.loads(path.read_text())


def _shell(script, *words, cwd):
    """Runs a script of the folder the way a person does; python3 is this Python."""
    folder = os.path.dirname(sys.executable)
    environment = dict(os.environ, PATH=folder + os.pathsep + os.environ["PATH"])
    environment.pop("ASCEND_DEVICE_ID", None)
    return subprocess.run(
        ["bash", os.path.join(FOLDER, script)] + [str(word) for word in words],
        cwd=str(cwd),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with a content, a style and a network."""
    folder = tmp_path_factory.mktemp("图 片") / "my data"
    draw_data(folder)
    return folder


@pytest.fixture(scope="module")
def finished(data):
    """(folder, printed) of a run in one go; its data are in my data/ of the folder."""
    folder = data.parent
    words = _inputs("my data", output="new/deep/out.png", iterations=STEPS, print_iterations=100)
    words += [
        "--checkpoint_output=new/deep/c_{}.png",
        "--checkpoint_iterations=200",
        "--progress_plot",
    ]
    done = run("neural_style.py", *words, cwd=folder)
    assert done.returncode == 0, done.stdout
    return folder, done.stdout


def test_a_run_leaves_the_picture_and_what_it_was(finished):
    out = finished[0] / "new" / "deep"
    names = ["c_200.png", "c_300.png", "out.png", "out.png.run", "progress.png"]
    assert sorted(os.listdir(str(out))) == names
    picture = read_image(str(out / "out.png"))
    assert picture.shape == (48, 64, 3)
    assert picture.std() > 10
    for name in ("c_200.png", "c_300.png"):
        assert read_image(str(out / name)).shape == (48, 64, 3)
    folder = out / "out.png.run"
    named = {name for name in os.listdir(str(folder)) if not name.startswith("model-")}
    files = {"config.json", "log.jsonl", "metrics.json", "training.json", "checkpoint"}
    files |= {"content.png", "samples.jsonl", "tested.json", "report.html"}
    assert named == files
    assert checkpoint_steps(str(folder), "model") == [100, 200, STEPS]
    options = _json(folder / "config.json")["options"]
    assert (options["output"], options["iterations"]) == ("new/deep/out.png", [STEPS])
    training = _json(folder / "training.json")
    assert (training["steps"], training["batch"], training["stopped"]) == (STEPS, 1, False)
    records = read_jsonl(str(folder / "log.jsonl"))
    assert [record["step"] for record in records] == [100, 200, 300]
    assert set(LOSSES) <= set(records[0])
    assert _json(folder / "tested.json")["surroundings"] == training["surroundings"]
    metrics = _json(folder / "metrics.json")
    assert set(metrics) == {"gram_distance"}.union(LOSSES)
    assert metrics["total"] <= records[0]["total"]


def test_the_last_line_names_the_report_once(finished):
    folder, printed = finished
    path = folder / "new" / "deep" / "out.png.run" / "report.html"
    assert printed.splitlines()[-1] == "report: %s" % path
    assert printed.count("report: ") == 1


def test_a_run_prints_the_documented_lines(finished):
    folder, printed = finished
    lines = printed[printed.index(NETWORK) :].splitlines()  # behind what TensorFlow says
    assert re.match(re.escape(NETWORK) + r" \(MatConvNet with meta, ends after relu5_4, ", lines[0])
    assert lines[1].startswith("device: ")
    assert lines[2] == "64 x 48 pixels need about 1.0 GiB"
    records = read_jsonl(str(folder / "new" / "deep" / "out.png.run" / "log.jsonl"))
    rest = lines[3:]
    number = r"\d+\.\d{9}"
    for record in records:
        start = r"^Iteration %4d/ 300 \(\d+ sec elapsed, \d+ sec remaining, " % record["step"]
        assert re.match(start + number + r" gap\)$", rest[0])
        assert re.match("^sec/step: %s$" % number, rest[1])
        assert rest[2:6] == ["%13s: %g" % (name + " loss", record[name]) for name in LOSSES]
        rest = rest[6:]
    metrics = _json(folder / "new" / "deep" / "out.png.run" / "metrics.json")
    last = ["%13s: %g" % (name + " loss", metrics[name]) for name in LOSSES]
    assert rest[:-1] == ["the best picture has"] + last  # then the report


def test_a_terminated_run_exits_0_and_goes_on_byte_for_byte(finished, tmp_path):
    words = _inputs(finished[0] / "my data", output=tmp_path / "o" / "out.png", iterations=STEPS)
    words += ["--print_iterations=1"]
    command = [sys.executable, os.path.join(FOLDER, "neural_style.py")] + words
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("Iteration    2/ 300"):
            process.send_signal(signal.SIGTERM)
    assert process.wait() == 0, lines
    stopped = [line for line in lines if line.startswith("stopped at step ")]
    assert len(stopped) == 1
    step = int(stopped[0].split()[-1])
    assert 2 <= step < STEPS
    out, whole = tmp_path / "o", finished[0] / "new" / "deep"
    assert read_image(str(out / "out.png")).shape == (48, 64, 3)
    assert (out / "out.png").read_bytes() != (whole / "out.png").read_bytes()
    assert checkpoint_steps(str(out / "out.png.run"), "model")[-1] == step
    assert not (out / "out.png.run" / "metrics.json").exists()
    done = run("neural_style.py", *words, "--continue_train", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "continuing after step %d" % step in done.stdout
    for name in ("out.png", os.path.join("out.png.run", "metrics.json")):
        assert (out / name).read_bytes() == (whole / name).read_bytes()


def test_of_several_contents_one_that_is_none_fails_and_the_others_are_done(finished, tmp_path):
    rng, photos = np.random.RandomState(3), tmp_path / "my photos"
    photos.mkdir()
    for name in ("2.png", "10.png"):
        Image.fromarray(draw_picture(rng, 40, 52)).save(str(photos / name))
    (photos / "3.jpg").write_text("no picture")
    (photos / "notes.txt").write_text("no picture")
    data = finished[0] / "my data"
    words = _inputs(data, content=photos, output=tmp_path / "out", iterations=6)
    words += ["--preserve-colors", "--content-weight-blend", "0.4", "--seed=1"]
    done = run("neural_style.py", *words, cwd=tmp_path)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stdout
    lines = done.stdout.splitlines()
    assert lines[-1] == "stylised 2 of 4; not: notes.txt, 3.jpg"
    unreadable = "%s cannot be read as a picture" % (photos / "3.jpg")
    assert sum(line.startswith(unreadable) for line in lines) == 1
    names = sorted(os.listdir(str(tmp_path / "out")))
    assert names == ["10.jpg", "10.jpg.run", "2.jpg", "2.jpg.run"]
    for name in ("2", "10"):
        options = _json(tmp_path / "out" / (name + ".jpg.run") / "config.json")["options"]
        assert (options["content_weight_blend"], options["preserve_colors"]) == (0.4, True)
        content, result = (
            np.asarray(Image.open(str(path)).convert("YCbCr")).astype(float)
            for path in (photos / (name + ".png"), tmp_path / "out" / (name + ".jpg"))
        )
        difference = np.abs(content - result).mean((0, 1))
        assert difference[0] > 10  # after six steps it is still noise, of the content's colour
        assert difference[1:].max() < 0.5 * np.abs(content[..., 1:] - 128).mean()


def _results(done):
    """Returns {name: number} of the last lines of a case, which come in this order."""
    assert done.returncode == 0, done.stdout
    lines = [line.split(" : ") for line in done.stdout.splitlines()[-4:]]
    assert [name for name, _ in lines] == list(RESULT_LINES), done.stdout
    return {name: float(value) for name, value in lines}


def test_the_performance_case_runs_from_any_directory_and_again(finished, tmp_path):
    shutil.copytree(str(finished[0] / "my data"), str(tmp_path / "my data"))
    words = ["--data_path=my data", "--train_steps=4", "--output_path=the output"]
    done = _shell("test/train_performance_1p.sh", *words, cwd=tmp_path)
    results = _results(done)
    assert len(re.findall(r"(?m)^Iteration    [1-4]/   4 \(", done.stdout)) == 4
    out = tmp_path / "the output"
    result = _json(out / "result.json")
    assert (result["case"], result["preset"], result["exit_status"]) == (CASE, "performance", 0)
    assert (result["steps"], result["batch"], result["ranks"]) == (4, 1, 1)
    assert result["accuracy"]["metric"] == "final total loss"
    assert result["accuracy"]["value"] == result["metrics"]["total"]
    assert "%.4f" % result["accuracy"]["value"] == "%.4f" % results["Final Train Accuracy"]
    assert "%.4f" % result["seconds_per_step"] == "%.4f" % results["Final Performance sec/step"]
    lines = dict(line.split(" = ") for line in (out / (CASE + ".log")).read_text().splitlines())
    keys = "Network RankSize BatchSize DeviceType CaseName ActualFPS TrainingTime ActualLoss"
    assert list(lines) == (keys + " TrainAccuracy E2ETrainingTime").split()
    losses = (out / (CASE + "_loss.txt")).read_text().splitlines()
    records = read_jsonl(str(out / "11.jpg.run" / "log.jsonl"))
    assert losses == ["%.8f" % record["total"] for record in records]
    assert len(set(losses)) == 4
    assert lines["ActualLoss"] == "%.4f" % float(losses[-1])
    assert float(lines["TrainAccuracy"]) < 1.01 * min(map(float, losses))  # of the best picture
    table = (out / "progress.txt").read_text().splitlines()
    assert [line.split()[0] for line in table] == ["itr", "1", "2", "3", "4"]
    assert read_image(str(out / "11.jpg")).shape == (48, 64, 3)
    again = _results(_shell("test/train_performance_1p.sh", *words, cwd=tmp_path))
    assert again["Final Train Accuracy"] == results["Final Train Accuracy"]
    files = {"11.jpg", "11.jpg.run", "progress.txt", "progress.png", "result.json", CASE + ".log"}
    for place in (out, out / "previous"):
        assert files <= set(os.listdir(str(place)))


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ((), "there is no 1-content.jpg in "),
        (("1-content.jpg",), "there is no 1-style.jpg in "),
        (("1-content.jpg", "1-style.jpg"), "there is no file "),
        (None, "no --data_path was given"),
    ],
)
def test_a_case_without_its_data_says_so(data, tmp_path, files, sentence):
    (tmp_path / "data").mkdir()
    for name in files or ():
        shutil.copy(str(data / name), str(tmp_path / "data" / name))
    words = ["--output_path=out"] + ["--data_path=data"] * (files is not None)
    done = _shell("test/train_performance_1p.sh", *words, cwd=tmp_path)
    assert done.returncode == 1
    first, second = done.stdout.splitlines()
    assert first == '[Error] para "data_path" must be config'
    assert second.startswith(sentence)
    assert os.listdir(str(tmp_path)) == ["data"]


def _without_tensorflow(folder, *words):
    """Runs the program where it cannot load TensorFlow, which would take seconds."""
    fake = folder / "no_tensorflow"
    fake.mkdir(exist_ok=True)
    (fake / "tensorflow.py").write_text("raise RuntimeError('too early')")
    return run("neural_style.py", *words, cwd=folder, PYTHONPATH=str(fake))


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (
            {"output": "old.png"},
            1,
            "old.png exists; --overwrite replaces it, --continue_train goes on with a stopped run",
        ),
        ({"network": "none.mat"}, 1, "there is no file none.mat; give --network, such as "),
        ({"network": "page.mat"}, 1, "page.mat is a web page, saved in place of the file; "),
        ({"network": "cut.mat"}, 1, "cut.mat cannot be read ("),
        ({"styles": ""}, 1, "no --styles: name a picture or more whose style is taken"),
        ({"styles": "none.jpg"}, 1, "there is no picture none.jpg"),
        ({"styles": "page.mat"}, 1, "page.mat cannot be read as a picture"),
        ({"content": ""}, 1, "--content is missing; give pictures"),
        ({"contnt-layers": "relu1_1"}, 2, "unknown option --contnt_layers=relu1_1; did you mean "),
        ({"iterations": "0"}, 2, "--iterations 0 is too small; it must be at least 1"),
        ({"style-layers": "relu7_1"}, 2, "--style_layers relu7_1: VGG-19 has the layers conv1_1 "),
    ],
)
def test_mistakes_are_answered_at_once_in_one_line(data, tmp_path, words, status, sentence):
    (tmp_path / "old.png").write_bytes(b"old")
    (tmp_path / "page.mat").write_text("<!DOCTYPE html>\n<html>Not found</html>")
    (tmp_path / "cut.mat").write_bytes((data / NETWORK).read_bytes()[:9000])
    done = _without_tensorflow(tmp_path, *_inputs(data, **dict({"output": "out.png"}, **words)))
    assert (done.returncode, len(done.stdout.splitlines())) == (status, 1), done.stdout
    start = "neural_style.py: error: " if status == 1 else "neural_style.py: "
    assert done.stdout.startswith(start + sentence)
    assert (tmp_path / "old.png").read_bytes() == b"old"
    assert not (tmp_path / "out.png").exists()


def test_pictures_on_the_way_replace_no_input(data, tmp_path):
    content = tmp_path / "c_2.jpg"
    shutil.copy(str(data / "1-content.jpg"), str(content))
    words = _inputs(data, content="c_2.jpg", output="o.png", iterations=2)
    words += ["--checkpoint_output=c_{}.jpg", "--checkpoint_iterations=1"]
    done = _without_tensorflow(tmp_path, *words)
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 1), done.stdout
    assert "c_2.jpg is an input too" in done.stdout


def test_help_lists_every_documented_option(tmp_path):
    done = _without_tensorflow(tmp_path, "--help")
    assert done.returncode == 0
    flags = "content styles output network iterations width scales initial initial_noiseblend "
    flags += "content_weight content_weight_blend style_weight style_blend_weights style_scales "
    flags += "style_layer_weight_exp tv_weight learning_rate beta1 beta2 eps pooling seed "
    flags += "print_iterations checkpoint_output checkpoint_iterations progress_write "
    flags += "progress_plot preserve_colors overwrite train_steps train_epochs batch_size "
    flags += "style epsilon precision_mode loss_scale over_dump data_dump_flag profiling"
    for flag in flags.split():
        assert re.search(r"--%s\b" % flag, done.stdout), flag
