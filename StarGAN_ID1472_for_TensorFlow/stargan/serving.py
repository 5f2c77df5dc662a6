# SPDX-License-Identifier: Apache-2.0
"""Checkpoint, frozen .pb or .onnx -> translations; the graph with its documented node names."""

import dataclasses
import os
from typing import Callable, List, Set

import numpy as np
import tensorflow.compat.v1 as tf

from harness.errors import UserError
from harness.files import atomic_path, read_json, write_json
from stargan.labels import Labelled, Source, label_names
from stargan.networks import generator
from stargan.starting import named_checkpoint
from tf_runtime import device as devices
from tf_runtime.checkpoints import checkpoint_steps, restore

# Nodes of the .pb and inputs and output of the .onnx: float32 [N, S, S, 3] in [-1, 1] and [N, L].
IMAGES, LABELS, OUTPUT = "x_real", "c_trg", "G/Tanh"
LABELS_FILE = "labels.json"  # beside the checkpoints
OPSET = 15  # of the .onnx
NETWORK_OPTIONS = ("dataset", "selected_attrs", "image_size", "crop_size")
NETWORK_OPTIONS += ("g_conv_dim", "g_repeat_num", "d_repeat_num")
SPLIT_OPTIONS = ("num_test",)  # taken over too, so that no training picture is tested with

# float32 [N, S, S, 3] in [-1, 1] and labels [N, L] -> float32 [N, S, S, 3], any N.
Translate = Callable[[np.ndarray, np.ndarray], np.ndarray]


def label_width(sources: List[Source]) -> int:
    """Returns how many numbers the labels of a picture are for the networks, mask included."""
    return len(label_names(sources)) + (len(sources) if len(sources) > 1 else 0)


def describe_sources(sources: List[Source]) -> List[dict]:
    """Returns what JSON can hold of the data sets: their kinds and the names of their labels."""
    return [{"kind": source.kind, "names": list(source.names)} for source in sources]


def named_sources(values: List[dict]) -> List[Source]:
    """Returns the data sets that `describe_sources` described, without pictures."""
    return [
        Source(value["kind"], tuple(value["names"]), *[_nothing(value["names"])] * 2)
        for value in values
    ]


def _nothing(names) -> Labelled:
    return Labelled([], np.zeros([0, len(names)], np.float32))


def build_inference(config, sources: List[Source], batch=None, minimal: bool = False):
    """Returns (images, labels, output): two placeholders and the translation."""
    side = config.image_size
    images = tf.placeholder(tf.float32, [batch, side, side, 3], IMAGES)
    labels = tf.placeholder(tf.float32, [batch, label_width(sources)], LABELS)
    output = generator(images, labels, config.g_conv_dim, config.g_repeat_num, minimal)
    return images, labels, output


def find_checkpoint(config) -> str:
    """Returns the checkpoint to use: that of --checkpoint or --ckpt_path, else the run's newest.

    Raises:
      UserError: if there is none; says where it looked and what is there instead.
    """
    for flag in ("checkpoint", "ckpt_path"):
        if getattr(config, flag):
            return named_checkpoint(flag, getattr(config, flag), config.run_folder)
    steps = checkpoint_steps(config.run_folder, "model")
    if not steps:
        there = "it does not exist"
        if os.path.isdir(config.output_dir):
            there = "it holds " + (", ".join(sorted(os.listdir(config.output_dir))) or "nothing")
        text = "no checkpoint in %s; say with --output_dir where the training saved (%s: %s)"
        raise UserError(text % (config.run_folder, config.output_dir, there))
    return os.path.join(config.run_folder, "model-%d" % steps[-1])


