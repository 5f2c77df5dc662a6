# SPDX-License-Identifier: Apache-2.0
"""What several devices cost: the arithmetic, and the gradients against the real training steps."""

import importlib
import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

from harness.errors import UserError
from tools import scaling
from tools.folders import ROOT
from tools.scaling import MODELS, Model, ScalingOptions


def run(*words):
    """Starts the command."""
    command = [sys.executable, "-m", "tools.scaling", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def cells(model, *devices, **values):
    """Returns the cells of the line of `model`."""
    line = scaling.row(model, ScalingOptions(devices=devices, **values))
    return line.strip("| ").split(" | ")


def test_a_line_is_what_a_hand_computes():
    model = Model("One", {"g": (3_000_000, 1), "d": (5_000_000, 1)}, 0.05, 1)
    # 8 million gradients of 4 bytes: 32 MB. 8 devices send 2 * 7/8 * 32 = 56 MB to their neighbours
    # at 28 GB/s: 2 ms; then 14 messages for each of 2 optimizers, of 25 us: 0.7 ms.
    found = cells(model, 8, bandwidth=28.0, latency=25.0)
    assert found == ["One", "32.0", "0.050", "56.0", "2.70", "94.9-100.0 %"]
    # 2 servers: 2 * 1/2 * 32/8 = 4 MB more at 10 GB/s: 0.4 ms; 2 * 2 messages more: 0.1 ms.
    found = cells(model, 8, 16, bandwidth=28.0, network=10.0, latency=25.0)
    assert found[3:8] == ["56.0", "2.70", "94.9-100.0 %", "56.0 + 4.0", "3.20"]
    # Of 60 ms two thirds of the step hide 33.3 ms: 50 / (50 + 26.7).
    found = cells(model._replace(gradients={"g": (16_000_000, 1)}), 2, bandwidth=64e-3 / 60e-3)
    assert found[4:] == ["60.02", "45.4-65.2 %"]


def test_the_efficiency_of_the_devices_measured_on_is_that_of_the_time_measured():
    model = MODELS["ugatit"]
    options = ScalingOptions(bandwidth=10.0)
    cost = scaling.averaging(model, 8, options).seconds
    for hidden in (0, scaling.HIDDEN):
        one = scaling.alone(model.seconds, cost, hidden)
        assert 0 < one < model.seconds
        share = scaling.efficiency(one, cost, hidden)
        assert one / share == pytest.approx(model.seconds, rel=1e-12)


def test_every_device_of_a_ring_sends_as_much_as_a_simulated_one():
    rng, devices = np.random.RandomState(0), 4
    values = rng.normal(size=[devices, devices, 6])  # of each device, pieces of its gradients
    held, sent = values.copy(), 0
    for turn in range(2 * (devices - 1)):  # sums go round, then what is whole does
        pieces = [(rank - turn) % devices for rank in range(devices)]
        coming = [held[rank - 1, pieces[rank - 1]].copy() for rank in range(devices)]
        for rank in range(devices):
            if turn < devices - 1:
                held[rank, pieces[rank - 1]] += coming[rank]
            else:
                held[rank, pieces[rank - 1]] = coming[rank]
        sent += 6
    np.testing.assert_allclose(held, np.tile(values.sum(0), [devices, 1, 1]), rtol=1e-12)
    model = Model("One", {"g": (devices * 6, 1)}, None, 1)
    assert scaling.averaging(model, devices, ScalingOptions()).in_server == 4 * sent


def test_a_step_that_is_not_known_is_not_made_up():
    found = cells(MODELS["pix2pix"], 8)
    assert found[2] == found[5] == "not known"


def test_given_steps_take_the_place_of_published_ones():
    done = run("--step_seconds", "Pix2Pix=0.05", "U-GAT-IT=0.5", "--devices", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert "| model | gradients, MB | step, s | 2: sends, MB | averaging, ms |" in done.stdout
    assert "| Pix2Pix | 228.7 | 0.050 | 228.7 |" in done.stdout
    assert "| U-GAT-IT | 2683.0 | 0.500 | 2683.0 |" in done.stdout
    assert "| StarGAN | 185.8 | 0.112 | 185.8 |" in done.stdout
    assert "Computed, not measured: 30 GB/s" in done.stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--devices", "12"], "--devices 12: it must be up to 8, or a multiple of it"),
        (["--devices", "0"], "--devices 0 is too small"),
        (["--bandwidth=0"], "--bandwidth 0.0 is too small"),
        (["--step_seconds", "vgg=1"], "with a MODEL of whitebox, pix2pix, stargan, ugatit"),
        (["--step_seconds", "stargan=fast"], "--step_seconds stargan=fast: it must be"),
        (["--step_seconds", "stargan=-1"], "--step_seconds stargan=-1: it must be"),
        (["--bandwidth=1"], "averaging over 8 devices would take 4.69"),
    ],
)
def test_a_mistake_is_one_sentence(words, sentence):
    done = run(*words)
    assert done.returncode in (1, 2)
    assert sentence in done.stderr
    assert (done.stderr.count("\n"), done.stdout) == (1, "")


