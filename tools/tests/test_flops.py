# SPDX-License-Identifier: Apache-2.0
"""tf_runtime.flops: the operations of small graphs, counted by hand and by TensorFlow."""

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow.compat.v1")

from tf_runtime import flops  # noqa: E402

N, SIDE = 2, 16


@pytest.fixture(autouse=True)
def graph():
    tf.disable_v2_behavior()
    with tf.Graph().as_default() as graph:
        yield graph


def variable(name, *shape):
    return tf.get_variable(name, shape, initializer=tf.random_normal_initializer(seed=1))


def network(images):
    """Returns (a scalar, {layer: operations of its forward pass})."""
    y = tf.nn.conv2d(images, variable("a", 3, 3, 3, 8), [1, 2, 2, 1], "SAME")
    kernel = variable("b", 4, 4, 5, 8)
    y = tf.nn.conv2d_transpose(y, kernel, [N, SIDE, SIDE, 5], [1, 2, 2, 1], "SAME")
    y = tf.nn.depthwise_conv2d(y, variable("c", 3, 3, 5, 2), [1, 1, 1, 1], "SAME")
    rows = tf.reshape(y, [N, SIDE * SIDE, 10])
    gram = tf.matmul(rows, rows, transpose_a=True)
    flat = tf.matmul(tf.reshape(y, [N, -1]), variable("d", SIDE * SIDE * 10, 7))
    half = SIDE // 2
    forward = {
        "conv": 2 * N * half * half * 8 * (3 * 3 * 3),
        "deconv": 2 * N * half * half * 8 * (4 * 4 * 5),
        "depthwise": 2 * N * SIDE * SIDE * 10 * (3 * 3),
        "gram": 2 * N * 10 * 10 * SIDE * SIDE,
        "dense": 2 * N * 7 * SIDE * SIDE * 10,
    }
    return tf.reduce_sum(gram**2) + tf.reduce_sum(flat**2), forward


def placeholder():
    return tf.placeholder(tf.float32, [N, SIDE, SIDE, 3])


def test_a_forward_pass_is_the_sum_of_its_products():
    loss, forward = network(placeholder())
    assert flops.count(loss) == sum(forward.values())


def test_a_step_is_three_forward_passes_less_the_gradient_of_the_pictures():
    loss, forward = network(placeholder())
    train = tf.train.AdamOptimizer(0.1).minimize(loss)
    assert flops.count([loss, train]) == 3 * sum(forward.values()) - forward["conv"]
    assert flops.count({"loss": loss}) == sum(forward.values())


def test_the_gradient_of_pictures_counts_where_it_is_asked_for():
    images = placeholder()
    loss, forward = network(images)
    (gradient,) = tf.gradients(loss, images)
    assert flops.count([loss, gradient]) == 2 * sum(forward.values()) + forward["gram"]


def test_only_what_is_fetched_counts():
    images = placeholder()
    loss, _ = network(images)
    kernel = variable("e", 3, 3, 3, 4)
    other = tf.nn.conv2d(images, kernel, [1, 1, 1, 1], "SAME")
    assert flops.count(other) == 2 * N * SIDE * SIDE * 4 * 27
    assert flops.count(loss) == flops.count([loss, loss])


def test_a_step_that_comes_after_another_counts_both():
    x = variable("x", 6, 5)
    first = tf.assign(x, tf.matmul(tf.random.normal([6, 4], seed=1), variable("y", 4, 5)))
    with tf.control_dependencies([first]):
        second = tf.matmul(tf.identity(variable("z", 5, 6)), x.read_value())
    assert flops.count(second) == 2 * 6 * 5 * 4 + 2 * 5 * 5 * 6


def test_shapes_may_be_given_and_without_them_it_is_told_which_is_missing():
    images = tf.placeholder(tf.float32, [None, None, None, 3], "pictures")
    shape = tf.shape(images)
    kernel = variable("a", 4, 4, 6, 3)
    y = tf.nn.conv2d_transpose(images, kernel, [shape[0], 2 * shape[1], 2 * shape[2], 6], 2)
    y = tf.nn.conv2d(y, variable("b", 1, 1, 6, 2), [1, 1, 1, 1], "SAME")
    wanted = 2 * N * SIDE * SIDE * 3 * (16 * 6) + 2 * N * 4 * SIDE * SIDE * 2 * 6
    assert flops.count(y, {images: [N, SIDE, SIDE, 3]}) == wanted
    with pytest.raises(ValueError, match="is not known; give the placeholders' shapes"):
        flops.count(y)


def test_tensorflow_counts_the_same_where_its_rules_hold(graph):
    kernels = [variable(name, 3, 3, 4, 4) for name in "ab"]
    y = tf.nn.conv2d(variable("x", N, SIDE, SIDE, 4), kernels[0], [1, 1, 1, 1], "SAME")
    y = tf.reshape(tf.nn.conv2d(y, kernels[1], [1, 1, 1, 1], "SAME"), [N, -1])
    y = tf.matmul(y, variable("c", int(np.prod(y.shape.as_list()[1:])), 9))
    gradients = tf.gradients(y, tf.trainable_variables())
    options = tf.profiler.ProfileOptionBuilder(tf.profiler.ProfileOptionBuilder.float_operation())
    options = options.with_empty_output().build()
    found = tf.profiler.profile(graph, cmd="op", options=options)
    kinds, left = {}, list(found.children)
    while left:
        node = left.pop()
        kinds[node.name] = node.float_ops
        left += node.children
    names = ("Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter", "MatMul")
    assert flops.count([y, gradients]) == sum(kinds[name] for name in names)
