# SPDX-License-Identifier: Apache-2.0
"""Generator (section 2.1.1) and discriminator (section 2.1.2); pictures are [N, C, H, W], [-1, 1].

`variant` decides where published codes differ, so that their weights can be used:

                      paper (default)   pytorch                mindspore
  border              reflection        reflection             zeros
  variance in (Ada)LIN  n               n - 1                  n
  discriminator       spectral norm     spectral norm          none
  its attention       the same weight   the weight unnormalised  the same weight
"""

import math
import zlib
from typing import Dict

import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from ugatit.attention import Attention, SpectralNorm
from ugatit.layers import (
    Convolution,
    Dense,
    FewMaps,
    InstanceNorm,
    LayerInstanceNorm,
    UpConvolution,
    leaky_relu,
)

NAMES = ("genA2B", "genB2A", "disGA", "disGB", "disLA", "disLB")
GENERATORS, DISCRIMINATORS = NAMES[:2], NAMES[2:]


class ResidualBlock(nn.Cell):
    """Two 3x3 convolutions with instance norm, added to their input."""

    def __init__(self, channels, **form):
        super().__init__()
        self.conv1 = Convolution(channels, channels, 3, 1, 1, **form)
        self.conv2 = Convolution(channels, channels, 3, 1, 1, **form)
        self.norm = InstanceNorm(form["portable"])

    def construct(self, x):
        """Returns [N, C, H, W]."""
        inner = ops.relu(self.norm(self.conv1(x)))
        return x + self.norm(self.conv2(inner))


class AdaptiveBlock(nn.Cell):
    """Two 3x3 convolutions with AdaLIN, added to their input."""

    def __init__(self, channels, unbiased, **form):
        super().__init__()
        self.conv1 = Convolution(channels, channels, 3, 1, 1, **form)
        self.norm1 = LayerInstanceNorm(channels, 0.9, False, unbiased, form["portable"])
        self.conv2 = Convolution(channels, channels, 3, 1, 1, **form)
        self.norm2 = LayerInstanceNorm(channels, 0.9, False, unbiased, form["portable"])

    def construct(self, x, gamma, beta):
        """Returns [N, C, H, W]; `gamma` and `beta` are the style, [N, C]."""
        inner = ops.relu(self.norm1(self.conv1(x), gamma, beta))
        return x + self.norm2(self.conv2(inner), gamma, beta)


