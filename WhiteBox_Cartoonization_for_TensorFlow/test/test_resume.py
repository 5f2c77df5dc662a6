# SPDX-License-Identifier: Apache-2.0
"""Pretraining and how it goes on, and which generator an adversarial training starts from."""

import contextlib
import importlib.util
import io
import json
import os
import re
import signal
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import FOLDER, TINY, draw_data, write_vgg

from harness.errors import UserError
from harness.files import write_json
from harness.options import parse
from tf_runtime.checkpoints import checkpoint_steps
from whitebox import pretraining, training
from whitebox.config import Config, PretrainConfig
from whitebox.generators import GENERATOR_SHAPES, write_generator

STEPS = 5


def words_of(dataset, out, *more):
    own = ("--superpixels", "--superpixel_workers", "--d_width")
    words = [word for word in TINY if word.split("=")[0] not in own] + ["--seed=3", "--threads=2"]
    return words + ["--data_path=%s" % dataset, "--output_path=%s" % out, "--lr=0.001"] + list(more)


def pretrain(*words):
    """Pretrains in this process; returns (whether it came to its end, what was printed)."""
    printed = io.StringIO()
    with tf.Graph().as_default(), contextlib.redirect_stdout(printed):
        complete = pretraining.pretrain(parse(PretrainConfig, list(words))[0])
    return complete, printed.getvalue()


def stop_after(step, monkeypatch):
    """Makes the first pretraining that logs `step` receive SIGTERM."""
    lines = pretraining.Lines

    class Signalling(lines):
        def time_per_step(self, now, last):
            super().time_per_step(now, last)
            if now == step:
                os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(pretraining, "Lines", Signalling)


def train_program(monkeypatch, *words):
    """Runs train_code/train.py in this process; returns (words it starts anew with, printed)."""
    path = os.path.join(FOLDER, "train_code", "train.py")
    spec = importlib.util.spec_from_file_location("train_program", path)
    module, begun, printed = importlib.util.module_from_spec(spec), [], io.StringIO()
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", ["train.py"] + list(words))
    monkeypatch.setattr(os, "execv", lambda program, argv: begun.append((program, argv)))
    with tf.Graph().as_default(), contextlib.redirect_stdout(printed):
        assert module.main() == 0
    return begun, printed.getvalue()


