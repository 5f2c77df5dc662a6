# SPDX-License-Identifier: Apache-2.0
"""Each loss against a few lines of numpy, the gradient penalty against finite differences."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from stargan import losses, networks


def _value(tensor, feed=None):
    with tf.Session() as session:
        return session.run(tensor, feed)


def _normal(seed, *shape):
    return np.random.RandomState(seed).normal(0, 2, shape)


def _choice(seed, *shape):
    return np.random.RandomState(seed).randint(0, 2, shape).astype(np.float64)


def _one_hot(seed, rows, columns):
    return np.eye(columns)[np.random.RandomState(seed).randint(0, columns, rows)]


def test_adversarial_losses_are_the_means_over_the_patches():
    real, fake = _normal(0, 3, 2, 2, 1), _normal(1, 3, 2, 2, 1)
    values = _value(losses.adversarial_losses(tf.constant(real), tf.constant(fake)))
    np.testing.assert_allclose(values, [-real.mean(), fake.mean()], rtol=1e-9)


def test_every_picture_is_mixed_with_a_weight_of_its_own():
    reals, fakes = _normal(2, 3, 4, 5, 3), _normal(3, 3, 4, 5, 3)
    weights = np.array([0.0, 0.3, 1.0])
    mixed = _value(losses.between(*map(tf.constant, (reals, fakes, weights))))
    assert mixed.shape == (3, 4, 5, 3)
    np.testing.assert_allclose(mixed[0], fakes[0], rtol=1e-9)
    np.testing.assert_allclose(mixed[1], 0.3 * reals[1] + 0.7 * fakes[1], rtol=1e-9)
    np.testing.assert_allclose(mixed[2], reals[2], rtol=1e-9)


def _sigmoid_loss(cls, labels):
    """Returns the binary cross entropy of each picture, summed over the attributes."""
    p = 1 / (1 + np.exp(-cls))
    return -np.sum(labels * np.log(p) + (1 - labels) * np.log(1 - p), axis=1)


def _softmax_loss(cls, labels):
    """Returns the cross entropy of each picture."""
    p = np.exp(cls) / np.exp(cls).sum(axis=1, keepdims=True)
    return -np.sum(labels * np.log(p), axis=1)


def _classification(cls, labels, kinds):
    return _value(losses.classification_loss(tf.constant(cls), tf.constant(labels), kinds))


def test_attributes_have_a_cross_entropy_each_and_their_sum_counts():
    cls, labels = _normal(4, 3, 5), _choice(5, 3, 5)
    value = _classification(cls, labels, [("celeba", 5)])
    np.testing.assert_allclose(value, _sigmoid_loss(cls, labels).mean(), rtol=1e-6)
    far = np.where(labels > 0, -1000.0, 1000.0)  # wholly wrong, and still a number
    np.testing.assert_allclose(_classification(far, labels, [("celeba", 5)]), 5000.0)


def test_classes_have_the_cross_entropy_of_the_softmax():
    cls, labels = _normal(6, 4, 8), _one_hot(7, 4, 8)
    value = _classification(cls, labels, [("classes", 8)])
    np.testing.assert_allclose(value, _softmax_loss(cls, labels).mean(), rtol=1e-6)


@pytest.mark.parametrize("kind", ["celeba", "classes"])
def test_the_gradient_is_probability_less_label(kind):
    labels = _choice(8, 2, 3) if kind == "celeba" else _one_hot(8, 2, 3)
    cls = _normal(9, 2, 3)
    logits = tf.constant(cls)
    loss = losses.classification_loss(logits, tf.constant(labels), [(kind, 3)])
    softmax = np.exp(cls) / np.exp(cls).sum(axis=1, keepdims=True)
    p = 1 / (1 + np.exp(-cls)) if kind == "celeba" else softmax
    np.testing.assert_allclose(_value(tf.gradients(loss, logits)[0]), (p - labels) / 2, rtol=1e-6)


def test_of_two_data_sets_only_the_labels_of_the_own_one_count():
    kinds, known = [("celeba", 3), ("classes", 4)], np.array([True, False, True, False, False])
    cls, mask = _normal(10, 5, 7), np.stack([known, ~known], 1).astype(np.float64)
    attributes = _choice(11, 5, 3) * mask[:, :1]
    classes = _one_hot(12, 5, 4) * mask[:, 1:]
    value = _classification(cls, np.concatenate([attributes, classes, mask], 1), kinds)
    each = np.where(
        known, _sigmoid_loss(cls[:, :3], attributes), _softmax_loss(cls[:, 3:], classes)
    )
    np.testing.assert_allclose(value, each.mean(), rtol=1e-6)
    other = np.where(known[:, None], cls * [1, 1, 1, 9, 9, 9, 9], cls * [9, 9, 9, 1, 1, 1, 1])
    unknown = _classification(other, np.concatenate([attributes, classes, mask], 1), kinds)
    np.testing.assert_allclose(value, unknown, rtol=1e-12)


def test_reconstruction_loss_is_the_mean_absolute_difference():
    a, b = _normal(13, 2, 4, 4, 3), _normal(14, 2, 4, 4, 3)
    value = _value(losses.reconstruction_loss(tf.constant(a), tf.constant(b)))
    np.testing.assert_allclose(value, np.abs(a - b).mean(), rtol=1e-9)


def _smooth_penalty(weights, images):
    """Returns the penalty of src = tanh(images . weights), by its derivative."""
    slope = 1 - np.tanh(images @ weights) ** 2  # [N, H, W]
    norms = np.sqrt(((slope[..., None] * weights) ** 2).sum(axis=(1, 2, 3)))
    return np.mean((norms - 1) ** 2)


@pytest.mark.parametrize("scale", [0.05, 0.4])  # norms below and above 1
def test_the_penalty_of_a_smooth_function_is_the_analytic_one_with_its_gradient(scale):
    images, weights = _normal(15, 3, 4, 5, 3), scale * np.array([0.7, -1.1, 0.4])
    placeholder = tf.placeholder(tf.float64, [3])
    penalty = losses.gradient_penalty(
        lambda x: tf.tanh(tf.reduce_sum(x * placeholder, 3, keepdims=True)), tf.constant(images)
    )
    gradient = tf.gradients(penalty, placeholder)[0]
    value, slopes = _value([penalty, gradient], {placeholder: weights})
    np.testing.assert_allclose(value, _smooth_penalty(weights, images), rtol=1e-9)
    for axis in range(3):
        step = 1e-6 * np.eye(3)[axis]
        rise = _smooth_penalty(weights + step, images) - _smooth_penalty(weights - step, images)
        np.testing.assert_allclose(slopes[axis], rise / 2e-6, rtol=1e-6)


class _Precise:
    """The real discriminator, width 2 and two layers for 8x8 pictures, in float64."""

    def __init__(self, gain):
        def double(getter, name, shape, dtype, initializer, **options):
            return getter(name, shape=shape, dtype=tf.float64, initializer=initializer, **options)

        self.images = tf.placeholder(tf.float64, [None, 8, 8, 3])
        with tf.variable_scope("", custom_getter=double):
            self.src = self._judge(self.images)
            self.penalty = losses.gradient_penalty(self._judge, self.images)
        self.variables = tf.trainable_variables()
        self.slopes = tf.gradients(self.penalty, self.variables)
        self.session = tf.Session()
        self.session.run(tf.global_variables_initializer())
        for variable in self.variables:
            variable.load(gain * self.session.run(variable), self.session)

    @staticmethod
    def _judge(images):
        return networks.discriminator(images, 3, 2, 2, seed=1)[0]

    def run(self, fetches, images):
        return self.session.run(fetches, {self.images: images})

    def norms(self, images):
        """Returns the gradient norm of each picture by central differences."""
        step = 1e-6 * np.eye(images[0].size).reshape((-1,) + images[0].shape)
        found = []
        for image in images:
            up, down = (self.run(self.src, image + d).sum(axis=(1, 2, 3)) for d in (step, -step))
            found.append(np.sqrt(np.sum(((up - down) / 2e-6) ** 2)))
        return np.array(found)


@pytest.fixture(params=[2.0, 5.0])  # norms below and above 1
def precise(request):
    made = _Precise(request.param)
    with made.session:
        yield made


def test_the_penalty_of_the_discriminator_is_that_of_finite_differences(precise):
    images = np.random.RandomState(16).uniform(-1, 1, [3, 8, 8, 3])
    norms = precise.norms(images)
    assert np.ptp(norms) > 1e-3
    value = precise.run(precise.penalty, images)
    np.testing.assert_allclose(value, np.mean((norms - 1) ** 2), rtol=1e-6)


def test_the_gradient_of_the_penalty_is_that_of_finite_differences(precise):
    images = np.random.RandomState(17).uniform(-1, 1, [2, 8, 8, 3])
    kernels = [v for v, s in zip(precise.variables, precise.slopes) if s is not None]
    assert [v.op.name for v in kernels] == [
        "D/%s/conv2d/kernel" % name for name in ("conv_0", "conv_1", "D_logit")
    ]  # neither the biases nor the labels' head
    slopes = precise.run([s for s in precise.slopes if s is not None], images)
    for number, (kernel, slope) in enumerate(zip(kernels, slopes)):
        start = precise.session.run(kernel)
        direction = np.random.RandomState(number).normal(size=start.shape)
        values = []
        for sign in (1, -1):
            kernel.load(start + sign * 1e-7 * direction, precise.session)
            values.append(precise.run(precise.penalty, images))
        kernel.load(start, precise.session)
        by_difference = (values[0] - values[1]) / 2e-7
        np.testing.assert_allclose(np.sum(slope * direction), by_difference, rtol=1e-5)


def test_the_penalty_of_one_picture_does_not_depend_on_the_others(precise):
    images = np.random.RandomState(18).uniform(-1, 1, [3, 8, 8, 3])
    alone = [precise.run(precise.penalty, images[i : i + 1]) for i in range(3)]
    assert np.ptp(alone) > 1e-4
    np.testing.assert_allclose(precise.run(precise.penalty, images), np.mean(alone), rtol=1e-9)
