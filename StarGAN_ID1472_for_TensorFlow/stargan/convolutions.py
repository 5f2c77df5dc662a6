# SPDX-License-Identifier: Apache-2.0
"""Convolutions in forms that a CPU computes faster, with the same results up to rounding.

The residual blocks' 3x3 convolutions by minimal filtering, and the discriminator's innermost 4x4
convolutions, whose kernels are large and whose maps are small, as matrix products.
"""

import numpy as np
import tensorflow.compat.v1 as tf

# Lavin and Gray: "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, F(4, 3): four
# outputs of a 3-tap filter from six products. y = OUTPUTS [(KERNEL k) * (INPUTS x)].
INPUTS = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float32,
)
KERNEL = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    np.float32,
)
OUTPUTS = np.array(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    np.float32,
)


def _line_matrices(height):
    """Returns INPUTS and OUTPUTS for a map of `height` lines, padding included.

    The first, [6 * height / 4, height], makes six lines of products for every four lines of the
    map, those of equal kind side by side; the second, [height, 6 * height / 4], puts them together.
    """
    groups = height // 4
    first = np.zeros([6, groups, height], np.float32)
    last = np.zeros([groups, 4, 6, groups], np.float32)
    for group in range(groups):
        for line in range(6):
            place = 4 * group + line - 1  # the group's lines, one above and one below
            if 0 <= place < height:
                first[:, group, place] = INPUTS[:, line]
        last[group, :, :, group] = OUTPUTS
    return first.reshape(-1, height), last.reshape(height, -1)


def can_filter_lines(images: tf.Tensor) -> bool:
    """Returns whether `convolve_lines` takes these maps: known size, height a multiple of 4."""
    shape = images.shape.as_list()
    return None not in shape and shape[1] % 4 == 0


def convolve_lines(images: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Returns the SAME convolution with stride 1, [N, H, W, O] of [N, H, W, C], for a 3x3 kernel.

    Along the height it is minimal filtering, along the width six 3-tap convolutions on a quarter
    of the lines: half of the arithmetic. Its rounding errors are about ten times those of the plain
    form, so it is for float32 only.
    """
    n, h, w, c = images.shape.as_list()
    filters, groups = kernel.shape.as_list()[3], h // 4
    first, last = _line_matrices(h)
    kernels = tf.reshape(tf.matmul(KERNEL, tf.reshape(kernel, [3, -1])), [6, 1, 3, c, filters])
    x = tf.matmul(np.tile(first, [n, 1, 1]), tf.reshape(images, [n, h, w * c]))
    kinds = tf.split(tf.reshape(x, [n, 6, groups, w, c]), 6, axis=1)
    products = []
    for x, one in zip(kinds, tf.unstack(kernels)):
        x = tf.nn.conv2d(tf.reshape(x, [n, groups, w, c]), one, [1, 1, 1, 1], "SAME")
        products.append(tf.reshape(x, [n, groups, w * filters]))
    x = tf.matmul(np.tile(last, [n, 1, 1]), tf.concat(products, 1))
    return tf.reshape(x, [n, h, w, filters])


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
