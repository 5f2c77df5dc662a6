# SPDX-License-Identifier: Apache-2.0
"""Shapes, names, parameter counts and the parts of the two networks."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from stargan import convolutions, networks
from tf_runtime import filtering


def _run(fetches, feed=None):
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        return session.run(fetches, feed)


def _count(scope):
    return sum(int(np.prod(v.shape.as_list())) for v in tf.trainable_variables(scope))


def _pictures(*shape):
    return np.random.RandomState(0).uniform(-1, 1, shape + (3,)).astype(np.float32)


def _choice(*shape):
    return np.random.RandomState(1).randint(0, 2, shape).astype(np.float32)


def _assert_close(mine, theirs, relative=1e-4):
    assert len(mine) == len(theirs)
    for a, b in zip(mine, theirs):
        assert np.abs(b).max() > 0
        np.testing.assert_allclose(a, b, rtol=relative, atol=relative * np.abs(b).max())


@pytest.mark.parametrize(
    ("labels", "count"),
    [(5, 8430528), (8, 8439936), (5 + 8 + 2, 8461888)],  # CelebA, RaFD, both with the mask
)
def test_parameter_counts_of_the_generator_are_those_of_the_reference_code(labels, count):
    pictures = tf.placeholder(tf.float32, [1, 128, 128, 3])
    fakes = networks.generator(pictures, tf.placeholder(tf.float32, [1, labels]))
    assert _count("G") == _count(None) == count
    assert fakes.shape.as_list() == [1, 128, 128, 3]


def test_the_parameter_count_of_the_discriminator_is_that_of_the_reference_code():
    networks.discriminator(tf.placeholder(tf.float32, [1, 128, 128, 3]), 5)
    assert _count("D") == _count(None) == 44762048


def _published_names():
    """Returns {name: shape} of the checkpoints of the Ascend ModelZoo, for 5 labels at 128."""
    shapes = {"G/conv/conv2d/kernel": [7, 7, 8, 64], "G/G_logit/conv2d/kernel": [7, 7, 64, 3]}
    norms = {"G/ins_norm": 64}
    for i in range(2):
        shapes["G/conv_%d/conv2d/kernel" % i] = [4, 4, 64 * 2**i, 128 * 2**i]
        norms["G/down_ins_norm_%d" % i] = 128 * 2**i
        shapes["G/deconv_%d/conv2d_transpose/kernel" % i] = [4, 4, 128 // 2**i, 256 // 2**i]
        norms["G/up_ins_norm%d" % i] = 128 // 2**i
    for i in range(6):
        for half in ("res1", "res2"):
            scope = "G/resblock_%d/%s/" % (i, half)
            shapes[scope + "conv_0/conv2d/kernel"] = [3, 3, 256, 256]
            norms[scope + "instance_norm"] = 256
        shapes["D/conv_%d/conv2d/kernel" % i] = [4, 4, 32 * 2**i if i else 3, 64 * 2**i]
        shapes["D/conv_%d/conv2d/bias" % i] = [64 * 2**i]
    for name, channels in norms.items():
        shapes[name + "/beta"] = shapes[name + "/gamma"] = [channels]
    shapes["D/D_logit/conv2d/kernel"] = [3, 3, 2048, 1]
    shapes["D/D_label/conv2d/kernel"] = [2, 2, 2048, 5]
    return shapes


@pytest.mark.parametrize("minimal", [True, False])
def test_variable_names_and_shapes_are_those_of_published_checkpoints(minimal):
    pictures = tf.placeholder(tf.float32, [1, 128, 128, 3])
    fakes = networks.generator(pictures, tf.placeholder(tf.float32, [1, 5]), minimal=minimal)
    networks.discriminator(fakes, 5)
    shapes = {v.op.name: v.shape.as_list() for v in tf.global_variables()}
    assert shapes == _published_names()
    assert len(tf.trainable_variables()) == 66
    assert fakes.name == "G/Tanh:0"


@pytest.mark.parametrize(
    ("size", "layers", "labels", "side"),
    [(128, 6, 5, 2), (64, 6, 3, 1), (192, 6, 8, 3), (32, 3, 2, 4)],
)
def test_shapes_of_the_two_heads(size, layers, labels, side):
    pictures = tf.placeholder(tf.float32, [3, size, size, 3])
    src, cls = networks.discriminator(pictures, labels, 2, layers)
    assert src.shape.as_list() == [3, side, side, 1]
    assert cls.shape.as_list() == [3, labels]
    values = _run([src, cls], {pictures: _pictures(3, size, size)})
    assert [value.shape for value in values] == [(3, side, side, 1), (3, labels)]
    for value in values:
        assert all(np.any(value[i] != value[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_the_same_discriminator_judges_every_picture():
    batch = _pictures(3, 64, 64)
    together = networks.discriminator(tf.constant(batch), 3, 4)
    turned = networks.discriminator(tf.constant(batch[::-1].copy()), 3, 4)
    assert len(tf.trainable_variables()) == 14
    for a, b in zip(*_run([together, turned])):
        np.testing.assert_allclose(a, b[::-1], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("shape", [(1, 8, 4), (2, 12, 20), (3, 64, 32)])
def test_the_generator_keeps_any_multiple_of_4(shape):
    known = tf.placeholder(tf.float32, shape + (3,))
    labels = tf.placeholder(tf.float32, [None, 3])
    unknown = tf.placeholder(tf.float32, [None, None, None, 3])
    fakes = [networks.generator(x, labels, 3, 2) for x in (known, unknown)]
    assert fakes[0].shape.as_list() == list(shape) + [3]
    value, choice = _pictures(*shape), _choice(shape[0], 3)
    values = _run(fakes, {known: value, unknown: value, labels: choice})
    assert values[0].shape == shape + (3,)
    assert 0.05 < np.abs(values[0]).max() < 1
    np.testing.assert_allclose(values[0], values[1], atol=2e-5)


def test_a_translation_does_not_depend_on_its_batch():
    pictures = tf.placeholder(tf.float32, [None, 32, 32, 3])
    labels = tf.placeholder(tf.float32, [None, 2])
    fakes = networks.generator(pictures, labels, 4, 2)
    batch, choice = _pictures(3, 32, 32), np.array([[0, 1], [1, 1], [1, 0]], np.float32)
    fixed = networks.generator(tf.constant(batch), tf.constant(choice), 4, 2, minimal=True)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        together, known = session.run([fakes, fixed], {pictures: batch, labels: choice})
        for i in range(3):
            one = {pictures: batch[i : i + 1], labels: choice[i : i + 1]}
            alone = session.run(fakes, one)
            np.testing.assert_allclose(together[i : i + 1], alone, atol=2e-5)
            np.testing.assert_allclose(known[i : i + 1], alone, atol=2e-5)
    assert np.abs(together[0] - together[1]).mean() > 0.01


def test_every_label_changes_the_translation_even_far_from_the_border():
    labels = tf.placeholder(tf.float32, [4, 3])
    fakes = networks.generator(tf.constant(np.repeat(_pictures(1, 64, 64), 4, 0)), labels, 4, 2)
    choice = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    values = _run(fakes, {labels: choice})
    for i in range(4):
        for j in range(i):
            assert np.abs(values[i] - values[j]).max() > 0.01
            assert np.abs(values[i] - values[j])[24:40, 24:40].max() > 1e-3


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("known", [True, False])
def test_instance_norm_equals_numpy_with_its_gradients(count, known):
    rng = np.random.RandomState(0)
    shape = (count, 6, 4, 5)
    value, upstream = (rng.normal(2, 3, shape).astype(np.float32) for _ in range(2))
    beta, gamma = rng.normal(size=5), rng.normal(1, 0.3, 5)
    x = tf.placeholder(tf.float32, shape if known else [None, None, None, 5])
    normed = networks.instance_norm(x, "norm")
    variables = {v.op.name: v for v in tf.global_variables()}
    named = [variables["norm/beta"], variables["norm/gamma"]]
    gradients = tf.gradients(normed, [x] + named, grad_ys=tf.constant(upstream))
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        assert [session.run(v).tolist() for v in named] == [[0.0] * 5, [1.0] * 5]
        for variable, start in zip(named, (beta, gamma)):
            variable.load(start, session)
        results = session.run([normed] + gradients, {x: value})
    value, upstream = value.astype(np.float64), upstream.astype(np.float64)
    mean, deviation = (
        of(value, axis=(1, 2), keepdims=True)
        for of in (np.mean, lambda x, **axes: np.sqrt(np.var(x, **axes) + 1e-5))
    )
    plain, scaled = (value - mean) / deviation, upstream * gamma
    centred = scaled - scaled.mean(axis=(1, 2), keepdims=True)
    along = plain * (scaled * plain).mean(axis=(1, 2), keepdims=True)
    by_hand = [plain * gamma + beta, (centred - along) / deviation]
    by_hand += [upstream.sum(axis=(0, 1, 2)), (upstream * plain).sum(axis=(0, 1, 2))]
    _assert_close(results, by_hand)


def test_the_leaky_relu_has_slope_one_hundredth_and_no_second_derivative():
    x = tf.constant([-200.0, -0.5, 0.25, 3.0])
    y = networks._leaky_relu(x)
    gradient = tf.gradients(tf.square(y), x)[0]
    values, slopes = _run([y, gradient])
    np.testing.assert_allclose(values, [-2, -0.005, 0.25, 3], rtol=1e-6)
    np.testing.assert_allclose(slopes, [-0.04, -0.0001, 0.5, 6], rtol=1e-6)
    assert tf.gradients(tf.gradients(y, x)[0], x) == [None]


def _with_gradients(y, inputs):
    """Returns y and the gradients of a sum in which every value has a weight of its own."""
    weights = np.random.RandomState(5).normal(size=y.shape.as_list())
    return [y] + tf.gradients(tf.square(y) * tf.constant(weights, tf.float32), inputs)


def _inputs(shape, kernel):
    rng = np.random.RandomState(0)
    return [tf.constant(rng.normal(size=size), tf.float32) for size in (shape, kernel)]


@pytest.mark.parametrize("shape", [(1, 4, 4, 5), (3, 2, 2, 4), (2, 8, 6, 3)])
def test_patches_equal_the_convolution_with_first_and_second_gradients(shape):
    images, kernel = inputs = _inputs(shape, [4, 4, shape[3], 7])
    mine = convolutions.convolve_patches(images, kernel)
    theirs = tf.nn.conv2d(images, kernel, [1, 2, 2, 1], "SAME")
    assert mine.shape.as_list() == theirs.shape.as_list()
    results = []
    for y in (mine, theirs):
        first = _with_gradients(y, inputs)
        to_images = tf.gradients(tf.tanh(y), images)[0]  # as the gradient penalty
        results.append(first + _with_gradients(to_images, inputs))
    _assert_close(*_run(results))


@pytest.mark.parametrize(("size", "filters"), [(7, 3), (3, 2), (5, 1)])
def test_the_convolution_to_few_channels_equals_the_convolution_with_its_gradients(size, filters):
    images, kernel = _inputs([2, 9, 8, 5], [size, size, 5, filters])
    mine = filtering.convolve_to_few(images, kernel)
    theirs = tf.nn.conv2d(images, kernel, [1, 1, 1, 1], "SAME")
    assert mine.shape.as_list() == theirs.shape.as_list()
    _assert_close(*_run([_with_gradients(y, [images, kernel]) for y in (mine, theirs)]))


def test_the_innermost_layers_are_matrix_products_with_the_same_result(monkeypatch):
    pictures = tf.constant(_pictures(2, 16, 16))
    heads = list(networks.discriminator(pictures, 3, 256, 3))
    patches = []

    def plain(images, kernel):
        patches.append(images.shape.as_list()[3])
        return tf.nn.conv2d(images, kernel, [1, 2, 2, 1], "SAME")

    monkeypatch.setattr(convolutions, "convolve_patches", plain)
    _assert_close(*_run([heads, list(networks.discriminator(pictures, 3, 256, 3))]))
    assert patches == [512]


def _first_values(seed):
    with tf.Graph().as_default():
        pictures = tf.constant(_pictures(1, 64, 64))
        fakes = networks.generator(pictures, tf.ones([1, 5]), 16, 1, seed=seed)
        networks.discriminator(fakes, 5, 16, seed=seed)
        return _run({v.op.name: v for v in tf.trainable_variables()})


def test_the_first_weights_are_uniform_within_one_by_the_root_of_the_inputs():
    values = _first_values(0)
    biases = {"D/conv_%d/conv2d/bias" % i: "D/conv_%d/conv2d/kernel" % i for i in range(6)}
    kernels = [name for name in values if name.endswith("kernel")]
    for name in kernels + list(biases):
        value = values[name]
        bound = 1 / np.sqrt(np.prod(values[biases.get(name, name)].shape[:3]))
        assert 0.7 * bound < np.abs(value).max() <= bound, name
        if value.size > 1000:  # as a uniform distribution, within a few standard errors
            assert np.abs(value).max() > 0.97 * bound
            assert abs(value.mean()) < 0.1 * bound
            assert abs(value.std() * np.sqrt(3) / bound - 1) < 0.05


def test_the_first_weights_are_a_function_of_the_seed():
    one, again, other = (_first_values(seed) for seed in (3, 3, 4))
    random = [name for name in one if not name.endswith(("beta", "gamma"))]
    assert len(random) == len(one) - 14
    for name in random:
        np.testing.assert_array_equal(one[name], again[name])
        assert np.any(one[name] != other[name])
    blocks = [one["G/resblock_0/%s/conv_0/conv2d/kernel" % half] for half in ("res1", "res2")]
    assert np.any(blocks[0] != blocks[1])  # each variable has numbers of its own
