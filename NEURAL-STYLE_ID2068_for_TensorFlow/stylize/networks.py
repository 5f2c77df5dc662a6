# SPDX-License-Identifier: Apache-2.0
"""VGG-19 (Simonyan and Zisserman 2015) and what it says of a picture.

`pixels` are float32 [1, H, W, 3]: RGB in 0..255 minus the mean pixel of the network.
"""

from typing import Dict, List, NamedTuple, Sequence

import numpy as np
import tensorflow.compat.v1 as tf

from stylize.losses import gram_matrix, gram_sums
from stylize.weights import LAYERS, Network
from tf_runtime import filtering

STRIP_PIXELS = 2**19  # of the picture, in one strip
HALO = 2  # lines that a block's two convolutions look beyond their strip
BLOCKS = [[layer for layer in LAYERS if layer[4] == number] for number in "12345"]


class Description(NamedTuple):
    """What the network says of a picture.

    Attributes:
      features: {layer: float32 [1, H_l, W_l, C_l]} of the content layers.
      grams: {layer: one [C_l, C_l] for each mask} of the style layers.
    """

    features: Dict[str, tf.Tensor]
    grams: Dict[str, List[tf.Tensor]]


class Vgg:
    """VGG-19 as far as its layers are asked for; no checkpoint holds its weights.

    Args:
      network: from `weights.read_network`.
      content_layers: whose features are asked for.
      style_layers: whose Gram matrices are asked for.
      pooling: "max", or "avg" as the paper prefers (Gatys et al., section 2).
      minimal: compute convolutions by minimal filtering where it pays (CPU, float32).
    """

    def __init__(self, network: Network, content_layers, style_layers, pooling, minimal):
        self._network, self._pooling, self._minimal = network, pooling, minimal
        self._content_layers, self._style_layers = set(content_layers), set(style_layers)
        last = max(LAYERS.index(name) for name in self._content_layers | self._style_layers)
        needed = set(LAYERS[: last + 1])
        self._blocks = [[layer for layer in block if layer in needed] for block in BLOCKS]
        self._feed, self._tensors, self._starts = {}, {}, []

    def load(self, session) -> None:
        """Gives the weights their values in `session`, after all descriptions were built."""
        session.run(self._starts, self._feed)
        self._network, self._feed = None, {}

    def _tensor(self, name, value):
        """Returns `value` as a tensor that is read from a variable outside the checkpoint."""
        if name not in self._tensors:
            start = tf.placeholder(tf.float32, value.shape)
            self._feed[start] = value
            variable = tf.Variable(start, trainable=False, collections=["vgg"])
            self._starts.append(variable.initializer)
            self._tensors[name] = tf.stop_gradient(variable.read_value())
        return self._tensors[name]

    def _weights(self, name, is_filtered=False):
        """Returns the kernel, as it is or made ready for minimal filtering, and the bias."""
        kernel, bias = self._network.layers[name]
        bias = self._tensor(name + "/bias", bias)
        if is_filtered:
            return self._tensor(name + "/filtered", filtering.filter_kernel(kernel)), bias
        return self._tensor(name, kernel), bias

    def _convolve(self, x, name, may_filter):
        channels, filters = self._network.layers[name][0].shape[2:]
        height = x.shape.as_list()[1]
        if may_filter and height * (channels + filters) <= channels * filters:
            kernel, bias = self._weights(name, is_filtered=True)
            x = filtering.filter_lines(x, kernel)
        else:
            kernel, bias = self._weights(name)
            x = tf.nn.conv2d(x, kernel, [1, 1, 1, 1], "SAME")
        return tf.nn.bias_add(x, bias)

    def _block(self, x, block, may_filter, lines=None):
        """Returns (what the next block gets, {layer: maps}), each cut to `lines` of the block."""
        maps = {}
        for name in block:
            if name.startswith("conv"):
                x = self._convolve(x, name, may_filter)
            elif name.startswith("relu"):
                x = tf.nn.relu(x)
            else:
                pool = tf.nn.max_pool if self._pooling == "max" else tf.nn.avg_pool
                x, lines = (
                    pool(x[:, lines] if lines else x, [1, 2, 2, 1], [1, 2, 2, 1], "SAME"),
                    None,
                )
            maps[name] = x[:, lines] if lines else x
        return x, maps

    def _sums(self, maps, block, masks):
        """Returns the sums of Gram matrices: of the block's first style layer for each mask, ..."""
        layers = [name for name in block if name in self._style_layers]
        return [gram_sums(maps[name], _at(name, mask)) for name in layers for mask in masks]

    def _strips(self, x, block, masks):
        """Returns what `_block` and `_sums` do, computed in strips, and again for the gradient.

        A strip and HALO lines around it go through the block's convolutions; the lines that saw the
        cut are dropped. So the seams are exact, and only one strip's maps are in memory.
        """
        height, width = x.shape.as_list()[1:3]
        for name in block:  # the weights must be there before the function with its own gradient
            if name.startswith("conv"):
                self._weights(name)
        count = -(-height * width // (STRIP_PIXELS >> 2 * BLOCKS.index(block)))
        lines = 2 * -(-height // (2 * count))
        strips = [slice(begin, min(begin + lines, height)) for begin in range(0, height, lines)]

        def compute(x, strip, before):
            around = slice(max(0, strip.start - HALO), min(height, strip.stop + HALO))
            with tf.control_dependencies(before):
                piece = tf.identity(x[:, around])
            inside = slice(strip.start - around.start, strip.stop - around.start)
            y, maps = self._block(piece, block, False, inside)
            cut = [mask if mask is None else mask[:, strip] for mask in masks]
            return around, piece, [y] + self._sums(maps, block, cut)

        @tf.custom_gradient
        def apply(x):
            outputs = []
            for strip in strips:
                outputs.append(compute(x, strip, outputs[-1] if outputs else [])[2])
            y = tf.concat([output[0] for output in outputs], axis=1)
            sums = [tf.add_n(list(each)) for each in zip(*[output[1:] for output in outputs])]

            def gradient(*upstream):
                sizes = [output[0].shape.as_list()[1] for output in outputs]
                whole, before = None, list(upstream)
                for strip, dy in zip(strips, tf.split(upstream[0], sizes, axis=1)):
                    around, piece, again = compute(x, strip, before)
                    (part,) = tf.gradients(again, piece, [dy] + list(upstream[1:]))
                    rest = [around.start, height - around.stop]
                    part = tf.pad(part, [[0, 0], rest, [0, 0], [0, 0]])
                    whole = part if whole is None else whole + part
                    before = [whole]
                return whole

            return [y] + sums, gradient

        y, *sums = apply(x)
        return y, sums

    def describe(self, pixels: tf.Tensor, masks: Sequence[np.ndarray] = (), in_strips=False):
        """Returns the Description of `pixels`.

        Args:
          pixels: [1, H, W, 3] of known size.
          masks: float32 [H, W] in 0..1: a Gram matrix for each; without any, one of all places.
          in_strips: compute the two largest blocks in strips, and again in the backward pass: less
            memory, the same result. Not where a content layer is among them.
        """
        masks = [mask[None, :, :, None] for mask in masks] or [None]
        features, grams, x = {}, {}, pixels
        for block in filter(None, self._blocks):
            height, width = x.shape.as_list()[1:3]
            is_plain = block in BLOCKS[:2] and not self._content_layers & set(block)
            if in_strips and is_plain:
                x, sums = self._strips(x, block, masks)
            else:
                x, maps = self._block(x, block, self._minimal)
                features.update((n, maps[n]) for n in block if n in self._content_layers)
                sums = self._sums(maps, block, masks)
            for name in (n for n in block if n in self._style_layers):
                full = np.ones([1, height, width, 1], np.float32)
                at = [_at(name, full if mask is None else mask) for mask in masks]
                places = [float(np.square(mask).sum()) for mask in at]
                grams[name] = [gram_matrix(sums.pop(0), count) for count in places]
            masks = [mask if mask is None else halve(mask) for mask in masks]
        return Description(features, grams)


def halve(mask: np.ndarray) -> np.ndarray:
    """Returns the means of 2 x 2 places of a mask [1, H, W, 1]; at an odd edge of the real ones."""
    height, width = mask.shape[1:3]
    mask = np.pad(mask, [(0, 0), (0, height % 2), (0, width % 2), (0, 0)], "edge")
    return mask.reshape(1, (height + 1) // 2, 2, (width + 1) // 2, 2, 1).mean((2, 4))


def _at(name, mask):
    """Returns the mask of a block at the size of its layer `name`, half of it where that pools."""
    return halve(mask) if mask is not None and name.startswith("pool") else mask
