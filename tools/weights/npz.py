# SPDX-License-Identifier: Apache-2.0
"""NumPy's .npz: headers checked against the bytes that are there before an array is read."""

import io
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from harness.errors import UserError
from tools.weights import values
from tools.weights.archives import Archive
from tools.weights.limits import told

_ENDING = ".npy"
_LONGEST = 4096
_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class Header(NamedTuple):
    """What an array is: its type and shape, and how it lies in its entry.

    Attributes:
      dtype: of numbers: boolean, integer, float or complex.
      shape: its sizes.
      order: "C" or "F".
      start: bytes of its entry before the values.
    """

    dtype: np.dtype
    shape: Tuple[int, ...]
    order: str
    start: int


def headers(path: str, names: Optional[Sequence[str]] = None) -> Dict[str, Header]:
    """Returns {name: Header} of the arrays in an .npz, and reads no values.

    Args:
      path: the file.
      names: those asked for; the others may be of any type, and those not there are left out. None
        means all.

    Raises:
      UserError: if the file is missing, damaged or no zip file, or an array is not of numbers.
    """
    with Archive(path) as archive:
        return _headers(archive, path, names)


def read(path: str, names: Optional[Sequence[str]] = None) -> Dict[str, np.ndarray]:
    """Returns {name: array} of an .npz, in this machine's byte order.

    Args:
      path: the file.
      names: those to read, all of which must be there; None means all.

    Raises:
      UserError: as `headers`, or if an array is not there.
    """
    with Archive(path) as archive:
        found = _headers(archive, path, names)
        lacking = [name for name in names or [] if name not in found]
        if lacking:
            text = "%s has no array %s; it has %s"
            there = ", ".join(_names(archive)[:10]) or "none"
            raise UserError(text % (path, ", ".join(lacking), there))
        return {name: _array(archive, path, name, header) for name, header in found.items()}


def describe(path: str) -> List[Tuple[str, Tuple[int, ...], str]]:
    """Returns (name, shape, type) of each array; the errors are those of `headers`."""
    return [(name, header.shape, header.dtype.name) for name, header in headers(path).items()]


def _names(archive):
    return [name[: -len(_ENDING)] for name in archive.names() if name.endswith(_ENDING)]


def _headers(archive, path, names):
    chosen = [name for name in _names(archive) if names is None or name in names]
    return {name: _header(archive, path, name + _ENDING) for name in chosen}


def _header(archive, path, entry):
    """Returns the Header of an entry, checked against its size."""
    stream = io.BytesIO(archive.read(entry, _LONGEST))
    with told(path):
        version = np.lib.format.read_magic(stream)
        if version not in _READERS:
            raise ValueError("%s has a header of version %d.%d" % (entry, *version))
        try:
            shape, is_fortran, dtype = _READERS[version](stream)
        except MemoryError:  # what Python 3.7 raises for hundreds of brackets
            raise ValueError("%s has a header that makes no sense" % entry) from None
    if dtype.kind not in "biufc" or any(size < 0 for size in shape):
        text = "%s: %s is no array of numbers (pickled objects are not read)"
        raise UserError(text % (path, entry))
    there = archive.size(entry) - stream.tell()
    if dtype.itemsize * values.count(shape) != there:
        text = "%s is damaged: %s has the shape %s and %d bytes"
        raise UserError(text % (path, entry, shape, there))
    return Header(dtype, shape, "F" if is_fortran else "C", stream.tell())


def _array(archive, path, name, header):
    content = archive.read(name + _ENDING)
    with told(path):
        array = np.frombuffer(content, np.uint8)[header.start :].copy().view(header.dtype)
        array = array.astype(header.dtype.newbyteorder("="), copy=False)
        return array.reshape(header.shape, order=header.order)
