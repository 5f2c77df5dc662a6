# SPDX-License-Identifier: Apache-2.0
"""The training step, and that a stopped, killed or damaged run ends as an undisturbed one."""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import FOLDER, TINY, draw_set, run

from harness.platform_options import PlatformOptions
from pix2pix import data, losses, networks, training
from pix2pix.config import Config
from tf_runtime import device as devices
from tf_runtime.ranks import Group

SMALL = Config(ngf=2, ndf=2, device="cpu", precision_mode="force_fp32")
CPU = devices.Device("cpu", "", PlatformOptions(), 1)


def _feed(graph, dataset, step=1):
    pairs = data.find_pairs(dataset, "train")
    conditions, targets = data.training_batch(pairs, SMALL, step, 0, 1)
    feed = {graph.conditions: conditions, graph.targets: targets}
    feed.update({graph.step: step, graph.learning_rate: 2e-4})
    return feed


def test_a_step_changes_every_variable_but_the_biases_that_a_norm_cancels(dataset):
    graph = training.build_step(SMALL, CPU, Group(0, 1, (), "cpu"))
    variables = tf.trainable_variables()
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        before = session.run(variables)
        values, _ = session.run([graph.losses, graph.train], _feed(graph, dataset))
        after = session.run(variables)
    assert all(np.isfinite(value) for value in values.values())
    same = {v.op.name for v, a, b in zip(variables, before, after) if np.array_equal(a, b)}
    normed = ["generator/encoder_%d/conv2d/bias" % level for level in range(2, 8)]
    normed += ["generator/decoder_%d/conv2d_transpose/bias" % level for level in range(2, 9)]
    normed += ["discriminator/layer_%d/conv2d/bias" % layer for layer in range(2, 5)]
    assert same == set(normed)


@pytest.mark.parametrize("mixed", ["", "bfloat16"])
def test_the_generator_steps_against_the_updated_discriminator(dataset, monkeypatch, mixed):
    if mixed and not devices.cpu_has_bfloat16():
        pytest.skip("neither this CPU nor this TensorFlow may have bfloat16")
    device = devices.Device("cpu", mixed, PlatformOptions(), 1)
    monkeypatch.setattr(networks, "_dropout", lambda x, noise_seed, level: x)
    graph = training.build_step(SMALL, CPU, Group(0, 1, (), "cpu"))
    fakes = networks.generator(graph.conditions, 3, 2)
    adversarial = losses.adversarial_loss(networks.discriminator(graph.conditions, fakes, 2))
    generator = tf.trainable_variables("generator")
    feed = _feed(graph, dataset)
    feed[graph.learning_rate] = 0.01
    with tf.Session(config=devices.session_config(device)) as session:
        session.run(tf.global_variables_initializer())
        start = session.run(generator)
        old = session.run(adversarial, feed)
        values, _ = session.run([graph.losses, graph.train], feed)
        for variable, value in zip(generator, start):
            variable.load(value, session)
        new = session.run(adversarial, feed)  # the generator before its step, the new discriminator
    tolerance = 2e-3 if mixed else 1e-5
    assert abs(new - old) > 20 * tolerance
    np.testing.assert_allclose(values["g_loss_adversarial"], new, rtol=tolerance)
    total = values["g_loss_adversarial"] + 100 * values["g_loss_l1"]
    np.testing.assert_allclose(values["g_loss"], total, rtol=1e-6)


def test_the_learning_rate_falls_to_zero_after_niter_epochs():
    config = Config(epoch=10, niter=6, learning_rate=1.0)
    rates = [training.learning_rate(config, epoch) for epoch in (0, 5.9, 6, 8, 10)]
    np.testing.assert_allclose(rates, [1, 1, 1, 0.5, 0])
    assert training.learning_rate(Config(epoch=900), 899.9) == 2e-4


