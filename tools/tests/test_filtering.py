# SPDX-License-Identifier: Apache-2.0
"""Minimal filtering against the plain convolution, values and gradients."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tf_runtime import filtering


@pytest.fixture(autouse=True)
def _graph():
    tf.disable_v2_behavior()
    with tf.Graph().as_default():
        yield


@pytest.mark.parametrize(
    "shape", [(1, 4, 6, 5), (2, 8, 3, 4), (3, 16, 16, 2), (1, 7, 5, 3), (2, 2, 4, 3), (1, 1, 1, 2)]
)
def test_filtering_equals_the_convolution_with_its_gradients(shape):
    rng = np.random.RandomState(0)
    images = tf.constant(rng.normal(size=shape), tf.float32)
    kernel = tf.constant(rng.normal(size=[3, 3, shape[3], 7]), tf.float32)
    weights = tf.constant(rng.normal(size=shape[:3] + (7,)), tf.float32)
    assert filtering.can_filter_lines(images)
    mine = filtering.filter_lines(images, filtering.filter_kernel(kernel))
    theirs = tf.nn.conv2d(images, kernel, [1, 1, 1, 1], "SAME")
    assert mine.shape.as_list() == theirs.shape.as_list()
    both = [[y] + tf.gradients(tf.square(y) * weights, [images, kernel]) for y in (mine, theirs)]
    with tf.Session() as session:
        for one, other in zip(*session.run(both)):
            np.testing.assert_allclose(one, other, atol=2e-5 * np.abs(other).max())


def test_a_kernel_is_made_ready_alike_as_an_array_and_as_a_tensor():
    kernel = np.random.RandomState(1).normal(size=[3, 3, 4, 5]).astype(np.float32)
    with tf.Session() as session:
        ready = session.run(filtering.filter_kernel(tf.constant(kernel)))
    assert ready.shape == (6, 1, 3, 4, 5)
    np.testing.assert_allclose(filtering.filter_kernel(kernel), ready, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(None, 8, 8, 3), (2, None, 8, 3), (2, 8, None, 3)])
def test_filtering_is_for_known_sizes(shape):
    assert not filtering.can_filter_lines(tf.placeholder(tf.float32, shape))
