# SPDX-License-Identifier: Apache-2.0
"""MATLAB's .mat (MatConvNet's networks): the numeric arrays in its structs and cells, by place."""

import struct
import zlib
from typing import Dict, List, Tuple

import numpy as np

from harness.errors import UserError
from tools.weights.limits import check_declared, first_line, told

_HEADER, _COMPRESSED = 128, 15
_DEEPEST = 30


def read(path: str) -> Dict[str, np.ndarray]:
    """Returns {name: array} of a .mat of version 5, names as "layers/0/weights/1"; no strings.

    A name has the fields of structs and the places in cells, without the places of single ones.

    Raises:
      UserError: if the file is missing, damaged, or SciPy is not there.
    """
    try:
        from scipy.io import loadmat
    except ImportError:
        raise UserError("%s needs SciPy, which is not installed here" % path) from None
    _check(path)
    try:
        with open(path, "rb") as file:
            content = loadmat(file)
    except Exception as error:  # SciPy lets through what its parts raise
        raise UserError("%s is damaged: %s" % (path, first_line(error))) from error
    arrays = {}
    for name, value in content.items():
        if not name.startswith("__"):
            _collect(arrays, name, value, 0)
    if not arrays:
        raise UserError("%s holds no numbers" % path)
    return arrays


def describe(path: str) -> List[Tuple[str, Tuple[int, ...], str]]:
    """Returns (name, shape, type) of each array; the errors are those of `read`."""
    return [(name, array.shape, array.dtype.name) for name, array in read(path).items()]


def _collect(arrays, name, value, depth):
    """Adds the numeric arrays below `value` to `arrays`."""
    if depth > _DEEPEST or not isinstance(value, (np.ndarray, np.void)):
        return
    if value.dtype.names:  # a struct
        for field in value.dtype.names:
            _collect(arrays, "%s/%s" % (name, field), value[field], depth + 1)
    elif value.dtype == object:  # a cell
        parts = np.ravel(value)
        for i, part in enumerate(parts):
            place = name if len(parts) == 1 else "%s/%d" % (name, i)
            _collect(arrays, place, part, depth + 1)
    elif value.dtype.kind in "biufc" and isinstance(value, np.ndarray):
        arrays[name] = value


def _check(path):
    """Raises UserError if the parts of the file are cut off or unpack to too much."""
    declared = 0
    with told(path), open(path, "rb") as file:
        order = {b"IM": "<", b"MI": ">"}.get(file.read(_HEADER)[126:])
        if order is None:
            raise ValueError("it has no byte order")
        while True:
            tag = file.read(8)
            if not tag:
                break
            kind, size = struct.unpack(order + "II", tag)
            data = file.read(size)
            if len(data) != size:
                raise ValueError("it is cut off")
            declared += _unpacked(path, data) if kind == _COMPRESSED else size
    check_declared(path, declared)


def _unpacked(path, data):
    """Returns how many bytes a compressed part has, without keeping them."""
    size, engine = 0, zlib.decompressobj()
    while data and not engine.eof:
        size += len(engine.decompress(data, 1 << 20))
        data = engine.unconsumed_tail
        check_declared(path, size)
    if not engine.eof:
        raise ValueError("a compressed part is cut off")
    return size
