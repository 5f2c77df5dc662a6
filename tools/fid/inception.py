# SPDX-License-Identifier: Apache-2.0
"""The Inception network of December 2015 as a graph, its layers by PyTorch's names.

Szegedy et al. 2016, arXiv:1512.00567, figure 10 and table 1, with what TensorFlow's published graph
does: average pooling does not count the border, and the last block has maximum pooling.
"""

from typing import Dict, Tuple

import numpy as np
import tensorflow.compat.v1 as tf

SIDE, WIDTH = 299, 2048  # pixels of the pictures, numbers that describe one
EPSILON = 1e-3  # of the batch normalisation
CLASSES = 1008  # of the last layer, which no distance uses

Shape = Tuple[int, ...]


def _shapes() -> Dict[str, Shape]:
    """Returns {layer: (outputs, inputs, height, width)} of the 94 convolutions."""
    table = {}

    def chain(block, inputs, *layers):
        """Adds layers that follow each other: (name, outputs, height, width)."""
        for name, outputs, height, width in layers:
            table[block + name] = (outputs, inputs, height, width)
            inputs = outputs

    chain("Conv2d_", 3, ("1a_3x3", 32, 3, 3), ("2a_3x3", 32, 3, 3), ("2b_3x3", 64, 3, 3))
    chain("Conv2d_", 64, ("3b_1x1", 80, 1, 1), ("4a_3x3", 192, 3, 3))
    triple = ("branch3x3dbl_1", 64, 1, 1), ("branch3x3dbl_2", 96, 3, 3)
    for letter, inputs, pool in (("b", 192, 32), ("c", 256, 64), ("d", 288, 64)):
        block = "Mixed_5%s." % letter
        chain(block, inputs, ("branch1x1", 64, 1, 1))
        chain(block, inputs, ("branch5x5_1", 48, 1, 1), ("branch5x5_2", 64, 5, 5))
        chain(block, inputs, *triple, ("branch3x3dbl_3", 96, 3, 3))
        chain(block, inputs, ("branch_pool", pool, 1, 1))
    chain("Mixed_6a.", 288, ("branch3x3", 384, 3, 3))
    chain("Mixed_6a.", 288, *triple, ("branch3x3dbl_3", 96, 3, 3))
    for letter, n in (("b", 128), ("c", 160), ("d", 160), ("e", 192)):
        block = "Mixed_6%s." % letter
        chain(block, 768, ("branch1x1", 192, 1, 1))
        wide, high = (n, 1, 7), (n, 7, 1)
        first = ("branch7x7_1", n, 1, 1), ("branch7x7_2", *wide)
        chain(block, 768, *first, ("branch7x7_3", 192, 7, 1))
        first = ("branch7x7dbl_1", n, 1, 1), ("branch7x7dbl_2", *high), ("branch7x7dbl_3", *wide)
        chain(block, 768, *first, ("branch7x7dbl_4", *high), ("branch7x7dbl_5", 192, 1, 7))
        chain(block, 768, ("branch_pool", 192, 1, 1))
    chain("Mixed_7a.", 768, ("branch3x3_1", 192, 1, 1), ("branch3x3_2", 320, 3, 3))
    first = ("branch7x7x3_1", 192, 1, 1), ("branch7x7x3_2", 192, 1, 7), ("branch7x7x3_3", 192, 7, 1)
    chain("Mixed_7a.", 768, *first, ("branch7x7x3_4", 192, 3, 3))
    for letter, inputs in (("b", 1280), ("c", 2048)):
        block = "Mixed_7%s." % letter
        chain(block, inputs, ("branch1x1", 320, 1, 1))
        chain(block, inputs, ("branch3x3_1", 384, 1, 1))
        chain(block, inputs, ("branch3x3dbl_1", 448, 1, 1), ("branch3x3dbl_2", 384, 3, 3))
        for branch in ("branch3x3_2", "branch3x3dbl_3"):
            chain(block, 384, (branch + "a", 384, 1, 3))
            chain(block, 384, (branch + "b", 384, 3, 1))
        chain(block, inputs, ("branch_pool", 192, 1, 1))
    return table


CONVOLUTIONS = _shapes()


def shapes() -> Dict[str, Shape]:
    """Returns {PyTorch's name: shape} of the published file's tensors, fc included."""
    table = {}
    for layer, shape in CONVOLUTIONS.items():
        table[layer + ".conv.weight"] = shape
        for part in ("weight", "bias", "running_mean", "running_var"):
            table["%s.bn.%s" % (layer, part)] = shape[:1]
    table.update({"fc.weight": (CLASSES, WIDTH), "fc.bias": (CLASSES,)})
    return table


