# SPDX-License-Identifier: Apache-2.0
"""The layers of the networks, each in the form that is fast to run and to differentiate.

Feature maps are [N, C, H, W]. MindSpore's CPU kernels are slow for means over axes and for products
that broadcast, and fast for batch normalisation, pooling and matrix products. So a normalisation is
the batch normalisation of a view, the same mathematics, and a product with a value for each map is
the scale of one.
`portable=True` chooses the forms that every exporter and MindSpore Lite know; the values are the
same up to rounding.
"""

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

EPSILON = 1e-5  # of every normalisation


def parameter(*shape, value: float = 0.0, trained: bool = True) -> Parameter:
    """Returns a float32 parameter filled with `value`."""
    return Parameter(Tensor(np.full(shape, value, np.float32)), requires_grad=trained)


def leaky_relu(x):
    """Returns max(x, 0.2 x), in a form whose gradient is cheap."""
    return ops.relu(x) * 0.8 + x * 0.2


def reflection(size: int, pad: int) -> Tensor:
    """Returns the indices of a line of `size` pixels reflected at both ends, without its border."""
    return Tensor(np.pad(np.arange(size), pad, mode="reflect").astype(np.int32))


class Pad(nn.Cell):
    """Adds a border: [N, C, H, W] -> [N, C, H + 2 pad, W + 2 pad].

    Args:
      pad: pixels at each side.
      kind: "reflect" (the paper's), "edge", or "zero" (the MindSpore code's).
      portable: reflect by picking lines, as exporters know no reflection.
    """

    def __init__(self, pad: int, kind: str = "reflect", portable: bool = False):
        super().__init__()
        self.size, self.by_lines = pad, portable and kind == "reflect"
        if kind == "zero":
            self.border = ops.Pad(((0, 0), (0, 0), (pad, pad), (pad, pad)))
        elif kind == "edge":
            self.border = nn.ReplicationPad2d(pad)
        else:
            self.border = nn.ReflectionPad2d(pad)
        self.pick = ops.Gather()

    def construct(self, x):
        """Returns x with its border."""
        if not self.by_lines:
            return self.border(x)
        x = self.pick(x, reflection(x.shape[2], self.size), 2)
        return self.pick(x, reflection(x.shape[3], self.size), 3)


class Convolution(nn.Cell):
    """A convolution after a border: [N, C, H, W] -> [N, out, H', W'].

    Args:
      inputs, outputs: channels.
      kernel, stride: in pixels.
      pad: border in pixels.
      bias: whether to add a bias.
      kind, portable: of the border, see `Pad`.
      half: convolve in float16.
    """

    def __init__(
        self,
        inputs,
        outputs,
        kernel,
        stride,
        pad,
        bias=False,
        kind="reflect",
        portable=False,
        half=False,
    ):
        super().__init__()
        self.weight = parameter(outputs, inputs, kernel, kernel)
        self.bias = parameter(outputs) if bias else None
        self.border = Pad(pad, kind, portable) if pad else None
        self.convolve = ops.Conv2D(outputs, (kernel, kernel), stride=stride)  # ONNX wants a pair
        self.add = ops.BiasAdd()
        self.scale = ops.BatchNorm(is_training=False, epsilon=EPSILON)
        self.outputs, self.half = outputs, half

    def construct(self, x, weight=None, scale=None):
        """Returns the maps.

        Args:
          x: [N, C, H, W].
          weight: [out, C, k, k] to use instead of the own one.
          scale: a number tensor [1] by which the weight is multiplied; the maps are, in effect.
        """
        if self.border is not None:
            x = self.border(x)
        weight = self.weight if weight is None else weight
        if self.half:
            x = self.convolve(x.astype(ms.float16), weight.astype(ms.float16)).astype(ms.float32)
        else:
            x = self.convolve(x, weight)
        if scale is not None:
            one, zero = (
                ops.ones((self.outputs,), ms.float32),
                ops.zeros((self.outputs,), ms.float32),
            )
            bias = zero if self.bias is None else self.bias
            return self.scale(x, one * scale, bias, zero, one - EPSILON)[0]
        return x if self.bias is None else self.add(x, self.bias)

    def effective(self):
        """Returns the weight as it is used."""
        return self.weight


