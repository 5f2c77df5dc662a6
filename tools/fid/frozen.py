# SPDX-License-Identifier: Apache-2.0
"""Frozen TensorFlow graphs: imported, and made faster without another result."""

import numpy as np
import tensorflow.compat.v1 as tf

from harness.errors import UserError

NORM = "BatchNormWithGlobalNormalization"  # the operation of 2015
PASSED = ("CheckNumerics", "Identity")  # what a network that is only used can do without


def fold(graph_def: tf.GraphDef) -> tf.GraphDef:
    """Returns the graph with its batch normalisations folded into the convolutions before them.

    Control inputs and PASSED nodes are left out: TensorFlow then computes a convolution, its bias
    and its ReLU in one piece. Node names stay, so does the producer: these old operations are
    refused in graphs with a newer one.
    """
    nodes = {node.name: node for node in graph_def.node}
    folded = tf.GraphDef()
    folded.CopyFrom(graph_def)
    del folded.node[:]
    for node in graph_def.node:
        inputs = [name for name in node.input if not name.startswith("^")]
        if node.op == NORM and _is_foldable(nodes, inputs):
            folded.node.extend(_convolution(node, nodes, inputs))
            continue
        new = folded.node.add()
        new.CopyFrom(node)
        del new.input[:]
        new.input.extend(inputs if node.op in PASSED else [_origin(nodes, n) for n in inputs])
    return folded


def _origin(nodes, name):
    """Returns the name of what arrives at `name` unchanged."""
    for _ in range(len(nodes)):  # a damaged graph may have a ring
        if name not in nodes or nodes[name].op not in PASSED or not nodes[name].input:
            return name
        name = nodes[name].input[0]
    return name


def _is_foldable(nodes, inputs):
    convolution = nodes.get(_origin(nodes, inputs[0]))
    if convolution is None or convolution.op != "Conv2D":
        return False
    arrays = [nodes.get(_origin(nodes, n)) for n in [*convolution.input[1:2], *inputs[1:]]]
    return len(arrays) == 5 and all(node is not None and node.op == "Const" for node in arrays)


def _array(nodes, name):
    return tf.make_ndarray(nodes[_origin(nodes, name)].attr["value"].tensor).astype(np.float64)


def _convolution(norm, nodes, inputs):
    """Yields the nodes that compute what a convolution and then `norm` compute, as `norm`."""
    before = nodes[_origin(nodes, inputs[0])]
    mean, variance, beta, gamma = (_array(nodes, name) for name in inputs[1:])
    scale = 1 / np.sqrt(variance + norm.attr["variance_epsilon"].f)
    if norm.attr["scale_after_normalization"].b:
        scale = scale * gamma
    arrays = {"kernel": _array(nodes, before.input[1]) * scale, "bias": beta - mean * scale}
    for part, array in arrays.items():
        node = tf.NodeDef(op="Const", name="%s/folded_%s" % (norm.name, part))
        node.attr["dtype"].type = tf.float32.as_datatype_enum
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(array.astype(np.float32)))
        yield node
    node = tf.NodeDef()
    node.CopyFrom(before)
    node.name = norm.name + "/folded"
    del node.input[:]
    node.input.extend([_origin(nodes, before.input[0]), norm.name + "/folded_kernel"])
    yield node
    node = tf.NodeDef(op="BiasAdd", name=norm.name)
    node.attr["T"].type = tf.float32.as_datatype_enum
    node.input.extend([norm.name + "/folded", norm.name + "/folded_bias"])
    yield node


def import_graph(path: str, graph_def: tf.GraphDef, names, inputs=None) -> list:
    """Returns the tensors `names` of a graph, added to the default graph.

    Args:
      path: where it is from, for the message.
      graph_def: the graph.
      names: such as "pool_3:0".
      inputs: {name: tensor} that takes the place of one of its own.

    Raises:
      UserError: if it does not have these nodes, or cannot be imported.
    """
    try:
        return tf.import_graph_def(graph_def, inputs, names, name="")
    except ValueError as error:
        words = (path, ", ".join([*(inputs or {}), *names]), str(error).split("\n")[0])
        raise UserError("%s does not have the nodes %s: %s" % words) from error


def new_session(graph: tf.Graph) -> tf.Session:
    """Returns a session of a graph; what a GPU cannot do is done on the CPU."""
    return tf.Session(graph=graph, config=tf.ConfigProto(allow_soft_placement=True))
