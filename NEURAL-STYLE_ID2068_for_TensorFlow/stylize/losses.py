# SPDX-License-Identifier: Apache-2.0
"""The losses: what the picture keeps of the content, what it takes of the styles, how smooth it is.

F is float32 [1, H, W, C], the maps of a layer; G is [C, C], its Gram matrix.
"""

from typing import List, Sequence

import tensorflow.compat.v1 as tf


@tf.custom_gradient
def _products(rows):
    """Returns rows^T rows, [C, C] of [M, C]; its gradient is one matrix product instead of two."""

    def gradient(upstream):
        return tf.matmul(rows, upstream + tf.transpose(upstream))

    return tf.matmul(rows, rows, transpose_a=True), gradient


def gram_matrix(features: tf.Tensor, places: float, mask=None) -> tf.Tensor:
    """Returns the Gram matrix, [C, C], or the part that some lines add (Gatys et al., equation 3).

    Differs from the paper: divided by the number of elements, `places` * C, so that the size of a
    picture does not matter (as the reference code).

    Args:
      features: float32 [1, H, W, C].
      places: number of places of the whole map; with a mask the sum of its squares.
      mask: [1, H, W, 1] in 0..1, how much each place counts, or None (Gatys et al., "Controlling
        Perceptual Factors in Neural Style Transfer", CVPR 2017, guided Gram matrices).
    """
    channels = features.shape.as_list()[3]
    scale = (places * channels) ** -0.5  # before the product: its sums would overflow float16
    features = features * (scale if mask is None else scale * mask)
    return _products(tf.reshape(features, [-1, channels]))


def content_loss(features: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
    """Returns the scalar mean (F - P)^2 (Gatys et al., equation 1).

    Differs from the paper: a mean, where it has half of the sum.
    """
    return _mean_square(features - wanted)


def style_loss(grams: Sequence[tf.Tensor], wanted: Sequence[tf.Tensor], weights) -> tf.Tensor:
    """Returns the scalar sum over layers of w_l mean (G - A)^2 (Gatys et al., equations 4 and 5).

    Differs from the paper: with Gram matrices that are divided by their layer's size, the mean over
    C^2 elements has the place of 1 / (4 N^2 M^2).

    Args:
      grams: G of each layer.
      wanted: A of each layer, the style's.
      weights: w_l of each layer.
    """
    pairs = zip(grams, wanted, weights)
    return tf.add_n([weight * _mean_square(g - a) for g, a, weight in pairs])


def total_variation_loss(pixels: tf.Tensor) -> tf.Tensor:
    """Returns the scalar mean squared step between neighbours, vertical plus horizontal.

    Differs from the paper, which has no such loss; as the reference code.
    """
    down, right = pixels[:, 1:] - pixels[:, :-1], pixels[:, :, 1:] - pixels[:, :, :-1]
    return _mean_square(down) + _mean_square(right)


def _mean_square(x):
    """Returns the mean of x^2, in float32 also where mixed precision makes means coarse."""
    return 2 * tf.nn.l2_loss(x) / x.shape.num_elements()


def layer_weights(count: int, factor: float) -> List[float]:
    """Returns 1, factor, factor^2, ... made to sum to 1, one for each of `count` layers."""
    weights = [factor**number for number in range(count)]
    return [weight / sum(weights) for weight in weights]


def blend_weights(weights: Sequence[float], count: int) -> List[float]:
    """Returns `weights`, or equal ones where there are none, made to sum to 1."""
    weights = list(weights) or [1.0] * count
    return [weight / sum(weights) for weight in weights]