def trained_config(config, given: Set[str], options: dict, trained: str):
    """Returns `config` with the network options that `trained` was trained with.

    Args:
      config: the options of the command line.
      given: names of those that the user gave.
      options: {name: value} that were stored with the training.
      trained: a checkpoint or exported file, for the message.

    Raises:
      UserError: if an option in `given` says otherwise.
    """
    changes = {name: options[name] for name in NETWORK_OPTIONS if name in options}
    changes = {k: tuple(v) if isinstance(v, list) else v for k, v in changes.items()}
    for name, value in changes.items():
        if name in given and getattr(config, name) != value:
            shown = [
                " ".join(v) if isinstance(v, tuple) else v for v in (getattr(config, name), value)
            ]
            text = "--%s %s: %s was trained with %s; leave the option out"
            raise UserError(text % (name, shown[0], trained, shown[1]))
    split = {k: options[k] for k in SPLIT_OPTIONS if k in options and k not in given}
    return dataclasses.replace(config, c_dim=0, **changes, **split)


def load_training(config, given: Set[str], checkpoint: str):
    """Returns (config, sources) of the training that wrote `checkpoint`.

    A published checkpoint has no config.json and no labels.json: the command line counts then.
    """
    folder = os.path.dirname(os.path.abspath(checkpoint))
    options = read_json(os.path.join(folder, "config.json"), {}).get("options", {})
    config = trained_config(config, given, options, checkpoint)
    return config, _sources(config, read_json(os.path.join(folder, LABELS_FILE)), checkpoint)


def load_export(config, given: Set[str], path: str):
    """Returns (config, sources) of the training whose generator is in the .pb or .onnx `path`."""
    values = read_json(path + ".json", {})
    config = trained_config(config, given, values.get("options", {}), path)
    return config, _sources(config, values.get("labels"), path)


def _sources(config, described, trained):
    if not described and config.dataset != "celeba":
        text = "%s has no file beside it that names its labels; it can be used as celeba only"
        raise UserError(text % trained)
    names = {"kind": "celeba", "names": config.selected_attrs}
    return named_sources(described or [names])


def _in_batches(run, images, labels, size):
    """Returns run(images, labels) done `size` at a time; the last batch is filled up."""
    results = []
    for first in range(0, len(images), size):
        batch, wanted = images[first : first + size], labels[first : first + size]
        rows = np.arange(size) % len(batch)
        results.append(run(batch[rows], wanted[rows])[: len(batch)])
    return np.concatenate(results)


def _check_shapes(path, config, sources, images, labels):
    """Raises UserError unless the exported graph takes such pictures and as many labels."""
    side, width = config.image_size, label_width(sources)
    if not images.is_compatible_with([None, side, side, 3]) or labels.as_list()[1] != width:
        text = "%s takes pictures %s and labels %s, not %d pixels and %d labels; keep its .json "
        text += "beside it, or give --image_size and --selected_attrs"
        raise UserError(text % (path, images, labels, side, width))


class CheckpointTranslator:
    """Translates with a checkpoint; a context manager whose value is a `Translate`.

    Raises:
      CheckpointError: if the checkpoint is damaged or belongs to another network.
    """

    def __init__(self, config, sources: List[Source], checkpoint: str, device: devices.Device):
        self._config, self._sources = config, sources
        self._checkpoint, self._device = checkpoint, device

    def __enter__(self) -> Translate:
        config, device = self._config, self._device
        minimal = device.name == "cpu" and not device.mixed
        with tf.Graph().as_default():
            words = (config, self._sources, config.batch_size, minimal)
            images, labels, output = build_inference(*words)
            self._session = tf.Session(config=devices.session_config(device))
            restore(self._session, self._checkpoint, tf.global_variables("G/"))

        def run(x, c):
            return self._session.run(output, {images: x, labels: c})

        return lambda x, c: _in_batches(run, x, c, config.batch_size)

    def __exit__(self, *exception):
        self._session.close()


