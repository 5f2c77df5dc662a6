# SPDX-License-Identifier: Apache-2.0
"""VGG-19 (Simonyan and Zisserman 2015) and what it says of a picture.

`pixels` are float32 [1, H, W, 3]: RGB in 0..255 minus the mean pixel of the network.
"""

from typing import Dict, List, NamedTuple, Sequence

import numpy as np
import tensorflow.compat.v1 as tf

from stylize.losses import gram_matrix
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
        """Returns (what the next block gets, {layer: maps}).

        With `lines` the maps are cut to these lines: before the pooling, which takes two at a time.
        """
        maps = {}
        for name in block:
            if name.startswith("conv"):
                x = self._convolve(x, name, may_filter)
            elif name.startswith("relu"):
                x = tf.nn.relu(x)
            else:
                pool = tf.nn.max_pool if self._pooling == "max" else tf.nn.avg_pool
                x = pool(x if lines is None else x[:, lines], [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
                lines = None
            maps[name] = x if lines is None else x[:, lines]
        return x, maps

    def _grams(self, maps, block, masks, strip):
        """Returns the Gram matrices of a block's style layers, of each for every mask.

        Args:
          maps: {layer: maps}, of the lines `strip` of the block.
          block: the names of its layers.
          masks: [1, H, W, 1] of the block's size, ones where all places count alike.
          strip: the lines; a part of all makes the part of the Gram matrices that they add.
        """
        grams = []
        for name in (n for n in block if n in self._style_layers):
            for mask in masks:
                if name.startswith("pool"):
                    mask, lines = halve(mask), slice(strip.start // 2, (strip.stop + 1) // 2)
                else:
                    lines = strip
                places = float(np.square(mask, dtype=np.float64).sum())
                cut = None if (mask == 1).all() else mask[:, lines]
                grams.append(gram_matrix(maps[name], places, cut))
        return grams

    def _strips(self, x, block, masks):
        """Returns (what the next block gets, its Gram matrices), computed in strips.

        A strip and HALO lines around it go through the block's convolutions; the lines that saw the
        cut are dropped. So the seams are exact. The gradient computes each strip again, so that
        only one strip's maps are in memory.
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
            return around, piece, [y] + self._grams(maps, block, masks, strip)

        @tf.custom_gradient
        def apply(x):
            outputs = []
            for strip in strips:
                outputs.append(compute(x, strip, outputs[-1] if outputs else [])[2])
            y = tf.concat([output[0] for output in outputs], axis=1)
            grams = [tf.add_n(list(each)) for each in zip(*[output[1:] for output in outputs])]

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

            return [y] + grams, gradient

        y, *grams = apply(x)
        return y, grams

    def describe(self, pixels: tf.Tensor, masks: Sequence[np.ndarray] = (), in_strips=False):
        """Returns the Description of `pixels`.

        Args:
          pixels: [1, H, W, 3] of known size.
          masks: float32 [H, W] in 0..1: a Gram matrix for each; without any, one of all places.
          in_strips: compute the two largest blocks in strips, and again in the backward pass: less
            memory, the same but for rounding. Not a block that has a content layer.
        """
        shape = [1] + pixels.shape.as_list()[1:3] + [1]
        masks = [np.reshape(mask, shape) for mask in masks] or [np.ones(shape, np.float32)]
        features, grams, x = {}, {}, pixels
        for block in filter(None, self._blocks):
            if in_strips and may_strip(block, self._content_layers):
                x, found = self._strips(x, block, masks)
            else:
                everything = slice(0, x.shape.as_list()[1])
                x, maps = self._block(x, block, self._minimal)
                features.update((n, maps[n]) for n in block if n in self._content_layers)
                found = self._grams(maps, block, masks, everything)
            for name in (n for n in block if n in self._style_layers):
                grams[name] = [found.pop(0) for _ in masks]
            masks = [halve(mask) for mask in masks]
        return Description(features, grams)


def may_strip(block: Sequence[str], content_layers) -> bool:
    """Returns whether a block can be computed in strips: large, whole, without content layer."""
    return block in BLOCKS[:2] and not set(block) & set(content_layers)


def halve(mask: np.ndarray) -> np.ndarray:
    """Returns the means of 2 x 2 places of a mask [1, H, W, 1]; at an odd edge of the real ones."""
    height, width = mask.shape[1:3]
    mask = np.pad(mask, [(0, 0), (0, height % 2), (0, width % 2), (0, 0)], "edge")
    return mask.reshape(1, (height + 1) // 2, 2, (width + 1) // 2, 2, 1).mean((2, 4))
