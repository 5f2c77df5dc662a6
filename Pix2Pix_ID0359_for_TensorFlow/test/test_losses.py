# SPDX-License-Identifier: Apache-2.0
"""Each loss against a few lines of numpy."""

import numpy as np
import tensorflow.compat.v1 as tf

from pix2pix import losses


def _value(tensor):
    with tf.Session() as session:
        return session.run(tensor)


def _logits(seed):
    return np.random.RandomState(seed).normal(0, 3, [2, 5, 5, 1]).astype(np.float32)


def test_discriminator_loss_is_the_negative_of_equation_1():
    real, fake = _logits(0), _logits(1)
    d_real, d_fake = 1 / (1 + np.exp(-real)), 1 / (1 + np.exp(-fake))
    expected = -np.mean(np.log(d_real)) - np.mean(np.log(1 - d_fake))
    loss = losses.discriminator_loss(tf.constant(real), tf.constant(fake))
    np.testing.assert_allclose(_value(loss), expected, rtol=1e-5)


def test_adversarial_loss_is_minus_log_d_and_does_not_saturate():
    fake = _logits(2)
    expected = -np.mean(np.log(1 / (1 + np.exp(-fake))))
    np.testing.assert_allclose(
        _value(losses.adversarial_loss(tf.constant(fake))), expected, rtol=1e-5
    )
    far = _value(losses.adversarial_loss(tf.constant([[-1000.0]])))
    assert far == 1000.0


def test_l1_loss_is_the_mean_absolute_difference():
    rng = np.random.RandomState(3)
    a, b = rng.uniform(-1, 1, [2, 4, 4, 3]), rng.uniform(-1, 1, [2, 4, 4, 3])
    loss = losses.l1_loss(tf.constant(a, tf.float32), tf.constant(b, tf.float32))
    np.testing.assert_allclose(_value(loss), np.mean(np.abs(a - b)), rtol=1e-5)