class GraphTranslator:
    """As CheckpointTranslator, with a frozen .pb."""

    def __init__(self, config, sources: List[Source], path: str, device: devices.Device):
        self._path, self._config, self._device = path, config, device
        self._sources = sources

    def __enter__(self) -> Translate:
        graph_def = read_graph(self._path)
        with tf.Graph().as_default() as graph:
            try:
                nodes = [name + ":0" for name in (IMAGES, LABELS, OUTPUT)]
                tensors = tf.import_graph_def(graph_def, return_elements=nodes, name="")
            except ValueError as error:
                text = "%s does not have the nodes %s, %s and %s: %s"
                words = (self._path, IMAGES, LABELS, OUTPUT, error)
                raise UserError(text % words) from error
        images, labels, output = tensors
        _check_shapes(self._path, self._config, self._sources, images.shape, labels.shape)
        self._session = tf.Session(graph=graph, config=devices.session_config(self._device))

        def run(x, c):
            return self._session.run(output, {images: x, labels: c})

        return lambda x, c: _in_batches(run, x, c, self._config.batch_size)

    def __exit__(self, *exception):
        self._session.close()


class OnnxTranslator:
    """As CheckpointTranslator, with an .onnx file and ONNX Runtime on the CPU."""

    def __init__(self, config, sources: List[Source], path: str, device: devices.Device):
        self._path, self._config, self._device = path, config, device
        self._sources = sources

    def __enter__(self) -> Translate:
        import onnxruntime

        if not os.path.isfile(self._path):
            raise UserError("there is no %s; give an .onnx written by frozen_graph.py" % self._path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._device.threads
        try:
            session = onnxruntime.InferenceSession(
                self._path, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions have no common base class
            problem = str(error).strip().split("\n")[0]
            raise UserError("%s is no ONNX model: %s" % (self._path, problem)) from error
        inputs = {one.name for one in session.get_inputs()}
        if inputs != {IMAGES + ":0", LABELS + ":0"}:
            text = "%s takes %s; a model from frozen_graph.py takes %s:0 and %s:0"
            raise UserError(text % (self._path, ", ".join(sorted(inputs)), IMAGES, LABELS))

        shapes = {one.name: one.shape for one in session.get_inputs()}
        shapes = [[None] + shapes[name + ":0"][1:] for name in (IMAGES, LABELS)]
        _check_shapes(self._path, self._config, self._sources, *map(tf.TensorShape, shapes))

        def run(x, c):
            return session.run(None, {IMAGES + ":0": x, LABELS + ":0": c.astype(np.float32)})[0]

        return lambda x, c: _in_batches(run, x, c, self._config.batch_size)

    def __exit__(self, *exception):
        pass


def export(config, sources: List[Source], checkpoint: str, path: str) -> None:
    """Writes the generator of `checkpoint` as .pb, or as .onnx where `path` ends so.

    Nodes: x_real [N, S, S, 3] and c_trg [N, L] -> G/Tanh [N, S, S, 3], float32, any N. Both
    TensorFlow versions read the .pb. `path`.json beside it names the labels and the sizes.
    """
    with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
        build_inference(config, sources)
        restore(session, checkpoint, tf.global_variables("G/"))
        frozen = tf.graph_util.convert_variables_to_constants(
            session, graph.as_graph_def(), [OUTPUT]
        )
    with tf.Graph().as_default():  # attributes with default values are what another version lacks
        frozen = tf.train.export_meta_graph(
            graph_def=frozen, strip_default_attrs=True, clear_devices=True
        ).graph_def
    if path.endswith(".onnx"):
        import tf2onnx

        inputs = [IMAGES + ":0", LABELS + ":0"]
        frozen, _ = tf2onnx.convert.from_graph_def(
            frozen, input_names=inputs, output_names=[OUTPUT + ":0"], opset=OPSET
        )
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(frozen.SerializeToString())
    values = {name: getattr(config, name) for name in NETWORK_OPTIONS + SPLIT_OPTIONS}
    write_json(path + ".json", {"options": values, "labels": describe_sources(sources)})


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
        text = "cannot read %s: %s; give a .pb written by frozen_graph.py"
        raise UserError(text % (path, error.strerror)) from error
    except Exception as error:  # protobuf's DecodeError has no public name in both versions
        raise UserError("%s is no frozen graph: %s" % (path, error)) from error
    return graph_def
