# SPDX-License-Identifier: Apache-2.0
"""Surface and texture of a picture (Wang and Yu 2020, sections 3.1 and 3.3), inside the graph."""

import numpy as np
import tensorflow.compat.v1 as tf

# Around these the texture's weights of blue, green and red are drawn, at most SPREAD away.
GREY, SPREAD = (0.114, 0.587, 0.299), 0.1
STREAM = 8  # of random numbers; `data` has those below


def box_mean(x: tf.Tensor, radius: int) -> tf.Tensor:
    """Returns the means of `x` [N, H, W, C] over 2 radius + 1 pixels squared, inside the picture.

    At the border the mean is over fewer pixels. Rows, then columns: the cost grows with the radius,
    not with its square.
    """
    side = 2 * radius + 1
    x = tf.nn.avg_pool(x, [1, side, 1, 1], [1, 1, 1, 1], "SAME")
    return tf.nn.avg_pool(x, [1, 1, side, 1], [1, 1, 1, 1], "SAME")


def guided_filter(
    guide: tf.Tensor, images: tf.Tensor, radius: int, epsilon: float, protected: bool = True
) -> tf.Tensor:
    """Returns `images` smoothed where `guide` is smooth (He, Sun and Tang, ECCV 2010, eq. 5, 6, 8).

    Each channel of `guide` guides the same channel of `images`.

    Args:
      guide: float32 [N, H, W, C].
      images: float32 [N, H, W, C].
      radius: of the windows, pixels.
      epsilon: variance of the guide, above which an edge is kept.
      protected: stay in float32, gradient included, under mixed precision: small variances are
        differences of large means. Not for export, other runtimes need nothing of it.
    """
    if protected:
        guide, images = _in_float32(guide), _in_float32(images)
    sums = [guide, images, guide * images, guide * guide]
    mean_guide, mean, correlation, square = tf.split(box_mean(tf.concat(sums, 3), radius), 4, 3)
    slope = (correlation - mean_guide * mean) / (square - mean_guide * mean_guide + epsilon)
    lines = tf.concat([slope, mean - slope * mean_guide], 3)
    slope, offset = tf.split(box_mean(lines, radius), 2, 3)
    result = slope * guide + offset
    return _in_float32(result) if protected else result


def _in_float32(x):
    """Returns `x`; mixed precision does not reach across this, forwards or backwards.

    Its rewriting of a graph stops at operations that it does not know, as a roll by nothing.
    """
    return tf.roll(x, 0, 0)


def surface(images: tf.Tensor) -> tf.Tensor:
    """Returns `images` [N, H, W, 3] in [-1, 1] without texture: filtered, guided by themselves."""
    return guided_filter(images, images, 5, 0.2)


def texture(images: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Returns `images` [N, H, W, 3] without colour and luminance, [N, H, W, 1] (equation 4).

    Differs from the paper: the grey is that of the published code, a mean of the channels with
    random weights, and not mixed with the luminance.

    Args:
      images: BGR.
      weights: [3], of blue, green and red, from `texture_weights`.
    """
    weights = weights / tf.reduce_sum(weights)
    return tf.reduce_sum(images * weights, axis=3, keepdims=True)


def texture_weights(seed: int, step: int) -> np.ndarray:
    """Returns the random weights of blue, green and red of a step, float32 [3]."""
    noise = np.random.RandomState([seed, STREAM, step]).uniform(-SPREAD, SPREAD, 3)
    return (np.array(GREY) + noise).astype(np.float32)
