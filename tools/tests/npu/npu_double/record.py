# SPDX-License-Identifier: Apache-2.0
"""Writes down what was called, one JSON object a line."""

import json
import os

import tensorflow.compat.v1 as tf

_inside = []  # the calls that are running


class Inside:
    """While it is open, calls are those of the double itself, one level deeper."""

    def __init__(self, call):
        self._call = call

    def __enter__(self):
        _inside.append(self._call)

    def __exit__(self, *exception):
        _inside.pop()


def text_of(value) -> str:
    """Returns an argument as a short text."""
    if isinstance(value, tf.Variable):
        return "Variable %s %s %s" % (value.op.name, value.dtype.base_dtype.name, value.shape)
    if isinstance(value, tf.Tensor):
        return "Tensor %s %s" % (value.dtype.base_dtype.name, value.shape)
    if isinstance(value, (tf.train.Optimizer, tf.IndexedSlices)) or hasattr(value, "npu_name"):
        return type(value).__name__
    if isinstance(value, (list, tuple)):
        if len(value) > 4:
            return "%d of %s" % (len(value), text_of(value[0]))
        return "[%s]" % ", ".join(map(text_of, value))
    return repr(value)


def record(call: str, arguments=(), **more) -> None:
    """Appends a call to the file NPU_BRIDGE_RECORD, if there is one.

    Args:
      call: full name of what was called, or what happened.
      arguments: {name: value}.
      more: further entries of the object.
    """
    path = os.environ.get("NPU_BRIDGE_RECORD")
    if not path:
        return
    entry = {"call": call, "rank": os.environ.get("RANK_ID", "0"), "depth": len(_inside)}
    entry["arguments"] = {name: text_of(value) for name, value in dict(arguments).items()}
    entry.update(more)
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(entry, sort_keys=True) + "\n")
