# SPDX-License-Identifier: Apache-2.0
"""The two formats of torch.save: the object in them, with tensors that are only described.

The zip file (since PyTorch 1.6) has NAME/data.pkl, NAME/data/KEY and NAME/byteorder. The older
stream has five pickles (a magic number, version, system, object, keys), then for each key an int64
count and the values, little-endian.
"""

import io
import os
import struct
from typing import NamedTuple, Optional, Tuple

import numpy as np

from harness.errors import UserError
from tools.weights import pickles, values
from tools.weights.archives import Archive
from tools.weights.limits import told

MAGIC = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # 0x1950a86a20f9469cfc6c in the stream's first pickle
_LONGEST_START = 32
VERSION = 1001
_GREATEST_PICKLE = 64 << 20
TYPES = {"Float": "f4", "Double": "f8", "Half": "f2", "BFloat16": "u2", "Long": "i8", "Int": "i4"}
TYPES.update({"Short": "i2", "Char": "i1", "Byte": "u1", "Bool": "?"})
TYPES.update({"ComplexFloat": "c8", "ComplexDouble": "c16"})


class Storage(NamedTuple):
    """`count` values of a kind ("Float") that the file keeps under `key`.

    `view` is None or (first value, number of values) of a part, as PyTorch 0.3 wrote it.
    """

    kind: str
    key: str
    count: int
    view: Optional[Tuple[int, int]]

    def dtype(self, byte_order: str = "<") -> np.dtype:
        """Returns how its values are kept; bfloat16 as two-byte integers."""
        return np.dtype(byte_order + TYPES[self.kind])


class Tensor(NamedTuple):
    """A tensor that looks into a storage; `offset` and `strides` count values."""

    storage: Storage
    offset: int
    shape: Tuple[int, ...]
    strides: Tuple[int, ...]


def _rebuild_tensor(storage, offset, shape, strides, *_):
    if type(storage) is not Storage or type(shape) is not tuple or type(strides) is not tuple:
        raise TypeError("a tensor without storage, shape or strides")
    return Tensor(storage, offset, shape, strides)


_KNOWN = {
    "collections OrderedDict": lambda items=(): pickles.checked_dict(items),
    "torch Size": lambda sizes=(): tuple(sizes),
    "torch device": lambda *_: None,
    "torch._utils _rebuild_tensor": _rebuild_tensor,
    "torch._utils _rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils _rebuild_parameter": lambda tensor, *_: tensor,
}
for _module in ("torch", "torch.cuda"):
    _KNOWN.update({"%s %sStorage" % (_module, kind): None for kind in TYPES})


def is_stream(start: bytes) -> bool:
    """Returns whether a file that begins with `start` is a stream of torch.save."""
    return start[:1] == b"\x80" and MAGIC in start[:_LONGEST_START]


def open_file(path: str):
    """Returns a context manager of a file of torch.save; it has `content` and `values(storage)`.

    Raises:
      UserError: if the file is missing, damaged, of another kind, or asks for anything but tensors.
    """
    with told(path), open(path, "rb") as file:
        start = file.read(_LONGEST_START)
    if is_stream(start):
        return _Stream(path)
    if start.startswith(b"PK"):
        return _Zip(path)
    raise UserError("%s is no file of torch.save, or it is cut off at its start" % path)


