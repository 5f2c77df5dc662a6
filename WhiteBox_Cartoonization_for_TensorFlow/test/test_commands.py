# SPDX-License-Identifier: Apache-2.0
"""The documented command lines: what they print, leave, and answer to wrong input."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import FOLDER, TINY, draw_data, run, write_vgg

from harness.errors import UserError
from harness.images import read_image
from harness.options import parse
from whitebox import training
from whitebox.config import Config
from whitebox.generators import GENERATOR_SHAPES, write_generator

NETWORK = "WhiteBox_Cartoonization_for_TensorFlow"
RESULT_LINES = (
    "Final Performance images/sec",
    "Final Performance sec/step",
    "Final Train Accuracy",
    "E2E Training Duration sec",
)


def shell(script, *words, cwd):
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


def read_json(path):
    with open(str(path)) as file:
        return json.load(file)


def result_lines(printed):
    """Returns {name: text} of the last lines of a case, which come in this order."""
    lines = [line.split(" : ") for line in printed.splitlines()[-5:]]
    assert lines.pop(0) == ["------------------ Final result ------------------"], printed
    assert [name for name, _ in lines] == list(RESULT_LINES)
    return dict(lines)


def log_lines(path):
    return dict(line.split(" = ") for line in path.read_text().splitlines())


def draw_start():
    rng, shapes = np.random.RandomState(1), GENERATOR_SHAPES.items()
    return {name: rng.normal(0, 0.05, shape).astype(np.float32) for name, shape in shapes}


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """(folder, printed) of a full case that pretrains; paths are relative to the caller."""
    folder = tmp_path_factory.mktemp("数据 集")
    draw_data(folder / "my data")
    write_vgg(folder / "my data" / "dataset" / "vgg19_no_fc.npz")
    words = ["--data_path=my data", "--output_path", "out put", "--total_iter=2"] + TINY
    done = shell("test/train_full_1p.sh", *words, "--pretrain_iter=2", cwd=folder)
    assert done.returncode == 0, done.stdout
    return folder, done.stdout


@pytest.fixture(scope="module")
def performance(tmp_path_factory):
    """(folder, printed) of a performance case that starts from a generator beside the data."""
    folder = tmp_path_factory.mktemp("performance")
    draw_data(folder / "data")
    write_vgg(folder / "data" / "dataset" / "vgg19_no_fc.npz")
    start = folder / "data" / "dataset" / "pretrain" / "saved_models" / "model-7"
    tf.disable_v2_behavior()
    write_generator(str(start), draw_start())
    words = ["--data_path=data", "--output_path=out", "--train_steps=4", "--subjects=scenery"]
    words += TINY + ["--log_steps=2", "--use_enhance"]
    done = shell("test/train_performance_1p.sh", *words, cwd=folder)
    assert done.returncode == 0, done.stdout
    return folder, done.stdout


def test_the_full_case_pretrains_trains_cartoonizes_and_measures(full):
    folder, printed = full
    order = ("pretraining: 6 steps per epoch, 2 steps", "pretrain, iter: 2, recon_loss: ")
    order += ("6 steps per epoch, 2 steps", "VGG-19: ", "effective weights: surface 0.1")
    order += ("starting from the generator ", "Iter: 2/2 , time_per_step ", "Iter: 2, d_loss: ")
    order += (
        "VGG-19 Frechet distance to the photos: ",
        "VGG-19 Frechet distance to the cartoons: ",
    )
    places = [printed.index(text) for text in order[:2]]
    for text in order[2:]:
        places.append(printed.index(text, places[-1]))
    results, out = result_lines(printed), folder / "out put"
    result = read_json(out / "result.json")
    assert result["case"] == NETWORK + "_bs2_1p_acc"
    assert (result["preset"], result["exit_status"], result["steps"]) == ("full", 0, 2)
    assert (result["batch"], result["ranks"], result["stopped"]) == (2, 1, False)
    accuracy = result["accuracy"]
    assert accuracy["metric"] == "VGG-19 Frechet distance to cartoon"
    protocol = "of conv4_4's means over pictures of 256 pixels; a surrogate, no FID; "
    assert accuracy["protocol"] == protocol + "6 cartoonized training photos, 6 cartoons"
    assert accuracy["value"] == result["metrics"]["vgg19_frechet_cartoon"]
    assert result["metrics"] == read_json(out / "metrics.json")
    assert all(np.isfinite(value) and value > 0 for value in result["metrics"].values())
    assert results["Final Train Accuracy"] == "%.4f" % accuracy["value"]
    assert results["Final Performance images/sec"] == "%.2f" % result["images_per_second"]
    assert results["Final Performance sec/step"] == "%.4f" % result["seconds_per_step"]
    assert int(results["E2E Training Duration sec"]) > 0
    assert result["command"][:2] == ["bash", "test/train_full_1p.sh"]
    names = "tv_loss photo_loss superpixel_loss recon_loss d_loss_gray g_loss_gray d_loss_blur "
    names += "g_loss_blur d_loss_total g_loss_total"
    assert set(result["losses"]) == set(names.split())


def test_the_full_case_leaves_what_is_documented(full):
    out = full[0] / "out put"
    case = NETWORK + "_bs2_1p_acc"
    there = {"case.json", "result.json", "metrics.json", "pretrain", "train_cartoon"}
    there |= {"cartoonized_scenery", case + ".log", case + "_loss.txt", "train_0.log"}
    there |= {"report.html", "tested.json"}
    assert set(os.listdir(str(out))) == there
    photos = full[0] / "my data" / "dataset" / "scenery_photo"
    names = os.listdir(str(photos))
    assert set(os.listdir(str(out / "cartoonized_scenery"))) == set(names)
    for name in names:
        photo, cartoon = (read_image(str(d / name)) for d in (photos, out / "cartoonized_scenery"))
        assert photo.shape == cartoon.shape
        assert np.abs(photo.astype(int) - cartoon).mean() > 3
    text = (out / "train_0.log").read_text()
    assert "starting from the generator %s/pretrain/saved_models/model-2\n" % out in text
    reader = tf.train.NewCheckpointReader(str(out / "pretrain" / "saved_models" / "model-2"))
    assert set(reader.get_variable_to_shape_map()) == set(GENERATOR_SHAPES)
    lines = log_lines(out / (case + ".log"))
    keys = "Network RankSize BatchSize DeviceType CaseName ActualFPS TrainingTime ActualLoss "
    assert list(lines) == (keys + "TrainAccuracy E2ETrainingTime").split()
    assert (lines["Network"], lines["CaseName"], lines["BatchSize"]) == (NETWORK, case, "2")
    losses = np.loadtxt(str(out / (case + "_loss.txt")), ndmin=1)
    log = [json.loads(line) for line in (out / "train_cartoon/checkpoint/log.jsonl").open()]
    np.testing.assert_allclose(losses, [record["d_loss_total"] for record in log], atol=1e-8)
    assert lines["ActualLoss"] == "%.4f" % losses[-1]


def test_the_performance_case_trains_and_cartoonizes_only(performance):
    folder, printed = performance
    results, out = result_lines(printed), folder / "out"
    result, case = read_json(out / "result.json"), NETWORK + "_bs2_1p_perf"
    assert (result["case"], result["preset"], result["exit_status"]) == (case, "performance", 0)
    assert (result["steps"], result["accuracy"], result["metrics"]) == (4, None, {})
    assert results["Final Train Accuracy"] == "None"
    assert float(results["Final Performance images/sec"]) > 0
    lines = log_lines(out / (case + ".log"))
    assert (lines["CaseName"], lines["TrainAccuracy"]) == (case, "None")
    assert abs(float(lines["ActualFPS"]) * float(lines["TrainingTime"]) / 2000 - 1) < 0.05
    assert "/data/dataset/pretrain/saved_models/model-7\n" in printed
    assert "pretraining" not in printed
    assert not (out / "pretrain").exists()
    assert re.findall(r"Iter: (\d), d_loss", printed) == ["2", "4"]
    assert len((out / (case + "_loss.txt")).read_text().splitlines()) == 2
    assert len(os.listdir(str(out / "cartoonized_scenery"))) == 6
    options = read_json(out / "train_cartoon" / "checkpoint" / "config.json")["options"]
    assert (options["use_enhance"], options["subjects"]) == (True, ["scenery"])


def test_the_sizes_of_the_cases_are_the_published_ones():
    import cases

    assert cases.settings("full", {}) == {"total_iter": 100_000}
    assert cases.settings("full", {"total_iter": 7})["total_iter"] == 7
    assert cases.settings("performance", {})["total_iter"] == 100
    given = {"train_epochs": 3}
    assert cases.settings("full", given) == given


def test_npu_train_copies_the_work_folder_and_returns_the_training_s_status(tmp_path):
    """A stand-in for the training tells what it is called with."""
    program = tmp_path / "code dir" / "train_code" / "train.py"
    program.parent.mkdir(parents=True)
    body = "import sys\nprint(sys.argv[1:])\nsys.exit(int(sys.argv[-1].split('=')[1]))\n"
    program.write_text(body)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "kept.txt").write_text("mine")
    four = ["code dir", "work", "my data", "out put/here"]
    for status, word in ((0, "success"), (7, "failed")):
        done = shell("npu_train.sh", *four, "--batch_size=2", "--seed=%d" % status, cwd=tmp_path)
        assert done.returncode == status
        words = ["--total_iter=100000", "--data_path=my data", "--output_path=out put/here"]
        words += ["--batch_size=2", "--seed=%d" % status]
        assert done.stdout == "%s\n[CANN-ZhongZhi] train return %s\n" % (words, word)
        assert (tmp_path / "out put" / "here" / "work" / "kept.txt").read_text() == "mine"
        assert "PATH=" in (tmp_path / "out put" / "here" / "my_env.log").read_text()
        shutil.rmtree(str(tmp_path / "out put"))
    done = shell("npu_train.sh", *four[:3], cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout.startswith("npu_train.sh: give CODE_DIR WORK_DIR DATASET_PATH OUTPUT_PATH;")
    assert not (tmp_path / "out put").exists()


def test_npu_train_starts_the_training_of_this_folder(tmp_path):
    words = [FOLDER, tmp_path / "work", tmp_path / "no data", tmp_path / "out"]
    done = shell("npu_train.sh", *words, "--device=cpu", cwd=tmp_path)
    assert done.returncode == 1
    assert "train.py: error: none of the folders face_photo, " in done.stdout
    assert done.stdout.endswith("\n[CANN-ZhongZhi] train return failed\n")
    assert os.listdir(str(tmp_path / "out")) == ["my_env.log"]


HELP = {
    "train_code/train.py": "patch_size batch_size total_iter adv_train_lr gpu_fraction save_dir "
    "use_enhance data_path REAL_PATH output_path train_steps train_epochs precision_mode "
    "loss_scale over_dump data_dump_flag data_dump_step profiling autotune continue_train seed "
    "preset pretrained pretrain_iter vgg lambda_surface lambda_structure superpixels device",
    "train_code/pretrain.py": "patch_size batch_size total_iter adv_train_lr gpu_fraction "
    "data_path output_path REAL_PATH continue_train",
    "test_code/cartoonize.py": "output_path data_path save_folder input output weights strength",
    "test_code/ckpt2pb.py": "ckpt_path patch_size weights output smooth",
    "test_code/evaluate.py": "results data_path output_path inception vgg",
    "modelarts_entry.py": "data_url train_url total_iter batch_size",
}


@pytest.mark.parametrize("program", sorted(HELP))
def test_help_lists_every_documented_option(tmp_path, program):
    done = run(program, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    for flag in HELP[program].split():
        assert re.search(r"(?m)^  (--\S+ \S+, )*--%s " % flag, done.stdout), flag
    assert os.listdir(str(tmp_path)) == []


@pytest.mark.parametrize("script", ["full_1p", "full_8p", "performance_1p", "performance_8p"])
def test_help_of_the_cases_lists_their_options(tmp_path, script):
    done = shell("test/train_%s.sh" % script, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    for flag in ("data_path", "output_path", "train_steps", "train_epochs", "conda_name"):
        assert re.search(r"(?m)^  (--\S+ \S+, )*--%s " % flag, done.stdout), flag


@pytest.mark.parametrize("words", [[], ["--data_path="], ["--data_path=no such folder"]])
def test_a_case_without_data_says_so(tmp_path, words):
    done = shell("test/train_full_1p.sh", *words, cwd=tmp_path)
    assert done.returncode == 1
    first, second = done.stdout.splitlines()
    assert first == '[Error] para "data_path" must be config'
    start = "none of the folders face_photo, face_cartoon, scenery_photo, scenery_cartoon (or "
    assert second.startswith(start if words and "such" in words[0] else "no --data_path was given")
    assert os.listdir(str(tmp_path)) == []


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The path of data that can be trained with."""
    folder = draw_data(tmp_path_factory.mktemp("good") / "data", count=3)
    write_vgg(os.path.join(folder, "dataset", "vgg19_no_fc.npz"))
    return folder