class Generator(nn.Cell):
    """Translates pictures of one domain to the other.

    Args:
      config: --ch, --n_res, --img_size, --img_ch, --light and --variant.
      portable: the forms that exporters know, see `layers`.
      half: convolutions and dense layers in float16.
    """

    def __init__(self, config, portable: bool = False, half: bool = False):
        super().__init__()
        ch, width, unbiased = config.ch, 4 * config.ch, config.variant == "pytorch"
        kind = "zero" if config.variant == "mindspore" else "reflect"
        form = {"kind": kind, "portable": portable, "half": half}
        self.light, self.norm = config.light, InstanceNorm(portable)
        self.stem = Convolution(config.img_ch, ch, 7, 1, 3, **form)
        self.down1 = Convolution(ch, 2 * ch, 3, 2, 1, **form)
        self.down2 = Convolution(2 * ch, width, 3, 2, 1, **form)
        self.encoder = nn.CellList([ResidualBlock(width, **form) for _ in range(config.n_res)])
        self.attention = Attention(width, Dense(width, 1), Dense(width, 1), portable, half)
        style_inputs = width if config.light else width * (config.img_size // 4) ** 2
        self.fc1, self.fc2 = Dense(style_inputs, width, half), Dense(width, width, half)
        self.gamma, self.beta = Dense(width, width, half), Dense(width, width, half)
        blocks = [AdaptiveBlock(width, unbiased, **form) for _ in range(config.n_res)]
        self.decoder = nn.CellList(blocks)
        self.up1 = UpConvolution(width, 2 * ch, **form)
        self.up1_norm = LayerInstanceNorm(2 * ch, 0.0, True, unbiased, portable)
        self.up2 = UpConvolution(2 * ch, ch, **form)
        self.up2_norm = LayerInstanceNorm(ch, 0.0, True, unbiased, portable)
        self.out = FewMaps(ch, config.img_ch, 7, **form)

    def construct(self, x):
        """Returns (pictures [N, C, H, W] in [-1, 1], CAM logits [N, 2], heat maps [N, 1, h, w])."""
        x = ops.relu(self.norm(self.stem(x)))
        x = ops.relu(self.norm(self.down1(x)))
        x = ops.relu(self.norm(self.down2(x)))
        for block in self.encoder:
            x = block(x)
        x, logits = self.attention(x)
        x = ops.relu(x)
        heat = x.sum(1, keepdims=True)
        inputs = self.attention.pool(x)[0] if self.light else x.reshape(x.shape[0], -1)
        style = ops.relu(self.fc2(ops.relu(self.fc1(inputs))))
        gamma, beta = self.gamma(style), self.beta(style)
        for block in self.decoder:
            x = block(x, gamma, beta)
        x = ops.relu(self.up1_norm(self.up1(x)))
        x = ops.relu(self.up2_norm(self.up2(x)))
        return ops.tanh(self.out(x)), logits, heat


class Discriminator(nn.Cell):
    """Judges patches, and with attention the whole; each picture by itself.

    Args:
      n_layers: 7 for the global discriminator of the paper, 5 for the local one.
      config: --ch, --img_ch and --variant.
      half: convolutions in float16.
    """

    def __init__(self, n_layers: int, config, half: bool = False):
        super().__init__()
        kind = "zero" if config.variant == "mindspore" else "reflect"
        normed, raw = config.variant != "mindspore", config.variant == "pytorch"
        widths = [config.img_ch] + [config.ch * 2**i for i in range(n_layers - 1)]
        strides, last = [2] * (n_layers - 2) + [1], widths[-1]

        def convolution(inputs, outputs, stride, bias):
            layer = Convolution(inputs, outputs, 4, stride, 1, bias, kind, half=half)
            return SpectralNorm(layer, normed)

        body = [convolution(i, o, s, True) for i, o, s in zip(widths, widths[1:], strides)]
        self.body = nn.CellList(body)
        dense = [SpectralNorm(Dense(last, 1), normed) for _ in range(2)]
        self.attention = Attention(last, dense[0], dense[1], half=half, raw=raw)
        self.out = convolution(last, 1, 1, False)
        self.normed = [*body, *dense, self.out] if normed else []

    def construct(self, x):
        """Returns (logits of patches [N, 1, h, w], CAM logits [N, 2], heat maps [N, 1, h', w'])."""
        for layer in self.body:
            x = leaky_relu(layer(x))
        x, logits = self.attention(x)
        x = leaky_relu(x)
        return self.out(x), logits, x.sum(1, keepdims=True)

    def advance(self):
        """Makes one power iteration of every spectral norm; once per discriminator step."""
        for layer in self.normed:
            layer.advance()


def initialise(network: nn.Cell, seed: int) -> None:
    """Gives the weights their initial values, each from a seed of its own: (seed, its name).

    Weights and biases are uniform within 1 / sqrt(inputs), as in the PyTorch code; norms keep what
    they were made with; the spectral norms' vectors are random directions.
    """
    fans = {}
    for p in network.get_parameters():
        rng = np.random.default_rng([seed, zlib.crc32(p.name.encode())])
        last = p.name.rsplit(".", 1)[-1]
        if last == "weight":
            fans[p.name[: -len("weight")]] = int(np.prod(p.shape[1:]))
        if last in ("u", "v"):
            values = rng.standard_normal(p.shape, np.float32)
            values /= np.linalg.norm(values)
        elif last == "weight" or (last == "bias" and p.name[: -len("bias")] in fans):
            bound = 1 / math.sqrt(fans[p.name[: -len(last)]])
            values = (rng.random(p.shape, np.float32) * 2 - 1) * np.float32(bound)
        else:
            continue
        p.set_data(Tensor(values))


def build_generator(config, name: str, portable: bool = False, half: bool = False) -> Generator:
    """Returns a generator with its initial weights; `name` is "genA2B" or "genB2A"."""
    return _named(Generator(config, portable, half), name, config.seed)


def build_networks(config, half: bool = False) -> Dict[str, nn.Cell]:
    """Returns {name of NAMES: network} with initial weights.

    disGA and disLA judge domain A, globally and locally.
    """
    networks = {name: build_generator(config, name, half=half) for name in GENERATORS}
    for name in DISCRIMINATORS:
        n_layers = config.n_dis + (1 if name[3] == "G" else -1)
        networks[name] = _named(Discriminator(n_layers, config, half), name, config.seed)
    return networks


def _named(network, name, seed):
    network.update_parameters_name(name + ".")
    initialise(network, seed)
    return network


def own_name(parameter: Parameter) -> str:
    """Returns the parameter's name without that of its network."""
    return parameter.name.split(".", 1)[1]