class FewMaps(Convolution):
    """A convolution to a few maps (the picture), as the transposed one: many times as fast.

    A product for each of the kernel's places, whose results are added where they belong, keeps a
    processor busy; a product with three rows does not.
    """

    def __init__(self, inputs, outputs, kernel, kind="reflect", portable=False, half=False):
        super().__init__(inputs, outputs, kernel, 1, kernel // 2, False, kind, portable, half)
        self.outputs, self.portable = outputs, portable
        self.transposed = ops.Conv2DTranspose(inputs, kernel, pad_mode="pad", pad=kernel - 1)
        self.turn = ops.ReverseV2([2, 3])

    def construct(self, x, weight=None):
        """Returns [N, out, H, W]."""
        if self.portable or self.half:
            return super().construct(x)
        n, _, h, w = x.shape
        weight = self.turn(ops.transpose(self.weight, (1, 0, 2, 3)))
        return self.transposed(self.border(x), weight, (n, self.outputs, h, w))


class UpConvolution(nn.Cell):
    """Nearest upsampling and a 3x3 convolution: [N, C, H, W] -> [N, out, 2H, 2W].

    Done as one transposed 4x4 convolution of stride 2, whose kernel holds the sums of the weights
    that meet the same pixel: less than half the work, exactly the same function. The border of the
    upsampled picture, whose lines are double, reflects into a repeated line here.
    """

    def __init__(self, inputs, outputs, kind="reflect", portable=False, half=False):
        super().__init__()
        self.inputs, self.outputs, self.portable = inputs, outputs, portable
        self.convolution = Convolution(inputs, outputs, 3, 1, 1, False, kind, portable, half)
        self.plain = portable or half
        self.border = Pad(1, "edge" if kind == "reflect" else kind)
        self.transposed = ops.Conv2DTranspose(inputs, 4, pad_mode="pad", pad=3, stride=2)
        line = np.array([[0, 0, 1, 1], [0, 1, 1, 0], [1, 1, 0, 0]], np.float32)
        self.sums = Tensor(np.kron(line, line))
        self.multiply = ops.MatMul()

    def construct(self, x):
        """Returns the upsampled, convolved maps."""
        n, _, h, w = x.shape
        if self.plain:
            return self.convolution(ops.ResizeNearestNeighbor((2 * h, 2 * w))(x))
        rows = ops.transpose(self.convolution.weight, (1, 0, 2, 3)).reshape(-1, 9)
        weight = self.multiply(rows, self.sums).reshape(self.inputs, self.outputs, 4, 4)
        return self.transposed(self.border(x), weight, (n, self.outputs, 2 * h, 2 * w))


class Dense(nn.Cell):
    """A dense layer without bias: [N, inputs] -> [N, outputs]."""

    def __init__(self, inputs, outputs, half=False):
        super().__init__()
        self.weight = parameter(outputs, inputs)
        self.multiply = ops.MatMul(transpose_b=True)
        self.half = half

    def construct(self, x, weight=None):
        """Returns x times the transposed weight, or `weight` if given."""
        weight = self.weight if weight is None else weight
        if self.half:
            return self.multiply(x.astype(ms.float16), weight.astype(ms.float16)).astype(ms.float32)
        return self.multiply(x, weight)

    def effective(self):
        """Returns the weight as it is used."""
        return self.weight


def normalise(x, axes, unbiased: bool = False):
    """Returns x less its mean, divided by its deviation, over `axes`; written out."""
    rest = x - x.mean(axes, True)
    variance = (rest * rest).mean(axes, True)
    if unbiased:
        count = 1
        for axis in axes:
            count *= x.shape[axis]
        variance = variance * (count / (count - 1.0))
    return rest / ops.sqrt(variance + EPSILON)


class InstanceNorm(nn.Cell):
    """Each map less its mean, divided by its deviation (biased variance, eps 1e-5)."""

    def __init__(self, portable=False):
        super().__init__()
        self.portable = portable
        self.norm = ops.BatchNorm(is_training=True, epsilon=EPSILON, momentum=0.0)

    def construct(self, x):
        """Returns [N, C, H, W]."""
        if self.portable:
            return normalise(x, (2, 3))
        n, c, h, w = x.shape
        one, zero = ops.ones((n * c,), ms.float32), ops.zeros((n * c,), ms.float32)
        return self.norm(x.reshape(1, n * c, h, w), one, zero, zero, one)[0].reshape(n, c, h, w)


class LayerInstanceNorm(nn.Cell):
    """rho times the instance norm plus 1 - rho times the layer norm, scaled and shifted.

    AdaLIN takes gamma and beta from the style (equation 1 of the paper), LIN has its own.

    Args:
      channels: C.
      rho: its initial value: 0.9 for AdaLIN, 0 for LIN, as in the PyTorch code.
      own: whether gamma and beta are parameters of this layer.
      unbiased: divide the variances by n - 1, as the PyTorch code does.
      portable: see the module.
    """

    def __init__(self, channels, rho, own=False, unbiased=False, portable=False):
        super().__init__()
        self.rho = parameter(1, channels, 1, 1, value=rho)
        self.gamma = parameter(1, channels, 1, 1, value=1.0) if own else None
        self.beta = parameter(1, channels, 1, 1) if own else None
        self.plain, self.unbiased = portable or unbiased, unbiased
        self.norm = ops.BatchNorm(is_training=True, epsilon=EPSILON, momentum=0.0)
        self.scale = ops.BatchNorm(is_training=False, epsilon=EPSILON)

    def construct(self, x, gamma=None, beta=None):
        """Returns [N, C, H, W]; `gamma` and `beta` [N, C] are the style."""
        n, c, h, w = x.shape
        if gamma is None:
            gamma = self.gamma.reshape(1, c).broadcast_to((n, c))
            beta = self.beta.reshape(1, c).broadcast_to((n, c))
        if self.plain:
            instance = normalise(x, (2, 3), self.unbiased)
            layer = normalise(x, (1, 2, 3), self.unbiased)
            mixed = self.rho * instance + (1 - self.rho) * layer
            return gamma.reshape(n, c, 1, 1) * mixed + beta.reshape(n, c, 1, 1)
        of_instance = gamma * self.rho.reshape(1, c)
        of_layer = gamma - of_instance
        one, zero = ops.ones((n * c,), ms.float32), ops.zeros((n * c,), ms.float32)
        ones, zeros = ops.ones((n,), ms.float32), ops.zeros((n,), ms.float32)
        maps = x.reshape(1, n * c, h, w)
        instance = self.norm(maps, of_instance.reshape(-1), beta.reshape(-1), zero, one)[0]
        layer = self.norm(x.reshape(1, n, c * h, w), ones, zeros, zeros, ones)[0]
        layer = layer.reshape(1, n * c, h, w)
        layer = self.scale(layer, of_layer.reshape(-1), zero, zero, one - EPSILON)[0]
        return (instance + layer).reshape(n, c, h, w)
