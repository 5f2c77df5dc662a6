# SPDX-License-Identifier: Apache-2.0
"""Shapes, weights and parts of VGG-19, that strips change nothing, and the memory it needs."""

import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import MEAN_PIXEL, random_layers
from test_losses import gram

from harness.errors import UserError
from harness.platform_options import PlatformOptions
from stylize import memory, networks
from stylize.config import Config
from stylize.networks import Vgg, halve
from stylize.weights import CONVOLUTIONS, LAYERS, Network
from tf_runtime.device import Device

CHANNELS = (4, 6, 8, 12, 12)


def make_network(channels=CHANNELS, **words):
    """Returns a Network of random weights."""
    layers = {n: pair for n, pair in random_layers(channels, **words).items() if pair}
    return Network(layers, np.array(MEAN_PIXEL), "random")


def _pixels(height, width, seed=0):
    return np.random.RandomState(seed).uniform(-110, 140, (1, height, width, 3)).astype("f")


def _masks(height, width, count=2):
    """Returns masks in 0..1 that are 0 in one half and graded in the other."""
    slopes = np.linspace(-1, 1, width)[None] * np.linspace(0.2, 1.5, height)[:, None]
    return [np.clip(slope, 0, 1).astype("f") for slope in (slopes, -slopes)][:count]


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
    height, width, channels = x.shape[1:]
    rest = [(0, 0), (0, height % 2), (0, width % 2), (0, 0)]
    x = np.pad(x.astype("d"), rest, "constant", constant_values=np.nan)
    x = x.reshape(1, (height + 1) // 2, 2, (width + 1) // 2, 2, channels)
    if pooling == "max":
        return np.nanmax(x, axis=(2, 4))
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


STYLE = ["relu1_1", "pool1", "conv2_2", "pool2"]


def _strips(monkeypatch):
    """Returns a list that takes (block, lines of a strip) wherever one is computed."""
    seen, inner = [], Vgg._block

    def block(self, x, names, may_filter, *lines):
        seen.extend((int(names[0][4]), each.stop - each.start) for each in lines)
        return inner(self, x, names, may_filter, *lines)

    monkeypatch.setattr(Vgg, "_block", block)
    return seen


@pytest.mark.parametrize(
    ("height", "pixels", "pooling", "first", "second"),
    [
        (45, 45 * 31 // 3, "max", [16, 16, 13], [6, 6, 6, 5]),
        (33, 16 * 31 + 1, "avg", [12, 12, 9], [6, 6, 5]),  # odd everywhere
        (42, 10 * 31, "max", [10, 10, 10, 10, 2], [6, 6, 6, 3]),  # two lines at the end
        (17, 4 * 31, "max", [4, 4, 4, 4, 1], [2, 2, 2, 2, 1]),  # one, in both blocks
        (19, 10**9, "avg", [19], [10]),  # and one strip
    ],
)
def test_strips_give_the_same_maps_and_gradient(
    height, pixels, pooling, first, second, monkeypatch
):
    words = (["relu3_1"], STYLE, _pixels(height, 31), _masks(height, 31))
    whole = _describe(*words, want_gradient=True, pooling=pooling)
    monkeypatch.setattr(networks, "STRIP_PIXELS", pixels)
    seen = _strips(monkeypatch)
    parts = _describe(*words, want_gradient=True, pooling=pooling, in_strips=True)
    _assert_close(parts, whole)
    assert len(parts) == 1 + 2 * len(STYLE) + 1
    for number, lines in ((1, first), (2, second)):  # once forward, once for the gradient
        assert [count for block, count in seen if block == number] == 2 * lines


@pytest.mark.parametrize(
    ("content", "style", "blocks"),
    [
        (["relu1_2"], STYLE, {2}),
        (["conv1_1", "relu2_2"], STYLE, set()),
        (["relu3_1"], STYLE, {1, 2}),
    ],
)
def test_a_block_with_a_content_layer_is_not_in_strips(content, style, blocks, monkeypatch):
    words = (content, style, _pixels(37, 29), _masks(37, 29, 1))
    whole = _describe(*words, want_gradient=True)
    monkeypatch.setattr(networks, "STRIP_PIXELS", 400)
    seen = _strips(monkeypatch)
    _assert_close(_describe(*words, want_gradient=True, in_strips=True), whole)
    assert {block for block, _ in seen} == blocks


@pytest.mark.parametrize("style", [["relu2_1"], ["relu1_2", "conv2_2"]])
def test_the_network_may_end_within_the_blocks_in_strips(style, monkeypatch):
    words = (["pool1"], style, _pixels(37, 29), _masks(37, 29, 1))
    whole = _describe(*words, want_gradient=True)
    monkeypatch.setattr(networks, "STRIP_PIXELS", 400)
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


def test_the_estimate_grows_with_the_picture_and_shrinks_in_strips_and_mixed():
    def estimate(height=600, width=800, layers=("relu4_2",), in_strips=False, mixed=False):
        layers = (layers, ["relu1_1"])
        return memory.estimate(height, width, layers, in_strips, mixed)

    assert estimate() < estimate(width=801) < estimate(width=1600) < estimate(1200, 1600)
    growth = (estimate(1200, 1600) - memory.BASE) / (estimate() - memory.BASE)
    assert growth == pytest.approx(4, rel=0.01)
    assert estimate(layers=LAYERS[:3]) < estimate() < estimate(layers=("relu1_1", "relu5_4"))
    assert estimate(2000, 2000, in_strips=True) < 0.6 * estimate(2000, 2000)
    content = ("relu2_1", "relu4_2")  # whose block is not in strips
    assert estimate(layers=content, in_strips=True) > estimate(in_strips=True)
    assert memory.BASE < estimate(mixed=True) < estimate()
    both = estimate(2000, 2000, in_strips=True, mixed=True)
    assert both < min(estimate(2000, 2000, mixed=True), estimate(2000, 2000, in_strips=True))


@pytest.fixture
def choose(monkeypatch):
    """choose_strips for 1600 x 1200 pixels where so many bytes may be taken."""

    def call(free, device="cpu", mixed="", **options):
        monkeypatch.setattr(memory, "available", lambda: free and free * memory.MARGIN)
        device = Device(device, mixed, PlatformOptions(), 2)
        layers = (["relu4_2"], ["relu1_1", "relu5_1"])
        return memory.choose_strips(Config(**options), (1200, 1600), [], layers, device)

    return call


def _need(in_strips, width=1600, mixed=False):
    return memory.estimate(
        1200 * width // 1600, width, (["relu4_2"], ["relu5_1"]), in_strips, mixed
    )


def test_strips_are_chosen_where_only_they_fit(choose, capsys):
    assert not choose(_need(False) + 1)
    assert choose(_need(False) - 1)
    assert choose(_need(True) + 1)
    assert choose(_need(False) + 1, strips="on")
    assert not choose(None)
    assert not choose(_need(True) - 1, "gpu")
    assert not choose(_need(False, mixed=True) + 1, mixed="bfloat16")
    assert choose(_need(False) + 1, optimizer="lbfgs")  # which keeps pictures of its own
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1600 x 1200 pixels need about %.1f GiB" % (_need(False) / 2**30)
    assert lines[1] == "1600 x 1200 pixels need about %.1f GiB in strips" % (_need(True) / 2**30)


@pytest.mark.parametrize("strips", ["auto", "on", "off"])
def test_a_picture_for_which_there_is_too_little_memory_is_refused(choose, strips):
    text = r"^1600 x 1200 pixels need about .* GiB that are free: give --width=(\d+)$"
    for free in (_need(True) - 1, _need(True) / 2):
        with pytest.raises(UserError, match=text) as caught:
            choose(free, strips=strips)
        width = int(re.match(text, str(caught.value)).group(1))
        assert 16 <= width < 1600
        in_strips = strips != "off"
        assert _need(in_strips, width) <= free < _need(in_strips, width + 16)
    with pytest.raises(UserError, match=r"GiB that are free: free memory$"):
        choose(memory.BASE / 2, strips=strips)
    if strips == "off":
        with pytest.raises(UserError, match="GiB that are free: leave --strips=off out, or give"):
            choose(_need(False) - 1, strips=strips)
