# SPDX-License-Identifier: Apache-2.0
"""Weights -> cartoons of pictures of any size; the graph with its documented node names."""

import os
from typing import Callable

import numpy as np
import tensorflow.compat.v1 as tf

from harness.errors import UserError
from tf_runtime import device as devices
from whitebox.data import cut_off, to_float
from whitebox.generators import newest_generator, read_generator
from whitebox.networks import generator
from whitebox.progress import GENERATORS_FOLDER
from whitebox.representations import guided_filter

# Nodes of the .pb, input and output of the .onnx: float32 [N, H, W, 3], BGR in [-1, 1].
INPUT, OUTPUT = "input", "add_1"
MULTIPLE = 4  # of pixels that the generator takes
HALO = 64  # pixels around a tile that its cartoon depends on: what the generator and filter see

# uint8 [N, H, W, 3], RGB, of any N, H, W -> the same, cartoonized.
Cartoonize = Callable[[np.ndarray], np.ndarray]


def build_inference(size=None, smooth: float = 5e-3, protected=True, minimal=False):
    """Returns (images, cartoons): a placeholder and what becomes of it (section 3.4).

    Args:
      size: side of the pictures, or None for any multiple of 4.
      smooth: epsilon of the guided filter after the generator, radius 1; 0 leaves it out.
      protected: see `guided_filter`.
      minimal: see `generator`.
    """
    images = tf.placeholder(tf.float32, [None, size, size, 3], INPUT)
    cartoons = generator(images, minimal)
    if smooth:
        cartoons = guided_filter(images, cartoons, 1, smooth, protected)
    return images, tf.identity(cartoons, OUTPUT)


def find_weights(config) -> str:
    """Returns the weights to use: --weights, else the newest generator of the training.

    Raises:
      UserError: if there are none; says where it looked.
    """
    if config.weights:
        return config.weights
    folder = os.path.join(config.output_path, config.save_dir, GENERATORS_FOLDER)
    path = newest_generator(folder)
    if not path:
        text = "no generator in %s; give --weights, or say with --output_path where it was trained"
        raise UserError(text % folder)
    return path


class Cartoonizer:
    """Cartoonizes pictures; a context manager whose value is a `Cartoonize`.

    Pictures are padded by reflection to multiples of 4 and cut back. Tiles give what the whole
    picture would, up to rounding: the generator has no statistics, and a tile sees all that matters
    around it.

    Args:
      path: a checkpoint, an .npz of its variables, or a .pb with the nodes input and add_1.
      device: from `device.choose`.
      smooth: epsilon of the guided filter after the generator; 0 leaves it out, a .pb has its own.
      strength: 1 is the cartoon, 0 the picture, between them a mixture.
      tile: side of the tiles of larger pictures, pixels, a multiple of 4; 0 never makes tiles.
      batch_size: pictures that are computed together.

    Raises:
      UserError: if the weights are missing, damaged or of another network.
    """

    def __init__(
        self, path, device: devices.Device, smooth=5e-3, strength=1.0, tile=1024, batch_size=4
    ):
        self._path, self._device, self._smooth, self._strength = path, device, smooth, strength
        self._tile, self._batch_size = tile, batch_size

    def __enter__(self) -> Cartoonize:
        with tf.Graph().as_default() as graph:
            if self._path.endswith(".pb"):
                tensors, arrays = _import(self._path), {}
            else:
                arrays = read_generator(self._path)
                minimal = self._device.name == "cpu" and not self._device.mixed
                tensors = build_inference(None, self._smooth, minimal=minimal)
        self._images, self._cartoons = tensors
        self._session = tf.Session(graph=graph, config=devices.session_config(self._device))
        with graph.as_default():
            assign(self._session, arrays)
        return self._cartoonize

    def __exit__(self, *exception):
        self._session.close()

    def _cartoonize(self, pictures: np.ndarray) -> np.ndarray:
        height, width = pictures.shape[1:3]
        result = np.empty_like(pictures)
        for first in range(0, len(pictures), self._batch_size):
            batch = pictures[first : first + self._batch_size]
            for inside, around in tiles(height, width, self._tile):
                cartoon = self._run(batch[(slice(None), *around)])
                rows, columns = (
                    slice(i.start - a.start, i.stop - a.start) for i, a in zip(inside, around)
                )
                result[(slice(first, first + len(batch)), *inside)] = cartoon[:, rows, columns]
        return result

    def _run(self, pictures):
        """Returns the cartoons of uint8 [N, H, W, 3], RGB, computed in one piece."""
        height, width = pictures.shape[1:3]
        images = to_float(pad(pictures))
        cartoons = self._session.run(self._cartoons, {self._images: images})
        if self._strength < 1:
            cartoons = np.clip(cartoons, -1, 1)
            cartoons = self._strength * cartoons + (1 - self._strength) * images
        return cut_off(cartoons[:, :height, :width])


def pad(pictures: np.ndarray) -> np.ndarray:
    """Returns [N, H', W', 3]: [N, H, W, 3] continued by reflection to multiples of 4."""
    height, width = pictures.shape[1:3]
    rows, columns = -height % MULTIPLE, -width % MULTIPLE
    mode = "reflect" if min(height, width) > MULTIPLE else "edge"
    return np.pad(pictures, [(0, 0), (0, rows), (0, columns), (0, 0)], mode)


def tiles(height: int, width: int, side: int):
    """Yields ((rows, columns) of a tile, (rows, columns) of it and HALO around it), as slices.

    One tile if the picture has no more pixels than one of `side` squared, or `side` is 0.
    """
    if not side or height * width <= side * side:
        whole = slice(0, height), slice(0, width)
        yield whole, whole
        return
    for top in range(0, height, side):
        for left in range(0, width, side):
            inside = slice(top, min(top + side, height)), slice(left, min(left + side, width))
            around = tuple(
                slice(max(0, part.start - HALO), min(end, part.stop + HALO))
                for part, end in zip(inside, (height, width))
            )
            yield inside, around


def assign(session, arrays) -> None:
    """Gives every variable of the default graph its value in `arrays`, {name: array}."""
    variables = tf.global_variables()
    starts = {variable.initializer.inputs[1]: arrays[variable.op.name] for variable in variables}
    session.run([variable.initializer for variable in variables], starts)


def _import(path):
    """Returns (images, cartoons) of the graph in a .pb, added to the default graph."""
    nodes = [INPUT + ":0", OUTPUT + ":0"]
    try:
        images, cartoons = tf.import_graph_def(read_graph(path), return_elements=nodes, name="")
    except ValueError as error:
        text = "%s does not have the nodes %s and %s: %s; give one written by ckpt2pb.py"
        raise UserError(text % (path, INPUT, OUTPUT, error)) from error
    if images.shape.as_list()[1:3] != [None, None]:
        text = "%s takes pictures of %s pixels only; export it again with --patch_size=0"
        raise UserError(text % (path, " x ".join(map(str, images.shape.as_list()[1:3]))))
    return images, cartoons


def read_graph(path: str) -> tf.GraphDef:
    """Returns the graph in a .pb file.

    Raises:
      UserError: if there is no such file or it is no graph.
    """
    graph_def = tf.GraphDef()
    try:
        with open(path, "rb") as file:
            graph_def.ParseFromString(file.read())
    except OSError as error:
        text = "cannot read %s: %s; give a .pb written by ckpt2pb.py"
        raise UserError(text % (path, error.strerror)) from error
    except Exception as error:  # protobuf's DecodeError has no public name in both versions
        raise UserError("%s is no frozen graph: %s" % (path, error)) from error
    return graph_def
