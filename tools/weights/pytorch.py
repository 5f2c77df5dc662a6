# SPDX-License-Identifier: Apache-2.0
"""PyTorch's weight files without PyTorch, and without running the pickles in them."""

import struct
import zipfile
from typing import Dict, List, Tuple

import numpy as np

from harness.errors import UserError
from harness.files import atomic_path
from tools.weights import torch_files
from tools.weights.limits import told
from tools.weights.torch_files import Tensor
from tools.weights.values import count

_MOST_PARTS, _DEEPEST, _LONGEST_NAME, _MOST_AXES = 300000, 50, 1000, 32
_EXPANDED = 1 << 20  # values that a tensor may have although its storage has fewer
_KINDS = {np.dtype(form).name: kind for kind, form in torch_files.TYPES.items() if form != "u2"}


def read(path: str) -> Dict[str, np.ndarray]:
    """Returns {name: array} of all tensors in a file that torch.save wrote, of either format.

    The names of nested dicts are joined with "/"; a tensor in a list has its index as name. What is
    no tensor is left out. bfloat16 becomes float32, other types stay. Tensors may share memory, as
    they do in PyTorch, and cannot be written to: copy an array before changing it.

    Raises:
      UserError: if the file is missing, damaged, of another kind, or asks for anything but tensors.
    """
    with torch_files.open_file(path) as file:
        return {name: _array(file, tensor) for name, tensor in _tensors(file).items()}


def describe(path: str) -> List[Tuple[str, Tuple[int, ...], str]]:
    """Returns (name, shape, type) of each tensor and reads no values; the errors are read's."""
    with torch_files.open_file(path) as file:
        return [(name, t.shape, _type_name(t)) for name, t in _tensors(file).items()]


def _type_name(tensor):
    kind = tensor.storage.kind
    return "bfloat16" if kind == "BFloat16" else np.dtype(torch_files.TYPES[kind]).name


def _array(file, tensor):
    with told(file.path):
        values = file.values(tensor.storage)
        if 0 in tensor.shape:
            return np.zeros(tensor.shape, values.dtype)
        strides = [step * values.itemsize for step in tensor.strides]
        return np.lib.stride_tricks.as_strided(
            values[tensor.offset :], tensor.shape, strides, writeable=False
        )


def _tensors(file):
    """Returns {name: Tensor} of a file's content, each checked against its storage."""
    found, parts = {}, 0
    for name, value, depth in _parts(file.path, "", file.content, ()):
        parts += 1 + len(name) // 100  # a long name counts more, as many would fill the memory
        if depth > _DEEPEST or parts > _MOST_PARTS or len(name) > _LONGEST_NAME:
            text = "%s is nested too deeply, has too many parts or too long names: %.50s..."
            raise UserError(text % (file.path, name))
        if type(value) is Tensor:
            problem = _problem(value)
            if problem:
                raise UserError("%s is damaged: %s %s" % (file.path, name or "a tensor", problem))
            if name in found:
                raise UserError("%s has two tensors %s" % (file.path, name))
            found[name] = value
    if not found or "" in found:
        raise UserError("%s holds no tensors in dicts or lists" % file.path)
    return found


def _parts(path, name, value, around):
    """Yields (name, part, depth) of a value and of all in it; `around` are the containers it is in.

    Nothing is collected: whoever stops has made no more names than were asked for.
    """
    yield name, value, len(around)
    if type(value) not in (dict, list, tuple):
        return
    if any(value is one for one in around):
        raise UserError("%s is damaged: it has a part that is inside itself" % path)
    start = name + "/" if around else ""
    for key, part in value.items() if type(value) is dict else enumerate(value):
        yield from _parts(path, start + str(key), part, around + (value,))


def _problem(tensor):
    """Returns what is wrong with a tensor, or None."""
    storage, offset, shape, strides = tensor
    numbers = (offset,) + shape + strides
    if len(shape) != len(strides) or len(shape) > _MOST_AXES:
        return "has %d axes and %d strides" % (len(shape), len(strides))
    if any(type(number) is not int or not 0 <= number < 1 << 60 for number in numbers):
        return "has an offset, a shape or strides that are no numbers from 0 on"
    there = storage.view[1] if storage.view else storage.count
    last = offset + sum((size - 1) * step for size, step in zip(shape, strides))
    if 0 not in shape and last >= there:
        return "reaches to value %d of a storage of %d" % (last, there)
    if count(shape) > there + _EXPANDED:
        return "would be %d values made of %d" % (count(shape), there)
    return None


def write(path: str, arrays: Dict[str, np.ndarray]) -> None:
    """Writes a state_dict that torch.load(path, weights_only=True) reads; whole or not at all.

    Args:
      path: where to write the zip format.
      arrays: {name: array}; a name "genA2B/conv.weight" becomes {"genA2B": {"conv.weight": ...}}.

    Raises:
      UserError: if PyTorch has no such type, or a name is a tensor's and a dict's.
    """
    nested = {}
    for name, array in arrays.items():
        first, slash, own = name.partition("/")
        if np.asarray(array).dtype.name not in _KINDS:
            text = "%s: %s has the type %s, which is not written; convert it"
            raise UserError(text % (path, name, np.asarray(array).dtype))
        place = nested.setdefault(first, {}) if slash else nested
        if type(place) is not dict or (own or first) in place:
            raise UserError("%s: the name %s is a tensor's and a dict's" % (path, first))
        place[own if slash else first] = np.asarray(array)
    stored = []
    content = b"\x80\x02" + _pickled(nested, stored) + b"."
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, data in [("data.pkl", content), ("byteorder", b"little"), ("version", b"3\n")]:
            archive.writestr(zipfile.ZipInfo("archive/" + name), data)
        for key, array in enumerate(stored):
            little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
            archive.writestr(zipfile.ZipInfo("archive/data/%d" % key), little.tobytes())


def _pickled(value, stored):
    """Returns the operations that put a value on the stack; arrays are added to `stored`."""
    if type(value) is dict:
        pairs = [_text(key) + _pickled(part, stored) for key, part in value.items()]
        return b"ccollections\nOrderedDict\n)R(" + b"".join(pairs) + b"u"
    kind = b"ctorch\n%sStorage\n" % _KINDS[value.dtype.name].encode()
    storage = _text("storage") + kind + _text(str(len(stored))) + _text("cpu")
    storage = b"(" + storage + _number(value.size) + b"tQ"
    stored.append(value)
    steps = [int(np.prod(value.shape[i + 1 :], dtype=np.int64)) for i in range(value.ndim)]
    shape, strides = (b"(" + b"".join(map(_number, sizes)) + b"t" for sizes in (value.shape, steps))
    rest = _number(0) + shape + strides + b"\x89" + b"ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + rest + b"tR"


def _text(text):
    content = text.encode("utf-8")
    return b"X" + struct.pack("<I", len(content)) + content


def _number(number):
    if number < 1 << 31:
        return b"J" + struct.pack("<i", number)
    return b"\x8a\x08" + struct.pack("<q", number)
