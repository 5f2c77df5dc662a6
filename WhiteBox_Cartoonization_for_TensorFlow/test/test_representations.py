# SPDX-License-Identifier: Apache-2.0
"""Guided filter and texture against numpy, with gradients; mixed precision leaves them alone."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tf_runtime import device as devices
from whitebox import data, representations
from whitebox.config import Config
from whitebox.networks import Discriminator, generator
from whitebox.representations import box_mean, guided_filter, surface, texture, texture_weights

BFLOAT16 = 14  # DataType of a node
FLOAT32 = 1


def _value(tensor, feed=None):
    with tf.Session() as session:
        return session.run(tensor, feed)


def _pictures(*shape, **options):
    return np.random.RandomState(options.get("seed", 0)).uniform(-1, 1, shape)


def _mean_by_hand(x, radius):
    """Returns the mean over the window around each pixel, as far as it is inside the picture."""
    result = np.empty_like(x)
    for i, j in np.ndindex(*x.shape[1:3]):
        rows, columns = (slice(max(0, k - radius), k + radius + 1) for k in (i, j))
        result[:, i, j] = x[:, rows, columns].mean(axis=(1, 2))
    return result


def _filter_by_hand(guide, images, radius, epsilon):
    """Returns the guided filter of He et al., channel by channel, in float64."""
    mean_guide, mean = (_mean_by_hand(x, radius) for x in (guide, images))
    covariance = _mean_by_hand(guide * images, radius) - mean_guide * mean
    variance = _mean_by_hand(guide * guide, radius) - mean_guide**2
    slope = covariance / (variance + epsilon)
    offset = mean - slope * mean_guide
    return _mean_by_hand(slope, radius) * guide + _mean_by_hand(offset, radius)


@pytest.mark.parametrize("radius", [1, 2, 5])
@pytest.mark.parametrize("sides", [(9, 14), (4, 6), (1, 3)])  # windows larger than the picture too
def test_the_box_mean_is_the_mean_of_the_pixels_inside(radius, sides):
    x = _pictures(2, *sides + (4,))
    np.testing.assert_allclose(
        _value(box_mean(tf.constant(x, tf.float32), radius)), _mean_by_hand(x, radius), atol=1e-6
    )


@pytest.mark.parametrize(("radius", "epsilon"), [(1, 1e-2), (1, 5e-3), (5, 0.2)])
def test_the_guided_filter_equals_numpy(radius, epsilon):
    guide, images = _pictures(2, 14, 17, 3), _pictures(2, 14, 17, 3, seed=1)
    for first in (guide, images):
        expected = _filter_by_hand(first, images, radius, epsilon)
        value = _value(guided_filter(*map(tf.constant, (first, images)), radius, epsilon))
        np.testing.assert_allclose(value, expected, atol=1e-12)
        low = [tf.constant(x, tf.float32) for x in (first, images)]
        value = _value(guided_filter(*low, radius, epsilon))
        np.testing.assert_allclose(value, expected, atol=2e-5)


def test_channels_and_pictures_do_not_mix():
    guide, images = _pictures(2, 8, 8, 3), _pictures(2, 8, 8, 3, seed=1)
    whole = _value(guided_filter(tf.constant(guide), tf.constant(images), 2, 0.1))
    parts = [tf.constant(x[1:, :, :, 2:]) for x in (guide, images)]
    np.testing.assert_allclose(_value(guided_filter(*parts, 2, 0.1)), whole[1:, :, :, 2:])


def test_an_edge_of_the_guide_stays_and_noise_goes():
    edge = np.where(np.arange(24) < 12, -0.8, 0.8)
    images = (np.tile(edge, [24, 1]) + 0.05 * _pictures(24, 24))[None, :, :, None]
    value = _value(guided_filter(tf.constant(images), tf.constant(images), 3, 0.01))[0, :, :, 0]
    assert value[:, 3:9].std() < 0.3 * images[0, :, 3:9, 0].std()
    assert (value[:, 12] - value[:, 11]).mean() > 1.5


@pytest.mark.parametrize("colour", [-1.0, 0.123, 0.97])
def test_a_constant_picture_stays_and_its_gradients_are_finite(colour):
    images = tf.constant(np.full([1, 12, 12, 3], colour, np.float32))
    filtered = surface(images)
    value, gradient = _value(
        [filtered, tf.gradients(filtered * _pictures(1, 12, 12, 3), images)[0]]
    )
    np.testing.assert_allclose(value, np.full([1, 12, 12, 3], colour), atol=1e-5)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0


def test_the_surface_is_the_filter_of_a_picture_by_itself():
    images = _pictures(2, 16, 13, 3)
    expected = _filter_by_hand(images, images, 5, 0.2)
    np.testing.assert_allclose(_value(surface(tf.constant(images))), expected, atol=1e-12)


def test_the_gradients_of_the_filter_are_those_of_finite_differences():
    starts = _pictures(1, 7, 6, 2), _pictures(1, 7, 6, 2, seed=1)
    weights = _pictures(1, 7, 6, 2, seed=2)
    inputs = [tf.placeholder(tf.float64, [1, 7, 6, 2]) for _ in starts]
    total = tf.reduce_sum(tf.square(guided_filter(*inputs, 1, 1e-2)) * weights)
    gradients = _value(tf.gradients(total, inputs), dict(zip(inputs, starts)))

    def by_hand(guide, images):
        return np.sum(_filter_by_hand(guide, images, 1, 1e-2) ** 2 * weights)

    for number in range(2):
        direction = _pictures(1, 7, 6, 2, seed=3 + number)
        steps = [1e-6 * direction if i == number else 0 for i in range(2)]
        up, down = (by_hand(*[x + sign * s for x, s in zip(starts, steps)]) for sign in (1, -1))
        slope = np.sum(gradients[number] * direction)
        assert abs(slope) > 0.01
        np.testing.assert_allclose(slope, (up - down) / 2e-6, rtol=1e-6)


def test_the_texture_is_a_mean_of_the_channels_by_their_weights():
    images, weights = _pictures(2, 5, 4, 3), np.array([0.1, 0.6, 0.25])
    expected = (images * (weights / weights.sum())).sum(axis=3)[..., None]
    value = _value(texture(tf.constant(images), tf.constant(weights)))
    assert value.shape == (2, 5, 4, 1)
    np.testing.assert_allclose(value, expected, rtol=1e-9)
    tripled = _value(texture(tf.constant(images), tf.constant(3 * weights)))
    np.testing.assert_allclose(tripled, expected, rtol=1e-9)


def test_a_grey_picture_is_its_own_texture():
    grey = _pictures(2, 6, 5, 1).astype(np.float32)
    for step in range(3):
        weights = tf.constant(texture_weights(0, step))
        value = _value(texture(tf.constant(np.tile(grey, 3)), weights))
        np.testing.assert_allclose(value, grey, atol=1e-6)


def test_the_weights_of_the_texture_are_drawn_from_their_whole_ranges():
    drawn = np.array([texture_weights(7, step) for step in range(1, 801)])
    assert drawn.dtype == np.float32
    ranges = np.array([[0.014, 0.214], [0.487, 0.687], [0.199, 0.399]])  # of blue, green, red
    assert (drawn >= ranges[:, 0] - 1e-6).all()
    assert (drawn <= ranges[:, 1] + 1e-6).all()
    np.testing.assert_allclose(drawn.min(axis=0), ranges[:, 0], atol=2e-3)
    np.testing.assert_allclose(drawn.max(axis=0), ranges[:, 1], atol=2e-3)
    np.testing.assert_allclose(drawn.mean(axis=0), ranges.mean(axis=1), atol=0.01)
    assert np.abs(np.corrcoef(drawn.T) - np.eye(3)).max() < 0.15


def test_the_weights_of_the_texture_are_a_function_of_seed_and_step():
    words = [(seed, step) for seed in (0, 1, 5) for step in (1, 2, 100_000)]
    drawn = [texture_weights(*word).tolist() for word in words]
    assert drawn == [texture_weights(*word).tolist() for word in words]
    assert len({tuple(weights) for weights in drawn}) == len(words)


def _types(device, fetches, feed):
    """Runs `fetches`; returns their values and {kind of operation: types} of what was run."""
    with tf.Session(config=devices.session_config(device)) as session:
        session.run(tf.global_variables_initializer())
        options, metadata = tf.RunOptions(output_partition_graphs=True), tf.RunMetadata()
        values = session.run(fetches, feed, options=options, run_metadata=metadata)
    types = {}
    for graph in metadata.partition_graphs:
        for node in graph.node:
            types.setdefault(node.op.replace("_Mkl", ""), set()).add(node.attr["T"].type)
    return values, types


def test_mixed_precision_keeps_the_filters_and_their_gradients_in_float32():
    if not devices.cpu_has_bfloat16():
        pytest.skip("this CPU, or this version of TensorFlow, has no bfloat16")
    device = devices.choose(Config(device="cpu", precision_mode="allow_mix_precision"))
    assert device.mixed == "bfloat16"
    images = tf.placeholder(tf.float32, [2, 32, 32, 3])
    smoothed = guided_filter(images, generator(images, seed=1), 1, 1e-2)
    loss = tf.reduce_mean(tf.square(Discriminator("disc", 3, 8)(surface(smoothed)) - 1.0))
    fetches = [smoothed, loss, tf.gradients(loss, tf.trainable_variables("generator/"))]
    feed = {images: _pictures(2, 32, 32, 3)}
    (mine, my_loss, _), mixed = _types(device, fetches, feed)
    (plain, plain_loss, _), full = _types(device._replace(mixed=""), fetches, feed)
    pools = {kind for kind in mixed if "AvgPool" in kind}
    assert {kind.replace("Native", "") for kind in pools} == {"AvgPool", "AvgPoolGrad"}
    for kind in pools:
        assert mixed[kind] == {FLOAT32}, kind
    convolutions = [kind for kind in mixed if "Conv2D" in kind]
    assert any(BFLOAT16 in mixed[kind] for kind in convolutions)  # so it was mixed at all
    assert not any(BFLOAT16 in types for types in full.values())
    assert 0 < np.abs(mine - plain).max() < 0.02 * np.abs(plain).max()
    np.testing.assert_allclose(my_loss, plain_loss, rtol=0.02)


def test_the_roll_by_nothing_changes_nothing():
    images = tf.constant(_pictures(2, 4, 3, 3))
    same = representations._in_float32(images)
    assert same.op.type == "Roll"
    for value in _value([same, tf.gradients(same * images, images)[0]]):
        assert value.shape == (2, 4, 3, 3)
    np.testing.assert_array_equal(*_value([same, images]))


def test_the_texture_has_random_numbers_of_its_own():
    assert representations.STREAM >= 2 * data.CROPS  # the orders', then those of the crops
