# SPDX-License-Identifier: Apache-2.0
"""A training that starts from other networks, and the scripts of Ascend that nothing else runs."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import ATTRIBUTES, FOLDER, TINY, draw_celeba

from harness.errors import UserError
from harness.options import parse
from stargan import serving, starting, training
from stargan.config import Config
from tf_runtime import device as devices
from tf_runtime import ranks
from tf_runtime.checkpoints import checkpoint_steps

SELECTED = ["--selected_attrs"] + list(ATTRIBUTES)


def _shell(script, *words, cwd):
    """Runs a script of the folder the way a person does; python3 is this Python."""
    path = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
    return subprocess.run(
        ["bash", os.path.join(FOLDER, script)] + [str(word) for word in words],
        cwd=str(cwd),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=dict(os.environ, PATH=path),
        timeout=300,
        check=False,
    )


def _train(dataset, out, steps, *more):
    words = [
        "--data_path=%s" % dataset,
        "--output_dir=%s" % out,
        "--training_iterations=%d" % steps,
    ]
    config, _ = parse(Config, words + TINY + SELECTED + ["--save_steps=0"] + list(more))
    with tf.Graph().as_default():
        training.train(config)


def _networks(path):
    reader = tf.train.NewCheckpointReader(str(path))
    names = [name for name in reader.get_variable_to_shape_map() if name[:2] in ("G/", "D/")]
    return {name: reader.get_tensor(name) for name in names}


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """(data set, output folder) of a run of two steps."""
    folder = tmp_path_factory.mktemp("before")
    dataset = draw_celeba(folder / "data")
    tf.disable_v2_behavior()
    _train(dataset, folder / "out", 2, "--seed=7", "--d_train_repeat=1")
    return dataset, folder / "out"


@pytest.mark.parametrize(
    "name", ["checkpoint/model-2", "checkpoint/model-2.index", "checkpoint", ""]
)
def test_a_checkpoint_is_named_by_its_path_or_by_its_folder(before, name):
    path = os.path.join(str(before[1]), name)
    found = starting.named_checkpoint("ckpt_path", path, "nowhere")
    assert os.path.normpath(found) == str(before[1] / "checkpoint" / "model-2")
    assert serving.find_checkpoint(Config(output_dir="nowhere", ckpt_path=path)) == found
    assert serving.find_checkpoint(Config(output_dir="nowhere", checkpoint=path)) == found


def test_a_training_starts_from_both_networks_and_nothing_else(before, tmp_path, capsys):
    dataset, out = before
    _train(dataset, tmp_path, 1, "--ckpt_path=%s" % out, "--init_learning_rate=0")
    assert "starting from the networks in %s/checkpoint/model-2\n" % out in capsys.readouterr().out
    old, new = _networks(out / "checkpoint" / "model-2"), _networks(tmp_path / "checkpoint/model-1")
    assert set(old) == set(new)
    assert [name for name in old if old[name].tobytes() != new[name].tobytes()] == []
    reader = tf.train.NewCheckpointReader(str(tmp_path / "checkpoint" / "model-1"))
    assert reader.get_tensor("global_step") == 1
    names = [name for name in reader.get_variable_to_shape_map() if "beta1_power" in name]
    powers = sorted(float(reader.get_tensor(name)) for name in names)
    np.testing.assert_allclose(powers, [0.25, 0.5])  # Adam's: one step of D, none of G
    more = ["--continue_train", "--ckpt_path=removed since", "--init_learning_rate=0"]
    _train(dataset, tmp_path, 2, *more)
    assert checkpoint_steps(str(tmp_path / "checkpoint"), "model")[-1] == 2


def test_networks_that_do_not_fit_stop_the_training_before_it_begins(before, tmp_path):
    with pytest.raises(
        UserError, match=r"model-2 does not fit: G/conv/conv2d/kernel is \[7, 7, 6, 4"
    ):
        _train(before[0], tmp_path / "out", 1, "--ckpt_path=%s" % before[1], "--g_conv_dim=8")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("path", "names", "options", "sentence"),
    [
        ("none", ATTRIBUTES, {}, r"--ckpt_path none: there is no none\.index, here or in "),
        (
            "",
            ATTRIBUTES[::-1],
            {},
            r"model-2 was trained with the labels Black_Hair Blond_Hair Male",
        ),
        (
            "",
            ATTRIBUTES,
            {"g_repeat_num": 2},
            r"does not fit: G/resblock_1/\S+ is not there, \[3, 3",
        ),
        ("damaged", ATTRIBUTES, {}, r"damaged/model-2 is damaged or no checkpoint"),
    ],
)
def test_what_cannot_be_started_from_is_one_sentence(
    before, tmp_path, monkeypatch, path, names, options, sentence
):
    monkeypatch.chdir(str(tmp_path))
    (tmp_path / "damaged").mkdir()
    for ending in (".index", ".data-00000-of-00001"):
        (tmp_path / "damaged" / ("model-2" + ending)).write_bytes(b"no checkpoint")
    options = dict({"g_conv_dim": 4, "g_repeat_num": 1}, **options)
    config = Config(ckpt_path=path or str(before[1]), **options)
    sources = serving.named_sources([{"kind": "celeba", "names": names}])
    serving.build_inference(config, sources)
    with pytest.raises(UserError, match=sentence) as caught:
        training.starting_networks(config, sources)
    assert "\n" not in str(caught.value)


def test_a_case_starts_from_a_checkpoint_and_judges_its_own_result(before, tmp_path):
    import cases

    from harness.cases import Case

    dataset, out = before
    settings = {"ckpt_path": str(out), "phase": "train", "image_size": 64}
    config = Config(ckpt_path=str(out), dataset="classes")
    case = Case("full", FOLDER, dataset, str(tmp_path), 1, config, settings, [])
    assert "--ckpt_path=%s" % out in cases.training(case)
    classifier, test = cases.following(case)
    assert (classifier[0], test[:2]) == ("train_classifier.py", ["main.py", "--phase=test"])
    for words in (classifier, test):
        assert "--image_size=64" in words
        assert not any("ckpt_path" in word for word in words)


def test_the_second_runtime_has_a_case_of_its_own(before, tmp_path):
    words = ["--data_path", before[0], "--output_path=out", "--train_steps=1", "--num_test=0"]
    words += TINY + SELECTED
    done = _shell("test/train_RT2_performance_1p.sh", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    name = "StarGAN_ID1472_for_TensorFlow_bs4_1p_RT2_perf"
    log = (tmp_path / "out" / (name + ".log")).read_text()
    assert "CaseName = %s\n" % name in log
    assert (tmp_path / "out" / ("train_%s_loss.txt" % name)).exists()
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (result["case"], result["preset"]) == (name, "performance")
    assert (
        "--dynamic_input" in (tmp_path / "out" / "train_0.log").read_text()
    )  # without effect here


def test_the_ci_script_trains_from_a_checkpoint_and_keeps_the_status(before, tmp_path):
    dataset, out = before
    words = ["--data_path=%s/CelebA" % dataset, "--ckpt_path=%s" % out, "--output_dir=o"]
    more = TINY + SELECTED + ["--training_iterations=1"]
    done = _shell("train_1p_ci.sh", *(words + more), cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "train_output.log").read_text() == done.stdout
    assert "starting from the networks in " in done.stdout
    options = json.loads((tmp_path / "o" / "checkpoint" / "config.json").read_text())["options"]
    assert (options["lr_update_step"], options["num_step_decay"]) == (10, 1000)
    failed = _shell("train_1p_ci.sh", "--ckpt_pat=x", cwd=tmp_path)
    assert failed.returncode == 2
    assert "did you mean --ckpt_path?" in failed.stdout


# Operators of CANN -> those of TensorFlow that become them, or are fused into them.
OPERATORS = {
    "ReduceSum": "Sum",
    "ReduceSumD": "Sum",
    "ReduceMean": "Mean",
    "ReduceMeanD": "Mean",
    "Square": "Square",
    "SquareSumV1": "Square",
    "SquaredDifference": "SquaredDifference",
    "Sqrt": "Sqrt",
    "SqrtGrad": "SqrtGrad",
    "Rsqrt": "Rsqrt",
}


def test_the_mix_list_names_operators_of_training_and_samples():
    with open(os.path.join(FOLDER, "ops_info.json")) as file:
        names = json.load(file)["black-list"]["to-add"]
    assert sorted(names) == sorted(OPERATORS)
    words = {"image_size": 64, "g_conv_dim": 4, "d_conv_dim": 4, "g_repeat_num": 1}
    config = Config(batch_size=2, device="cpu", **words)
    sources = serving.named_sources([{"kind": "celeba", "names": ATTRIBUTES}])
    training.build_step(config, [("celeba", 3)], devices.choose(config), ranks.connect("cpu"))
    serving.build_inference(config, sources)  # any number of pictures, as for samples
    there = {operation.type for operation in tf.get_default_graph().get_operations()}
    assert {OPERATORS[name] for name in names} <= there
