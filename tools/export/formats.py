# SPDX-License-Identifier: Apache-2.0
"""A frozen graph -> SavedModel, .onnx, .tflite; all with the names of its nodes."""

import importlib.util
import os
import re
import sys
from typing import List, Sequence

import tensorflow.compat.v1 as tf

from harness.errors import UserError


def check(kinds: Sequence[str], opset: int, size: int, has_one_size: bool) -> None:
    """Raises UserError if a format cannot be written, or loaded again, here.

    Args:
      kinds: of the formats, as `runtimes.OPEN` has them.
      opset: of the .onnx.
      size: side of the pictures that the files shall take; 0 for any that the model allows.
      has_one_size: whether the model allows one only.
    """
    if "onnx" in kinds:
        for name in ("tf2onnx", "onnxruntime"):
            if importlib.util.find_spec(name) is None:
                text = "--formats onnx needs %s; install tools/requirements.txt, or leave it out"
                raise UserError(text % name)
        _check_opset(opset)
    if "tflite" in kinds and not (size or has_one_size) and tf.__version__.startswith("1."):
        text = "TensorFlow %s makes a .tflite of one size only; give --size, such as 256"
        raise UserError(text % tf.__version__)


def _check_opset(opset) -> None:
    """Raises UserError if this ONNX Runtime does not take the opset."""
    import onnx
    import onnxruntime
    from onnx import helper

    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "check", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 7  # of the oldest onnxruntime that is used here
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common base class
        text = "--opset %d: onnxruntime %s cannot load such an .onnx, so it cannot be compared; "
        text += "give 15 or less, or install a newer onnxruntime"
        raise UserError(text % (opset, onnxruntime.__version__)) from error


def fix_size(graph_def: tf.GraphDef, name: str, size: int) -> None:
    """Gives the placeholder `name` [N, H, W, C] of a graph the height and width `size`."""
    for node in graph_def.node:
        if node.name == name:
            for axis in (1, 2):
                node.attr["shape"].shape.dim[axis].size = size


def write_pb(graph_def: tf.GraphDef, path: str) -> None:
    """Writes a frozen graph as a .pb."""
    with open(path, "wb") as file:
        file.write(graph_def.SerializeToString())


def write_saved_model(graph_def: tf.GraphDef, inputs: List[str], output: str, path: str) -> None:
    """Writes a frozen graph as a SavedModel, a folder, with the signature serving_default.

    Args:
      graph_def: the graph.
      inputs: names of its input nodes, which are those of the signature too.
      output: name of its output node, likewise.
      path: the folder; not there yet.
    """
    with tf.Graph().as_default() as graph, tf.Session(graph=graph, config=_cpu()) as session:
        tensors = _import(graph_def, inputs, output)
        named = dict(zip(inputs, tensors))
        tf.saved_model.simple_save(session, path, named, {output: tensors[-1]})


def write_onnx(
    graph_def: tf.GraphDef, inputs: List[str], output: str, path: str, opset: int = 15
) -> None:
    """Writes a frozen graph as .onnx; its names end in ":0".

    Raises:
      UserError: if this tf2onnx cannot convert the graph.
    """
    import onnx
    import tf2onnx

    words = {"input_names": [name + ":0" for name in inputs], "output_names": [output + ":0"]}
    try:
        model, _ = tf2onnx.convert.from_graph_def(graph_def, opset=opset, **words)
        onnx.checker.check_model(model)  # it leaves in what it does not know
    except Exception as error:  # what it raises has no common base class
        text = "--formats onnx: tf2onnx %s cannot convert this network (%s); leave it out"
        raise UserError(text % (tf2onnx.__version__, _reason(error))) from error
    with open(path, "wb") as file:
        file.write(model.SerializeToString())


def write_tflite(
    graph_def: tf.GraphDef, inputs: List[str], output: str, path: str, half: bool = False
) -> None:
    """Writes a frozen graph as .tflite, with float16 weights if `half`.

    Raises:
      UserError: if this TensorFlow cannot convert the graph.
    """
    # 1.15 calls a program that lies beside Python.
    folders = [os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)]
    os.environ["PATH"] = os.pathsep.join(folders)
    with tf.Graph().as_default() as graph, tf.Session(graph=graph, config=_cpu()) as session:
        tensors = _import(graph_def, inputs, output)
        converter = tf.lite.TFLiteConverter.from_session(session, tensors[:-1], tensors[-1:])
        if half:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        try:
            content = converter.convert()
        except Exception as error:  # ConverterError has no public name in both versions
            text = "--formats tflite: TensorFlow %s cannot convert this network (%s); leave it out"
            raise UserError(text % (tf.__version__, _reason(error))) from error
    with open(path, "wb") as file:
        file.write(content)


def _reason(error) -> str:
    """Returns the line of a converter's error that says what is wrong."""
    lacking = re.search(r"you will need custom implementations: (.*)\.", str(error))
    if lacking:  # TensorFlow 1 says it after much else
        return "it lacks " + lacking.group(1)
    lines = [line.strip() for line in str(error).split("\n")]
    told = [line for line in lines if line and line != "See console for info."]
    return re.sub(r"^.*?\.cc:\d+\] ", "", told[0]) if told else type(error).__name__


def _import(graph_def, inputs, output):
    """Returns the tensors of the inputs and of the output, added to the default graph."""
    names = [name + ":0" for name in inputs + [output]]
    return tf.import_graph_def(graph_def, return_elements=names, name="")


def _cpu():
    return tf.ConfigProto(device_count={"GPU": 0})
