# SPDX-License-Identifier: Apache-2.0
"""The losses of Wang and Yu 2020, section 3: float32 scalars."""

import tensorflow.compat.v1 as tf

# Differs from the paper: the published code takes means and then divides by the number of values
# once more. The weights are meant for that number at 256x256 pixels.
FEATURES_AT_256 = 32 * 32 * 512  # of VGG-19's conv4_4
PIXELS_AT_256 = 256 * 256 * 3


def _mean_square(x):
    """Returns the mean of the squares of `x`, summed in float32."""
    return 2.0 * tf.nn.l2_loss(x) / tf.cast(tf.size(x), tf.float32)


def discriminator_loss(real: tf.Tensor, fake: tf.Tensor) -> tf.Tensor:
    """Returns half of E[(D(real) - 1)^2] + E[D(fake)^2] (least squares; equations 2 and 5)."""
    return 0.5 * (_mean_square(real - 1.0) + _mean_square(fake))


def generator_loss(fake: tf.Tensor) -> tf.Tensor:
    """Returns E[(D(fake) - 1)^2]."""
    return _mean_square(fake - 1.0)


def feature_distance(first: tf.Tensor, second: tf.Tensor, size: int = FEATURES_AT_256) -> tf.Tensor:
    """Returns E|first - second| / size, of VGG features (equations 3 and 6).

    Args:
      first: [N, H, W, C].
      second: [N, H, W, C].
      size: FEATURES_AT_256, or H * W * C as in the published code, which depends on the crop.
    """
    return tf.reduce_mean(tf.abs(tf.cast(first, tf.float32) - tf.cast(second, tf.float32))) / size


def total_variation(images: tf.Tensor, size: int = PIXELS_AT_256) -> tf.Tensor:
    """Returns (E[(d/dy images)^2] + E[(d/dx images)^2]) / size (equation 7).

    Args:
      images: [N, H, W, 3].
      size: PIXELS_AT_256, or H * W * 3 as in the published code, which depends on the crop.
    """
    down = images[:, 1:] - images[:, :-1]
    right = images[:, :, 1:] - images[:, :, :-1]
    return (_mean_square(down) + _mean_square(right)) / size


def sizes(config, channels: int):
    """Returns by what the distance of VGG features and the total variation are divided."""
    if not config.is_published:
        return FEATURES_AT_256, PIXELS_AT_256
    side = config.patch_size
    return (side // 8) ** 2 * channels, side * side * 3


def effective_weights(config, channels: int = 512) -> str:
    """Returns the sentence that says what the losses weigh, all normalisations included.

    Args:
      config: the options.
      channels: of VGG-19's conv4_4.
    """
    features, pixels = sizes(config, channels)
    text = "effective weights: surface %.3g and texture %.3g of mean squares, structure %.3g and "
    text += "content %.3g of mean differences of VGG features, total variation %.3g of mean squares"
    return text % (
        config.lambda_surface,
        config.lambda_texture,
        config.lambda_structure / features,
        config.lambda_content / features,
        config.lambda_tv / pixels,
    )
