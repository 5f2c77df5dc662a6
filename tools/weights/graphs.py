# SPDX-License-Identifier: Apache-2.0
"""What TensorFlow and ONNX read themselves: checkpoints, frozen graphs, ONNX models."""

import glob
import os
import re
import warnings
from typing import Dict, List, Optional, Tuple

import numpy as np

from harness.errors import UserError
from tools.weights.limits import check_declared, first_line, told
from tools.weights.values import count

Description = List[Tuple[str, Tuple[int, ...], str]]
_ENDING = re.compile(r"\.(index|data-\d{5}-of-\d{5}|meta)$")


def without_ending(path: str) -> str:
    """Returns the name of the TensorFlow checkpoint that the file `path` would be of."""
    return _ENDING.sub("", path)


def checkpoint_prefix(path: str) -> Optional[str]:
    """Returns the TensorFlow checkpoint that `path`, with or without an ending, belongs to."""
    prefix = without_ending(path)
    return prefix if os.path.isfile(prefix + ".index") else None


def _tensorflow(path):
    try:
        import tensorflow.compat.v1 as tf
    except ImportError:
        text = "%s needs TensorFlow, which is not installed here; use .venv/tf2/bin/python"
        raise UserError(text % path) from None
    return tf


def _plain(array):
    """Returns bfloat16, which NumPy alone does not have, as float32."""
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def _errors(tf):
    """Returns what TensorFlow raises for a damaged checkpoint."""
    return (tf.errors.OpError, ValueError, RuntimeError, IndexError)


def _bundle(path):
    """Returns (reader, {name: (shape, dtype)}) without strings."""
    tf = _tensorflow(path)
    prefix = checkpoint_prefix(path)
    try:
        reader = tf.train.NewCheckpointReader(prefix)
        shapes, types = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    except _errors(tf) as error:
        raise UserError("%s.index is damaged: %s" % (prefix, first_line(error))) from error
    held = {
        name: (tuple(shapes[name]), types[name])
        for name in sorted(shapes)
        if types[name].base_dtype != tf.string
    }
    declared = sum(count(shape) * dtype.size for shape, dtype in held.values())
    there = sum(map(os.path.getsize, glob.glob(glob.escape(prefix) + ".data-*")))
    if declared > there:
        text = "%s is cut off or damaged: its values have %d bytes, its .data files %d"
        raise UserError(text % (prefix, declared, there))
    return reader, held


def read_bundle(path: str) -> Dict[str, np.ndarray]:
    """Returns {name: array} of a TensorFlow checkpoint, sorted; strings are left out.

    Raises:
      UserError: if it is damaged or there is no TensorFlow.
    """
    reader, held = _bundle(path)
    tf = _tensorflow(path)
    try:
        return {name: _plain(reader.get_tensor(name)) for name in held}
    except _errors(tf) as error:
        raise UserError("%s is damaged: %s" % (path, first_line(error))) from error


def describe_bundle(path: str) -> Description:
    """Returns (name, shape, type) of what `read_bundle` returns."""
    return [(name, shape, dtype.name) for name, (shape, dtype) in _bundle(path)[1].items()]


def _parse(path, message):
    """Fills a protobuf message with what is in `path`."""
    with told(path), open(path, "rb") as file:
        content = file.read()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # so that a part that is left over is an error
            message.ParseFromString(content)
    except Exception as error:  # protobuf's DecodeError has no public name in all versions
        text = "%s is damaged or of another kind: %s"
        raise UserError(text % (path, first_line(error))) from error


def read_definition(path: str):
    """Returns the GraphDef in a .pb.

    Raises:
      UserError: if there is no such file, or it is no graph.
    """
    graph = _tensorflow(path).GraphDef()
    _parse(path, graph)
    if not graph.node:
        raise UserError("%s is no frozen graph: it has no nodes" % path)
    return graph


