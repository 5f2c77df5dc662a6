# SPDX-License-Identifier: Apache-2.0
"""Pixels -> features: the Inception network of 2015 from either of its files, or another network.

Only Inception's distances are FID and KID. Those of another network carry its name.
"""

import hashlib
import importlib.util
import os
import re
from typing import NamedTuple, Tuple

import numpy as np
import tensorflow.compat.v1 as tf

from harness.errors import UserError
from tools.digests import digest_file
from tools.fid import frozen
from tools.fid.features import INCEPTION, Network
from tools.fid.inception import CONVOLUTIONS, SIDE, WIDTH, Inception, random_weights, shapes
from tools.folders import enter, find_folder
from tools.weights import pytorch
from tools.weights.graphs import read_definition

PUBLISHED_PTH = "pt_inception-2015-12-05-6726825d.pth"
PUBLISHED_SHA256 = "6726825d"  # how the digest of that file begins
GRAPH_INPUT, GRAPH_OUTPUT = "ExpandDims:0", "pool_3:0"  # of classify_image_graph_def.pb
VGG_SIDE = 224


class Interface(NamedTuple):
    """How another network's file is used.

    Attributes:
      input: name of the input; "" where there is only one, and in a .mat.
      output: name of the output; the same; a layer of VGG-19 for a .mat.
      side: height and width that it takes; 0: what its input says, else 224.
      low: what the network takes for black.
      high: what it takes for white.
    """

    input: str = ""
    output: str = ""
    side: int = 0
    low: float = -1.0
    high: float = 1.0


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
    opener = {".pb": _open_graph, ".onnx": _open_onnx, ".mat": _open_vgg}.get(ending)
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


def _session(graph):
    return tf.Session(graph=graph, config=tf.ConfigProto(allow_soft_placement=True))


def _run_weights(weights):
    with tf.Graph().as_default() as graph:
        images = tf.placeholder(tf.float32, [None, SIDE, SIDE, 3])
        features = Inception(weights).build(images)
    session = _session(graph)
    return lambda x: session.run(features, {images: x})


def _run_published_graph(path):
    graph_def = read_definition(path)
    count = sum(node.op == "Conv2D" for node in graph_def.node)
    if count != len(CONVOLUTIONS):
        text = "%s is not the graph of 2015-12-05: it has %d convolutions, not %d"
        raise UserError(text % (path, count, len(CONVOLUTIONS)))
    with tf.Graph().as_default() as graph:
        images = tf.placeholder(tf.float32, [None, None, None, 3])
        (output,) = _import(path, frozen.fold(graph_def), [GRAPH_OUTPUT], {GRAPH_INPUT: images})
    if output.shape.rank != 4 or output.shape.as_list()[-1] != WIDTH:
        text = "%s is not the graph of 2015-12-05: %s is %s, not [N, 1, 1, %d]"
        raise UserError(text % (path, GRAPH_OUTPUT, output.shape, WIDTH))
    session = _session(graph)  # the graph subtracts 128 and divides by 128 itself
    return lambda x: session.run(output, {images: x * 128 + 128}).reshape(len(x), -1)


def _import(path, graph_def, names, inputs=None):
    try:
        return tf.import_graph_def(graph_def, inputs, names, name="")
    except ValueError as error:
        words = (path, ", ".join([*(inputs or {}), *names]), str(error).split("\n")[0])
        raise UserError("%s does not have the nodes %s: %s" % words) from error


def _tensor(name):
    return name if ":" in name else name + ":0"


def _open_graph(path, interface):
    if not (interface.input and interface.output):
        raise UserError("--network %s: say its nodes with --input and --output" % path)
    graph_def = read_definition(path)
    names = [_tensor(name) for name in (interface.input, interface.output)]
    with tf.Graph().as_default() as graph:
        images, output = _import(path, graph_def, names)
    if images.dtype != tf.float32:
        raise UserError("--network %s takes %s; it must be float32" % (path, images.dtype.name))
    shape = images.shape.as_list() if images.shape.rank is not None else []
    side, first = _layout(path, shape, interface.side)
    session = _session(graph)

    def run(x):
        return _mean(session.run(output, {images: x.transpose(0, 3, 1, 2) if first else x}), first)

    return interface.output, side, _in_batches(run, shape[0])


