# SPDX-License-Identifier: Apache-2.0
"""The losses of Choi et al. 2018, section 3: float32 scalars.

`src` is the discriminator's map of realness, `cls` its label logits.
"""

from typing import Callable

import tensorflow.compat.v1 as tf


def adversarial_losses(real_src: tf.Tensor, fake_src: tf.Tensor):
    """Returns (-E[D_src(x)], E[D_src(G(x, c))]), the first terms of equation 8.

    Their sum is what the discriminator minimises; the generator minimises minus the second.
    """
    return -tf.reduce_mean(real_src), tf.reduce_mean(fake_src)


def between(reals: tf.Tensor, fakes: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Returns x_hat = weight * real + (1 - weight) * fake, one weight per picture.

    Args:
      reals: [N, S, S, 3].
      fakes: [N, S, S, 3].
      weights: float32 [N] in [0, 1].
    """
    weights = tf.reshape(weights, [-1, 1, 1, 1])
    return weights * reals + (1 - weights) * fakes


def gradient_penalty(src_of: Callable[[tf.Tensor], tf.Tensor], images: tf.Tensor) -> tf.Tensor:
    """Returns E[(|d src / d x_hat| - 1)^2], the last term of equation 8, without its weight.

    The gradient is that of the sum over the map of one picture, its norm is over all pixels and
    channels of that picture.

    Args:
      src_of: from images to the map of realness.
      images: x_hat, [N, S, S, 3].
    """
    gradient = tf.gradients(src_of(images), images)[0]
    norms = tf.sqrt(tf.reduce_sum(tf.square(gradient), [1, 2, 3]))
    return tf.reduce_mean(tf.square(norms - 1))


def classification_loss(cls: tf.Tensor, labels: tf.Tensor, kinds) -> tf.Tensor:
    """Returns E[-log D_cls(c | x)], equations 2 and 3.

    Attributes: the binary cross entropy summed over them; classes: the cross entropy of the
    softmax; both averaged over the batch. With two data sets only the labels that a picture's own
    set knows count (section 3.3): its mask, the last two of `labels`, says which set that is.

    Args:
      cls: logits [N, L].
      labels: 0 and 1, [N, L], or [N, L + 2] with a mask.
      kinds: ("celeba" or "classes", number of labels) of each data set.
    """
    losses, first = [], 0
    for kind, count in kinds:
        logits, wanted = cls[:, first : first + count], labels[:, first : first + count]
        if kind == "celeba":
            each = tf.nn.sigmoid_cross_entropy_with_logits(labels=wanted, logits=logits)
            losses.append(tf.reduce_sum(each, 1))
        else:
            losses.append(tf.nn.softmax_cross_entropy_with_logits_v2(wanted, logits))
        first += count
    if len(kinds) == 1:
        return tf.reduce_mean(losses[0])
    return tf.reduce_mean(tf.reduce_sum(tf.stack(losses, 1) * labels[:, first:], 1))


def reconstruction_loss(reals: tf.Tensor, reconstructions: tf.Tensor) -> tf.Tensor:
    """Returns E[|x - G(G(x, c), c')|], equation 4: c' are the picture's own labels."""
    return tf.reduce_mean(tf.abs(reals - reconstructions))
