# SPDX-License-Identifier: Apache-2.0
"""VGG-19 against a few lines of numpy; frozen, and no part of a checkpoint."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import VGG_LAYERS, write_vgg

from tf_runtime import filtering
from whitebox import vgg
from whitebox.vgg import Vgg
from whitebox.weights import read_vgg

WIDTHS = (4, 4, 8, 8, 16, 16, 16, 16, 16, 16, 16, 12)


@pytest.fixture
def layers(tmp_path):
    write_vgg(tmp_path / "vgg.npz", WIDTHS)
    return read_vgg(str(tmp_path / "vgg.npz"))


def _pictures(*shape, **options):
    rng = np.random.RandomState(options.get("seed", 0))
    return rng.uniform(-1, 1, shape).astype(np.float32)


def _run(network, fetches, feed=None):
    with tf.Session() as session:
        network.load(session)
        return session.run(fetches, feed)


def _assert_close(mine, theirs, tolerance):
    """Asserts that the arrays differ by `tolerance` of the largest value at most."""
    assert np.shape(mine) == np.shape(theirs)
    assert np.abs(theirs).max() > 0
    assert np.abs(mine - theirs).max() <= tolerance * np.abs(theirs).max()


def _pooled(x):
    """Returns the largest values of 2x2 pixels; of what there is of them at an odd border."""
    height, width = x.shape[1:3]
    margins = [(0, 0), (0, height % 2), (0, width % 2), (0, 0)]
    x = np.pad(x, margins, "constant", constant_values=-np.inf)
    return np.maximum.reduce([x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)])


def _by_hand(images, layers):
    """Returns conv4_4 before its ReLU in float64."""
    x = (images.astype(np.float64) + 1) * 127.5 - [103.939, 116.779, 123.68]
    for name in VGG_LAYERS:
        if name in ("conv2_1", "conv3_1", "conv4_1"):
            x = _pooled(x)
        kernel, bias = layers[name]
        height, width = x.shape[1:3]
        x = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], "constant")
        taps = (
            x[:, i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3)
        )
        x = sum(taps) + bias
        x = x if name == "conv4_4" else np.maximum(x, 0)
    return x


@pytest.mark.parametrize("sides", [(32, 32), (36, 20), (9, 11)])  # 36: 18, 9, 5
def test_the_features_equal_numpy(layers, sides):
    images, network = _pictures(2, *sides + (3,)), Vgg(layers)
    features = network(tf.constant(images))
    expected = _by_hand(images, layers)
    assert features.shape.as_list() == list(expected.shape)
    value = _run(network, features)
    _assert_close(value, expected, 1e-5)
    assert (value < 0).mean() > 0.1  # conv4_4 has no ReLU
    assert (value > 0).mean() > 0.1


def test_the_layers_are_those_up_to_conv4_4():
    assert list(vgg.LAYERS) == VGG_LAYERS
    assert vgg.LAYERS[-1] == "conv4_4"


def test_of_the_published_widths_the_features_are_512_maps_of_an_eighth(tmp_path):
    names, widths = list(VGG_LAYERS), [64, 64, 128, 128] + [256] * 4 + [512] * 4
    shapes = zip(names, [3] + widths, widths)
    layers = {name: (np.empty([3, 3, c, f], np.float32), np.empty(f)) for name, c, f in shapes}
    features = Vgg(layers)(tf.placeholder(tf.float32, [3, 256, 256, 3]))
    assert features.shape.as_list() == [3, 32, 32, 512]


def test_minimal_filtering_changes_neither_features_nor_gradients(tmp_path, monkeypatch):
    write_vgg(tmp_path / "wide.npz", WIDTHS[:5] + (128,) * 6 + (12,))
    layers = read_vgg(str(tmp_path / "wide.npz"))
    calls, whole = [], filtering.filter_lines
    monkeypatch.setattr(filtering, "filter_lines", lambda *x: calls.append(x) or whole(*x))
    images, networks = tf.constant(_pictures(2, 32, 32, 3)), [Vgg(layers, m) for m in (False, True)]
    weights, results = tf.constant(_pictures(2, 4, 4, 12, seed=1)), []
    for network in networks:
        features = network(images)
        results.append(_run(network, [features] + tf.gradients(features * weights, images)))
    assert len(calls) == 5  # those of 128 channels to 128
    (plain, of_plain), (minimal, of_minimal) = results
    _assert_close(minimal, plain, 1e-4)
    assert np.linalg.norm(of_minimal - of_plain) < 5e-3 * np.linalg.norm(of_plain)


@pytest.mark.parametrize("minimal", [True, False])
def test_nothing_of_it_is_trained_or_saved(layers, minimal):
    network = Vgg(layers, minimal)
    images = tf.constant(_pictures(1, 32, 32, 3))
    features = network(images)
    assert tf.global_variables() == tf.trainable_variables() == tf.local_variables() == []
    own = tf.get_collection("vgg")
    assert len(own) == 24
    assert tf.gradients(features, own) == [None] * 24
    gradient = _run(network, tf.gradients(features, images)[0])
    assert np.abs(gradient).max() > 0
    network(tf.constant(_pictures(2, 32, 32, 3)))
    assert len(tf.get_collection("vgg")) == 24  # another pass has the same weights


def test_the_weights_come_with_load_and_not_with_the_other_variables(layers):
    network = Vgg(layers)
    features = network(tf.constant(_pictures(1, 16, 16, 3)))
    own = tf.get_collection("vgg")
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        with pytest.raises(tf.errors.FailedPreconditionError):
            session.run(features)
        network.load(session)
        values = session.run(own)
    expected = [array for name in VGG_LAYERS for array in layers[name]]
    assert len(values) == len(expected) == 24
    for value, array in zip(values, expected):
        np.testing.assert_array_equal(value, array)


def test_the_graph_does_not_hold_the_weights(tmp_path):
    write_vgg(tmp_path / "vgg.npz", (32,) * 12)
    network = Vgg(read_vgg(str(tmp_path / "vgg.npz")))
    network(tf.placeholder(tf.float32, [1, 16, 16, 3]))
    assert tf.get_default_graph().as_graph_def().ByteSize() < 60_000 < 4 * 9 * 32 * 32 * 11