def _train(dataset, out, steps, *more):
    words = ["--phase=train", "--data_path=" + dataset, "--train_steps=%d" % steps] + TINY
    words += ["--save_latest_freq=2", "--sample_freq=4", "--batch_size=2", "--seed=3"]
    folders = {"checkpoint_dir": "ckpt", "sample_dir": "sample", "log_dir": "logs"}
    words += ["--%s=%s" % (k, os.path.join(str(out), v)) for k, v in folders.items()]
    return words + list(more)


def _tensors(out, step):
    path = os.path.join(str(out), "ckpt", "facades_2_256", "pix2pix.model-%d" % step)
    reader = tf.train.NewCheckpointReader(path)
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def _assert_equal(a, b):
    assert set(a) == set(b)
    different = [name for name in a if a[name].tobytes() != b[name].tobytes()]
    assert different == []


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """(data set, output folder) of a run of 6 steps in one go."""
    folder = tmp_path_factory.mktemp("undisturbed")
    dataset = draw_set(folder / "data")
    done = run("main.py", *_train(dataset, folder / "out", 6), cwd=folder)
    assert done.returncode == 0, done.stdout
    return dataset, folder / "out", done.stdout


def test_a_run_leaves_checkpoints_samples_log_and_summaries(undisturbed):
    _, out, printed = undisturbed
    folder = out / "ckpt" / "facades_2_256"
    assert "Epoch: [ 0] [   1/   2] time: " in printed
    steps = [json.loads(line)["step"] for line in (folder / "log.jsonl").open()]
    assert steps == [1, 2, 3, 4, 5, 6]
    assert (out / "sample" / "train_01_0002.png").exists()
    assert any("tfevents" in name for name in os.listdir(str(out / "logs")))
    summary = json.load((folder / "training.json").open())
    assert summary["steps"] == 6
    assert summary["seconds_per_step"] > 0
    tensors = _tensors(out, 6)
    assert tensors["global_step"] == 6
    assert "generator_train/generator/encoder_1/conv2d/kernel/Adam" in tensors
    assert not os.path.exists(str(folder / ".saving"))


def test_default_precision_resumes_bit_identical(tmp_path):
    dataset = draw_set(tmp_path / "data")
    default = "--precision_mode=allow_mix_precision"
    for out, parts in (("whole", (4,)), ("parts", (2, 4))):
        for steps in parts:
            words = _train(dataset, tmp_path / out, steps, default, "--continue_train")
            done = run("main.py", *words, cwd=tmp_path)
            assert done.returncode == 0, done.stdout
    _assert_equal(_tensors(tmp_path / "whole", 4), _tensors(tmp_path / "parts", 4))


def test_a_terminated_run_saves_exits_0_and_goes_on_bit_identical(undisturbed, tmp_path):
    dataset, reference, _ = undisturbed
    words = _train(dataset, tmp_path, 6, "--save_latest_freq=0")
    command = [sys.executable, os.path.join(FOLDER, "main.py")] + words
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("Epoch: [ 0] [   1/"):
            process.send_signal(signal.SIGTERM)
    assert process.wait() == 0, lines
    stopped = [line for line in lines if line.startswith("stopped at step")]
    assert len(stopped) == 1
    assert int(stopped[0].split()[-1]) < 6
    again = run("main.py", *_train(dataset, tmp_path, 6, "--continue_train"), cwd=tmp_path)
    assert again.returncode == 0, again.stdout
    assert "continuing after step" in again.stdout
    _assert_equal(_tensors(reference, 6), _tensors(tmp_path, 6))


def test_after_a_kill_in_mid_save_the_checkpoint_before_is_used(undisturbed, tmp_path):
    dataset, reference, _ = undisturbed
    shutil.copytree(str(reference / "ckpt"), str(tmp_path / "ckpt"))
    folder = tmp_path / "ckpt" / "facades_2_256"
    (folder / ".saving").mkdir()
    (folder / ".saving" / "pix2pix.model-8.data-00000-of-00001").write_bytes(b"half")
    with (folder / "pix2pix.model-6.data-00000-of-00001").open("r+b") as file:
        file.truncate(5000)
    again = run("main.py", *_train(dataset, tmp_path, 6, "--continue_train"), cwd=tmp_path)
    assert again.returncode == 0, again.stdout
    assert "pix2pix.model-6 is damaged" in again.stdout
    assert "continuing after step 4" in again.stdout
    assert not (folder / ".saving").exists()
    _assert_equal(_tensors(reference, 6), _tensors(tmp_path, 6))


