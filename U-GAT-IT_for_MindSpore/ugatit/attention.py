# SPDX-License-Identifier: Apache-2.0
"""Attention from class activation maps, and the spectral norm of the discriminators' weights."""

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from ugatit.layers import Convolution, parameter


class SpectralNorm(nn.Cell):
    """Divides a layer's weight by its largest singular value (Miyato et al. 2018, section 2.1).

    Args:
      layer: a `Convolution` or `Dense`.
      used: False leaves the weight as it is.
    """

    def __init__(self, layer, used=True):
        super().__init__()
        self.layer, self.used = layer, used
        shape = layer.weight.shape
        self.rows = (shape[0], int(np.prod(shape[1:])))
        self.u = parameter(self.rows[0], 1, trained=False)
        self.v = parameter(self.rows[1], 1, trained=False)
        self.multiply, self.multiply_t = ops.MatMul(), ops.MatMul(transpose_a=True)

    def construct(self, x, weight=None):
        """Returns what the layer makes of x with the normalised weight, or `weight` if given."""
        if weight is not None or not self.used:
            return self.layer(x, weight)
        return self.layer(x, None, 1 / self.largest())  # many fewer maps than weights

    def effective(self):
        """Returns the weight divided by its largest singular value."""
        return self.layer.weight / self.largest() if self.used else self.layer.weight

    def largest(self):
        """Returns u'Wv, [1]."""
        product = self.multiply(self.layer.weight.reshape(self.rows), self.v)
        return self.multiply_t(self.u, product).reshape(1)

    def advance(self):
        """Makes one power iteration: v from u, then u from v."""
        rows = self.layer.weight.reshape(self.rows)
        v = unit(self.multiply_t(rows, self.u))
        ops.assign(self.u, unit(self.multiply(rows, v)))
        ops.assign(self.v, v)


def unit(vector):
    """Returns the vector at length 1."""
    return vector / (ops.sqrt((vector * vector).sum()) + 1e-12)


class Attention(nn.Cell):
    """Class activation maps: [N, C, H, W] -> maps weighted by attention, and their logits.

    Two dense layers judge the domain from the maps' averages and from their maxima (section 2.1.1);
    the maps times the weights of the one, and times those of the other, go through a 1x1
    convolution. That is one convolution of the maps, whose kernel the weights are multiplied into.

    Args:
      channels: C.
      gap_fc, gmp_fc: the dense layers, C -> 1.
      portable: see the module.
      half: convolve in float16.
      raw: weight the maps with the weights before their spectral norm, as the PyTorch code does.
    """

    def __init__(self, channels, gap_fc, gmp_fc, portable=False, half=False, raw=False):
        super().__init__()
        self.channels, self.portable, self.raw = channels, portable, raw
        self.gap_fc, self.gmp_fc = gap_fc, gmp_fc
        self.multiply, self.split = ops.MatMul(), ops.Split(1, 2)
        self.conv1x1 = Convolution(2 * channels, channels, 1, 1, 0, bias=True, half=half)

    def construct(self, x):
        """Returns (maps before the activation, logits [N, 2]: of averages, of maxima)."""
        c = self.channels
        average, largest = self.pool(x)
        gap, gmp = self.gap_fc.effective(), self.gmp_fc.effective()
        logits = ops.concat((self.gap_fc(average, gap), self.gmp_fc(largest, gmp)), 1)
        if self.raw:
            gap, gmp = self.gap_fc.layer.weight, self.gmp_fc.layer.weight
        scale = self.multiply(ops.ones((c, 1), ms.float32), ops.concat((gap, gmp), 1))
        of_average, of_largest = self.split(self.conv1x1.weight.reshape(c, 2 * c) * scale)
        return self.conv1x1(x, (of_average + of_largest).reshape(c, c, 1, 1)), logits

    def pool(self, x):
        """Returns the averages and the maxima of the maps, both [N, C]."""
        n, c, h, w = x.shape
        if self.portable:
            return x.mean((2, 3)), ops.ReduceMax()(x, (2, 3))
        average = ops.AvgPool((h, w), (h, w))(x).reshape(n, c)
        return average, ops.MaxPool((h, w), (h, w))(x).reshape(n, c)
