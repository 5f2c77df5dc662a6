# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/tf_runtime/filtering.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""3x3 convolutions with half of the arithmetic, for the CPU in float32: minimal filtering."""

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

    The first, [6 * groups, height], makes six lines of products for every group of four lines of
    the map, those of equal kind side by side; the second, [height, 6 * groups], puts them together.
    """
    groups = -(-height // 4)  # the last group may reach below the map, where all is zero
    first = np.zeros([6, groups, height], np.float32)
    last = np.zeros([groups, 4, 6, groups], np.float32)
    for group in range(groups):
        for line in range(6):
            place = 4 * group + line - 1  # the group's lines, one above and one below
            if 0 <= place < height:
                first[:, group, place] = INPUTS[:, line]
        last[group, :, :, group] = OUTPUTS
    return first.reshape(-1, height), last.reshape(4 * groups, -1)[:height]


def filter_kernel(kernel):
    """Returns what `filter_lines` takes, [6, 1, 3, C, O], of a 3x3 kernel [3, 3, C, O].

    Either both are tensors or both are arrays.
    """
    shape = [6, 1] + [int(size) for size in kernel.shape[1:]]
    if isinstance(kernel, np.ndarray):
        return np.tensordot(KERNEL, kernel, 1).reshape(shape)
    return tf.reshape(tf.matmul(KERNEL, tf.reshape(kernel, [3, -1])), shape)


def can_filter_lines(images: tf.Tensor) -> bool:
    """Returns whether `filter_lines` takes these maps: their size is known."""
    return None not in images.shape.as_list()


def filter_lines(images: tf.Tensor, kernels: tf.Tensor) -> tf.Tensor:
    """Returns the SAME convolution with stride 1, [N, H, W, O] of [N, H, W, C], for a 3x3 kernel.

    Along the height it is minimal filtering, along the width six 3-tap convolutions on a quarter
    of the lines: half of the arithmetic. Its rounding errors are about ten times those of the plain
    form, so it is for float32 only. It pays where H is below about half of the channels.

    Args:
      images: float32 [N, H, W, C], of known size.
      kernels: [6, 1, 3, C, O] from `filter_kernel`.
    """
    n, h, w, c = images.shape.as_list()
    filters = kernels.shape.as_list()[4]
    first, last = _line_matrices(h)
    groups = first.shape[0] // 6
    x = tf.matmul(np.tile(first, [n, 1, 1]), tf.reshape(images, [n, h, w * c]))
    kinds = tf.split(tf.reshape(x, [n, 6, groups, w, c]), 6, axis=1)
    products = []
    for x, one in zip(kinds, tf.unstack(kernels)):
        x = tf.nn.conv2d(tf.reshape(x, [n, groups, w, c]), one, [1, 1, 1, 1], "SAME")
        products.append(tf.reshape(x, [n, groups, w * filters]))
    x = tf.matmul(np.tile(last, [n, 1, 1]), tf.concat(products, 1))
    return tf.reshape(x, [n, h, w, filters])
