# SPDX-License-Identifier: Apache-2.0
"""The audit of weights by name, shape and value, and the report at its end."""

import collections
import re
from typing import Dict, Iterable, List, Tuple

import numpy as np

from harness.errors import UserError

Arrays = Dict[str, np.ndarray]
Shapes = Dict[str, Tuple[int, ...]]
LISTED = 5  # so many names stand in an error
NAMED = 12  # so many names stand in the report; of more, only what they end in


def some(names: Iterable[str]) -> str:
    """Returns the first names, and how many there are if not all are shown."""
    names = list(names)
    rest = " ... (%d in all)" % len(names) if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + rest


def check(source: str, arrays: Arrays, shapes: Shapes, theirs: Dict[str, str]) -> Arrays:
    """Returns `arrays` as float32, in the order of `shapes`, if they are just those.

    Args:
      source: what they were read from, for the message.
      arrays: {our name: array}, numbers of any type.
      shapes: {our name: shape} of our network.
      theirs: {our name: published name}, for the message; others are called as here.

    Raises:
      UserError: if any is missing, not known, of another shape, not a number or not finite.
    """

    def named(names):
        return [theirs.get(name, name) for name in names]

    common = [name for name in shapes if name in arrays]
    shown = {name: tuple(np.shape(arrays[name])) for name in common}
    wrong = [name for name in common if shown[name] != tuple(shapes[name])]
    called = {name: theirs.get(name, name) for name in wrong}
    called = {name: name if name == one else one + " as " + name for name, one in called.items()}
    wrong = ["%s is %s, must be %s" % (called[n], shown[n], tuple(shapes[n])) for n in wrong]
    kinds = {name: np.asarray(arrays[name]).dtype.kind for name in common}
    strange = [name for name in common if kinds[name] not in "fiu"]
    infinite = [name for name in common if name not in strange and not _is_finite(arrays[name])]
    problems = [
        ("it lacks", named(name for name in shapes if name not in arrays)),
        ("not known are", named(name for name in arrays if name not in shapes)),
        ("of another shape:", wrong),
        ("no numbers are in", named(strange)),
        ("values that are not finite are in", named(infinite)),
    ]
    found = ["%s %s" % (what, some(names)) for what, names in problems if names]
    if found:
        raise UserError("%s does not fit: %s" % (source, "; ".join(found)))
    return {name: np.asarray(arrays[name], np.float32) for name in shapes}


def _is_finite(array) -> bool:
    """Returns whether all values are finite, as they will be: in float32."""
    with np.errstate(over="ignore"):
        return bool(np.isfinite(np.asarray(array, np.float32)).all())


def first_shape(source: str, arrays: Arrays, name: str, dimensions: int, shown: str) -> tuple:
    """Returns the shape of a tensor that says how wide the network is.

    Raises:
      UserError: if there is no such tensor or it has another number of dimensions.
    """
    shape = np.shape(arrays[name]) if name in arrays else None
    if shape is None or len(shape) != dimensions or 0 in shape:
        what = "it lacks %s" % shown if shape is None else "%s is %s" % (shown, tuple(shape))
        text = "%s does not fit: %s; it must have %d dimensions, none of them 0"
        raise UserError(text % (source, what, dimensions))
    return shape


def describe_left_out(names: Iterable[str]) -> str:
    """Returns the names; if they are many, what they end in, and how many end so."""
    names = list(names)
    if len(names) <= NAMED:
        return ", ".join(names) or "nothing"
    counts = collections.Counter(re.split(r"[./]", name)[-1] for name in names)
    listed = ["%s (%d)" % pair if pair[1] > 1 else pair[0] for pair in counts.items()]
    return "%d tensors: %s" % (len(names), ", ".join(listed))


def options_line(values: dict) -> str:
    """Returns {option: value} as words of a command line."""
    words = []
    for name, value in values.items():
        text = " ".join(value) if isinstance(value, tuple) else str(value)
        words.append("--%s=%s" % (name, '"%s"' % text if " " in text else text))
    return " ".join(words)


def print_report(
    written: Dict[str, Arrays], left_out: Iterable[str], options: str, notes: List[str]
) -> None:
    """Prints what was written and left out, the options that fit, and the switches needed.

    Args:
      written: {path: {name: array}}.
      left_out: published names that have no use here.
      options: such as "--ch=64 --light=True".
      notes: one line each: a switch that the weights need, and why.
    """
    for path, arrays in written.items():
        values = sum(int(np.size(array)) for array in arrays.values())
        print("%s: %d tensors, %d values" % (path, len(arrays), values))
    print("left out: %s" % describe_left_out(left_out))
    print("options that fit: %s" % (options or "the defaults"))
    for note in notes:
        print("needs " + note)
