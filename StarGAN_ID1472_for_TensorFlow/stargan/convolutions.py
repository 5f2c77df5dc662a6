# SPDX-License-Identifier: Apache-2.0
"""The discriminator's innermost 4x4 convolutions in a form that a CPU computes faster.

Their kernels are large and their maps small, so they are matrix products; the results are the same
up to rounding.
"""

import tensorflow.compat.v1 as tf


@tf.custom_gradient
def _product(rows, weights):
    """Returns rows [M, K] times weights [K, O]; never asks for the transpose of the weights."""

    def gradient(upstream):
        to_rows = tf.transpose(tf.matmul(weights, upstream, transpose_b=True))
        return to_rows, tf.matmul(rows, upstream, transpose_a=True)

    return tf.matmul(rows, weights), gradient


def convolve_patches(images: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Returns the SAME convolution with stride 2, [N, H/2, W/2, O] of [N, H, W, C], H and W even.

    `kernel` is [4, 4, C, O]. Every 4x4 patch becomes a row of a matrix. A convolution re-packs its
    kernel at every call, which for small maps costs several times the arithmetic; a matrix product
    reads it once.
    """
    h, w, c = images.shape.as_list()[1:]
    filters = kernel.shape.as_list()[3]
    x = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]])
    x = tf.concat([x[:, i : i + h : 2, j : j + w : 2] for i in range(4) for j in range(4)], axis=3)
    rows = tf.reshape(x, [-1, 16 * c])
    product = _product(rows, tf.reshape(kernel, [16 * c, filters]))
    return tf.reshape(product, [-1, h // 2, w // 2, filters])
