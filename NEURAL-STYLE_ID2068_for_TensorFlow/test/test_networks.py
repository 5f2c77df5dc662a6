# SPDX-License-Identifier: Apache-2.0
"""Shapes, parameter count and parts of VGG-19, and that strips change nothing."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import MEAN_PIXEL, random_layers
from test_losses import gram

from stylize import memory, networks
from stylize.networks import Vgg, halve
from stylize.weights import CONVOLUTIONS, LAYERS, Network

CHANNELS = (4, 6, 8, 12, 12)


def make_network(channels=CHANNELS, **words):
    """Returns a Network of random weights."""
    layers = {n: pair for n, pair in random_layers(channels, **words).items() if pair}
    return Network(layers, np.array(MEAN_PIXEL), "random")


def _pixels(height, width, seed=0):
    return np.random.RandomState(seed).uniform(-110, 140, (1, height, width, 3)).astype("f")


def _masks(height, width, count=2):
    """Returns masks in 0..1 that are 0 in one half and graded in the other."""
    slopes = np.linspace(-1, 1, width, dtype=np.float32) * np.ones([height, 1], np.float32)
    return [np.clip(slope, 0, 1) for slope in (slopes, -slopes)][:count]


def _describe(content, style, pixels, masks=(), in_strips=False, want_gradient=False, **words):
    """Returns {name: value} of what a network says of `pixels`, and a gradient to them."""
    words = dict({"pooling": "max", "minimal": False}, **words)
    with tf.Graph().as_default(), tf.Session() as session:
        vgg = Vgg(make_network(words.pop("channels", CHANNELS)), content, style, **words)
        picture = tf.constant(pixels)
        found = vgg.describe(picture, masks, in_strips)
        fetches = dict(found.features)
        for name, each in found.grams.items():
            fetches.update(("%s mask %d" % (name, i), one) for i, one in enumerate(each))
        if want_gradient:
            rng, total = np.random.RandomState(9), 0
            for name in sorted(fetches):  # with a different upstream gradient of each element
                weight = rng.normal(size=fetches[name].shape.as_list()) / 1000
                total += tf.reduce_sum(fetches[name] * weight.astype("f"))
            fetches["gradient"] = tf.gradients(total, picture)[0]
        vgg.load(session)
        return session.run(fetches)


def _assert_close(found, wanted, tolerance=1e-5):
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert np.abs(value).max() > 0, name
        assert np.abs(found[name] - value).max() <= tolerance * np.abs(value).max(), name


def _convolve(x, kernel, bias):
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    height, width = x.shape[1:3]
    parts = [
        padded[:, i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3)
    ]
    return sum(parts) + bias


def _pool(x, pooling):
    """Returns the pooled maps; at an odd edge of the real places only."""
    reduce = np.nanmax if pooling == "max" else np.nanmean
    height, width, channels = x.shape[1:]
    rest = [(0, 0), (0, height % 2), (0, width % 2), (0, 0)]
    x = np.pad(x.astype("d"), rest, "constant", constant_values=np.nan)
    x = x.reshape(1, (height + 1) // 2, 2, (width + 1) // 2, 2, channels)
    return reduce(reduce(x, axis=4), axis=2) if pooling == "max" else _mean(x)


def _mean(x):
    return np.nansum(x, axis=(2, 4)) / np.isfinite(x).sum(axis=(2, 4))


def test_there_are_36_layers_of_the_right_shape_at_an_odd_size():
    maps = _describe(LAYERS, [], _pixels(45, 53))
    sides = {1: (45, 53), 2: (23, 27), 3: (12, 14), 4: (6, 7), 5: (3, 4)}
    assert len(maps) == len(LAYERS) == 36
    for name in LAYERS:
        block = int(name[4])
        side = sides[block + 1] if name.startswith("pool") else sides[block]
        assert maps[name].shape == (1,) + side + (CHANNELS[block - 1],), name


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_all_maps_are_those_of_numpy_at_odd_edges(pooling):
    x = _pixels(21, 35)
    layers, maps = make_network().layers, _describe(LAYERS, [], x, pooling=pooling)
    for name in LAYERS:
        if name.startswith("conv"):
            x = _convolve(x, *layers[name])
        else:
            x = np.maximum(x, 0) if name.startswith("relu") else _pool(x, pooling)
        assert np.abs(x).max() > 0
        assert np.abs(maps[name] - x).max() <= 1e-4 * np.abs(x).max(), name


def _sizes():
    return [variable.shape.as_list() for variable in tf.get_collection("vgg")]


def test_the_convolutions_have_20024384_weights():
    layers, given = {}, 3
    for name in CONVOLUTIONS:
        out = memory.CHANNELS[int(name[4]) - 1]
        layers[name] = np.zeros([3, 3, given, out], np.float32), np.zeros([out], np.float32)
        given = out
    network = Network(layers, np.array(MEAN_PIXEL), "zeros")
    Vgg(network, ["relu5_4"], [], "max", False).describe(tf.placeholder(tf.float32, (1, 32, 32, 3)))
    assert len(_sizes()) == 32
    assert sum(int(np.prod(size)) for size in _sizes()) == 20024384


@pytest.mark.parametrize(
    ("content", "style", "count"),
    [(["conv3_2"], ["relu1_1"], 6), (["relu1_1"], ["pool2"], 4), (["relu1_1"], ["conv1_1"], 1)],
)
@pytest.mark.parametrize("in_strips", [False, True])
def test_the_network_ends_after_the_last_layer_asked_for(content, style, count, in_strips):
    vgg = Vgg(make_network(last="relu3_2"), content, style, "max", True)
    pixels = tf.placeholder(tf.float32, (1, 20, 24, 3))
    for _ in range(2):  # of several pictures the weights are there once
        found = vgg.describe(pixels, in_strips=in_strips)
    assert len(_sizes()) == 2 * count
    assert set(found.features) == set(content)
    assert set(found.grams) == set(style)


def test_no_checkpoint_holds_the_weights_and_nothing_trains_them():
    vgg = Vgg(make_network(), ["relu4_2"], ["relu1_1"], "max", True)
    found = vgg.describe(tf.placeholder(tf.float32, (1, 20, 24, 3)))
    assert tf.global_variables() == tf.trainable_variables() == tf.local_variables() == []
    weights = tf.get_collection("vgg")
    assert len(weights) == 20
    assert tf.gradients(found.features["relu4_2"], weights) == [None] * 20


def test_minimal_filtering_gives_the_same_maps_and_gradient():
    channels, pixels = (4, 6, 16, 32, 32), _pixels(45, 53)
    words = (["relu3_4", "relu5_4"], ["relu2_1", "relu4_1", "relu5_1"], pixels, _masks(45, 53))
    plain = _describe(*words, want_gradient=True, channels=channels)
    fast = _describe(*words, want_gradient=True, channels=channels, minimal=True)
    _assert_close(fast, plain)
    vgg = Vgg(make_network(channels), ["relu5_4"], [], "max", True)
    vgg.describe(tf.constant(pixels))
    assert sum(size[:3] == [6, 1, 3] for size in _sizes()) == 8  # blocks 4 and 5 were filtered


STYLE = ["relu1_1", "conv1_2", "pool1", "relu2_1", "pool2", "relu3_1"]


def _strips(monkeypatch):
    """Returns a list that takes (lines of the picture, lines of a strip) of each block."""
    seen, inner = [], Vgg._block

    def block(self, x, names, may_filter, lines=slice(None)):
        if lines != slice(None):
            seen.append((int(names[0][4]), lines.stop - lines.start))
        return inner(self, x, names, may_filter, lines)

    monkeypatch.setattr(Vgg, "_block", block)
    return seen


@pytest.mark.parametrize("pooling", ["max", "avg"])
@pytest.mark.parametrize(
    ("height", "pixels", "first", "second"),
    [
        (45, 45 * 31 // 3, [16, 16, 13], [8, 8, 7]),
        (41, 20 * 31, [14, 14, 13], [8, 8, 5]),
        (33, 16 * 31 + 1, [12, 12, 9], [6, 6, 5]),  # all odd
        (42, 10 * 31, [10, 10, 10, 10, 2], [6, 6, 6, 3]),  # two lines at the end
        (41, 10 * 31, [10, 10, 10, 10, 1], [6, 6, 6, 3]),  # one
        (17, 4 * 31, [4, 4, 4, 4, 1], [2, 2, 2, 2, 1]),  # one in both blocks
        (18, 31, [2] * 9, [2, 2, 2, 2, 1]),  # strips of two lines: the least
        (45, 10**9, [45], [23]),  # and one strip
    ],
)
def test_strips_give_the_same_maps_and_gradient(
    height, pixels, first, second, pooling, monkeypatch
):
    words = (["relu3_2"], STYLE, _pixels(height, 31), _masks(height, 31))
    whole = _describe(*words, want_gradient=True, pooling=pooling)
    monkeypatch.setattr(networks, "STRIP_PIXELS", pixels)
    seen = _strips(monkeypatch)
    parts = _describe(*words, want_gradient=True, pooling=pooling, in_strips=True)
    _assert_close(parts, whole)
    assert len(parts) == 1 + 2 * len(STYLE) + 1
    for number, lines in ((1, first), (2, second)):
        found = [count + count % 2 * 0 for block, count in seen if block == number]
        assert found[: len(lines)] == lines
        assert len(found) == 2 * len(lines)  # once forward, once for the gradient


@pytest.mark.parametrize("content", [["relu1_2"], ["conv1_1", "relu2_2"], ["pool1", "relu3_1"]])
def test_a_block_with_a_content_layer_is_not_in_strips(content, monkeypatch):
    words = (content, STYLE[:-1], _pixels(37, 29), _masks(37, 29))
    whole = _describe(*words, want_gradient=True)
    monkeypatch.setattr(networks, "STRIP_PIXELS", 200)
    seen = _strips(monkeypatch)
    _assert_close(_describe(*words, want_gradient=True, in_strips=True), whole)
    assert {block for block, _ in seen} == ({2} if content != ["conv1_1", "relu2_2"] else set())


def test_the_network_may_end_in_a_block_in_strips(monkeypatch):
    words = (["relu1_1"], ["relu2_1"], _pixels(37, 29), _masks(37, 29))
    whole = _describe(*words, want_gradient=True)
    monkeypatch.setattr(networks, "STRIP_PIXELS", 200)
    _assert_close(_describe(*words, want_gradient=True, in_strips=True), whole)


@pytest.mark.parametrize("in_strips", [False, True])
def test_gram_matrices_are_guided_by_the_masks_also_of_pooled_maps(in_strips, monkeypatch):
    monkeypatch.setattr(networks, "STRIP_PIXELS", 300)
    pixels, masks = _pixels(37, 29), _masks(37, 29)
    names = ["relu1_1", "pool1", "relu2_2", "pool2", "conv3_1", "pool3", "relu5_1"]
    maps = _describe(names, [], pixels)
    found = _describe(["relu3_1"], names, pixels, masks, in_strips)
    alone = _describe(["relu3_1"], names, pixels, (), in_strips)
    for number, mask in enumerate(masks):
        sizes = [mask[None, :, :, None].astype("d")]
        for _ in range(4):
            sizes.append(_pool(sizes[-1], "avg"))
        for name in names:
            guide = sizes[int(name[4]) - (0 if name.startswith("pool") else 1)]
            wanted = gram(maps[name].astype("d"), guide)
            value = found["%s mask %d" % (name, number)]
            assert np.abs(value - wanted).max() <= 1e-5 * np.abs(wanted).max(), name
    for name in names:
        wanted = gram(maps[name].astype("d"))
        assert np.abs(alone[name + " mask 0"] - wanted).max() <= 1e-5 * np.abs(wanted).max(), name


@pytest.mark.parametrize("size", [(6, 8), (5, 8), (6, 7), (5, 7), (1, 1), (1, 4)])
def test_halve_is_the_mean_of_the_real_places(size):
    mask = np.random.RandomState(1).uniform(0, 1, (1,) + size + (1,)).astype("f")
    halved = halve(mask)
    np.testing.assert_allclose(halved, _pool(mask, "avg"), rtol=1e-6)
    assert halved.shape == (1, (size[0] + 1) // 2, (size[1] + 1) // 2, 1)
