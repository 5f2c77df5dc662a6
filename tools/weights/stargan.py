# SPDX-License-Identifier: Apache-2.0
"""Names and axes of the StarGAN authors' PyTorch weights (yunjey/stargan) in our graph.

Their `*-G.ckpt` and `*-D.ckpt` hold {name: array}, which `from_pytorch` turns into ours.
PyTorch stores a convolution's kernel as [out, in, h, w] and a transposed one's as [in, out, h, w];
TensorFlow has [h, w, in, out] and [h, w, out, in].
"""

import re
from typing import Dict

import numpy as np

# What their generator never uses: it is never switched to evaluation mode.
UNUSED = ("running_mean", "running_var", "num_batches_tracked")


def _norm(name):
    return {"weight": name + "/gamma", "bias": name + "/beta"}


def generator_names(blocks: int = 6) -> Dict[str, str]:
    """Returns {PyTorch name: our variable} of a generator with so many residual blocks."""
    names = {}

    def add(number, kernel, norm):
        names["main.%d.weight" % number] = kernel
        for part, variable in _norm(norm).items():
            names["main.%d.%s" % (number + 1, part)] = variable

    add(0, "G/conv/conv2d/kernel", "G/ins_norm")
    for i in range(2):
        add(3 + 3 * i, "G/conv_%d/conv2d/kernel" % i, "G/down_ins_norm_%d" % i)
    for i in range(blocks):
        for half, first in (("res1", 0), ("res2", 3)):
            theirs, ours = "main.%d.main." % (9 + i), "G/resblock_%d/%s/" % (i, half)
            names["%s%d.weight" % (theirs, first)] = ours + "conv_0/conv2d/kernel"
            for part, variable in _norm(ours + "instance_norm").items():
                names["%s%d.%s" % (theirs, first + 1, part)] = variable
    for i in range(2):
        place = 9 + blocks + 3 * i
        add(place, "G/deconv_%d/conv2d_transpose/kernel" % i, "G/up_ins_norm%d" % i)
    names["main.%d.weight" % (15 + blocks)] = "G/G_logit/conv2d/kernel"
    return names


def discriminator_names(layers: int = 6) -> Dict[str, str]:
    """Returns {PyTorch name: our variable} of a discriminator with so many strided convolutions."""
    names = {"conv1.weight": "D/D_logit/conv2d/kernel", "conv2.weight": "D/D_label/conv2d/kernel"}
    for i in range(layers):
        names["main.%d.weight" % (2 * i)] = "D/conv_%d/conv2d/kernel" % i
        names["main.%d.bias" % (2 * i)] = "D/conv_%d/conv2d/bias" % i
    return names


def _count(names, pattern) -> int:
    return len({match.group() for match in map(re.compile(pattern).match, names) if match})


def from_pytorch(
    generator: Dict[str, np.ndarray], discriminator: Dict[str, np.ndarray]
) -> Dict[str, np.ndarray]:
    """Returns {our variable: array} of the authors' networks; either may be empty.

    Raises:
      ValueError: if a name is missing or belongs to neither network.
    """
    blocks = _count(generator, r"main\.\d+\.main\.0\.weight$")
    layers = _count(discriminator, r"main\.\d+\.weight$")
    ours = {}
    for arrays, names in (
        (generator, generator_names(blocks)),
        (discriminator, discriminator_names(layers)),
    ):
        used = {name for name in arrays if name.rsplit(".", 1)[-1] not in UNUSED}
        if used and used != set(names):
            odd = ", ".join(sorted(used ^ set(names))[:5])
            raise ValueError("these are no StarGAN weights; missing or not known: %s" % odd)
        for name in used:
            array = np.asarray(arrays[name])
            # One order serves both: [out, in, h, w] -> [h, w, in, out], and the other way round.
            ours[names[name]] = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
    return ours
