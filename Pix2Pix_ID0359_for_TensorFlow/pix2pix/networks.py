# SPDX-License-Identifier: Apache-2.0
"""The U-Net generator and the PatchGAN discriminator (Isola et al. 2017, sections 3.2 and 6.1).

Axes: N pictures, H, W, C channels; sizes at line ends are for 256x256 pictures and ngf = ndf = 64.
Variable names are those of the reference code (affinelayer/pix2pix-tensorflow).
"""

from typing import Optional

import tensorflow.compat.v1 as tf

from pix2pix import convolutions

LEVELS = 8  # of the U-Net: 256x256 down to 1x1


def _variable(name, shape, mean=0.0, deviation=0.0, seed=0):
    """Returns the variable's value as it is when this call's part of the graph runs.

    It starts as Normal(mean, deviation), every variable with its own stream of random numbers.
    """
    seed = (
        seed
        + sum(ord(letter) * 31**i for i, letter in enumerate(tf.get_variable_scope().name + name))
        % 2**30
    )
    initializer = tf.random_normal_initializer(mean, deviation, seed=seed)
    if deviation == 0.0:
        initializer = tf.constant_initializer(mean)
    # A read of its own: mixed precision keeps one cast per read, and must not keep an old value.
    return tf.get_variable(name, shape, tf.float32, initializer).read_value()


def _add_bias(x, bias, normalised):
    """Adds a bias; in front of a norm, which cancels it, without a gradient (it would be noise)."""
    return tf.nn.bias_add(x, tf.stop_gradient(bias) if normalised else bias)


def _convolution(x, filters, stride, normalised, seed, inner=False):
    with tf.variable_scope("conv2d"):
        kernel = _variable("kernel", [4, 4, x.shape.as_list()[3], filters], 0.0, 0.02, seed)
        bias = _variable("bias", [filters])
    if inner:
        x = convolutions.convolve(x, kernel)
    elif filters == 1:
        x = convolutions.convolve_to_one(x, kernel)
    else:
        x = tf.nn.conv2d(x, kernel, [1, stride, stride, 1], "SAME")
    return _add_bias(x, bias, normalised)


def _deconvolution(x, filters, normalised, seed, inner):
    n, h, w, channels = convolutions.sizes(x)
    with tf.variable_scope("conv2d_transpose"):
        kernel = _variable("kernel", [4, 4, filters, channels], 0.0, 0.02, seed)
        bias = _variable("bias", [filters])
    if inner:
        x = convolutions.deconvolve(x, kernel)
    else:
        x = tf.nn.conv2d_transpose(x, kernel, [n, 2 * h, 2 * w, filters], [1, 2, 2, 1], "SAME")
    return _add_bias(x, bias, normalised)


def instance_norm(x: tf.Tensor, seed: int = 0) -> tf.Tensor:
    """Returns `x` [N, H, W, C] with mean beta and deviation gamma per picture and channel.

    Differs from the paper: it says batch norm with the statistics of the test batch, which for its
    batch size of 1 is this. Statistics per picture keep a picture's translation independent of the
    other pictures in its batch.
    """
    channels = x.shape.as_list()[3]
    with tf.variable_scope("batch_normalization"):  # the reference code's name
        gamma = _variable("gamma", [channels], 1.0, 0.02, seed)
        beta = _variable("beta", [channels])
    if x.shape.as_list()[0] == 1:  # the fused kernel computes just this, in fewer passes
        return tf.nn.fused_batch_norm(x, gamma, beta, epsilon=1e-5)[0]
    mean, variance = tf.nn.moments(x, [1, 2], keep_dims=True)
    return (x - mean) * (tf.rsqrt(variance + 1e-5) * gamma) + beta


def _dropout(x, noise_seeds, level):
    """Zeroes half of `x` and doubles the rest: the noise z of equation 1."""
    seeds = noise_seeds * [1, 16] + [0, level]  # every level of every picture has its own
    shape = tf.shape(x)[1:]
    noise = [tf.random.stateless_uniform(shape, seed=seed) for seed in tf.unstack(seeds)]
    return tf.where(tf.stack(noise) < 0.5, tf.zeros_like(x), 2.0 * x)