def tensors(out, folder="checkpoint", step=STEPS):
    reader = tf.train.NewCheckpointReader(str(out / "pretrain" / folder / ("model-%d" % step)))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def losses(out):
    lines = [json.loads(line) for line in (out / "pretrain/checkpoint/log.jsonl").open()]
    return [(line["step"], line["recon_loss"]) for line in lines]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(data set, output, printed) of a pretraining in one go: faces, then scenery twice."""
    folder = tmp_path_factory.mktemp("whole")
    dataset, out = draw_data(folder / "data", count=4), folder / "out"
    tf.disable_v2_behavior()
    words = words_of(dataset, out, "--total_iter=%d" % STEPS, "--save_steps=2", "--image_steps=5")
    complete, printed = pretrain(*words)
    assert complete
    return dataset, out, printed


def test_a_pretraining_prints_and_leaves_what_is_documented(whole):
    _, out, printed = whole
    lines, log = printed.splitlines(), losses(out)
    assert lines[:2] == ["device: cpu, float32", "pretraining: 4 steps per epoch, 5 steps"]
    for step, loss in log:
        assert re.match(r"Iter: %d/5 , time_per_step \d+\.\d{3}$" % step, lines[2 * step])
        assert lines[2 * step + 1] == "pretrain, iter: %d, recon_loss: %.6f" % (step, loss)
    assert [step for step, _ in log] == [1, 2, 3, 4, 5]
    first, second = (sum(loss for _, loss in log[i : i + 2]) for i in (1, 3))  # epochs
    assert 0.1 < second < 0.9 * first
    folder = out / "pretrain"
    assert checkpoint_steps(str(folder / "checkpoint"), "model") == [2, 4, 5]
    assert checkpoint_steps(str(folder / "saved_models"), "model") == [2, 4, 5]
    kinds = [s + k for s in ("face_", "scenery_") for k in ("photo", "result")]
    assert set(os.listdir(str(folder / "images"))) == {"5_%s.jpg" % kind for kind in kinds}
    assert any("tfevents" in name for name in os.listdir(str(folder / "train_log")))


def test_loss_scales_are_in_the_log_under_their_names(whole, tmp_path, monkeypatch):
    scales = {name + "/loss_scale": tf.constant for name in ("generator_train", "pretraining")}
    monkeypatch.setattr(
        pretraining.devices, "loss_scales", lambda: {name: of(8.0) for name, of in scales.items()}
    )
    pretrain(*words_of(whole[0], tmp_path, "--total_iter=1"))
    with open(str(tmp_path / "pretrain" / "checkpoint" / "log.jsonl")) as file:
        record = json.loads(file.readline())
    assert [record[name] for name in scales] == [8.0, 8.0]


def test_a_pretraining_s_checkpoint_holds_all_that_it_goes_on_from(whole):
    held, own = tensors(whole[1]), set(GENERATOR_SHAPES)
    slots = {"pretraining/%s/%s" % (name, slot) for name in own for slot in ("Adam", "Adam_1")}
    slots |= {"pretraining/beta1_power", "pretraining/beta2_power"}
    assert set(held) == own | slots | {"global_step"}
    alone = tensors(whole[1], "saved_models")
    assert set(alone) == own
    assert all(alone[name].tobytes() == held[name].tobytes() for name in own)


def test_train_py_goes_on_with_a_stopped_pretraining_as_if_nothing_had_been(
    whole, tmp_path, monkeypatch
):
    dataset, reference, _ = whole
    write_vgg(tmp_path / "vgg.npz")
    stop_after(2, monkeypatch)
    words = words_of(dataset, tmp_path, "--save_steps=5")
    complete, printed = pretrain(*(words + ["--total_iter=5"]))
    monkeypatch.undo()
    assert not complete
    assert "\nstopped at step 3\nreport: " in printed
    assert checkpoint_steps(str(tmp_path / "pretrain" / "saved_models"), "model") == [3]
    vgg = "--vgg=%s" % (tmp_path / "vgg.npz")
    words = words_of(dataset, tmp_path, "--save_steps=1", "--pretrain_iter=5", vgg)
    assert training.needs_pretraining(parse(Config, words)[0])
    with pytest.raises(UserError, match=r"holds a run up to step 3; add --continue_train"):
        train_program(monkeypatch, *words)
    begun, printed = train_program(monkeypatch, *words, "--continue_train")
    assert begun == [(sys.executable, [sys.executable, "train.py", *words, "--continue_train"])]
    assert "\ncontinuing after step 3\n" in printed
    held, expected = tensors(tmp_path), tensors(reference)
    assert set(held) == set(expected)
    assert [name for name in held if held[name].tobytes() != expected[name].tobytes()] == []
    assert losses(tmp_path) == losses(reference)
    config = parse(Config, words)[0]
    newest = str(tmp_path / "pretrain" / "saved_models" / "model-5")
    assert training.pretrained_generator(config) == newest
    assert not training.needs_pretraining(config)


def test_a_stop_in_the_last_step_does_not_begin_the_training(whole, tmp_path, monkeypatch):
    write_vgg(tmp_path / "vgg.npz")
    stop_after(1, monkeypatch)
    words = words_of(whole[0], tmp_path, "--pretrain_iter=1", "--vgg=%s" % (tmp_path / "vgg.npz"))
    assert train_program(monkeypatch, *words)[0] == []
    assert checkpoint_steps(str(tmp_path / "pretrain" / "saved_models"), "model") == [1]


def arrays(value):
    return {name: np.full(shape, value, np.float32) for name, shape in GENERATOR_SHAPES.items()}


def write_finished(out, training_json, value=0.5):
    """Writes what a pretraining leaves: a generator, and training.json unless that is None."""
    write_generator(str(out / "pretrain" / "saved_models" / "model-4"), arrays(value))
    if training_json is not None:
        write_json(str(out / "pretrain" / "checkpoint" / "training.json"), training_json)


@pytest.fixture
def options(drawn, tmp_path):
    """Options of a training, before whose start nothing was pretrained."""
    return parse(Config, words_of(drawn, tmp_path / "out"))[0]


@pytest.mark.parametrize("training_json", [None, {}, {"stopped": True}])
def test_an_unfinished_pretraining_is_not_taken(options, tmp_path, training_json):
    write_finished(tmp_path / "out", training_json)
    assert training.pretrained_generator(options) == ""
    assert training.needs_pretraining(options)


@pytest.mark.parametrize("training_json", [None, {"stopped": True}])
def test_a_pretraining_with_all_the_steps_that_are_wanted_is_finished(
    drawn, tmp_path, training_json
):
    write_finished(tmp_path / "out", training_json)  # killed or stopped after its last step
    words = words_of(drawn, tmp_path / "out", "--pretrain_iter=4")
    in_output = str(tmp_path / "out" / "pretrain" / "saved_models" / "model-4")
    assert training.pretrained_generator(parse(Config, words)[0]) == in_output


def test_with_another_real_path_data_path_still_has_the_pretrained_generator(drawn, tmp_path):
    path = str(tmp_path / "own" / "pretrain" / "saved_models" / "model-7")
    write_generator(path, arrays(1))
    words = words_of(tmp_path / "own", tmp_path / "out", "--REAL_PATH=%s/dataset" % drawn)
    assert training.pretrained_generator(parse(Config, words)[0]) == path


def test_a_run_starts_from_what_is_given_then_from_the_data_then_from_the_output(
    options, drawn, tmp_path
):
    assert training.needs_pretraining(options)
    write_finished(tmp_path / "out", {"stopped": False})
    in_output = str(tmp_path / "out" / "pretrain" / "saved_models" / "model-4")
    assert training.pretrained_generator(options) == in_output
    folder = os.path.join(drawn, "dataset", "pretrain", "saved_models")
    for step in (9, 10):
        write_generator(os.path.join(folder, "model-%d" % step), arrays(step))
    in_data = os.path.join(folder, "model-10")
    assert training.pretrained_generator(options) == in_data
    given = parse(Config, words_of(drawn, tmp_path / "out", "--pretrained=mine.npz"))[0]
    assert training.pretrained_generator(given) == "mine.npz"
    assert not training.needs_pretraining(given)


def test_a_run_that_has_begun_needs_no_pretraining(options, tmp_path):
    folder = tmp_path / "out" / "train_cartoon" / "checkpoint"
    folder.mkdir(parents=True)
    assert training.needs_pretraining(options)
    (folder / "model-3.index").write_bytes(b"x")
    assert not training.needs_pretraining(options)


@pytest.mark.parametrize("ending", ["", ".index", ".npz"])
def test_the_generator_gets_the_weights_that_it_starts_from(tmp_path, ending, capsys):
    rng, path = np.random.RandomState(0), str(tmp_path / "start-7")
    start = {name: rng.normal(size=shape) for name, shape in GENERATOR_SHAPES.items()}
    start = {name: array.astype(np.float32) for name, array in start.items()}
    write_generator(path + ending.replace(".index", ""), start)
    training.generator(tf.placeholder(tf.float32, [1, 32, 32, 3]))
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        training.load_generator(session, path + ending)
        values = session.run(tf.trainable_variables())
    for variable, value in zip(tf.trainable_variables(), values):
        np.testing.assert_array_equal(value, start[variable.op.name])
    assert "starting from the generator %s%s\n" % (path, ending) == capsys.readouterr().out


def test_without_any_generator_it_is_said_how_to_get_one():
    with tf.Session() as session, pytest.raises(UserError) as caught:
        training.load_generator(session, "")
    assert str(caught.value) == (
        "there is no pretrained generator; run train_code/pretrain.py, or give --pretrained"
    )