@pytest.fixture
def spoilt(good, tmp_path):
    """(a copy of that data to spoil, a function that trains and returns the message)."""
    folder = tmp_path / "data"
    shutil.copytree(good, str(folder))

    def message(*words):
        common = ["--data_path=%s" % folder, "--output_path=%s" % (tmp_path / "out")] + TINY
        with pytest.raises(UserError) as caught:
            training.train(parse(Config, common + list(words))[0])
        assert not (tmp_path / "out").exists()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return folder / "dataset", message


@pytest.mark.parametrize("name", ["face_photo", "face_cartoon", "scenery_photo", "scenery_cartoon"])
def test_a_missing_folder_is_named(spoilt, name):
    folder, message = spoilt
    shutil.rmtree(str(folder / name))
    other = "_".join(reversed(name.split("_")))
    assert message().startswith("there is neither %s nor %s in %s, which " % (name, other, folder))


def test_a_batch_larger_than_a_folder_is_refused(spoilt):
    _, message = spoilt
    text = "face_cartoon has 3 pictures, but --batch_size 4 on 1 device(s) takes 4 a step; lower"
    assert text in message("--batch_size=4")


def test_a_corrupt_picture_among_good_ones_is_named(spoilt):
    folder, message = spoilt
    path = folder / "scenery_photo" / "2.png"
    path.write_bytes(path.read_bytes()[:300])
    expected = "1 of 12 pictures cannot be used, mend them or remove them: %s cannot be " % path
    assert message().startswith(expected)


