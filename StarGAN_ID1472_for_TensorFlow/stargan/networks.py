# SPDX-License-Identifier: Apache-2.0
"""The generator and the discriminator with its two heads (Choi et al. 2018, tables 4 and 5).

Axes: N pictures, H, W, C channels; sizes at line ends are for 128x128 pictures and 64 channels in
the first layers. Variable names are those of the Ascend ModelZoo's StarGAN graph.
"""

import math
from typing import Tuple

import tensorflow.compat.v1 as tf

from stargan import convolutions
from tf_runtime import filtering


def _variable(name, shape, bound=0.0, start=0.0, seed=0):
    """Returns the variable's value as it is when this call's part of the graph runs.

    It starts as Uniform(-bound, bound), every variable with its own stream of random numbers, or
    without a bound as the constant `start`.
    """
    scope = tf.get_variable_scope().name + name
    seed = seed + sum(ord(letter) * 31**i for i, letter in enumerate(scope)) % 2**30
    initializer = tf.random_uniform_initializer(-bound, bound, seed=seed)
    if bound == 0.0:
        initializer = tf.constant_initializer(start)
    # A read of its own: mixed precision keeps one cast per read, and must not keep an old value.
    return tf.get_variable(name, shape, tf.float32, initializer).read_value()


def _kernel(size, channels, filters, seed):
    """Returns a convolution's kernel [size, size, C, O], at first Uniform(+-1/sqrt(inputs))."""
    bound = 1 / math.sqrt(size * size * channels)
    return _variable("kernel", [size, size, channels, filters], bound, seed=seed)


def _convolution(x, filters, size, stride, seed, few=False):
    with tf.variable_scope("conv2d"):
        kernel = _kernel(size, x.shape.as_list()[3], filters, seed)
    if few:
        return filtering.convolve_to_few(x, kernel)
    return tf.nn.conv2d(x, kernel, [1, stride, stride, 1], "SAME")


def _deconvolution(x, filters, seed):
    n, h, w, channels = sizes(x)
    with tf.variable_scope("conv2d_transpose"):
        kernel = _kernel(4, filters, channels, seed)
    return tf.nn.conv2d_transpose(x, kernel, [n, 2 * h, 2 * w, filters], [1, 2, 2, 1], "SAME")


def sizes(images: tf.Tensor) -> list:
    """Returns [N, H, W, C], an int where it is known and a scalar tensor where it is not."""
    known, dynamic = images.shape.as_list(), tf.shape(images)
    return [dynamic[axis] if size is None else size for axis, size in enumerate(known)]


def instance_norm(x: tf.Tensor, name: str) -> tf.Tensor:
    """Returns `x` [N, H, W, C] with mean beta and deviation gamma per picture and channel."""
    count, channels = x.shape.as_list()[0], x.shape.as_list()[3]
    with tf.variable_scope(name):
        beta = _variable("beta", [channels])
        gamma = _variable("gamma", [channels], start=1.0)
    if count is None:
        mean, variance = tf.nn.moments(x, [1, 2], keep_dims=True)
        scale = tf.rsqrt(variance + 1e-5) * gamma
        return x * scale + (beta - mean * scale)
    # Batch norm of one picture is this, and has a kernel that takes fewer passes.
    pictures = [
        tf.nn.fused_batch_norm(picture, gamma, beta, epsilon=1e-5)[0]
        for picture in tf.split(x, count)
    ]
    return tf.concat(pictures, 0)


def _residual(x, name, minimal, seed):
    """Returns x + norm(conv(relu(norm(conv(x))))), 3x3 convolutions."""
    y, channels = x, x.shape.as_list()[3]
    with tf.variable_scope(name):
        for half in ("res1", "res2"):
            with tf.variable_scope(half):
                with tf.variable_scope("conv_0/conv2d"):
                    kernel = _kernel(3, channels, channels, seed)
                if minimal:
                    y = filtering.filter_lines(y, filtering.filter_kernel(kernel))
                else:
                    y = tf.nn.conv2d(y, kernel, [1, 1, 1, 1], "SAME")
                y = instance_norm(y, "instance_norm")
            y = tf.nn.relu(y) if half == "res1" else y
    return x + y


