# SPDX-License-Identifier: Apache-2.0
"""Names and axes of the StarGAN authors' PyTorch weights (yunjey/stargan) in our graph, and back.

Their `*-G.ckpt` and `*-D.ckpt` hold {name: array}. PyTorch stores a convolution's kernel as
[out, in, h, w] and a transposed one's as [in, out, h, w]; TensorFlow has [h, w, in, out] and
[h, w, out, in].
"""

import re
from typing import Dict, List, NamedTuple, Tuple

import numpy as np
import tensorflow.compat.v1 as tf

from harness.errors import UserError
from stargan import networks
from tools.weights import audit
from tools.weights.audit import Arrays

# What their generator never uses: it is never switched to evaluation mode.
UNUSED = ("running_mean", "running_var", "num_batches_tracked")
LARGEST = 4096  # pixels of a side; more is no image size but a wrong tensor


class Widths(NamedTuple):
    """What shapes tell: G's first channels, residual blocks and labels; all of D is 0 without D."""

    g: int
    blocks: int
    labels: int  # those of the mask included
    d: int = 0
    layers: int = 0
    d_labels: int = 0
    image_size: int = 0


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


def published_names(blocks: int, layers: int) -> Dict[str, str]:
    """Returns {our variable: their name with its network, such as G/main.0.weight}."""
    names = {ours: "G/" + name for name, ours in generator_names(blocks).items()}
    if layers:
        names.update({ours: "D/" + name for name, ours in discriminator_names(layers).items()})
    return names


def from_pytorch(arrays: Arrays) -> Tuple[Arrays, List[str]]:
    """Returns ({our variable: float32 array}, published names that have no use here).

    Args:
      arrays: {published name: array}; names begin with G/ or D/, which may be missing as a whole.

    Raises:
      UserError: if a tensor is missing, not known, of another shape, or not finite.
    """
    used = [name for name in arrays if name[:2] in ("G/", "D/")]
    used = [name for name in used if name.rsplit(".", 1)[-1] not in UNUSED]
    blocks = _count(used, r"G/main\.\d+\.main\.0\.weight$")
    layers = _count(used, r"D/main\.\d+\.weight$")
    ours = {theirs: name for name, theirs in published_names(blocks, layers).items()}
    turned = {}
    for name in used:
        array = np.asarray(arrays[name])
        # One order serves both: [out, in, h, w] -> [h, w, in, out], and the other way round.
        array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
        turned[ours.get(name, name)] = array
    return check(turned, "the published StarGAN"), [name for name in arrays if name not in used]


def to_pytorch(arrays: Arrays) -> Arrays:
    """Returns {their name with G/ or D/: array} of {our variable: array}, which `check` passed.

    The statistics that their generator keeps and never uses are as at the start of a training.
    """
    found = widths(arrays, "this StarGAN")
    theirs = {}
    for ours, name in published_names(found.blocks, found.layers).items():
        array = arrays[ours]
        array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
        theirs[name] = np.ascontiguousarray(array)
        if ours.endswith("/gamma"):
            place = name[: -len("weight")]
            theirs[place + "running_mean"] = np.zeros_like(array)
            theirs[place + "running_var"] = np.ones_like(array)
            theirs[place + "num_batches_tracked"] = np.array(0, np.int64)
    return theirs


def widths(arrays: Arrays, source: str) -> Widths:
    """Returns what the shapes of {our variable: array} tell.

    Raises:
      UserError: if a tensor that tells it is missing or cannot be right.
    """

    def shape(name):
        theirs = published_names(0, 1).get(name, name)
        return audit.first_shape(source, arrays, name, 4, theirs)

    first = shape("G/conv/conv2d/kernel")
    found = Widths(first[3], _count(arrays, r"G/resblock_\d+/"), first[2] - 3)
    if found.labels < 1:
        text = "%s does not fit: its first layer takes %d channels, a picture's 3 and no label"
        raise UserError(text % (source, first[2]))
    if not any(name.startswith("D/") for name in arrays):
        return found
    heads, first = shape("D/D_label/conv2d/kernel"), shape("D/conv_0/conv2d/kernel")
    layers = _count(arrays, r"D/conv_\d+/")
    side = heads[0] * 2**layers
    if side > LARGEST:
        text = "%s does not fit: its discriminator would be for pictures of %d pixels"
        raise UserError(text % (source, side))
    return found._replace(d=first[3], layers=layers, d_labels=heads[3], image_size=side)


def check(arrays: Arrays, source: str) -> Arrays:
    """Returns {our variable: float32 array} if they are what our graph of such widths has.

    Raises:
      UserError: if a tensor is missing, not known, of another shape, or not finite.
    """
    found = widths(arrays, source)
    side = found.image_size or 64
    with tf.Graph().as_default():
        images = tf.placeholder(tf.float32, [1, side, side, 3])
        networks.generator(images, tf.zeros([1, found.labels]), found.g, found.blocks)
        if found.d:
            networks.discriminator(images, found.d_labels, found.d, found.layers)
        shapes = {v.op.name: tuple(v.shape.as_list()) for v in tf.global_variables()}
    return audit.check(source, arrays, shapes, published_names(found.blocks, found.layers))