def test_a_missing_or_wrong_vgg_is_refused(spoilt):
    folder, message = spoilt
    (folder / "vgg19_no_fc.npz").unlink()
    assert message().startswith("there is no VGG-19 in %s (vgg19_no_fc.npy, " % folder)
    np.savez(str(folder / "vgg19_no_fc.npz"), conv1_1_W=np.ones([3, 3, 3, 4], np.float32))
    assert "vgg19_no_fc.npz has no layer conv1_1, conv1_2, conv2_1 of conv1_1 to" in message()
    assert "mine.npz cannot be opened: No such file" in message("--vgg=mine.npz")


@pytest.mark.parametrize("given", [True, False])
def test_an_empty_or_incomplete_generator_is_refused(spoilt, tmp_path, given):
    folder, message = spoilt
    start = folder / "pretrain" / "saved_models" / "model-7"
    words = ["--pretrained=%s" % start] if given else []
    start.parent.mkdir(parents=True)
    for ending in (".index", ".data-00000-of-00001"):
        start.with_name("model-7" + ending).write_bytes(b"")
    assert message(*words) == "%s.index is empty; use another, or make or download it again" % start
    arrays = draw_start()
    del arrays["generator/Conv_9/biases"]
    np.savez(str(tmp_path / "less.npz"), **arrays)
    sentence = "less.npz has no generator/Conv_9/biases (1 of 36 arrays are missing); give a"
    assert sentence in message("--pretrained=%s" % (tmp_path / "less.npz"))