def generator(
    images: tf.Tensor,
    labels: tf.Tensor,
    width: int = 64,
    blocks: int = 6,
    minimal: bool = False,
    seed: int = 0,
) -> tf.Tensor:
    """Returns `images` translated to the domains `labels` (table 4).

    The padding is zero everywhere: the labels enter as constant planes, which instance norm would
    remove wholly if the border did not show them.

    Args:
      images: float32 [N, H, W, 3] in [-1, 1]; H and W are multiples of 4.
      labels: float32 [N, L] of 0 and 1.
      width: channels of the first layer.
      blocks: number of residual blocks.
      minimal: compute their convolutions by minimal filtering; for float32 on a CPU.
      seed: of the initial weights.

    Returns:
      float32 [N, H, W, 3] in (-1, 1).
    """
    n, h, w, _ = sizes(images)
    planes = tf.tile(tf.reshape(labels, [n, 1, 1, labels.shape.as_list()[1]]), [1, h, w, 1])
    with tf.variable_scope("G", reuse=tf.AUTO_REUSE):
        with tf.variable_scope("conv"):  # 128x128x64
            x = _convolution(tf.concat([images, planes], 3), width, 7, 1, seed)
        x = tf.nn.relu(instance_norm(x, "ins_norm"))
        for i in range(2):  # 64x64x128, 32x32x256
            with tf.variable_scope("conv_%d" % i):
                x = _convolution(x, width * 2 ** (i + 1), 4, 2, seed)
            x = tf.nn.relu(instance_norm(x, "down_ins_norm_%d" % i))
        for i in range(blocks):
            x = _residual(x, "resblock_%d" % i, minimal, seed)
        for i in range(2):  # 64x64x128, 128x128x64
            with tf.variable_scope("deconv_%d" % i):
                x = _deconvolution(x, width * 2 ** (1 - i), seed)
            x = tf.nn.relu(instance_norm(x, "up_ins_norm%d" % i))
        with tf.variable_scope("G_logit"):  # 128x128x3
            x = _convolution(x, 3, 7, 1, seed, few=True)
        return tf.tanh(x, "Tanh")


def _leaky_relu(x):
    """Returns x, or 0.01 x where it is negative.

    As a product with a constant slope, its second derivative is known to be zero: a plain one would
    send zeros all the way back through the network for the gradient penalty.
    """
    return x * tf.stop_gradient(tf.where(x > 0, tf.ones_like(x), 0.01 * tf.ones_like(x)))


def discriminator(
    images: tf.Tensor, label_count: int, width: int = 64, layers: int = 6, seed: int = 0
) -> Tuple[tf.Tensor, tf.Tensor]:
    """Returns how real patches of `images` are, and the logits of their labels (table 5).

    Args:
      images: float32 [N, S, S, 3] in [-1, 1]; N and S are known, S a multiple of 2**layers.
      label_count: number of labels L.
      width: channels of the first layer.
      layers: number of strided convolutions.
      seed: of the initial weights.

    Returns:
      src: float32 [N, S / 2**layers, S / 2**layers, 1], unbounded.
      cls: float32 [N, L], logits.
    """
    x = images
    with tf.variable_scope("D", reuse=tf.AUTO_REUSE):
        for i in range(layers):  # 64x64x64, 32x32x128, 16x16x256, 8x8x512, 4x4x1024, 2x2x2048
            channels, filters = x.shape.as_list()[3], width * 2**i
            with tf.variable_scope("conv_%d/conv2d" % i):
                kernel = _kernel(4, channels, filters, seed)
                bias = _variable("bias", [filters], 1 / math.sqrt(16 * channels), seed=seed)
            if channels >= 512:
                x = convolutions.convolve_patches(x, kernel)
            else:
                x = tf.nn.conv2d(x, kernel, [1, 2, 2, 1], "SAME")
            x = _leaky_relu(tf.nn.bias_add(x, bias))
        with tf.variable_scope("D_logit"):
            src = _convolution(x, 1, 3, 1, seed)
        side, channels = x.shape.as_list()[2:]
        with tf.variable_scope("D_label/conv2d"):
            kernel = _kernel(side, channels, label_count, seed)
        cls = tf.nn.conv2d(x, kernel, [1, 1, 1, 1], "VALID")
    return src, tf.reshape(cls, [-1, label_count])
