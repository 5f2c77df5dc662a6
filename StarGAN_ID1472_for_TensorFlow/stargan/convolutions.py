# SPDX-License-Identifier: Apache-2.0
"""Convolutions in forms that a CPU computes faster, with the same results up to rounding.

The discriminator's innermost 4x4 convolutions, whose kernels are large and whose maps are small, as
matrix products; the generator's 7x7 convolution to three channels by columns.
"""

import numpy as np
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


def convolve_to_few(images: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Returns the SAME convolution with stride 1 for few output channels, [N, H, W, O].

    `kernel` is [h, w, C, O]. Its columns make w * O maps, which are then added, each shifted to its
    place: more of the vector units have something to do.
    """
    height, width, channels, filters = kernel.shape.as_list()
    columns = tf.reshape(tf.transpose(kernel, [0, 2, 1, 3]), [height, 1, channels, width * filters])
    maps = tf.nn.conv2d(images, columns, [1, 1, 1, 1], "SAME")
    places = np.zeros([1, width, width, filters, filters], np.float32)
    for column in range(width):
        places[0, column, column] = np.eye(filters)
    places = places.reshape(1, width, width * filters, filters)
    return tf.nn.conv2d(maps, places, [1, 1, 1, 1], "SAME")
