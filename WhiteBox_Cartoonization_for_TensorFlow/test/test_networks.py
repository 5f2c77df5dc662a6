# SPDX-License-Identifier: Apache-2.0
"""Names, counts and shapes of the networks, their parts against numpy, spectral normalisation."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tf_runtime import filtering
from whitebox import networks
from whitebox.generators import GENERATOR_SHAPES
from whitebox.networks import Discriminator, generator

LAYERS = ["conv0_1", "conv0_2", "conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv_out"]


def _run(fetches, feed=None):
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        return session.run(fetches, feed)


def _pictures(*shape, **options):
    rng = np.random.RandomState(options.get("seed", 0))
    return rng.uniform(-1, 1, shape).astype(np.float32)


def _count(variables):
    return sum(int(np.prod(v.shape.as_list())) for v in variables)


def _convolve(x, kernel, stride=1):
    """Returns the SAME convolution of [N, H, W, C] with [K, K, C, O] in float64."""
    size, sides = len(kernel), x.shape[1:3]
    outs = [-(-side // stride) for side in sides]
    spare = [max((out - 1) * stride + size - side, 0) for out, side in zip(outs, sides)]
    margins = [(0, 0)] + [(s // 2, s - s // 2) for s in spare] + [(0, 0)]
    x, y = np.pad(x.astype(np.float64), margins, "constant"), 0
    for i, j in np.ndindex(size, size):
        rows, columns = (slice(k, k + (o - 1) * stride + 1, stride) for k, o in zip((i, j), outs))
        y = y + x[:, rows, columns] @ kernel[i, j]
    return y


def _assert_close(mine, theirs, tolerance):
    """Asserts that the arrays differ by `tolerance` of the largest value at most."""
    assert np.shape(mine) == np.shape(theirs)
    assert np.abs(theirs).max() > 0
    assert np.abs(mine - theirs).max() <= tolerance * np.abs(theirs).max()


def _published_shapes():
    """Returns [(name, shape)] of the published checkpoint in the order of the layers."""
    layers = [("Conv", 7, 3, 32), ("Conv_1", 3, 32, 32), ("Conv_2", 3, 32, 64)]
    layers += [("Conv_3", 3, 64, 64), ("Conv_4", 3, 64, 128)]
    layers += [("block_%d/conv%d" % (i, j), 3, 128, 128) for i in range(4) for j in (1, 2)]
    layers += [("Conv_5", 3, 128, 64), ("Conv_6", 3, 64, 64), ("Conv_7", 3, 64, 32)]
    layers += [("Conv_8", 3, 32, 32), ("Conv_9", 7, 32, 3)]
    shapes = []
    for name, size, channels, filters in layers:
        shapes.append(("generator/%s/weights" % name, [size, size, channels, filters]))
        shapes.append(("generator/%s/biases" % name, [filters]))
    return shapes


@pytest.mark.parametrize("minimal", [True, False])
def test_the_generator_has_the_36_variables_of_the_published_checkpoint(minimal):
    cartoons = generator(tf.placeholder(tf.float32, [1, 64, 64, 3]), minimal)
    variables = tf.global_variables()
    assert [(v.op.name, v.shape.as_list()) for v in variables] == _published_shapes()
    assert {v.op.name: tuple(v.shape.as_list()) for v in variables} == GENERATOR_SHAPES
    assert tf.trainable_variables() == variables
    assert _count(variables) == 1467075
    assert all(gradient is not None for gradient in tf.gradients(cartoons, variables))


@pytest.mark.parametrize(("channels", "count"), [(1, 286561), (3, 287137)])
def test_the_discriminators_have_the_published_counts(channels, count):
    judge = Discriminator("disc", channels)
    assert _count(tf.trainable_variables("disc/")) == _count(tf.trainable_variables()) == count
    vectors = [v for v in tf.global_variables() if v not in tf.trainable_variables()]
    assert [v.op.name for v in vectors] == ["disc/%s/u" % layer for layer in LAYERS]
    assert _count(vectors) == 449
    assert judge(tf.placeholder(tf.float32, [2, 256, 256, channels])).shape == [2, 32, 32, 1]


def test_all_passes_through_one_network_share_its_variables():
    judge = Discriminator("disc", 3, 4)
    for seed in (0, 1):
        pictures = tf.constant(_pictures(1, 16, 16, 3, seed=seed))
        judge(generator(pictures))
    assert len(tf.trainable_variables()) == 36 + 14


def test_a_frozen_generator_has_variables_of_its_own_and_none_to_train():
    pictures = tf.constant(_pictures(1, 16, 16, 3))
    with tf.variable_scope("other"):
        frozen = generator(pictures, trainable=False, seed=2)
    assert tf.trainable_variables() == []
    assert len(tf.global_variables()) == 36
    free = generator(pictures, seed=2)
    values = _run([frozen, free])
    assert values[0].std() > 0
    assert np.any(values[0] != values[1])  # the scope is a part of what is drawn


@pytest.mark.parametrize("shape", [(1, 4, 8), (2, 12, 20), (3, 64, 32)])
def test_the_generator_keeps_any_multiple_of_4(shape):
    known = tf.placeholder(tf.float32, shape + (3,))
    unknown = tf.placeholder(tf.float32, [None, None, None, 3])
    cartoons = [generator(x) for x in (known, unknown)]
    assert cartoons[0].shape.as_list() == list(shape) + [3]
    pictures = _pictures(*shape + (3,))
    values = _run(cartoons, {known: pictures, unknown: pictures})
    assert values[0].shape == pictures.shape
    _assert_close(values[0], values[1], 1e-5)


def test_minimal_filtering_changes_neither_cartoons_nor_gradients(monkeypatch):
    pictures, calls = tf.constant(_pictures(2, 64, 32, 3)), []
    whole = filtering.filter_lines
    monkeypatch.setattr(filtering, "filter_lines", lambda *x: calls.append(x) or whole(*x))
    plain = generator(pictures, False)
    assert calls == []
    minimal = generator(pictures, True)
    assert len(calls) == 8  # the blocks, which have most channels
    weights = tf.constant(_pictures(2, 64, 32, 3, seed=1))
    variables = tf.trainable_variables()
    results = [[y] + tf.gradients(y * weights, variables) for y in (plain, minimal)]
    (mine, *of_mine), (theirs, *of_theirs) = _run(results)
    _assert_close(mine, theirs, 1e-4)
    for a, b in zip(of_mine, of_theirs):  # few units change their side, which moves single values
        assert np.linalg.norm(a - b) < 5e-3 * np.linalg.norm(b)


@pytest.mark.parametrize(
    ("sides", "size", "stride"),
    [((8, 12), 7, 1), ((8, 12), 3, 1), ((8, 12), 3, 2), ((7, 9), 3, 2)],
)
def test_a_convolution_is_same_with_a_bias(sides, size, stride):
    pictures, words = _pictures(2, *sides + (5,)), (False, 1, True)
    made = networks._convolution(tf.constant(pictures), "layer", 4, size, stride, words)
    kernel, bias = tf.trainable_variables()
    assert (kernel.op.name, bias.op.name) == ("layer/weights", "layer/biases")
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        assert session.run(bias).tolist() == [0.0] * 4
        start = np.array([0.5, -1, 2, 0.1], np.float32)
        bias.load(start, session)
        value, kernel = session.run([made, kernel])
    _assert_close(value, _convolve(pictures, kernel, stride) + start, 1e-5)


def _between(values, axis):
    """Returns `values` at twice the size along `axis`: value i is that at the place i / 2."""
    size = values.shape[axis]
    places = np.arange(2 * size) / 2
    first = np.floor(places).astype(int)
    second = np.minimum(first + 1, size - 1)
    shape = [-1 if i == axis else 1 for i in range(values.ndim)]
    part = (places - first).reshape(shape)
    return np.take(values, first, axis) * (1 - part) + np.take(values, second, axis) * part


def test_twice_the_size_is_bilinear_from_the_upper_left_corner():
    value = _pictures(2, 5, 3, 4)
    by_hand = _between(_between(value.astype(np.float64), 1), 2)
    np.testing.assert_array_equal(by_hand[:, ::2, ::2], value)  # the pixels stay where they were
    unknown = tf.placeholder(tf.float32, [None, None, None, 4])
    known = networks._twice(tf.constant(value))
    assert known.shape.as_list() == [2, 10, 6, 4]
    for result in _run([known, networks._twice(unknown)], {unknown: value}):
        _assert_close(result, by_hand, 1e-6)


def test_the_leaky_relu_has_slope_one_fifth():
    values = _run(networks.leaky_relu(tf.constant([-200.0, -0.5, 0.25, 3.0])))
    np.testing.assert_allclose(values, [-40, -0.1, 0.25, 3], rtol=1e-6)


def test_a_value_of_the_discriminator_sees_43_pixels_squared():
    pictures = tf.placeholder(tf.float32, [1, 96, 96, 3])
    value = Discriminator("disc", 3, 8)(pictures)[0, 6, 6, 0]
    start = _pictures(1, 96, 96, 3)
    seen = np.abs(_run(tf.gradients(value, pictures)[0], {pictures: start})).max(axis=(0, 3)) > 0
    rows, columns = (np.flatnonzero(seen.any(axis=axis)) for axis in (1, 0))
    assert len(rows) == len(columns) == 43
    assert np.ptp(rows) == np.ptp(columns) == 42
    assert seen[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()


def _unit(vector):
    return vector / np.linalg.norm(vector)


def _by_hand(values, name, pictures=None):
    """Returns ({layer: (sigma, new u)}, logits or None) in float64, of the variables' `values`."""
    found, x = {}, pictures
    for i, layer in enumerate(LAYERS):
        kernel, bias, u = (
            values["%s/%s/%s" % (name, layer, v)].astype(np.float64)
            for v in ("kernel", "bias", "u")
        )
        matrix = kernel.reshape(-1, kernel.shape[3])
        v = _unit(u @ matrix.T)
        new_u = _unit(v @ matrix)
        sigma = (v @ matrix @ new_u.T).item()
        found[layer] = sigma, new_u
        if x is not None:
            x = _convolve(x, kernel / sigma, 2 if i in (0, 2, 4) else 1) + bias
            x = x if layer == "conv_out" else np.where(x > 0, x, 0.2 * x)
    return found, x


