# SPDX-License-Identifier: Apache-2.0
"""Writes a graph as classify_image_graph_def.pb of 2015-12-05 is, with weights of ours.

Operations, their old forms and the nodes ExpandDims and pool_3 are that file's; its names of layers
are left aside.
"""

import numpy as np
import tensorflow.compat.v1 as tf

from tools.fid.inception import EPSILON, Inception

FLOAT = tf.float32.as_datatype_enum


class OldGraph(Inception):
    """Builds the nodes of a GraphDef of producer 8; tensors are names of nodes."""

    def __init__(self, weights):
        super().__init__(weights)
        self.graph_def = tf.GraphDef()
        self.graph_def.versions.producer = 8

    def add(self, op, *inputs, **attributes):
        """Adds a node; returns its name."""
        name = attributes.pop("name", "%s_%d" % (op, len(self.graph_def.node)))
        node = self.graph_def.node.add(name=name, op=op, input=list(inputs))
        for key, value in attributes.items():
            if isinstance(value, bool):
                node.attr[key].b = value
            elif isinstance(value, (list, tuple)):
                node.attr[key].list.i.extend(value)
            elif isinstance(value, str):
                node.attr[key].s = value.encode()
            elif isinstance(value, float):
                node.attr[key].f = value
            elif isinstance(value, int) and key in ("N",):
                node.attr[key].i = value
            else:
                node.attr[key].type = value
        return name

    def constant(self, value):
        """Adds a constant, float32 or int32; returns its name."""
        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype.kind == "f" else array.astype(np.int32)
        name = self.add("Const", dtype=tf.as_dtype(array.dtype).as_datatype_enum)
        self.graph_def.node[-1].attr["value"].tensor.CopyFrom(tf.make_tensor_proto(array))
        return name

    def _convolve(self, x, layer, stride=1, padding="SAME"):
        part = {k: self._weights["%s.bn.%s" % (layer, k)] for k in ("weight", "bias")}
        part.update({k: self._weights["%s.bn.running_%s" % (layer, k)] for k in ("mean", "var")})
        kernel = self.constant(self._weights[layer + ".conv.weight"].transpose(2, 3, 1, 0))
        strides = [1, stride, stride, 1]
        x = self.add("Conv2D", x, kernel, T=FLOAT, strides=strides, padding=padding)
        inputs = [self.constant(part[name]) for name in ("mean", "var", "bias", "weight")]
        norm = "BatchNormWithGlobalNormalization"
        settings = {"scale_after_normalization": True, "variance_epsilon": EPSILON}
        x = self.add(norm, x, *inputs, T=FLOAT, **settings)
        checked = self.add("CheckNumerics", x, T=FLOAT, message="not finite")
        x = self.add("Identity", x, "^" + checked, T=FLOAT)
        return self.add("Relu", x, T=FLOAT)

    def _pool(self, op, x, size, stride, padding, **name):
        window, strides = [1, size, size, 1], [1, stride, stride, 1]
        return self.add(op, x, ksize=window, strides=strides, padding=padding, T=FLOAT, **name)

    def _average(self, x, block):
        return self._convolve(self._pool("AvgPool", x, 3, 1, "SAME"), block + ".branch_pool")

    def _maximum_pool(self, x, block):
        return self._convolve(self._pool("MaxPool", x, 3, 1, "SAME"), block + ".branch_pool")

    def _halve(self, x):
        return self._pool("MaxPool", x, 3, 2, "VALID")

    def _join(self, branches):
        axis = self.constant(3)
        return self.add("Concat", axis, *branches, N=len(branches), T=FLOAT)

    def _describe(self, x):
        return self._pool("AvgPool", x, 8, 1, "VALID", name="pool_3")


def write(path, weights):
    """Writes the graph, float32 [1, H, W, 3] in 0..255 at ExpandDims -> pool_3 [1, 1, 1, 2048]."""
    graph = OldGraph(weights)
    image = graph.add("Placeholder", dtype=FLOAT, name="Cast")
    x = graph.add("ExpandDims", image, graph.constant(0), T=FLOAT, name="ExpandDims")
    x = graph.add("ResizeBilinear", x, graph.constant([299, 299]), T=FLOAT)
    x = graph.add("Sub", x, graph.constant(128.0), T=FLOAT)
    x = graph.add("Mul", x, graph.constant(0.0078125), T=FLOAT)
    graph.build(x)
    with open(path, "wb") as file:
        file.write(graph.graph_def.SerializeToString())
