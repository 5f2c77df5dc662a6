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
    "shape", [(1, 4, 6, 5), (2, 8, 3, 4), (3, 16, 16, 2), (1, 21, 5, 3), (2, 9, 4, 3), (1, 1, 1, 2)]
)
@pytest.mark.parametrize("is_known", [True, False])
def test_filtering_equals_the_convolution_with_its_gradients(shape, is_known):
    rng = np.random.RandomState(0)
    value = rng.normal(size=shape).astype(np.float32)
    images = tf.placeholder(tf.float32, shape if is_known else [None, None, None, shape[3]])
    kernel = tf.constant(rng.normal(size=[3, 3, shape[3], 7]), tf.float32)
    weights = tf.constant(rng.normal(size=shape[:3] + (7,)), tf.float32)
    mine = filtering.filter_lines(images, filtering.filter_kernel(kernel))
    theirs = tf.nn.conv2d(images, kernel, [1, 1, 1, 1], "SAME")
    assert mine.shape.as_list() == theirs.shape.as_list()
    both = [[y] + tf.gradients(tf.square(y) * weights, [images, kernel]) for y in (mine, theirs)]
    with tf.Session() as session:
        for one, other in zip(*session.run(both, {images: value})):
            np.testing.assert_allclose(one, other, atol=2e-5 * np.abs(other).max())


def test_a_kernel_is_made_ready_alike_as_an_array_and_as_a_tensor():
    kernel = np.random.RandomState(1).normal(size=[3, 3, 4, 5]).astype(np.float32)
    with tf.Session() as session:
        ready = session.run(filtering.filter_kernel(tf.constant(kernel)))
    assert ready.shape == (6, 1, 3, 4, 5)
    np.testing.assert_allclose(filtering.filter_kernel(kernel), ready, rtol=1e-5, atol=1e-6)


def test_filtering_pays_for_many_channels():
    assert filtering.filtering_pays(128, 128)
    assert not filtering.filtering_pays(64, 128)