def _start(session):
    """Starts the variables; biases become random too."""
    session.run(tf.global_variables_initializer())
    for i, variable in enumerate(v for v in tf.trainable_variables() if v.op.name[-4:] == "bias"):
        variable.load(_pictures(*variable.shape.as_list(), seed=i), session)
    return session.run({v.op.name: v for v in tf.global_variables()})


@pytest.mark.parametrize("channels", [1, 3])
def test_the_discriminator_equals_numpy_with_one_power_iteration(channels):
    judge, pictures = Discriminator("disc", channels, 3), _pictures(2, 24, 16, channels)
    logits = judge(tf.constant(pictures))
    assert logits.shape.as_list() == [2, 3, 2, 1]
    with tf.Session() as session:
        values = _start(session)
        _assert_close(session.run(logits), _by_hand(values, "disc", pictures)[1], 1e-5)


def test_only_update_changes_the_vectors_and_once():
    judge, other = Discriminator("disc", 3, 4), Discriminator("other", 3, 4)
    fakes, reals = (judge(tf.constant(_pictures(2, 16, 16, 3, seed=seed))) for seed in (0, 1))
    others = other(tf.constant(_pictures(2, 16, 16, 3)))
    assert len({v.op.name for v in tf.global_variables()}) == 2 * 21
    vectors = {v.op.name: v for v in tf.global_variables() if v.op.name.endswith("/u")}
    update = judge.update()
    with tf.Session() as session:
        first = values = _start(session)
        session.run([fakes, reals, others, tf.gradients(fakes, tf.trainable_variables("disc/"))])
        for name, value in session.run(vectors).items():
            np.testing.assert_array_equal(value, first[name])
        for _ in range(2):
            expected = _by_hand(values, "disc")[0]
            session.run([update, fakes, reals])
            values = dict(values, **session.run(vectors))
            for layer, (_, new_u) in expected.items():
                _assert_close(values["disc/%s/u" % layer], new_u, 1e-5)
                other = "other/%s/u" % layer
                np.testing.assert_array_equal(values[other], first[other])


