# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/tf_runtime/filtering.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""Convolutions that a CPU computes faster, up to rounding: minimal filtering, and by columns."""

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

STRIP = 8  # lines that are filtered together


def _strip_matrices():
    """Returns INPUTS and OUTPUTS for a strip of STRIP lines.

    The first, [6 * groups, STRIP + 2], makes six lines of products for every group of four lines of
    the strip, those of equal kind side by side; it sees a line above and one below. The second,
    [STRIP, 6 * groups], puts them together.
    """
    groups = STRIP // 4
    first = np.zeros([6, groups, STRIP + 2], np.float32)
    last = np.zeros([groups, 4, 6, groups], np.float32)
    for group in range(groups):
        first[:, group, 4 * group : 4 * group + 6] = INPUTS
        last[group, :, :, group] = OUTPUTS
    return first.reshape(-1, STRIP + 2), last.reshape(STRIP, -1)


def filter_kernel(kernel):
    """Returns what `filter_lines` takes, [6, 1, 3, C, O], of a 3x3 kernel [3, 3, C, O].

    Either both are tensors or both are arrays.
    """
    shape = [6, 1] + [int(size) for size in kernel.shape[1:]]
    if isinstance(kernel, np.ndarray):
        return np.tensordot(KERNEL, kernel, 1).reshape(shape)
    return tf.reshape(tf.matmul(KERNEL, tf.reshape(kernel, [3, -1])), shape)


def filtering_pays(channels: int, filters: int) -> bool:
    """Returns whether `filter_lines` is faster than the plain form, whatever the maps' size."""
    return channels * filters >= 64 * (channels + filters)


def filter_lines(images: tf.Tensor, kernels: tf.Tensor) -> tf.Tensor:
    """Returns the SAME convolution with stride 1, [N, H, W, O] of [N, H, W, C], for a 3x3 kernel.

    Along the height it is minimal filtering, along the width six 3-tap convolutions on a quarter
    of the lines: half of the arithmetic. Its rounding errors are about ten times those of the plain
    form, so it is for float32 only.

    Args:
      images: float32 [N, H, W, C].
      kernels: [6, 1, 3, C, O] from `filter_kernel`.
    """
    known, dynamic = images.shape.as_list(), tf.shape(images)
    n, h, w, c = [dynamic[axis] if size is None else size for axis, size in enumerate(known)]
    filters, groups, strips = kernels.shape.as_list()[4], STRIP // 4, (h + STRIP - 1) // STRIP
    first, last = (tf.tile(m[None], [n * strips, 1, 1]) for m in _strip_matrices())
    x = tf.pad(images, [[0, 0], [0, strips * STRIP - h], [0, 0], [0, 0]])
    x = tf.reshape(x, [n, strips, STRIP, w * c])
    above = tf.pad(x[:, :-1, -1:], [[0, 0], [1, 0], [0, 0], [0, 0]])
    below = tf.pad(x[:, 1:, :1], [[0, 0], [0, 1], [0, 0], [0, 0]])
    x = tf.reshape(tf.concat([above, x, below], 2), [n * strips, STRIP + 2, w * c])
    kinds = tf.split(tf.reshape(tf.matmul(first, x), [n * strips, 6, groups, w, c]), 6, axis=1)
    products = []
    for x, one in zip(kinds, tf.unstack(kernels)):
        x = tf.nn.conv2d(tf.reshape(x, [n * strips, groups, w, c]), one, [1, 1, 1, 1], "SAME")
        products.append(tf.reshape(x, [n * strips, groups, w * filters]))
    x = tf.reshape(tf.matmul(last, tf.concat(products, 1)), [n, strips * STRIP, w, filters])
    x = x[:, :h]
    x.set_shape(known[:3] + [filters])
    return x


def convolve_to_few(images: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Returns the SAME convolution with stride 1 for few output channels, [N, H, W, O].

    `kernel` is [h, w, C, O]. Its columns make w * O maps, which are then added, each shifted to its
    place: more of the vector units have something to do.
    """
    height, width, channels, filters = kernel.shape.as_list()
    columns = tf.reshape(tf.transpose(kernel, [0, 2, 1, 3]), [height, 1, channels, width * filters])
    maps = tf.nn.conv2d(images, columns, [1, 1, 1, 1], "SAME")
    places = np.eye(width * filters, dtype=np.float32).reshape(-1, width, filters)
    places = places.swapaxes(0, 1)[None]
    return tf.nn.conv2d(maps, places, [1, 1, 1, 1], "SAME")