def random_weights(seed: int = 0) -> Dict[str, np.ndarray]:
    """Returns {PyTorch's name: float32 array} of a network that was not trained, without fc.

    Kernels are Normal(0, 2 / fan-in), the batch normalisation changes nothing.
    """
    rng, weights = np.random.RandomState(seed), {}
    for layer, shape in CONVOLUTIONS.items():
        deviation = np.sqrt(2.0 / np.prod(shape[1:]))
        weights[layer + ".conv.weight"] = (deviation * rng.standard_normal(shape)).astype("f4")
        for part, value in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
            weights["%s.bn.%s" % (layer, part)] = np.full(shape[:1], value, np.float32)
    return weights


class Inception:
    """Builds the graph from {PyTorch's name: float32 array}; batch normalisation is folded in."""

    def __init__(self, weights: Dict[str, np.ndarray]):
        self._weights = weights

    def build(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the features [N, 2048] of float32 [N, 299, 299, 3] in [-1, 1]."""
        x = self._convolve(images, "Conv2d_1a_3x3", 2, "VALID")
        x = self._convolve(x, "Conv2d_2a_3x3", padding="VALID")
        x = self._halve(self._convolve(x, "Conv2d_2b_3x3"))
        x = self._convolve(x, "Conv2d_3b_1x1", padding="VALID")
        x = self._halve(self._convolve(x, "Conv2d_4a_3x3", padding="VALID"))
        for letter in "bcd":
            names = ("branch1x1",), _numbered("branch5x5", 2), _numbered("branch3x3dbl", 3)
            x = self._mixed(x, "Mixed_5" + letter, *names)
        x = self._reduce(x, "Mixed_6a", ("branch3x3",), _numbered("branch3x3dbl", 3))
        for letter in "bcde":
            names = ("branch1x1",), _numbered("branch7x7", 3), _numbered("branch7x7dbl", 5)
            x = self._mixed(x, "Mixed_6" + letter, *names)
        x = self._reduce(x, "Mixed_7a", _numbered("branch3x3", 2), _numbered("branch7x7x3", 4))
        x = self._widest(x, "Mixed_7b", pool=self._average)
        x = self._widest(x, "Mixed_7c", pool=self._maximum_pool)
        return self._describe(x)

    def _kernel(self, layer):
        """Returns (kernel [h, w, in, out], bias [out]) with the batch normalisation in them."""
        value = {part: self._weights["%s.bn.%s" % (layer, part)] for part in _PARTS}
        scale = value["weight"] / np.sqrt(value["running_var"].astype(np.float64) + EPSILON)
        kernel = self._weights[layer + ".conv.weight"].transpose(2, 3, 1, 0) * scale
        bias = value["bias"] - value["running_mean"] * scale
        return tf.constant(kernel.astype(np.float32)), tf.constant(bias.astype(np.float32))

    def _convolve(self, x, layer, stride=1, padding="SAME"):
        kernel, bias = self._kernel(layer)
        x = tf.nn.conv2d(x, kernel, [1, stride, stride, 1], padding)
        return tf.nn.relu(tf.nn.bias_add(x, bias))

    def _branch(self, x, block, names, last=1):
        """Returns layers one after the other; with a stride `last` the last one sees no border."""
        for name in names[:-1]:
            x = self._convolve(x, "%s.%s" % (block, name))
        padding = "SAME" if last == 1 else "VALID"
        return self._convolve(x, "%s.%s" % (block, names[-1]), last, padding)

    def _mixed(self, x, block, *branches):
        made = [self._branch(x, block, names) for names in branches]
        return self._join(made + [self._average(x, block)])

    def _reduce(self, x, block, *branches):
        made = [self._branch(x, block, names, last=2) for names in branches]
        return self._join(made + [self._halve(x)])

    def _widest(self, x, block, pool):
        made = [self._branch(x, block, ("branch1x1",))]
        for names, last in (
            (("branch3x3_1",), "branch3x3_2"),
            (_numbered("branch3x3dbl", 2), "branch3x3dbl_3"),
        ):
            y = self._branch(x, block, names)
            made += [self._branch(y, block, (last + side,)) for side in "ab"]
        return self._join(made + [pool(x, block)])

    def _average(self, x, block):
        """Returns the pooled branch; the average is taken after its 1x1 convolution: the same."""
        kernel, bias = self._kernel(block + ".branch_pool")
        x = tf.nn.conv2d(x, kernel, [1, 1, 1, 1], "SAME")
        x = tf.nn.avg_pool(x, [1, 3, 3, 1], [1, 1, 1, 1], "SAME")
        return tf.nn.relu(tf.nn.bias_add(x, bias))

    def _maximum_pool(self, x, block):
        x = tf.nn.max_pool(x, [1, 3, 3, 1], [1, 1, 1, 1], "SAME")
        return self._convolve(x, block + ".branch_pool")

    def _halve(self, x):
        return tf.nn.max_pool(x, [1, 3, 3, 1], [1, 2, 2, 1], "VALID")

    def _join(self, branches):
        return tf.concat(branches, 3)

    def _describe(self, x):
        return tf.reduce_mean(x, [1, 2])


_PARTS = ("weight", "bias", "running_mean", "running_var")


def _numbered(name, count):
    return tuple("%s_%d" % (name, i) for i in range(1, count + 1))
