# SPDX-License-Identifier: Apache-2.0
"""The losses of Isola et al. 2017, section 3.1: float32 scalars, means over the batch."""

import tensorflow.compat.v1 as tf


def _cross_entropy(logits, label):
    labels = tf.fill(tf.shape(logits), label)
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits))


def discriminator_loss(real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
    """Returns -E[log D(x, y)] - E[log(1 - D(x, G(x)))], the negative of equation 1."""
    return _cross_entropy(real_logits, 1.0) + _cross_entropy(fake_logits, 0.0)


def adversarial_loss(fake_logits: tf.Tensor) -> tf.Tensor:
    """Returns -E[log D(x, G(x))]: what the generator minimises (section 3.3)."""
    return _cross_entropy(fake_logits, 1.0)


def l1_loss(targets: tf.Tensor, fakes: tf.Tensor) -> tf.Tensor:
    """Returns E[|y - G(x)|], equation 3, as the mean over pixels and channels in [-1, 1]."""
    return tf.reduce_mean(tf.abs(targets - fakes))
