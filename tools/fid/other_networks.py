# SPDX-License-Identifier: Apache-2.0
"""Networks besides Inception that describe pictures: a frozen graph, an ONNX model, VGG-19."""

import importlib.util
from typing import Callable, NamedTuple, Tuple

import numpy as np
import tensorflow.compat.v1 as tf

from harness.errors import UserError
from tools.fid import frozen
from tools.folders import enter, find_folder
from tools.weights.graphs import read_definition

VGG_SIDE = 224
# The name of the output, the side of the pictures, and what computes float32 [N, D], or maps.
Opened = Tuple[str, int, Callable[[np.ndarray], np.ndarray]]


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


def _tensor(name):
    return name if ":" in name else name + ":0"


def open_graph(path: str, interface: Interface) -> Opened:
    """Returns a frozen .pb as it is used by its nodes; it takes pixels in its own range."""
    if not (interface.input and interface.output):
        raise UserError("--network %s: say its nodes with --input and --output" % path)
    graph_def = read_definition(path)
    names = [_tensor(name) for name in (interface.input, interface.output)]
    with tf.Graph().as_default() as graph:
        images, output = frozen.import_graph(path, graph_def, names)
    if images.dtype != tf.float32:
        raise UserError("--network %s takes %s; it must be float32" % (path, images.dtype.name))
    shape = images.shape.as_list() if images.shape.rank is not None else []
    side, first = _layout(path, shape, interface.side)
    session = frozen.new_session(graph)

    def run(x):
        return _mean(session.run(output, {images: x.transpose(0, 3, 1, 2) if first else x}), first)

    return interface.output, side, _in_batches(run, shape[0])


def open_onnx(path: str, interface: Interface) -> Opened:
    """Returns an .onnx, computed by ONNX Runtime on the CPU; pixels as of `open_graph`."""
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


def open_vgg(path: str, interface: Interface) -> Opened:
    """Returns VGG-19 of a .mat as far as a layer, its maps averaged; it takes [-1, 1]."""
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
    session = frozen.new_session(graph)
    return last, side, lambda x: session.run(features, {images: x})


OPENERS = {".pb": open_graph, ".onnx": open_onnx, ".mat": open_vgg}