def test_links_too_slow_for_what_was_published_are_refused():
    with pytest.raises(UserError, match=r"longer than the step of U-GAT-IT, 0\.640 s"):
        scaling.table(ScalingOptions(bandwidth=1.0))


def test_the_table_in_the_readme_is_what_the_command_prints():
    with open(os.path.join(ROOT, "tools", "README.md"), encoding="utf-8") as file:
        assert scaling.table(ScalingOptions()) in file.read()


@pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="there is no TensorFlow here"
)
@pytest.mark.parametrize("name", ["pix2pix", "stargan", "whitebox"])
def test_tensorflow_steps_average_these_gradients(name):
    import tensorflow.compat.v1 as tf

    from tf_runtime.device import Device
    from tf_runtime.ranks import Group

    averaged = {}

    class Recorder(Group):
        """One rank that notes what it is given to average."""

        def average_gradients(self, gradients, name):
            averaged[name] = sum(int(np.prod(v.shape.as_list())) for _, v in gradients)
            return gradients

    tf.disable_v2_behavior()
    training = importlib.import_module(name + ".training")
    config = importlib.import_module(name + ".config").Config(batch_size=2)
    words = {"whitebox": (lambda x: x[:, ::8, ::8],), "stargan": ([("celeba", 5)],)}.get(name, ())
    with tf.Graph().as_default():
        training.build_step(config, *words, Device("cpu", "", config, 1), Recorder(0, 1, (), "cpu"))
    gradients = MODELS[name].gradients
    assert averaged == {scope: count for scope, (count, _) in gradients.items()}
    if name == "stargan":
        assert gradients["generator_train"][1] == config.d_train_repeat


@pytest.mark.skipif(
    importlib.util.find_spec("mindspore") is None, reason="there is no MindSpore here"
)
def test_ugatit_averages_these_gradients():
    os.environ.setdefault("GLOG_v", "3")
    from ugatit import networks, training
    from ugatit.config import Config

    def count(nets, names):
        return sum(int(np.prod(p.shape)) for p in training.trained(nets, names))

    config = Config()
    counts = {}
    for side in (32, 64):  # of a generator, what depends on the pictures grows with their area
        made = {"genA2B": networks.build_generator(Config(img_size=side, phase="test"), "genA2B")}
        counts[side] = count(made, ["genA2B"])
    growth, rest = divmod(counts[64] - counts[32], 64**2 - 32**2)
    judges = {
        name: networks.Discriminator(config.n_dis + (1 if name[3] == "G" else -1), config)
        for name in networks.DISCRIMINATORS
    }
    assert rest == 0
    assert MODELS["ugatit"].gradients == {
        "generators": (2 * (counts[32] + growth * (config.img_size**2 - 32**2)), 1),
        "discriminators": (count(judges, networks.DISCRIMINATORS), 1),
    }
