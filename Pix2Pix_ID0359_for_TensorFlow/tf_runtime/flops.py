# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/tf_runtime/flops.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""How many floating point operations a graph costs: its convolutions and matrix products.

TensorFlow's own counter, tf.profiler's float_operation, leaves out products of batches (before 2.0)
and the gradients of depthwise convolutions, and it counts what the runtime drops: gradients of
inputs that only a control dependency asks for. Here a multiplication and an addition are two; all
other operations, a few percent of a network, are left out.
"""

import numpy as np
import tensorflow.compat.v1 as tf

_WINDOWS = ("Conv2D", "DepthwiseConv2dNative")
_BACK = ("BackpropInput", "BackpropFilter")


def count(fetches, shapes=None) -> int:
    """Returns the floating point operations of one run that fetches `fetches`.

    Args:
      fetches: tensors and operations, in lists, tuples or dictionaries.
      shapes: {placeholder: shape} of placeholders that have no fixed shape.

    Raises:
      ValueError: if the shape of a product is not known.
    """
    operations = [getattr(fetch, "op", fetch) for fetch in tf.nest.flatten(fetches)]
    if shapes:
        operations = _with_shapes(operations, shapes)
    return sum(_cost(operation) for operation in _computed(operations))


def _with_shapes(operations, shapes):
    """Returns the same operations of a copy of their graph that knows `shapes`."""
    source = operations[0].graph
    with tf.Graph().as_default() as graph:
        known = {x.name: tf.placeholder(x.dtype, shape) for x, shape in shapes.items()}
        tf.import_graph_def(source.as_graph_def(), known, name="")
        return [graph.get_operation_by_name(operation.name) for operation in operations]


def _computed(operations):
    """Returns the operations whose values a run needs.

    One that only a control dependency asks for is computed if it has an effect; TensorFlow makes
    others empty.
    """
    needed, asked, left = set(), set(), [(operation, True) for operation in operations]
    while left:
        operation, value = left.pop()
        value = value or _has_effect(operation)
        if operation in (needed if value else asked):
            continue
        (needed if value else asked).add(operation)
        left += [(tensor.op, value) for tensor in operation.inputs]
        left += [(control, False) for control in operation.control_inputs]
    return needed


def _has_effect(operation) -> bool:
    references = [tensor.dtype != tensor.dtype.base_dtype for tensor in operation.inputs]
    return operation.op_def.is_stateful or not operation.outputs or any(references)


def _cost(operation) -> int:
    kind = operation.type.replace("V2", "").replace("V3", "")
    name, back = kind, ""
    for ending in _BACK:
        if kind.endswith(ending):
            name, back = kind[: -len(ending)], ending
    if name in _WINDOWS:
        # A product for every place of the smaller maps, of the kernel and of the picture.
        maps = operation.outputs[0] if not back else operation.inputs[2]
        kernel = operation.inputs[1] if back != _BACK[1] else operation.outputs[0]
        sizes = _sizes(kernel, operation)
        products = sizes[:3] if name == _WINDOWS[0] else sizes[:2]
        return 2 * _number(_sizes(maps, operation)) * _number(products)
    if kind in ("MatMul", "BatchMatMul"):
        first = _sizes(operation.inputs[0], operation)
        turned = operation.get_attr("transpose_a" if kind == "MatMul" else "adj_x")
        return 2 * _number(_sizes(operation.outputs[0], operation)) * first[-2 if turned else -1]
    return 0


def _number(sizes) -> int:
    return int(np.prod(sizes, dtype=np.int64))


def _sizes(tensor, operation):
    sizes = tensor.shape.as_list() if tensor.shape.ndims is not None else [None]
    if None in sizes:
        text = "%s (%s): the shape of %s is not known; give the placeholders' shapes"
        raise ValueError(text % (operation.name, operation.type, tensor.name))
    return sizes
