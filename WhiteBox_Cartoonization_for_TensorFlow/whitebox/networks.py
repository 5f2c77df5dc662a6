# SPDX-License-Identifier: Apache-2.0
"""The generator and the discriminators (Wang and Yu 2020, section 3 and supplement).

Axes: N pictures, H, W, C channels; sizes at line ends are for 256x256 pictures. The generator's
variable names are those of the published checkpoint, `generator/Conv/weights` and so on.
"""

import math

import tensorflow.compat.v1 as tf

from tf_runtime import filtering

GENERATOR = "generator"


def _seed(name, seed):
    """Returns a seed of its own for the variable `name` in the current scope."""
    scope = tf.get_variable_scope().name + name
    return seed + sum(ord(letter) * 31**i for i, letter in enumerate(scope)) % 2**30


def _variable(name, shape, bound=0.0, seed=0, trainable=True):
    """Returns a variable that starts as Uniform(-bound, bound), or 0 without a bound."""
    initializer = tf.random_uniform_initializer(-bound, bound, seed=_seed(name, seed))
    if bound == 0.0:
        initializer = tf.zeros_initializer()
    return tf.get_variable(name, shape, tf.float32, initializer, trainable=trainable)


def _glorot(shape) -> float:
    """Returns the bound of Glorot and Bengio's uniform initialisation of a kernel."""
    height, width, channels, filters = shape
    return math.sqrt(6.0 / (height * width * (channels + filters)))


def _convolution(x, name, filters, size=3, stride=1, words=()):
    """Returns the SAME convolution of `x` with bias; `words` are (minimal, seed, trainable)."""
    minimal, seed, trainable = words
    shape = [size, size, x.shape.as_list()[3], filters]
    with tf.variable_scope(name):
        # A read of its own: mixed precision keeps one cast per read, and must not keep an old one.
        kernel = _variable("weights", shape, _glorot(shape), seed, trainable).read_value()
        bias = _variable("biases", [filters], trainable=trainable).read_value()
    if minimal and (size, stride) == (3, 1) and filtering.filtering_pays(shape[2], filters):
        x = filtering.filter_lines(x, filtering.filter_kernel(kernel))
    elif minimal and filters < 16:
        x = filtering.convolve_to_few(x, kernel)
    else:
        x = tf.nn.conv2d(x, kernel, [1, stride, stride, 1], "SAME")
    return tf.nn.bias_add(x, bias)


def leaky_relu(x: tf.Tensor) -> tf.Tensor:
    """Returns `x`, or 0.2 `x` where it is negative."""
    return tf.nn.leaky_relu(x, 0.2)


def _twice(x):
    """Returns `x` [N, H, W, C] at twice its size: bilinear, corners as TensorFlow 1 placed them.

    Places are multiplied by two, not their centres; the published weights want that.
    """
    known, dynamic = x.shape.as_list()[1:3], tf.shape(x)[1:3]
    size = 2 * dynamic if None in known else [2 * side for side in known]
    return tf.image.resize_bilinear(x, size, align_corners=False, half_pixel_centers=False)