def test_after_many_updates_the_largest_singular_value_of_each_kernel_is_one():
    judge, names = Discriminator("disc", 3, 4), {v.op.name: v for v in tf.trainable_variables()}
    normalised, update = [layer[0] for layer in judge._layers], judge.update()
    with tf.Session() as session:
        _start(session)
        first = [_largest(kernel) for kernel in session.run(normalised)]
        for _ in range(300):
            session.run(update)
        last = session.run(normalised)
        kernels = session.run([v for name, v in names.items() if name.endswith("kernel")])
    assert min(first) > 1 - 1e-5  # one iteration can only find less than the largest
    assert max(first) > 1.02
    for kernel, mine in zip(kernels, last):
        _assert_close(mine, kernel / _largest(kernel), 1e-3)


def _largest(kernel):
    matrix = kernel.reshape(-1, kernel.shape[3]).astype(np.float64)
    return np.linalg.svd(matrix, compute_uv=False)[0]


def test_the_gradient_goes_through_the_norm_with_u_and_v_held_constant():
    judge = Discriminator("disc", 1, 2)
    kernel = tf.trainable_variables("disc/conv0_2/kernel")[0]
    weights = _pictures(3, 3, 2, 2)
    mine = tf.gradients(tf.reduce_sum(judge._layers[1][0] * weights), kernel)[0]
    with tf.Session() as session:
        values = _start(session)
        mine = session.run(mine)
    start = values["disc/conv0_2/kernel"].astype(np.float64)
    v = _unit(values["disc/conv0_2/u"].astype(np.float64) @ start.reshape(-1, 2).T)
    u = _unit(v @ start.reshape(-1, 2))

    def loss(kernel):
        return np.sum(weights * kernel) / (v @ kernel.reshape(-1, 2) @ u.T).item()

    by_difference = np.zeros_like(start)
    for place in np.ndindex(*start.shape):
        step = np.zeros_like(start)
        step[place] = 1e-6
        by_difference[place] = (loss(start + step) - loss(start - step)) / 2e-6
    _assert_close(mine, by_difference, 1e-5)


