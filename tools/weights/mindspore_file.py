# SPDX-License-Identifier: Apache-2.0
"""MindSpore's .ckpt without MindSpore: a protobuf of values, each with its name, shape and type.

Checkpoint{repeated Value value = 1}, Value{string tag = 1; TensorProto tensor = 2}, and
TensorProto{repeated int64 dims = 1; string tensor_type = 2; bytes tensor_content = 3}. A great
tensor is cut into several values of one name. `save_checkpoint(crc_check=True)` adds 17 bytes.
"""

import binascii
import mmap
from typing import Dict, List, Tuple

import numpy as np

from tools.weights.limits import told
from tools.weights.values import count, from_bfloat16

_TYPES = {"Bool": "?", "Float16": "<f2", "Float32": "<f4", "Float64": "<f8", "BFloat16": "<u2"}
for _bits in (8, 16, 32, 64):
    _TYPES.update({"Int%d" % _bits: "<i%d" % (_bits // 8), "UInt%d" % _bits: "<u%d" % (_bits // 8)})
_CRC = b"crc_num"  # before a checksum of 10 bytes


def is_checkpoint(start: bytes) -> bool:
    """Returns whether a file that begins with `start` looks like a .ckpt of MindSpore.

    A TensorFlow graph begins in the same way; where that has an operation's name, this has a tensor
    that begins with its shape or its type.
    """
    try:
        _, place = _varint(start, 1, len(start))
        length, name = _varint(start, place + 1, len(start))
        _, tensor = _varint(start, name + length + 1, len(start))
        keys = [start[0], start[place], start[name + length]]
        return keys == [10, 10, 18] and start[tensor] in b"\x08\x12"
    except (ValueError, IndexError):
        return False


def read(path: str) -> Dict[str, np.ndarray]:
    """Returns {name: array}; strings are left out, bfloat16 becomes float32.

    Raises:
      UserError: if the file is missing, damaged or of another kind.
    """
    with told(path), open(path, "rb") as file:
        content = file.read()
        return {name: _array(content, *value) for name, value in _values(content).items()}


def describe(path: str) -> List[Tuple[str, Tuple[int, ...], str]]:
    """Returns (name, shape, type) of each tensor; the errors are those of `read`."""
    with told(path), open(path, "rb") as file, _mapped(file) as content:
        values = _values(content)
    return [(name, shape, kind.lower()) for name, (shape, kind, _) in values.items()]


def _mapped(file):
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _array(content, shape, kind, pieces):
    array = np.frombuffer(b"".join(content[a:b] for a, b in pieces), _TYPES[kind])
    if kind == "BFloat16":
        array = from_bfloat16(array)
    return array.reshape(shape)


def _values(content):
    """Returns {name: (shape, type, [(first byte, byte after the last)])} of all tensors."""
    end, values, before = len(content), {}, None
    if content[-17:-10] == _CRC:
        end -= 17
        if binascii.crc32(content[:end]) != int.from_bytes(content[-10:], "big"):
            raise ValueError("its checksum is another")
    for number, place in _fields(content, 0, end):
        parts = dict(_fields(content, *place)) if number == 1 and type(place) is tuple else {}
        name = _text(content, parts.get(1))
        if type(parts.get(2)) is not tuple:
            continue  # a table of another kind
        shape, kind, pieces = _tensor(content, *parts[2])
        if kind == "str":
            continue
        if name in values and (name != before or values[name][:2] != (shape, kind)):
            raise ValueError("it has two tensors %s" % name)
        values.setdefault(name, (shape, kind, []))[2].extend(pieces)
        before = name
    if not values:
        raise ValueError("it holds no tensors")
    return {name: _checked(name, *value) for name, value in values.items()}


def _checked(name, shape, kind, pieces):
    if kind not in _TYPES:
        raise ValueError("%s has the unknown type %s" % (name, kind))
    size, wanted = sum(b - a for a, b in pieces), np.dtype(_TYPES[kind]).itemsize
    if shape == (0,) and size == wanted:
        shape = ()  # how a number may be written
    if size != wanted * count(shape):
        raise ValueError("%s has the shape %s and %d bytes" % (name, shape, size))
    return shape, kind, pieces


def _tensor(content, first, last):
    shape, kind, pieces = [], None, []
    for number, value in _fields(content, first, last):
        if number == 1 and type(value) is int:
            shape.append(value)
        elif number == 2:
            kind = _text(content, value)
        elif number == 3 and type(value) is tuple:
            pieces.append(value)
    return tuple(shape), kind, pieces


def _text(content, place):
    if type(place) is not tuple:
        raise ValueError("a name or a type is missing")
    return content[place[0] : place[1]].decode("utf-8")


def _fields(content, first, last):
    """Yields (number, integer or (first byte, byte after the last)) of a protobuf message."""
    while first < last:
        key, first = _varint(content, first, last)
        value, first = _varint(content, first, last)
        if key & 7 == 0:
            yield key >> 3, value
        elif key & 7 == 2 and first + value <= last:
            yield key >> 3, (first, first + value)
            first += value
        else:
            raise ValueError("it is cut off or no checkpoint at byte %d" % first)


def _varint(content, first, last):
    """Returns (value, place after it) of a number in groups of seven bits."""
    value = 0
    for i in range(10):
        if first + i >= last:
            break
        value |= (content[first + i] & 127) << 7 * i
        if content[first + i] < 128:
            return value, first + i + 1
    raise ValueError("it is cut off or no checkpoint at byte %d" % first)
