# SPDX-License-Identifier: Apache-2.0
"""Losses and pictures against numbers of the reference implementation.

Skips where the numbers, which are not part of the project, are not beside it.
"""

import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import FOLDER

from stylize import data, training
from stylize.config import Config
from stylize.networks import Vgg
from stylize.weights import read_network
from tf_runtime.device import choose

PLACE = os.path.join(FOLDER, "..", "..", "shared", "reference")
NUMBERS = os.path.join(PLACE, "neural_style.npz")
pytestmark = pytest.mark.skipif(
    not os.path.exists(NUMBERS), reason="no reference numbers beside the project"
)
# Of the largest value: after the first steps Adam divides by the gradient's size, which carries
# rounding on.
IMAGE_TOLERANCES = {1: 1e-4, 5: 1e-3, 20: 5e-2}


@pytest.fixture(scope="module")
def numbers():
    with np.load(NUMBERS) as file:
        return dict(file)


def _network(layout="new_format"):
    path = os.path.join(PLACE, "neural_style_vgg_%s.mat" % layout)
    return read_network(path, legacy_transposed_kernels=True)


def _config(numbers, name):
    cfg = {k.split("cfg_")[1]: v for k, v in numbers.items() if k.startswith("run/%s/cfg_" % name)}
    blend = tuple(float(weight) for weight in cfg.pop("style_blend_weights"))
    values = {k: float(v) for k, v in cfg.items() if k != "epsilon"}
    return Config(
        styles=("0", "1")[: len(blend)],
        style_blend_weights=blend,
        eps=float(cfg["epsilon"]),
        pooling=name[:3],
        precision_mode="force_fp32",
        device="cpu",
        **values,
    )


def _run(numbers, config, network, steps, in_strips=False):
    """Returns ([losses before each step and after the last], {step: picture}, best picture)."""
    styles = [numbers["in/style0"], numbers["in/style1"]][: len(config.styles)]
    pictures = data.Pictures(numbers["in/content"], styles, [], numbers["in/initial"])
    device, mean = choose(config), network.mean_pixel
    layers = [list(weights) for weights in training.used_layers(config)]
    vgg = Vgg(network, *layers, pooling=config.pooling, minimal=True)
    graph = training.build_step(config, vgg, pictures, in_strips, device)
    table, images = [], {}
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        vgg.load(session)
        wanted = training.measure_wanted(session, graph, pictures, mean)
        start = data.starting_image(pictures, 0.0, 0, mean)
        session.run(graph.set_image, {graph.new_image: start})
        for step in range(1, steps + 1):
            values, _ = session.run((graph.losses, graph.train), wanted)
            table.append([values[name] for name in training.LOSSES])
            images[step] = session.run(graph.image)[0] + mean
        values, _ = session.run((graph.losses, graph.keep_best), wanted)
        table.append([values[name] for name in training.LOSSES])
        return np.array(table), images, session.run(graph.best)[0] + mean


@pytest.mark.parametrize("in_strips", [False, True])
@pytest.mark.parametrize(
    "name", ["max_1style", "avg_1style", "max_2styles_blend0.7", "avg_2styles_blend0.7"]
)
def test_losses_and_pictures_of_twenty_steps(numbers, name, in_strips, monkeypatch):
    monkeypatch.setattr("stylize.networks.STRIP_PIXELS", 48 * 64 // 3)
    table, images, _ = _run(numbers, _config(numbers, name), _network(), 20, in_strips)
    wanted = numbers["run/%s/losses_content_style_tv_total_after_0..20_steps" % name]
    tolerance = 5e-3 if name == "max_1style" else 1e-3
    np.testing.assert_allclose(table, wanted, rtol=tolerance)
    np.testing.assert_allclose(table[:2], wanted[:2], rtol=2e-5)
    for step, key in ((1, "image_after_1"), (5, "image_after_5"), (20, "final_image")):
        one = numbers["run/%s/%s" % (name, key)]
        difference = np.abs(images[step] - one).max() / np.abs(one).max()
        assert difference <= IMAGE_TOLERANCES[step], (step, difference)


def test_the_best_picture_is_that_with_the_lowest_loss(numbers):
    config = _config(numbers, "max_1style")
    config = type(config)(**dict(vars(config), learning_rate=float(numbers["best/learning_rate"])))
    table, _, best = _run(numbers, config, _network(), 3)
    np.testing.assert_allclose(table[1:, 3], numbers["best/losses_total"], rtol=1e-3)
    wanted = numbers["best/returned_image"]
    assert np.abs(best - wanted).max() <= 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_features(numbers, pooling):
    prefix = "out/features_%s/" % pooling
    found = {key[len(prefix) :]: value for key, value in numbers.items() if key.startswith(prefix)}
    _compare_features(found, _network(), numbers["in/content"], pooling, 1e-5)


def test_features_of_the_old_format(numbers):
    prefix = "out/features_old_format_max/"
    found = {key[len(prefix) :]: value for key, value in numbers.items() if key.startswith(prefix)}
    _compare_features(found, _network("old_format_tiny"), numbers["in/content"], "max", 5e-5)


def _compare_features(found, network, content, pooling, tolerance):
    layers = sorted({key.split("_first4ch")[0].split("_mean")[0] for key in found})
    vgg = Vgg(network, layers, [], pooling, minimal=True)
    pixels = tf.placeholder(tf.float32, (1,) + content.shape)
    features = vgg.describe(pixels).features
    with tf.Session() as session:
        vgg.load(session)
        maps = session.run(features, {pixels: data.to_input(content, network.mean_pixel)})
    for key, wanted in found.items():
        one = maps[key.split("_first4ch")[0].split("_mean")[0]]
        if key.endswith("mean_std_max"):
            one = np.array([one.mean(), one.std(), one.max()])
        else:
            one = one[:, : wanted.shape[1], : wanted.shape[2], : wanted.shape[3]]
        assert np.abs(one - wanted).max() <= tolerance * np.abs(wanted).max(), key


def test_sizes_and_colours(numbers):
    content = numbers["in/content"].astype(np.uint8)
    for (height, width), key in (
        ((31, 41), "out/imresize_content_to_h31_w41_uint8"),
        ((28, 38), "out/imresize_content_scale0.6_uint8"),
    ):
        difference = data.resize(content, height, width).astype(int) - numbers[key]
        assert np.abs(difference).max() <= 1
    assert data.height_for(content, 38) == 28
    for key, given in (
        ("out/preserve_colors_uint8", "in/preserve_colors_given"),
        ("out/preserve_colors_out_of_range_uint8", "in/preserve_colors_given_out_of_range"),
    ):
        pixels = data.to_uint8(numbers[given][None], np.zeros(3))
        difference = data.keep_colors(pixels, content).astype(int) - numbers[key]
        assert np.abs(difference).mean() <= 0.6, key
        assert np.abs(difference).max() <= 3, key
