# SPDX-License-Identifier: Apache-2.0
"""Gram matrices, losses and their gradients against a few lines of numpy."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from stylize import losses


def _value(tensor, feed=None):
    with tf.Session() as session:
        return session.run(tensor, feed)


def _normal(seed, *shape):
    return np.random.RandomState(seed).normal(0.5, 2, shape)


def _mask(seed, *shape):
    """Returns a mask in 0..1 of which a part is 0 and a part is 1."""
    return np.clip(np.random.RandomState(seed).uniform(-0.5, 1.5, shape), 0, 1)


def gram(maps, mask=None):
    """Returns the guided Gram matrix of maps [1, H, W, C] for a mask [1, H, W, 1]."""
    mask = np.ones(maps.shape[:3] + (1,)) if mask is None else mask
    rows = (maps * mask).reshape(-1, maps.shape[3])
    return rows.T @ rows / (maps.shape[3] * np.square(mask).sum())


def test_the_gram_matrix_is_the_mean_product_of_maps():
    maps = _normal(0, 1, 5, 7, 3)
    value = _value(losses.gram_matrix(tf.constant(maps), 5 * 7))
    np.testing.assert_allclose(value, gram(maps), rtol=1e-9)
    by_hand = [[(maps[..., i] * maps[..., j]).mean() / 3 for i in range(3)] for j in range(3)]
    np.testing.assert_allclose(value, by_hand, rtol=1e-9)


def test_a_mask_weighs_the_places():
    maps, mask = _normal(1, 1, 6, 5, 4), _mask(2, 1, 6, 5, 1)
    value = _value(losses.gram_matrix(tf.constant(maps), np.square(mask).sum(), mask))
    np.testing.assert_allclose(value, gram(maps, mask), rtol=1e-9)
    inside = (mask > 0.5).astype(float)
    value = _value(losses.gram_matrix(tf.constant(maps), inside.sum(), inside))
    only = maps[inside[..., 0] > 0][None, None]  # as if the other places were not there
    np.testing.assert_allclose(value, gram(only), rtol=1e-9)


@pytest.mark.parametrize("is_masked", [False, True])
def test_the_gradient_of_the_gram_matrix_is_that_of_finite_differences(is_masked):
    maps, upstream = _normal(3, 1, 3, 4, 3), _normal(4, 3, 3)  # which is not symmetric
    mask = _mask(5, 1, 3, 4, 1) if is_masked else None
    places = tf.placeholder(tf.float64, maps.shape)
    matrix = losses.gram_matrix(places, 7.0, mask)
    with tf.Session() as session:

        def rise(step):
            up, down = (session.run(matrix, {places: maps + d}) for d in (step, -step))
            return ((up - down) * upstream).sum() / 2e-4

        found = session.run(tf.gradients(matrix, places, tf.constant(upstream))[0], {places: maps})
        steps = 1e-4 * np.eye(maps.size).reshape((-1,) + maps.shape)
        wanted = np.array([rise(step) for step in steps]).reshape(maps.shape)
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


def test_the_gradient_of_the_style_loss_is_that_of_plain_operations():
    maps, mask = _normal(6, 1, 4, 5, 3), _mask(7, 1, 4, 5, 1)
    wanted, count = _normal(8, 3, 3), np.square(mask).sum()
    places = tf.constant(maps)
    mine = losses.gram_matrix(places, count, mask)
    rows = tf.reshape(places * mask, [-1, 3])
    plain = tf.matmul(tf.transpose(rows), rows) / (3 * count)
    loss = losses.style_loss([mine], [tf.constant(wanted)], [1.7])
    other = 1.7 * tf.reduce_mean(tf.square(plain - wanted))
    found, expected = _value([tf.gradients(each, places)[0] for each in (loss, other)])
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_content_loss_is_the_mean_square_difference():
    a, b = _normal(9, 1, 4, 6, 3), _normal(10, 1, 4, 6, 3)
    value = _value(losses.content_loss(tf.constant(a), tf.constant(b)))
    np.testing.assert_allclose(value, np.square(a - b).mean(), rtol=1e-9)


def test_style_loss_is_the_weighted_sum_of_the_layers():
    grams, wanted = [_normal(11, 3, 3), _normal(12, 5, 5)], [_normal(13, 3, 3), _normal(14, 5, 5)]
    weights = [0.2, 0.9]
    value = _value(
        losses.style_loss(*(map(tf.constant, each) for each in (grams, wanted)), weights)
    )
    each = [np.square(g - a).mean() for g, a in zip(grams, wanted)]
    np.testing.assert_allclose(value, np.dot(weights, each), rtol=1e-9)


def test_total_variation_loss_is_the_mean_square_step_of_each_direction():
    pixels = _normal(15, 1, 5, 8, 3)
    value = _value(losses.total_variation_loss(tf.constant(pixels)))
    down, right = np.diff(pixels, axis=1), np.diff(pixels, axis=2)
    np.testing.assert_allclose(value, (down**2).mean() + (right**2).mean(), rtol=1e-9)
    lines = np.tile(pixels[:, :, :1], (1, 1, 8, 1))  # no step to the right
    value = _value(losses.total_variation_loss(tf.constant(lines)))
    np.testing.assert_allclose(value, np.square(np.diff(lines, axis=1)).mean(), rtol=1e-9)


def test_the_mean_of_many_large_values_is_finite_and_exact():
    a = np.random.RandomState(16).uniform(1e4, 2e4, (1, 64, 64, 8)).astype(np.float32)
    value = _value(losses.content_loss(tf.constant(a), tf.constant(-a)))
    np.testing.assert_allclose(value, np.square(2 * a.astype("d")).mean(), rtol=1e-5)


def test_the_weights_of_layers_are_powers_that_sum_to_one():
    np.testing.assert_allclose(losses.layer_weights(4, 1.0), [0.25] * 4)
    np.testing.assert_allclose(losses.layer_weights(3, 2.0), [1 / 7, 2 / 7, 4 / 7])
    np.testing.assert_allclose(losses.layer_weights(2, 0.5), [2 / 3, 1 / 3])
    assert losses.layer_weights(3, 0.0) == [1, 0, 0]
    assert losses.layer_weights(1, 3.0) == [1]
    np.testing.assert_allclose(losses.layer_weights(5, 1000.0), [0, 0, 0, 0.001, 0.999], atol=1e-5)


def test_the_weights_of_styles_are_equal_or_those_given_and_sum_to_one():
    np.testing.assert_allclose(losses.blend_weights((), 3), [1 / 3] * 3)
    np.testing.assert_allclose(losses.blend_weights((3, 1), 2), [0.75, 0.25])
    np.testing.assert_allclose(losses.blend_weights((0.0, 0.2), 2), [0, 1])
