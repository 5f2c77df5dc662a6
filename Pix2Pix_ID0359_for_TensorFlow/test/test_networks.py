# SPDX-License-Identifier: Apache-2.0
"""Shapes, parameter counts, receptive field and the parts of the two networks."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from pix2pix import convolutions, networks


def _run(fetches, feed=None):
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        return session.run(fetches, feed)


def _count(scope):
    return sum(int(np.prod(v.shape.as_list())) for v in tf.trainable_variables(scope))


def test_parameter_counts_are_those_of_the_reference_code():
    pictures = tf.placeholder(tf.float32, [1, 256, 256, 3])
    fakes = networks.generator(pictures, 3)
    logits = networks.discriminator(pictures, fakes)
    assert _count("generator") == 54419459  # 54,420,483 less the norm of encoder_8
    assert _count("discriminator") == 2769601
    assert fakes.shape.as_list()[3] == 3
    assert logits.shape.as_list() == [1, 30, 30, 1]


def test_the_bottleneck_norm_brings_the_published_parameter_count():
    pictures = tf.placeholder(tf.float32, [1, 256, 256, 3])
    networks.generator(pictures, 3, bottleneck_norm=True)
    assert _count("generator") == 54420483


def test_variable_names_and_shapes_are_those_of_published_checkpoints():
    pictures = tf.placeholder(tf.float32, [1, 256, 256, 3])
    networks.discriminator(pictures, networks.generator(pictures, 3))
    shapes = {v.op.name: v.shape.as_list() for v in tf.global_variables()}
    assert len(shapes) == 74
    assert shapes["generator/encoder_1/conv2d/kernel"] == [4, 4, 3, 64]
    assert shapes["generator/encoder_2/batch_normalization/gamma"] == [128]
    assert "generator/encoder_8/batch_normalization/gamma" not in shapes
    assert shapes["generator/decoder_8/conv2d_transpose/kernel"] == [4, 4, 512, 512]
    assert shapes["generator/decoder_1/conv2d_transpose/bias"] == [3]
    assert shapes["discriminator/layer_5/conv2d/kernel"] == [4, 4, 512, 1]


def test_one_logit_sees_a_patch_of_70_by_70_pixels():
    pictures = tf.placeholder(tf.float32, [1, 256, 256, 3])
    # Without the norms, whose statistics reach over the whole map.
    original, networks.instance_norm = networks.instance_norm, lambda x, seed=0: x
    try:
        logits = networks.discriminator(pictures, pictures, ndf=2)
    finally:
        networks.instance_norm = original
    gradient = tf.gradients(logits[0, 15, 15, 0], pictures)[0]
    rng = np.random.RandomState(0)
    values = _run(gradient, {pictures: rng.uniform(-1, 1, [1, 256, 256, 3])})
    rows, columns = np.nonzero(np.abs(values[0]).sum(axis=2))
    assert rows.max() - rows.min() + 1 == 70
    assert columns.max() - columns.min() + 1 == 70


@pytest.mark.parametrize("size", [(256, 256), (512, 256)])
def test_the_generator_keeps_any_multiple_of_256(size):
    pictures = tf.placeholder(tf.float32, [None, None, None, 1])
    fakes = networks.generator(pictures, 3, ngf=2)
    value = _run(fakes, {pictures: np.random.RandomState(0).uniform(-1, 1, (1,) + size + (1,))})
    assert value.shape == (1,) + size + (3,)
    assert np.all(np.abs(value) < 1)
    assert value.std() > 0


def test_a_translation_does_not_depend_on_its_batch():
    pictures = tf.placeholder(tf.float32, [None, 256, 256, 3])
    fakes = networks.generator(pictures, 3, ngf=2)
    batch = np.random.RandomState(0).uniform(-1, 1, [2, 256, 256, 3])
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        together = session.run(fakes, {pictures: batch})
        alone = session.run(fakes, {pictures: batch[1:]})
    np.testing.assert_allclose(together[1:], alone, atol=2e-5)


@pytest.mark.parametrize("shape", [(1, 2, 2, 5), (2, 8, 4, 3), (1, 6, 10, 4)])
@pytest.mark.parametrize("known", [True, False])
def test_matrix_products_equal_the_convolutions_with_their_gradients(shape, known):
    rng = np.random.RandomState(0)
    n, h, w, c = shape
    value = rng.normal(size=shape).astype(np.float32)
    pictures = tf.placeholder(tf.float32, shape if known else [None, None, None, c])
    kernel = tf.constant(rng.normal(size=[4, 4, c, 7]), tf.float32)
    transposed = tf.constant(rng.normal(size=[4, 4, 7, c]), tf.float32)
    pairs = [
        (
            convolutions.convolve(pictures, kernel),
            tf.nn.conv2d(pictures, kernel, [1, 2, 2, 1], "SAME"),
            kernel,
        ),
        (
            convolutions.deconvolve(pictures, transposed),
            tf.nn.conv2d_transpose(
                pictures, transposed, [n, 2 * h, 2 * w, 7], [1, 2, 2, 1], "SAME"
            ),
            transposed,
        ),
    ]
    for mine, theirs, weights in pairs:
        gradients = [tf.gradients(tf.square(y), [pictures, weights]) for y in (mine, theirs)]
        results = _run([[mine] + gradients[0], [theirs] + gradients[1]], {pictures: value})
        for a, b in zip(*results):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3 * np.abs(b).max())


def test_the_convolution_to_one_channel_equals_the_convolution_with_its_gradients():
    rng = np.random.RandomState(0)
    pictures = tf.constant(rng.normal(size=[2, 7, 9, 5]), tf.float32)
    kernel = tf.constant(rng.normal(size=[4, 4, 5, 1]), tf.float32)
    mine = convolutions.convolve_to_one(pictures, kernel)
    theirs = tf.nn.conv2d(pictures, kernel, [1, 1, 1, 1], "SAME")
    gradients = [tf.gradients(tf.square(y), [pictures, kernel]) for y in (mine, theirs)]
    for a, b in zip(*_run([[mine] + gradients[0], [theirs] + gradients[1]])):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())


@pytest.mark.parametrize("pictures", [1, 2])
def test_instance_norm_equals_numpy(pictures):
    value = np.random.RandomState(0).normal(3, 2, [pictures, 5, 4, 3]).astype(np.float32)
    normed = networks.instance_norm(tf.constant(value), seed=1)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        gamma, beta = (session.run(v) for v in tf.global_variables())
        result = session.run(normed)
    mean = value.mean(axis=(1, 2), keepdims=True)
    variance = value.var(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(
        result, (value - mean) / np.sqrt(variance + 1e-5) * gamma + beta, atol=1e-5
    )
    assert gamma.std() > 0


def test_a_norm_over_one_pixel_carries_nothing_of_its_input():
    value = np.random.RandomState(0).normal(size=[1, 1, 1, 6]).astype(np.float32)
    normed = networks.instance_norm(tf.constant(value))
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        np.testing.assert_array_equal(session.run(normed).ravel(), np.zeros(6))  # beta


def test_dropout_is_a_function_of_seed_and_picture():
    ones, number = tf.ones([2, 8, 8, 64]), tf.placeholder(tf.int32, [])
    dropped = networks._dropout(ones, tf.stack([[3, number], [3, number + 1]]), 6)
    with tf.Session() as session:
        first, again, other = (session.run(dropped, {number: n}) for n in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first[1], other[0])
    assert np.any(first[0] != first[1])
    assert set(np.unique(first)) == {0.0, 2.0}
    assert abs(first.mean() - 1.0) < 0.1