def _first_values(seed):
    with tf.Graph().as_default():
        generator(tf.constant(_pictures(1, 8, 8, 3)), seed=seed)
        Discriminator("disc_gray", 1, 8, seed)
        Discriminator("disc_blur", 3, 8, seed)
        return _run({v.op.name: v for v in tf.global_variables()})


def test_the_first_weights_are_those_of_glorot_and_a_function_of_the_seed():
    one, again, other = (_first_values(seed) for seed in (3, 3, 4))
    for name, value in one.items():
        np.testing.assert_array_equal(value, again[name])
        if name.endswith(("bias", "biases")):
            assert not value.any()
            continue
        assert np.any(value != other[name])
        if name.endswith(("kernel", "weights")):
            height, width, channels, filters = value.shape
            bound = np.sqrt(6 / (height * width * (channels + filters)))
            assert 0.75 * bound < np.abs(value).max() <= bound
            assert abs(value.mean()) < 4 * bound / np.sqrt(3 * value.size)
    blocks = [one["generator/block_%d/conv1/weights" % i] for i in range(4)]
    assert np.any(blocks[0] != blocks[1])  # each variable has numbers of its own
    judges = [one["disc_%s/conv2_2/kernel" % name] for name in ("gray", "blur")]
    assert np.any(judges[0] != judges[1])