def generator(
    images: tf.Tensor, minimal: bool = False, seed: int = 0, trainable: bool = True
) -> tf.Tensor:
    """Returns the cartoons of `images`: a U-Net of sums without any normalisation.

    Args:
      images: float32 [N, H, W, 3], BGR in [-1, 1]; H and W are multiples of 4.
      minimal: compute convolutions in the forms of `filtering` where that pays; float32 on a CPU.
      seed: of the initial weights.
      trainable: whether the variables are.

    Returns:
      float32 [N, H, W, 3], not bounded, though mostly in [-1, 1].
    """
    words = (minimal, seed, trainable)
    with tf.variable_scope(GENERATOR, reuse=tf.AUTO_REUSE):
        x0 = leaky_relu(_convolution(images, "Conv", 32, 7, words=words))  # 256x256x32
        x1 = leaky_relu(_convolution(x0, "Conv_1", 32, stride=2, words=words))  # 128x128x32
        x1 = leaky_relu(_convolution(x1, "Conv_2", 64, words=words))  # 128x128x64
        x2 = leaky_relu(_convolution(x1, "Conv_3", 64, stride=2, words=words))  # 64x64x64
        x2 = leaky_relu(_convolution(x2, "Conv_4", 128, words=words))  # 64x64x128
        for i in range(4):
            with tf.variable_scope("block_%d" % i):
                y = leaky_relu(_convolution(x2, "conv1", 128, words=words))
                x2 = x2 + _convolution(y, "conv2", 128, words=words)
        x2 = leaky_relu(_convolution(x2, "Conv_5", 64, words=words))  # 64x64x64
        x3 = leaky_relu(_convolution(_twice(x2) + x1, "Conv_6", 64, words=words))  # 128x128x64
        x3 = leaky_relu(_convolution(x3, "Conv_7", 32, words=words))  # 128x128x32
        x4 = leaky_relu(_convolution(_twice(x3) + x0, "Conv_8", 32, words=words))  # 256x256x32
        return _convolution(x4, "Conv_9", 3, 7, words=words)  # 256x256x3


class Discriminator:
    """A patch discriminator with spectral normalisation (Miyato et al., ICLR 2018).

    One power iteration serves all pictures of a step; `update` keeps its result for the next.

    Differs from the published code: there every pass through the network, the generator's too, sets
    the vectors u while others may be reading them.

    Args:
      name: scope of its variables.
      channels: of the pictures it judges.
      width: channels of its first layer.
      seed: of the initial weights.
    """

    def __init__(self, name: str, channels: int, width: int = 32, seed: int = 0):
        self._layers, self._vectors = [], []
        with tf.variable_scope(name):
            for i in range(3):  # 128x128x32, 64x64x64, 32x32x128
                filters = width * 2**i
                self._add("conv%d_1" % i, 3, 2, channels, filters, seed)
                self._add("conv%d_2" % i, 3, 1, filters, filters, seed)
                channels = filters
            self._add("conv_out", 1, 1, channels, 1, seed)  # 32x32x1

    def _add(self, name, size, stride, channels, filters, seed):
        shape = [size, size, channels, filters]
        with tf.variable_scope(name):
            kernel = _variable("kernel", shape, _glorot(shape), seed).read_value()
            bias = _variable("bias", [filters]).read_value()
            start = tf.random_normal_initializer(seed=_seed("u", seed))
            u = tf.get_variable("u", [1, filters], tf.float32, start, trainable=False)
        matrix = tf.reshape(kernel, [-1, filters])
        constant = tf.stop_gradient(matrix)
        # Sums of products, as mixed precision would make matrix products coarse.
        v = _unit(tf.reduce_sum(constant * u.read_value(), 1, keepdims=True))
        new_u = _unit(tf.reduce_sum(constant * v, 0, keepdims=True))
        sigma = tf.reduce_sum(matrix * v * new_u)
        self._vectors.append((u, new_u))
        self._layers.append((tf.reshape(matrix / sigma, shape), bias, stride))

    def update(self) -> tf.Operation:
        """Returns the operation that sets the vectors u; run it after all uses of this object."""
        return tf.group(*[tf.assign(u, value) for u, value in self._vectors])

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Returns how much patches of `images` [N, H, W, C] look real, [N, H / 8, W / 8, 1]."""
        x = images
        for kernel, bias, stride in self._layers[:-1]:
            x = tf.nn.conv2d(x, kernel, [1, stride, stride, 1], "SAME")
            x = leaky_relu(tf.nn.bias_add(x, bias))
        kernel, bias, _ = self._layers[-1]
        return tf.nn.bias_add(tf.nn.conv2d(x, kernel, [1, 1, 1, 1], "SAME"), bias)


def _unit(vector):
    return vector * tf.rsqrt(tf.maximum(tf.reduce_sum(tf.square(vector)), 1e-24))