def generator(
    conditions: tf.Tensor,
    channels: int,
    ngf: int = 64,
    noise_seeds: Optional[tf.Tensor] = None,
    bottleneck_norm: bool = False,
    seed: int = 0,
) -> tf.Tensor:
    """Returns the translations of `conditions` (U-Net-256: encoder, decoder, skip connections).

    Args:
      conditions: float32 [N, H, W, C] in [-1, 1]; H and W are multiples of 256.
      channels: of the translation.
      ngf: channels of the first layer.
      noise_seeds: int32 [N, 2], such as (seed, number of the picture), of the dropout in decoder_8
        to decoder_6; None: no dropout.
      bottleneck_norm: also normalise encoder_8. With one value per channel that gives beta and
        nothing of the input; weights published with it need it.
      seed: of the initial weights.

    Returns:
      float32 [N, H, W, channels] in (-1, 1).

    Differs from the paper: as its errata, no norm on the innermost layer.
    """
    widths = [ngf * multiple for multiple in (1, 2, 4, 8, 8, 8, 8, 8)]
    x, skips = conditions, []
    with tf.variable_scope("generator", reuse=tf.AUTO_REUSE):
        for level in range(1, LEVELS + 1):  # encoder_1: 128x128x64 ... encoder_8: 1x1x512
            with tf.variable_scope("encoder_%d" % level):
                normalised = 1 < level < LEVELS or (level == LEVELS and bottleneck_norm)
                x = x if level == 1 else tf.nn.leaky_relu(x, 0.2)
                x = _convolution(x, widths[level - 1], 2, normalised, seed, inner=level > 4)
                x = instance_norm(x, seed) if normalised else x
                skips.append(x)
        for level in range(LEVELS, 0, -1):  # decoder_8: 2x2x512 ... decoder_1: 256x256xchannels
            with tf.variable_scope("decoder_%d" % level):
                x = x if level == LEVELS else tf.concat([x, skips[level - 1]], axis=3)
                filters = widths[level - 2] if level > 1 else channels
                x = _deconvolution(tf.nn.relu(x), filters, level > 1, seed, inner=level > 4)
                x = instance_norm(x, seed) if level > 1 else x
                if level > 5 and noise_seeds is not None:
                    x = _dropout(x, noise_seeds, level)
    return tf.tanh(x)


def discriminator(
    conditions: tf.Tensor, images: tf.Tensor, ndf: int = 64, seed: int = 0
) -> tf.Tensor:
    """Returns realness logits, one per overlapping 70x70 patch (PatchGAN).

    Args:
      conditions: float32 [N, H, W, C] in [-1, 1].
      images: float32 [N, H, W, C'] in [-1, 1]: translations or targets.
      ndf: channels of the first layer.
      seed: of the initial weights.

    Returns:
      float32 [N, H/8 - 2, W/8 - 2, 1].
    """
    x = tf.concat([conditions, images], axis=3)
    # Sizes: 128x128x64, 64x64x128, 32x32x256, 31x31x512, 30x30x1.
    layers = [(ndf, 2), (2 * ndf, 2), (4 * ndf, 2), (8 * ndf, 1), (1, 1)]
    with tf.variable_scope("discriminator", reuse=tf.AUTO_REUSE):
        for layer, (filters, stride) in enumerate(layers, 1):
            with tf.variable_scope("layer_%d" % layer):
                normalised = 1 < layer < 5
                x = _convolution(x, filters, stride, normalised, seed)
                if stride == 1:
                    # SAME pads 1 before and 2 after; without the last line that is padding 1.
                    n, h, w, _ = convolutions.sizes(x)
                    x = tf.slice(x, [0, 0, 0, 0], [n, h - 1, w - 1, filters])
                x = instance_norm(x, seed) if normalised else x
                x = tf.nn.leaky_relu(x, 0.2) if layer < 5 else x
    return x