def _graph(path):
    """Returns (nodes, {name: (TensorProto, shape, dtype)} of the constants, without strings)."""
    tf, graph = _tensorflow(path), read_definition(path)
    constants, declared = {}, 0
    for node in graph.node:
        if node.op != "Const":
            continue
        value = node.attr["value"].tensor
        shape = tuple(dim.size for dim in value.tensor_shape.dim)
        try:
            dtype = tf.as_dtype(value.dtype or tf.float32)
        except TypeError:
            text = "%s is damaged: %s has the unknown type %s"
            raise UserError(text % (path, node.name, value.dtype)) from None
        if dtype == tf.string:
            continue
        if min(shape, default=0) < 0:
            raise UserError("%s is damaged: %s has the shape %s" % (path, node.name, shape))
        constants[node.name] = (value, shape, dtype)
        declared += count(shape) * dtype.size
    check_declared(path, declared)
    return graph.node, constants


def read_graph(path: str) -> Dict[str, np.ndarray]:
    """Returns {node: array} of the constants of a frozen .pb; strings are left out.

    Raises:
      UserError: if it is missing, damaged, or there is no TensorFlow.
    """
    tf = _tensorflow(path)
    constants = _graph(path)[1]
    try:
        return {name: _plain(tf.make_ndarray(value)) for name, (value, _, _) in constants.items()}
    except (ValueError, TypeError) as error:
        raise UserError("%s is damaged: %s" % (path, first_line(error))) from error


def describe_graph(path: str) -> Description:
    """Returns (node, shape, type) of what `read_graph` returns."""
    return [(name, shape, dtype.name) for name, (_, shape, dtype) in _graph(path)[1].items()]


def ends_of_graph(path: str) -> Dict[str, List[str]]:
    """Returns the "inputs" (placeholders) and "outputs" (what no other node takes) of a .pb."""
    nodes, _ = _graph(path)
    used = {re.sub(r"^\^|:\d+$", "", name) for node in nodes for name in node.input}
    inputs = [node.name for node in nodes if node.op in ("Placeholder", "PlaceholderV2")]
    outputs = [node.name for node in nodes if node.name not in used and node.op != "Const"]
    return {"inputs": inputs, "outputs": [name for name in outputs if name not in inputs]}


def _onnx(path):
    """Returns (onnx, graph) of a model; its values are not looked at."""
    try:
        import onnx
    except ImportError:
        text = "%s needs the package onnx, which is not installed here; see tools/requirements.txt"
        raise UserError(text % path) from None
    model = onnx.ModelProto()
    _parse(path, model)
    graph = model.graph
    names = [one.name for part in (graph.initializer, graph.input, graph.output) for one in part]
    sizes = [size for one in graph.initializer for size in one.dims]
    if not names or not all(isinstance(name, str) for name in names) or min(sizes, default=0) < 0:
        text = "%s is no ONNX model, or damaged: it has no names, or a shape below 0"
        raise UserError(text % path)
    return onnx, graph


def _onnx_type(onnx, kind):
    if kind not in onnx.TensorProto.DataType.values():
        return "unknown"
    name = onnx.TensorProto.DataType.Name(kind).lower()
    return {"float": "float32", "double": "float64"}.get(name, name)


def describe_onnx(path: str) -> Description:
    """Returns (name, shape, type) of the initializers of an ONNX model."""
    onnx, graph = _onnx(path)
    return [
        (one.name, tuple(one.dims), _onnx_type(onnx, one.data_type)) for one in graph.initializer
    ]


def read_onnx(path: str) -> Dict[str, np.ndarray]:
    """Returns {name: array} of the initializers of an ONNX model; strings are left out.

    Raises:
      UserError: if it is missing, damaged, keeps values in other files, or there is no onnx.
    """
    onnx, graph = _onnx(path)
    arrays = {}
    for one in graph.initializer:
        if one.data_location == onnx.TensorProto.EXTERNAL:
            raise UserError("%s keeps %s in another file, which is not read" % (path, one.name))
        if one.data_type != onnx.TensorProto.STRING:
            try:
                arrays[one.name] = _plain(onnx.numpy_helper.to_array(one))
            except Exception as error:  # onnx lets through what NumPy and its tables raise
                text = "%s is damaged: %s: %s"
                raise UserError(text % (path, one.name[:200], first_line(error))) from error
    return arrays


def ends_of_onnx(path: str) -> Dict[str, List[str]]:
    """Returns the "inputs" and "outputs" of an ONNX model."""
    _, graph = _onnx(path)
    held = {one.name for one in graph.initializer}
    inputs = [one.name for one in graph.input if one.name not in held]
    return {"inputs": inputs, "outputs": [one.name for one in graph.output]}