def _open_onnx(path, interface):
    if importlib.util.find_spec("onnxruntime") is None:
        raise UserError("--network %s needs the package onnxruntime; install it" % path)
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common base class
        problem = str(error).strip().split("\n")[0]
        raise UserError("--network %s is no ONNX model: %s" % (path, problem)) from error
    inputs = {one.name: one for one in session.get_inputs()}
    outputs = [one.name for one in session.get_outputs()]
    chosen = [
        _only("--input", path, interface.input, list(inputs)),
        _only("--output", path, interface.output, outputs),
    ]
    shape = inputs[chosen[0]].shape
    if inputs[chosen[0]].type != "tensor(float)":
        text = "--network %s takes %s; it must be float32"
        raise UserError(text % (path, inputs[chosen[0]].type))
    side, first = _layout(path, shape, interface.side)

    def run(x):
        x = np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if first else x
        return _mean(session.run([chosen[1]], {chosen[0]: x})[0], first)

    return chosen[1], side, _in_batches(run, shape[0] if isinstance(shape[0], int) else None)


def _in_batches(run, size):
    """Returns run(x) done `size` at a time, the last batch filled up; None: all at once."""

    def each(x):
        rows = [np.arange(i, i + size) % len(x) for i in range(0, len(x), size)]
        return np.concatenate([run(x[chosen]) for chosen in rows])[: len(x)]

    return each if size else run


def _only(option, path, given, names):
    if given in names or (not given and len(names) == 1):
        return given or names[0]
    text = "--network %s: %s must be one of %s"
    raise UserError(text % (path, option, ", ".join(names)))


def _layout(path, shape, side) -> Tuple[int, bool]:
    """Returns (side of the pictures, whether channels come first) for the shape of an input."""
    sizes = [size if isinstance(size, int) and size > 0 else None for size in shape]
    if len(sizes) != 4 or 3 not in (sizes[1], sizes[3]):
        text = "--network %s takes %s; it must take pictures [N, H, W, 3] or [N, 3, H, W]"
        raise UserError(text % (path, list(shape)))
    first = sizes[3] != 3
    fixed = {size for size in (sizes[2:] if first else sizes[1:3]) if size}
    if fixed and (len(fixed) > 1 or side not in (0, *fixed)):
        raise UserError("--network %s takes %s; leave --side out" % (path, list(shape)))
    return (fixed.pop() if fixed else side or VGG_SIDE), first


def _mean(maps, channels_first):
    """Returns what is left of maps after their mean over height and width."""
    if maps.ndim == 4:
        maps = maps.mean((2, 3) if channels_first else (1, 2))
    return maps


def _flat(path, features):
    if features.ndim != 2:
        text = "--network %s gives features of shape %s; choose an --output [N, D] or maps"
        raise UserError(text % (path, features.shape))
    return features


def _open_vgg(path, interface):
    """Returns the parts of VGG-19 as far as the layer `output`, its maps averaged."""
    enter(find_folder("NEURAL-STYLE"))
    from stylize.weights import available, read_network

    network = read_network(path)
    layers = available(network)
    last = interface.output or [name for name in layers if name.startswith("relu")][-1]
    _only("--output", path, last, layers)
    side = interface.side or VGG_SIDE
    mean = (network.mean_pixel / 127.5 - 1).astype(np.float32)
    with tf.Graph().as_default() as graph:
        images = tf.placeholder(tf.float32, [None, side, side, 3])
        x = (images - mean) * 127.5
        for name in layers[: layers.index(last) + 1]:
            if name.startswith("conv"):
                kernel, bias = network.layers[name]
                x = tf.nn.bias_add(tf.nn.conv2d(x, kernel, [1, 1, 1, 1], "SAME"), bias)
            elif name.startswith("relu"):
                x = tf.nn.relu(x)
            else:
                x = tf.nn.max_pool(x, [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
        features = tf.reduce_mean(x, [1, 2])
    session = _session(graph)
    return last, side, lambda x: session.run(features, {images: x})