class Malicious:
    """A pickle that would make the folder `hacked`."""

    def __reduce__(self):
        return os.mkdir, ("hacked",)


def test_a_malicious_pickle_ends_the_program_in_one_sentence_and_is_not_run(
    good, tmp_path, monkeypatch
):
    np.save(str(tmp_path / "vgg19_no_fc.npy"), np.array({"conv1_1": Malicious()}, object))
    words = ["--data_path", good, "--vgg=vgg19_no_fc.npy", "--pretrained=no.npz"] + TINY
    done = run("train_code/train.py", *words, cwd=tmp_path)
    assert done.returncode == 1
    last = done.stdout.splitlines()[-1]
    assert last.startswith("train.py: error: vgg19_no_fc.npy is a pickle that asks for ")
    assert "Traceback" not in done.stdout
    assert os.listdir(str(tmp_path)) == ["vgg19_no_fc.npy"]
    monkeypatch.chdir(tmp_path)
    np.load("vgg19_no_fc.npy", allow_pickle=True)
    assert (tmp_path / "hacked").is_dir()  # so it does what it should not


def test_the_modelarts_entries_pass_the_status_on(tmp_path):
    for name in ("modelarts_entry.py", "modelarts_entry_acc.py", "modelarts_entry_perf.py"):
        done = run(name, "--data_url=nothing", "--train_url=out", "--num_gpus=1", cwd=tmp_path)
        assert done.returncode == 1
        assert "left out, not options of this model: --num_gpus=1\n" in done.stdout
        assert '[Error] para "data_path" must be config\n' in done.stdout
    assert os.listdir(str(tmp_path)) == []


@pytest.mark.parametrize(
    ("program", "words", "sentence"),
    [
        ("train_code/train.py", ["--patch_size=40"], "--patch_size 40: it must be a multiple of"),
        ("train_code/train.py", ["--bach_size=3"], "--bach_size=3; did you mean --batch_size?"),
        ("train_code/pretrain.py", ["--total-itr", "3"], "--total_itr; did you mean --total_iter?"),
        ("test_code/evaluate.py", ["--result=x"], "--result=x; did you mean --results?"),
    ],
)
def test_wrong_options_are_answered_in_one_line(tmp_path, program, words, sentence):
    done = run(program, *words, cwd=tmp_path)
    assert (done.returncode, len(done.stdout.splitlines())) == (2, 1)
    assert sentence in done.stdout
    assert os.listdir(str(tmp_path)) == []
