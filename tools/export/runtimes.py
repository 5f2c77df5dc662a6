# SPDX-License-Identifier: Apache-2.0
"""Networks that compute: the trained one in a session, and each exported file in its own runtime.

All are context managers with the value (run, nodes): run({input: array}) returns the output, and
nodes is {"inputs": {name: shape}, "outputs": {name: shape}} as the file says, None for any size.
"""

import contextlib
from typing import List

import numpy as np
import tensorflow.compat.v1 as tf

from harness.errors import UserError
from tools.weights.graphs import read_definition


@contextlib.contextmanager
def trained(model, config: tf.ConfigProto):
    """The network of a checkpoint, in a session as the training's; `model` is one of `models`."""
    with tf.Graph().as_default() as graph, tf.Session(graph=graph, config=config) as session:
        model.build(session)
        yield _runner(session, model.inputs, model.output)


@contextlib.contextmanager
def open_pb(path: str, inputs: List[str], output: str, config: tf.ConfigProto):
    """A frozen graph in a session."""
    with tf.Graph().as_default() as graph, tf.Session(graph=graph, config=config) as session:
        tf.import_graph_def(read_definition(path), name="")
        yield _runner(session, inputs, output)


@contextlib.contextmanager
def open_saved_model(path: str, inputs: List[str], output: str, config: tf.ConfigProto):
    """A SavedModel through its signature, in a session."""
    with tf.Graph().as_default() as graph, tf.Session(graph=graph, config=config) as session:
        loaded = tf.saved_model.loader.load(session, [tf.saved_model.tag_constants.SERVING], path)
        signature = loaded.signature_def["serving_default"]
        feeds = {name: signature.inputs[name].name for name in inputs}
        fetch = signature.outputs[output].name
        shapes = [
            {name: _sizes(graph.get_tensor_by_name(info.name)) for name, info in side.items()}
            for side in (signature.inputs, signature.outputs)
        ]

        def run(feed):
            return session.run(fetch, {feeds[name]: values for name, values in feed.items()})

        yield run, dict(zip(("inputs", "outputs"), shapes))


@contextlib.contextmanager
def open_onnx(path: str, inputs: List[str], output: str, config: tf.ConfigProto):
    """An .onnx in ONNX Runtime on the CPU, with as many threads as `config` says.

    Raises:
      UserError: if this ONNX Runtime lacks what the network needs.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = config.intra_op_parallelism_threads
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common base class
        text = "--formats onnx: onnxruntime %s cannot load this network (%s); leave it out"
        words = (onnxruntime.__version__, str(error).strip().split("\n")[0])
        raise UserError(text % words) from error
    nodes = {}
    for side, found in (("inputs", session.get_inputs()), ("outputs", session.get_outputs())):
        nodes[side] = {n.name: [s if isinstance(s, int) else None for s in n.shape] for n in found}

    def run(feed):
        return session.run([output + ":0"], {name + ":0": feed[name] for name in inputs})[0]

    yield run, nodes


@contextlib.contextmanager
def open_tflite(path: str, inputs: List[str], output: str, config: tf.ConfigProto):
    """A .tflite in TensorFlow's interpreter.

    That of TensorFlow 1 takes one picture at a time: its converter writes some batches into the
    file, and then it ignores another one.

    Raises:
      UserError: when run, if this interpreter lacks what the network needs.
    """
    interpreter = tf.lite.Interpreter(path)
    places = {one["name"].split(":")[0]: one for one in interpreter.get_input_details()}
    (made,) = interpreter.get_output_details()
    nodes = {"inputs": {name: _lite_sizes(one) for name, one in places.items()}}
    nodes["outputs"] = {made["name"]: _lite_sizes(made)}

    def run(feed):
        for name, values in feed.items():
            interpreter.resize_tensor_input(places[name]["index"], values.shape)
        try:
            interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            text = "--formats tflite: TensorFlow %s cannot run this network so (%s); leave it out"
            words = (tf.__version__, str(error).strip().split("\n")[0])
            raise UserError(text % words) from error
        for name, values in feed.items():
            interpreter.set_tensor(places[name]["index"], values)
        interpreter.invoke()
        return interpreter.get_tensor(made["index"])

    def run_one_by_one(feed):
        count = len(feed[inputs[0]])
        rows = [{name: values[i : i + 1] for name, values in feed.items()} for i in range(count)]
        return np.concatenate([run(row) for row in rows])

    yield (run_one_by_one if tf.__version__.startswith("1.") else run), nodes


OPEN = {"pb": open_pb, "saved_model": open_saved_model, "onnx": open_onnx, "tflite": open_tflite}


def _runner(session, inputs, output):
    def run(feed):
        return session.run(output + ":0", {name + ":0": feed[name] for name in inputs})

    tensors = {name: session.graph.get_tensor_by_name(name + ":0") for name in inputs + [output]}
    sizes = {name: _sizes(tensor) for name, tensor in tensors.items()}
    outputs = {output: sizes.pop(output)}
    return run, {"inputs": sizes, "outputs": outputs}


def _sizes(tensor):
    return tensor.shape.as_list() if tensor.shape.dims is not None else None


def _lite_sizes(details):
    sizes = details.get("shape_signature", details["shape"])
    return [None if size < 0 else int(size) for size in sizes]