def test_a_complete_run_is_left_as_it_is(undisturbed):
    dataset, out, _ = undisturbed
    folder = out / "ckpt" / "facades_2_256"
    before = {path.name: path.stat().st_mtime for path in folder.iterdir()}
    done = run("main.py", *_train(dataset, out, 6), cwd=out)
    assert done.returncode == 0
    assert "is complete: 6 steps" in done.stdout
    after = {path.name: path.stat().st_mtime for path in folder.iterdir()}
    before.pop("config.json")
    assert {name: after[name] for name in before if name != "log.jsonl"} == {
        name: time for name, time in before.items() if name != "log.jsonl"
    }
    assert len((folder / "log.jsonl").read_text().splitlines()) == 6


def test_a_run_is_neither_overwritten_nor_continued_with_other_settings(undisturbed, tmp_path):
    dataset, reference, _ = undisturbed
    shutil.copytree(str(reference / "ckpt"), str(tmp_path / "ckpt"))
    anew = run("main.py", *_train(dataset, tmp_path, 8), cwd=tmp_path)
    assert anew.returncode == 1
    assert "holds a run up to step 6; add --continue_train" in anew.stdout
    other = _train(dataset, tmp_path, 8, "--continue_train", "--beta1=0.7")
    other = run("main.py", *other, cwd=tmp_path)
    assert other.returncode == 1
    assert "--beta1 was 0.5 and is 0.7" in other.stdout


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_checkpoint(dataset, tmp_path):
    words = ["--learning_rate=1e30", "--d_loss_weight=0", "--save_latest_freq=1"]
    words = _train(dataset, tmp_path, 9, *words)
    done = run("main.py", *words, cwd=tmp_path)
    assert done.returncode == 1
    assert "the last good checkpoint is that of step 1" in done.stdout
    assert "nan at step 2" in done.stdout
    assert _tensors(tmp_path, 1)["global_step"] == 1


LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
sys.path.insert(0, sys.argv[1])
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_full_disk_while_saving_is_told_and_leaves_nothing_half_written(dataset, tmp_path):
    main = os.path.join(FOLDER, "main.py")
    command = [sys.executable, "-c", LIMITED, FOLDER, main] + _train(dataset, tmp_path, 3)
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    assert "cannot save step 2 in" in done.stdout
    assert "saved steps: none" in done.stdout
    left = os.listdir(str(tmp_path / "ckpt" / "facades_2_256"))
    assert sorted(left) == ["config.json", "log.jsonl"]


def test_checkpoints_of_whole_epochs_stay_for_good(dataset, tmp_path):
    words = ["--save_epoch_freq=1", "--save_latest_freq=0", "--keep_checkpoints=2"]
    done = run("main.py", *_train(dataset, tmp_path, 9, *words), cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    folder = tmp_path / "ckpt" / "facades_2_256"
    steps = sorted(int(path.stem.split("-")[1]) for path in folder.glob("*.index"))
    assert steps == [2, 4, 6, 8, 9]


def test_two_ranks_train_together(dataset, tmp_path):
    words = _train(
        dataset, tmp_path, 2, "--rank_size=2", "--rank_log_dir=%s" % (tmp_path / "ranks")
    )
    done = run("run_model.py", *words[1:], cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "Epoch: [ 1] [   1/   1]" in done.stdout
    assert "Epoch:" not in (tmp_path / "ranks" / "rank_1.log").read_text()
    tensors = _tensors(tmp_path, 2)
    assert tensors["global_step"] == 2
    summary = json.load((tmp_path / "ckpt" / "facades_2_256" / "training.json").open())
    assert summary["ranks"] == 2
    assert summary["batch"] == 4
