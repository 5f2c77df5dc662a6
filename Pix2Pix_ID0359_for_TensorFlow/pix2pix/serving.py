# SPDX-License-Identifier: Apache-2.0
"""The inference graph, pictures of any size, and the frozen .pb with its documented node names."""

import dataclasses
import os
from typing import Callable, Set

import numpy as np
import tensorflow.compat.v1 as tf

from harness.errors import UserError
from harness.files import atomic_path, read_json
from pix2pix.networks import generator
from tf_runtime import device as devices
from tf_runtime.checkpoints import checkpoint_steps, restore

INPUT, OUTPUT = "input", "output"  # nodes of the .pb: float32 [N, H, W, C] in [-1, 1]
MULTIPLE = 256  # of the generator's height and width
NETWORK_OPTIONS = ("which_direction", "ngf", "ndf", "input_nc", "output_nc", "fine_size")
NETWORK_OPTIONS += ("load_size", "legacy_bottleneck_norm")

Translate = Callable[
    [np.ndarray], np.ndarray
]  # float32 [N, H, W, C] -> the same, H and W multiples of 256


def build_inference(config, noise_seeds=None):
    """Returns (input, output): the placeholder and the translation, any multiple of 256 in size."""
    conditions = tf.placeholder(tf.float32, [None, None, None, config.input_nc], INPUT)
    fakes = generator(
        conditions, config.output_nc, config.ngf, noise_seeds, config.legacy_bottleneck_norm
    )
    return conditions, tf.identity(fakes, OUTPUT)


def find_checkpoint(config) -> str:
    """Returns the checkpoint to use: `config.checkpoint`, else the newest of the run.

    Raises:
      UserError: if there is none; says where it looked and what is there instead.
    """
    if config.checkpoint:
        path = (
            config.checkpoint[: -len(".index")]
            if config.checkpoint.endswith(".index")
            else config.checkpoint
        )
        if not os.path.exists(path + ".index"):
            raise UserError("--checkpoint %s: there is no %s.index" % (config.checkpoint, path))
        return path
    folder = config.run_folder
    steps = checkpoint_steps(folder, "pix2pix.model")
    if not steps:
        text = "no checkpoint in %s; say with --checkpoint_dir where the training saved (%s)"
        there = "it does not exist"
        if os.path.isdir(config.checkpoint_dir):
            there = "it holds %s" % (
                ", ".join(sorted(os.listdir(config.checkpoint_dir))) or "nothing"
            )
        raise UserError(text % (folder, "%s: %s" % (config.checkpoint_dir, there)))
    return os.path.join(folder, "pix2pix.model-%d" % steps[-1])


def trained_config(config, given: Set[str], checkpoint: str):
    """Returns `config` with the network options that the checkpoint was trained with.

    Raises:
      UserError: if an option in `given`, the names on the command line, says otherwise.
    """
    path = os.path.join(os.path.dirname(os.path.abspath(checkpoint)), "config.json")
    options = read_json(path, {}).get("options", {})
    changes = {name: options[name] for name in NETWORK_OPTIONS if name in options}
    for name, value in changes.items():
        if name in given and getattr(config, name) != value:
            text = "--%s %s: the checkpoint %s was trained with %s; leave the option out"
            raise UserError(text % (name, getattr(config, name), checkpoint, value))
    return dataclasses.replace(config, **changes)


class CheckpointTranslator:
    """Translates with a checkpoint; a context manager whose value is called with a batch.

    Raises:
      CheckpointError: if the checkpoint is damaged or belongs to another network.
    """

    def __init__(self, config, checkpoint: str, device: devices.Device):
        self._config, self._checkpoint, self._device = config, checkpoint, device

    def __enter__(self) -> Translate:
        config, calls = self._config, iter(range(2**31))
        with tf.Graph().as_default():
            picture = tf.placeholder(tf.int32, [])
            noise_seeds = tf.stack([[config.seed, picture]]) if config.stochastic else None
            conditions, fakes = build_inference(config, noise_seeds)
            session_config = devices.session_config(self._device)
            self._session = tf.Session(config=session_config)
            restore(self._session, self._checkpoint, tf.global_variables("generator"))
        return lambda batch: self._session.run(fakes, {conditions: batch, picture: next(calls)})

    def __exit__(self, *exception):
        self._session.close()


class GraphTranslator:
    """As CheckpointTranslator, with a frozen .pb."""

    def __init__(self, path: str, device: devices.Device):
        self._path, self._device = path, device

    def __enter__(self) -> Translate:
        graph_def = read_graph(self._path)
        with tf.Graph().as_default() as graph:
            try:
                nodes = [INPUT + ":0", OUTPUT + ":0"]
                conditions, fakes = tf.import_graph_def(graph_def, return_elements=nodes, name="")
            except ValueError as error:
                raise UserError(
                    "%s does not have the nodes input and output: %s" % (self._path, error)
                ) from error
        channels = conditions.shape.as_list()[3]
        if channels != self._device.options.input_nc:
            text = "%s takes pictures with %d channels; add --input_nc=%d"
            raise UserError(text % (self._path, channels, channels))
        self._session = tf.Session(graph=graph, config=devices.session_config(self._device))
        return lambda batch: self._session.run(fakes, {conditions: batch})

    def __exit__(self, *exception):
        self._session.close()


def translate_picture(translate: Translate, pixels: np.ndarray) -> np.ndarray:
    """Translates one picture of any size.

    A size that is no multiple of 256 is padded on the right and at the bottom by reflection, and
    the translation is cropped back.

    Args:
      translate: from a translator.
      pixels: float32 [H, W, C] in [-1, 1].

    Returns:
      float32 [H, W, C'] in [-1, 1].
    """
    height, width = pixels.shape[:2]
    padding = [(0, -height % MULTIPLE), (0, -width % MULTIPLE), (0, 0)]
    padded = np.pad(pixels, padding, "symmetric")
    return translate(padded[np.newaxis])[0, :height, :width]


def export(config, checkpoint: str, path: str) -> None:
    """Writes the generator of `checkpoint` as a frozen graph that both TensorFlow versions read.

    Nodes: `input` [N, H, W, input_nc] -> `output` [N, H, W, output_nc], float32 in [-1, 1], any N,
    any H and W that are multiples of 256. Without dropout: the same input gives the same output.
    """
    with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
        build_inference(config)
        restore(session, checkpoint, tf.global_variables("generator"))
        frozen = tf.graph_util.convert_variables_to_constants(
            session, graph.as_graph_def(), [OUTPUT]
        )
    with tf.Graph().as_default():  # attributes with default values are what another version lacks
        frozen = tf.train.export_meta_graph(
            graph_def=frozen, strip_default_attrs=True, clear_devices=True
        ).graph_def
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(frozen.SerializeToString())


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
        raise UserError(
            "cannot read %s: %s; give a .pb written by frozen_graph.py" % (path, error.strerror)
        ) from error
    except Exception as error:  # protobuf's DecodeError has no public name in both versions
        raise UserError("%s is no frozen graph: %s" % (path, error)) from error
    return graph_def