class _File:
    """What both formats share; a context manager. `content` has Tensor where tensors are."""

    byte_order = "<"

    def __init__(self, path):
        self.path, self.content = path, None
        self._storages, self._arrays = [], {}

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def _unpickle(self, stream):
        try:
            with told(self.path):
                return pickles.load(stream, _KNOWN, self._storage)
        except UserError as error:
            if not isinstance(error.__cause__, pickles.RefusedError):
                raise
            text = "%s %s; only tensors in dicts and lists are read: save the state_dict()"
            raise UserError(text % (self.path, error.__cause__)) from None

    def _storage(self, identifier):
        """Returns the Storage of ("storage", type, key, place, count[, part])."""
        if type(identifier) is not tuple or len(identifier) not in (5, 6):
            raise TypeError("a storage without type, key and count")
        word, kind, key, _, count = identifier[:5]
        part = identifier[5] if len(identifier) == 6 else None
        right = type(kind) is pickles.Global and kind.name.endswith("Storage")
        if word != "storage" or not right or type(key) is not str or type(count) is not int:
            raise TypeError("a storage without type, key and count")
        if part is not None:
            _, first, number = part
            if {type(first), type(number)} != {int} or not 0 <= first <= first + number <= count:
                raise ValueError("a part that is not inside its storage")
            part = (first, number)
        kind = kind.name.rsplit(" ", 1)[1][: -len("Storage")]
        self._storages.append(Storage(kind, key, count, None))
        return Storage(kind, key, count, part)

    def _bytes(self, storage):
        raise NotImplementedError

    def values(self, storage):
        """Returns the values of a storage, [n], read once; bfloat16 as float32."""
        whole = storage._replace(view=None)
        if whole not in self._arrays:
            with told(self.path):
                array = np.frombuffer(self._bytes(whole), whole.dtype(self.byte_order))
            if whole.kind == "BFloat16":
                array = values.from_bfloat16(array)
            self._arrays[whole] = array.astype(array.dtype.newbyteorder("="), copy=False)
        first, count = storage.view or (0, storage.count)
        return self._arrays[whole][first : first + count]


class _Zip(_File):
    def __init__(self, path):
        super().__init__(path)
        self._archive = Archive(path)
        try:
            self._read_pickle()
        except UserError:
            self._archive.__exit__()
            raise

    def __exit__(self, *exception):
        self._archive.__exit__()

    def _read_pickle(self):
        archive = self._archive
        found = [name for name in archive.names() if name.split("/")[1:] == ["data.pkl"]]
        if len(found) != 1:
            raise UserError("%s is a zip file, but not one that torch.save wrote" % self.path)
        if archive.size(found[0]) > _GREATEST_PICKLE:
            raise UserError("%s has a pickle of more than 64 MiB" % self.path)
        self._folder = found[0][: -len("data.pkl")]
        order = b"little"
        if self._folder + "byteorder" in archive.names():
            order = archive.read(self._folder + "byteorder", 10)
        if order not in (b"little", b"big"):
            raise UserError("%s has the unknown byte order %r" % (self.path, order))
        self.byte_order = "<" if order == b"little" else ">"
        self.content = self._unpickle(io.BytesIO(archive.read(found[0])))
        for storage in set(self._storages):
            size = archive.size(self._entry(storage))
            if size != storage.count * storage.dtype().itemsize:
                text = "%s is damaged: its storage %.50r has %d bytes, not %d values"
                raise UserError(text % (self.path, storage.key, size, storage.count))

    def _entry(self, storage):
        return "%sdata/%s" % (self._folder, storage.key)

    def _bytes(self, storage):
        return self._archive.read(self._entry(storage))


class _Stream(_File):
    def __init__(self, path):
        super().__init__(path)
        with told(path), open(path, "rb") as file:
            stream = io.BytesIO(file.read(_GREATEST_PICKLE))
            stream.seek(stream.getvalue().index(MAGIC) + len(MAGIC))
            version, _, self.content, keys = [self._unpickle(stream) for _ in range(4)]
            if version != VERSION or type(keys) is not list:
                raise UserError("%s is of an unknown version of torch.save" % path)
            self._places = self._find(file, stream.tell(), keys)

    def _find(self, file, position, keys):
        """Returns {key: position of the values} and checks that all are there."""
        storages = {storage.key: storage for storage in self._storages}
        right = all(type(key) is str for key in keys)  # before any is hashed
        if not right or set(keys) != set(storages) or len(keys) != len(set(self._storages)):
            raise UserError("%s is damaged: its list of storages does not fit" % self.path)
        size, places = os.path.getsize(self.path), {}
        for key in keys:
            file.seek(position)
            (count,) = struct.unpack("<q", file.read(8))
            places[key] = position + 8
            position += 8 + storages[key].count * storages[key].dtype().itemsize
            if count != storages[key].count or position > size:
                text = "%s is cut off or damaged: its storage %.50r is to have %d values"
                raise UserError(text % (self.path, key, storages[key].count))
        return places

    def _bytes(self, storage):
        with open(self.path, "rb") as file:
            file.seek(self._places[storage.key])
            return file.read(storage.count * storage.dtype().itemsize)
