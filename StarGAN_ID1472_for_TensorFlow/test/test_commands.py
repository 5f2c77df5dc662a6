# SPDX-License-Identifier: Apache-2.0
"""The documented command lines: what they print, leave, and answer to wrong input."""

import json
import os
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest
from conftest import ATTRIBUTES, FOLDER, TINY, draw_celeba, draw_classes, run
from PIL import Image

from harness.images import read_image
from harness.options import parse
from stargan import evaluation, serving
from stargan.config import Config

CASE = "StarGAN_ID1472_for_TensorFlow_bs4_1p_acc"
SELECTED = ["--selected_attrs"] + list(ATTRIBUTES)
CPU = ["--device=cpu", "--precision_mode=force_fp32"]
RESULT_LINES = (
    "Final Performance images/sec",
    "Final Performance sec/step",
    "Final Train Accuracy",
    "E2E Training Duration sec",
)


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


def _json(path):
    with open(str(path)) as file:
        return json.load(file)


def _results(printed):
    """Returns {name: number} of the last lines of a case, which come in this order."""
    lines = [line.split(" : ") for line in printed.splitlines()[-4:]]
    assert [name for name, _ in lines] == list(RESULT_LINES), printed
    return {name: float(value) for name, value in lines}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(folder, printed) of a full case whose data are given relative to where the caller stands.

    Its classifier is trained for a moment only: what it sees is arbitrary, but a number.
    """
    folder = tmp_path_factory.mktemp("数据 集")
    draw_celeba(folder / "my faces")
    words = ["--data_path=my faces", "--output=judge.npz", "--image_size=64"] + CPU + SELECTED
    words += ["--classifier_steps=20", "--classifier_batch=8"]
    done = run("train_classifier.py", *words, cwd=folder)
    assert done.returncode == 0, done.stdout
    words = ["--data_path=my faces", "--output_path", "out put", "--classifier=judge.npz"] + TINY
    words += ["--train_steps=4", "--d_train_repeat=2", "--num_test=3", "--crop_size=150"]
    words += ["--checkpoint_steps=3", "--init_learning_rate=0.005"]
    done = _shell("test/train_full_1p.sh", *(words + SELECTED), cwd=folder)
    assert done.returncode == 0, done.stdout
    return folder, done.stdout


@pytest.fixture(scope="module")
def performance(tmp_path_factory):
    """(folder, printed) of a performance case of two classes, with as many steps as it has."""
    folder = tmp_path_factory.mktemp("performance")
    draw_classes(folder / "data")
    words = ["--data_path=data", "--output_path=out", "--dataset=classes"] + TINY
    done = _shell("test/train_performance_1p.sh", *words, cwd=folder)
    assert done.returncode == 0, done.stdout
    return folder, done.stdout


def test_the_full_case_prints_and_stores_the_classifiers_view(finished):
    folder, printed = finished
    results = _results(printed)
    result = _json(folder / "out put" / "result.json")
    assert (result["case"], result["preset"], result["exit_status"]) == (CASE, "full", 0)
    assert (result["steps"], result["batch"], result["ranks"]) == (4, 4, 1)
    assert result["accuracy"]["metric"] == "attribute accuracy"
    assert "3 test pictures at 64 pixels" in result["accuracy"]["protocol"]
    assert result["accuracy"]["value"] == result["metrics"]["attribute_accuracy"]
    assert "%.4f" % result["accuracy"]["value"] == "%.4f" % results["Final Train Accuracy"]
    assert "%.2f" % result["images_per_second"] == "%.2f" % results[RESULT_LINES[0]]
    assert "%.4f" % result["seconds_per_step"] == "%.4f" % results[RESULT_LINES[1]]
    shares = ("attribute_accuracy", "attribute_accuracy_untranslated")
    assert set(result["metrics"]) == {"pictures", "reconstruction_l1"}.union(shares)
    assert all(0 <= result["metrics"][share] <= 1 for share in shares)
    assert result["command"][:2] == ["bash", "test/train_full_1p.sh"]
    assert set(result["losses"]) >= {"D_loss", "G/loss_rec", "D/loss_gp"}


def test_the_full_case_leaves_log_and_losses(finished):
    out = finished[0] / "out put"
    lines = dict(line.split(" = ") for line in (out / (CASE + ".log")).read_text().splitlines())
    keys = "Network RankSize BatchSize DeviceType CaseName ActualFPS TrainingTime ActualLoss"
    assert list(lines) == (keys + " TrainAccuracy E2ETrainingTime").split()
    assert lines["CaseName"] == CASE
    assert abs(float(lines["ActualFPS"]) * float(lines["TrainingTime"]) / 4000 - 1) < 0.05
    losses = np.loadtxt(str(out / ("train_%s_loss.txt" % CASE)), ndmin=1)
    log = [json.loads(line) for line in (out / "checkpoint" / "log.jsonl").open()]
    expected = [record["G/loss_rec"] for record in log if "G/loss_rec" in record]
    assert len(set(expected)) == 2  # the generator steps at 2 and 4
    np.testing.assert_allclose(losses, expected, atol=1e-8)
    assert lines["ActualLoss"] == "%.4f" % losses[-1]
    text = (out / "train_0.log").read_text()
    assert "Iteration [4/4], D/loss_real: " in text
    assert "Saved testing files." in text


def test_the_full_case_leaves_a_run_that_can_be_used(finished):
    import tensorflow.compat.v1 as tf

    run_folder = finished[0] / "out put" / "checkpoint"
    reader = tf.train.NewCheckpointReader(str(run_folder / "model-4"))
    assert (run_folder / "model-4.index").exists()
    assert (run_folder / "model-3.index").exists()
    assert reader.get_tensor("G/conv/conv2d/kernel").shape == (7, 7, 6, 4)
    assert np.isfinite(reader.get_tensor("D/conv_5/conv2d/kernel")).all()
    labels = _json(run_folder / "labels.json")
    assert labels == [{"kind": "celeba", "names": list(ATTRIBUTES)}]
    sample = read_image(str(finished[0] / "out put" / "sample" / "train_stargan_000004.png"))
    assert sample.shape == (20 + 3 * 66, 4 * 66, 3)


def test_the_test_phase_writes_strips_and_a_self_contained_page(finished):
    results = finished[0] / "out put" / "results"
    names = ["%d-images.jpg" % number for number in (1, 2, 3)]
    for folder in ("src_images", "generates"):
        assert sorted(os.listdir(str(results / folder))) == names
        for name in names:
            assert read_image(str(results / folder / name)).shape == (64, 3 * 64, 3)
    source = read_image(str(results / "src_images" / "1-images.jpg")).astype(int)
    assert np.abs(source[:, :64] - source[:, 64:128]).mean() < 3  # JPEG
    expected = ["generates", "index.html", "metrics.json", "src_images", "tested.json"]
    assert sorted(os.listdir(str(results))) == expected
    page = (results / "index.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == 3
    assert "http" not in page
    assert "<link" not in page
    targets = _json(results / "metrics.json")["targets"]
    assert [one["target"] for one in targets] == list(ATTRIBUTES)
    for one in targets:
        assert "<tr><th>%s<td>%.4g" % (one["target"], one["reconstruction_l1"]) in page


def test_the_performance_case_measures_reconstruction(performance):
    folder, printed = performance
    results, result = _results(printed), _json(folder / "out" / "result.json")
    assert (result["preset"], result["steps"], result["exit_status"]) == ("performance", 50, 0)
    assert result["accuracy"]["metric"] == "reconstruction L1"
    assert set(result["metrics"]) == {"pictures", "reconstruction_l1"}
    assert "%.4f" % result["accuracy"]["value"] == "%.4f" % results["Final Train Accuracy"]
    assert 0 < result["accuracy"]["value"] < 2
    assert all(value > 0 for value in results.values())
    assert (folder / "out" / (CASE.replace("_acc", "_perf") + ".log")).exists()
    classes = [{"kind": "classes", "names": ["angry", "happy"]}]
    assert _json(folder / "out" / "checkpoint" / "labels.json") == classes
    strip = read_image(str(folder / "out" / "results" / "generates" / "1-images.jpg"))
    assert strip.shape == (64, 2 * 64, 3)


def _photos(folder):
    """Two drawn pictures of other sizes, which have no labels."""
    folder.mkdir()
    rng = np.random.RandomState(4)
    for name, shape in (("my face.png", (150, 110, 3)), ("2.jpg", (60, 80, 3))):
        Image.fromarray(rng.randint(0, 255, shape).astype(np.uint8)).save(str(folder / name))


def _own(folder, titles):
    """Checks the outputs for own pictures in `folder`; returns {name: pixels} of the singles."""
    assert sorted(os.listdir(str(folder / "strips"))) == ["2.png", "my face.png"]
    strip = read_image(str(folder / "strips" / "2.png"))
    assert strip.shape == (20 + 66, (1 + titles) * 66, 3)
    singles, names = {}, ["own%d" % number for number in range(1, titles + 1)]
    expected = sorted(
        [*names, "index.html", "metrics.json", "report.html", "strips", "tested.json"]
    )
    assert sorted(os.listdir(str(folder))) == expected
    for column, name in enumerate(names, 1):
        assert sorted(os.listdir(str(folder / name))) == ["2.png", "my face.png"]
        singles[name] = read_image(str(folder / name / "2.png")).astype(int)
        left = column * 66 + 1
        np.testing.assert_array_equal(singles[name], strip[20:84, left : left + 64])
    assert set(_json(folder / "metrics.json")["mean"]) == {"pictures"}
    return singles


def test_own_pictures_need_no_labels_and_every_form_translates_them_alike(finished, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(str(finished[0] / "out put" / "checkpoint"), str(out / "checkpoint"))
    _photos(tmp_path / "in")
    common = ["--input_dir=in", "--target", "Blond_Hair=1 Male=0", "Male"]
    common += ["--data_path=nothing"] + CPU
    done = run("main.py", "--phase=test", "--output_dir=out", *common, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    by_checkpoint = _own(out / "results", 2)
    assert np.abs(by_checkpoint["own1"] - by_checkpoint["own2"]).max() > 0
    for name in ("new/g.pb", "g.onnx"):
        words = ["--phase=frozen_graph", "--output_dir=out", "--out_pb_path", name]
        if name == "g.onnx":
            words += ["--input_checkpoint=model-4"]
        done = run("frozen_graph.py", *(words + CPU), cwd=tmp_path)
        assert done.returncode == 0, done.stdout
        assert "model-4 -> %s (nodes x_real, c_trg -> G/Tanh)" % name in done.stdout
        words = ["--phase=test_pb", "--out_pb_path", name, "--result_dir", name + " results"]
        done = run("frozen_graph.py", *(words + common), cwd=tmp_path)
        assert done.returncode == 0, done.stdout
        for folder, pixels in _own(tmp_path / (name + " results"), 2).items():
            assert np.abs(pixels - by_checkpoint[folder]).max() <= 1
            assert pixels.std() > 0


def test_a_classifier_sees_what_own_pictures_show(finished, tmp_path):
    folder = finished[0]
    _photos(tmp_path / "in")
    words = ["--input_dir", tmp_path / "in", "--classifier=judge.npz", "--data_path=nothing"]
    words += ["--checkpoint", folder / "out put" / "checkpoint" / "model-3.index"]
    words += ["--output_dir", tmp_path / "new"]
    done = run("main.py", "--phase=test", *(words + CPU), cwd=folder)
    assert done.returncode == 0, done.stdout
    assert "model-3\n" in done.stdout
    _own(tmp_path / "new" / "results", 3)


def test_the_scripts_train_and_test_from_any_directory(finished, tmp_path):
    data = finished[0] / "my faces" / "CelebA"
    words = ["--image_root", data / "Img" / "img_align_celeba", "--output_dir=o"] + CPU
    words += ["--metadata_path", data / "Anno" / "list_attr_celeba.txt"]
    more = ["--training_iterations=2"] + TINY + SELECTED
    done = _shell("scripts/train_1p.sh", *(words + more), cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    options = _json(tmp_path / "o" / "checkpoint" / "config.json")["options"]
    assert (options["lr_update_step"], options["num_step_decay"]) == (1000, 100000)
    done = _shell("scripts/test_1p.sh", "--test_concatenate=False", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    results = tmp_path / "o" / "results"
    expected = ["generate1", "generate2", "generate3", "index.html", "metrics.json"]
    expected += ["report.html", "src", "tested.json"]
    assert sorted(os.listdir(str(results))) == expected
    around = _json(results / "tested.json")["surroundings"]
    assert (around["device"], around["data"].split(",")[0]) == ("cpu", "2 pictures")
    for name in ("src", "generate1", "generate3"):
        assert sorted(os.listdir(str(results / name))) == ["1-images.jpg", "2-images.jpg"]
        assert read_image(str(results / name / "1-images.jpg")).shape == (64, 64, 3)


def _measure(finished, output, *words):
    checkpoint = str(finished[0] / "out put" / "checkpoint" / "model-4")
    (output.parent / "i n.npz").write_bytes(b"x")
    words = ["--data_path=%s" % (finished[0] / "my faces")] + list(words) + CPU
    words += ["--inception=%s" % (output.parent / "i n.npz")]
    config, sources = serving.load_training(*parse(Config, words), checkpoint)
    translator, folder = serving.CheckpointTranslator, str(output / "results")
    evaluation.test(config, sources, checkpoint, translator, folder)


def _stand_in(folder, body):
    (folder / "tools" / "fid").mkdir(parents=True)
    (folder / "tools" / "fid" / "__main__.py").write_text("import json, os, sys\n" + body)


def test_fid_is_that_of_the_repositorys_tool(finished, tmp_path, monkeypatch):
    import cases

    body = "sets = [[os.path.realpath(os.path.join(folder, name)) for name in os.listdir(folder)]"
    body += " for folder in sys.argv[1:3]] + sys.argv[3:]\n"
    body += "open('calls', 'a').write(json.dumps(sets) + chr(10))\n"
    _stand_in(tmp_path, body + "print('FID:  %.1f' % (1 + len(open('calls').readlines()) / 2))\n")
    monkeypatch.setattr("harness.fid.REPOSITORY", str(tmp_path))
    _measure(finished, tmp_path / "out", "--test_concatenate=False", "--num_test=18")
    calls = [json.loads(line) for line in (tmp_path / "calls").open()]
    results, table = tmp_path / "out" / "results", []
    for number, (real, fake, *rest) in enumerate(calls, 1):
        assert rest[:2] == ["--inception", str(tmp_path / "i n.npz")]
        assert rest[2:] == ["--protocol", "legacy_tensorflow"]
        for paths, name in ((real, "real%d"), (fake, "generate%d")):
            assert sorted(paths) == sorted(map(str, (results / (name % number)).iterdir()))
        assert len(fake) == 18
        table.append(len(real))
    assert len(table) == len(ATTRIBUTES)
    assert all(1 < count < 18 for count in table[:2])  # the real pictures that have the label
    assert table[2] == 18  # Male is turned over
    metrics = _json(results / "metrics.json")
    assert [one["fid"] for one in metrics["targets"]] == [1.5, 2.0, 2.5]
    assert "; FID 2.00" in (results / "index.html").read_text()
    config = types.SimpleNamespace(image_size=64)
    case = types.SimpleNamespace(output=str(tmp_path / "out"), config=config)
    accuracy = cases.accuracy(case)
    assert (accuracy["metric"], accuracy["value"]) == ("FID", 2.0)
    assert accuracy["protocol"].startswith("tools/fid, legacy_tensorflow; mean over the targets")


def test_the_modelarts_entry_passes_status_and_tolerates_platform_parameters(celeba, tmp_path):
    words = ["--data_url", celeba, "--train_url", tmp_path / "job", "--train_steps=1"] + TINY
    words += ["--num_gpus=1"] + SELECTED
    done = run("modelarts_entry_perf.py", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "left out, not options of this model: --num_gpus=1" in done.stdout
    assert _json(tmp_path / "job" / "result.json")["steps"] == 1
    for name in ("modelarts_entry.py", "modelarts_entry_acc.py", "modelarts_entry_perf.py"):
        failed = run(name, "--data_url", tmp_path / "nothing", cwd=tmp_path)
        assert failed.returncode == 1
        assert '[Error] para "data_path" must be config' in failed.stdout


@pytest.mark.parametrize("words", [[], ["--data_path="], ["--data_path=no such folder"]])
def test_a_case_without_data_says_so(tmp_path, words):
    done = _shell("test/train_full_1p.sh", *words, cwd=tmp_path)
    assert done.returncode == 1
    first, second = done.stdout.splitlines()
    assert first == '[Error] para "data_path" must be config'
    start = "no CelebA: looked for %s/no such folder/CelebA/" % tmp_path
    assert second.startswith(start if words and "such" in words[0] else "no --data_path was given")
    assert os.listdir(str(tmp_path)) == []


def test_help_lists_every_documented_option(tmp_path):
    done = run("main.py", "--help", cwd=tmp_path)
    assert done.returncode == 0
    flags = "output_dir image_root metadata_path phase image_size g_conv_dim d_conv_dim "
    flags += "g_repeat_num d_repeat_num lambda_cls lambda_rec lambda_gp batch_size c_dim "
    flags += "selected_attrs d_train_repeat init_learning_rate beta1 beta2 lr_update_step "
    flags += "num_step_decay training_iterations summary_steps checkpoint_steps save_steps "
    flags += "checkpoint test_concatenate precision_mode loss_scale over_dump data_dump_flag "
    flags += "data_dump_step profiling data_path lr_decay num_test input_dir target dataset "
    for flag in (flags + "class_root ckpt_path dynamic_input").split():
        assert "  --%s " % flag in done.stdout, flag


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--batch_size=-3"], "--batch_size -3 is too small; it must be at least 1"),
        (["--image-size", "100"], "--image_size 100: it must be a multiple of 64"),
        (["--selected_attrs", "Male", "Male"], "--selected_attrs Male Male: name each attribute"),
        (["--c_dim=4"] + SELECTED, "--c_dim 4 does not match the 3 of --selected_attrs (Black_"),
        (["--bach_size=3"], "unknown option --bach_size=3; did you mean --batch_size?"),
    ],
)
def test_wrong_options_are_answered_in_one_line(tmp_path, words, sentence):
    done = run("main.py", *words, cwd=tmp_path)
    assert (done.returncode, len(done.stdout.splitlines())) == (2, 1)
    assert sentence in done.stdout
    assert os.listdir(str(tmp_path)) == []


def test_what_does_not_belong_together_is_refused(performance, tmp_path):
    draw_classes(tmp_path / "data", ("angry", "sad"))
    out, inner = performance[0] / "out", performance[0] / "out" / "results" / "generates"
    (tmp_path / "in").mkdir()
    for name in ("x.png", "x.jpg"):
        Image.new("RGB", (8, 8)).save(str(tmp_path / "in" / name))
    before = sorted(os.listdir(str(inner)))
    for words, sentence in (
        (["--data_path=data"], "the data have the labels angry sad, the training had angry happy"),
        (["--input_dir=in"], "in/x.jpg and in/x.png would both be written as x; rename one"),
        (["--input_dir", inner], "--input_dir %s lies in %s/results, which " % (inner, out)),
    ):
        done = run("main.py", "--phase=test", "--output_dir", out, *(words + CPU), cwd=tmp_path)
        assert done.returncode == 1
        assert "main.py: error: " + sentence in done.stdout
        assert "Traceback" not in done.stdout
    assert sorted(os.listdir(str(inner))) == before
