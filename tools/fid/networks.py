# SPDX-License-Identifier: Apache-2.0
"""Pixels -> features: the Inception network of 2015 from either of its files, or another network.

Only Inception's distances are FID and KID. Those of another network carry its name.
"""

import hashlib
import os
import re

import numpy as np
import tensorflow.compat.v1 as tf

from harness.errors import UserError
from tools.digests import digest_file
from tools.fid import frozen
from tools.fid.features import INCEPTION, Network
from tools.fid.inception import CONVOLUTIONS, SIDE, WIDTH, Inception, random_weights, shapes
from tools.fid.other_networks import OPENERS, Interface
from tools.weights import pytorch
from tools.weights.graphs import read_definition

PUBLISHED_PTH = "pt_inception-2015-12-05-6726825d.pth"
PUBLISHED_SHA256 = "6726825d"  # how the digest of that file begins
GRAPH_INPUT, GRAPH_OUTPUT = "ExpandDims:0", "pool_3:0"  # of classify_image_graph_def.pb


def open_inception(path: str) -> Network:
    """Returns Inception from the TensorFlow graph (.pb) or PyTorch's file (.pth) of 2015-12-05.

    Raises:
      UserError: if the file is missing, damaged, or not that network.
    """
    _check_file("--inception", path)
    digest = digest_file(path)
    if not path.endswith(".pb"):
        if not digest.startswith(PUBLISHED_SHA256):
            text = "--inception %s: its SHA-256 begins with %s, that of %s with %s; get the "
            text += "published file, or give --network, which measures under the file's own name"
            words = (path, digest[:8], PUBLISHED_PTH, PUBLISHED_SHA256)
            raise UserError(text % words)
        return Network(INCEPTION, digest, SIDE, _run_weights(read_weights(path)))
    note = "the graph was known by its structure; its SHA-256 is %s" % digest
    return Network(INCEPTION, digest, SIDE, _run_published_graph(path), note=note)


def open_random(seed: int = 0) -> Network:
    """Returns an Inception that was not trained: for pipelines without weights."""
    name = "random_inception_seed%d" % seed
    return Network(name, "", SIDE, _run_weights(random_weights(seed)))


def open_file(path: str, interface: Interface) -> Network:
    """Returns another network: a frozen .pb, an .onnx, VGG-19 (.mat), or an Inception (.pth).

    Raises:
      UserError: if the file cannot be used so.
    """
    _check_file("--network", path)
    digest, ending = digest_file(path), os.path.splitext(path)[1].lower()
    opener = OPENERS.get(ending)
    stem = re.sub(r"\W+", "_", os.path.splitext(os.path.basename(path))[0])
    _check_heeded(ending, interface)
    if ending in (".pth", ".pt"):
        name = "%s_%s" % (stem, digest[:8])
        return Network(name, digest, SIDE, _run_weights(read_weights(path)))
    if opener is None:
        raise UserError("--network %s: it must end in .pb, .onnx, .mat or .pth" % path)
    output, side, run = opener(path, interface)
    scale, low = (interface.high - interface.low) / 2, interface.low

    def scaled(x):
        return _flat(path, run((x + 1) * np.float32(scale) + np.float32(low)))

    output = output[:-2] if output.endswith(":0") else output
    settings = "output %s, side %d" % (output, side)
    if ending == ".mat":  # has its own range
        scaled = run
    else:
        settings += ", input %s, range %g %g" % (interface.input or "", low, interface.high)
    _try(path, scaled, side)
    mark = hashlib.sha256((digest + settings).encode()).hexdigest()[:8]
    name = "_".join([stem, re.sub(r"\W+", "_", output).strip("_"), mark])
    return Network(name, digest, side, scaled, settings)


def read_weights(path: str):
    """Returns {PyTorch's name: float32 array} of an Inception, checked by names and shapes.

    Raises:
      UserError: if a tensor is missing or has another shape.
    """
    arrays = {k: v for k, v in pytorch.read(path).items() if not k.endswith("num_batches_tracked")}
    wanted = shapes()
    missing = [n for n in wanted if n not in arrays and not n.startswith("fc.")]
    odd = [n for n in arrays if n not in wanted or arrays[n].shape != wanted[n]]
    odd = [n for n in odd if not n.startswith("fc.")]
    if missing or odd:
        text = "%s is no Inception of 2015: %s; a distance needs %s"
        name = (missing or odd)[0]
        problem = "it has no %s" % name if missing else "%s is %s" % (name, arrays[name].shape)
        raise UserError(text % (path, problem, PUBLISHED_PTH))
    return {name: arrays[name].astype(np.float32) for name in arrays if name in wanted}


def _check_heeded(ending, interface):
    """Raises UserError for what is given and has no meaning for such a file."""
    heeded = {".pb": Interface._fields, ".onnx": Interface._fields, ".mat": ("output", "side")}
    for name in Interface._fields:
        given = getattr(interface, name) != getattr(Interface(), name)
        if given and name not in heeded.get(ending, ()):
            option = "range" if name in ("low", "high") else name
            text = "--%s is not for %s, whose own is known; leave it out"
            raise UserError(text % (option, "a network " + ending))


def _try(path, run, side):
    """Raises UserError if the network cannot describe a picture."""
    try:
        run(np.zeros([1, side, side, 3], np.float32))
    except UserError:
        raise
    except Exception as error:  # TensorFlow's and ONNX Runtime's have no common base class
        text = "--network %s cannot be run on pictures alone: %s"
        raise UserError(text % (path, " ".join(str(error).split())[:300])) from error


def _check_file(option, path):
    if not os.path.isfile(path):
        raise UserError("%s %s: there is no such file" % (option, path))


def _run_weights(weights):
    with tf.Graph().as_default() as graph:
        images = tf.placeholder(tf.float32, [None, SIDE, SIDE, 3])
        features = Inception(weights).build(images)
    session = frozen.new_session(graph)
    return lambda x: session.run(features, {images: x})


def _run_published_graph(path):
    graph_def = read_definition(path)
    count = sum(node.op == "Conv2D" for node in graph_def.node)
    if count != len(CONVOLUTIONS):
        text = "%s is not the graph of 2015-12-05: it has %d convolutions, not %d"
        raise UserError(text % (path, count, len(CONVOLUTIONS)))
    with tf.Graph().as_default() as graph:
        images = tf.placeholder(tf.float32, [None, None, None, 3])
        (output,) = frozen.import_graph(
            path, frozen.fold(graph_def), [GRAPH_OUTPUT], {GRAPH_INPUT: images}
        )
    if output.shape.rank != 4 or output.shape.as_list()[-1] != WIDTH:
        text = "%s is not the graph of 2015-12-05: %s is %s, not [N, 1, 1, %d]"
        raise UserError(text % (path, GRAPH_OUTPUT, output.shape, WIDTH))
    session = frozen.new_session(graph)  # the graph subtracts 128 and divides by 128 itself
    return lambda x: session.run(output, {images: x * 128 + 128}).reshape(len(x), -1)


def _flat(path, features):
    if features.ndim != 2:
        text = "--network %s gives features of shape %s; choose an --output [N, D] or maps"
        raise UserError(text % (path, features.shape))
    return features
