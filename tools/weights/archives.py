# SPDX-License-Identifier: Apache-2.0
"""Zip files (.npz, PyTorch's) of which nothing is believed before it is checked."""

import os
import zipfile
from typing import List

from harness.errors import UserError
from tools.weights.limits import check_declared, told

_STORED, _DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
_ENCRYPTED = 1


class Archive:
    """The entries of a zip file; a context manager.

    Raises:
      UserError: if it is no zip file, is damaged, has two entries of one name, or declares more
        than a file of its size can hold.
    """

    def __init__(self, path: str):
        self._path = path
        with told(path):
            self._file = zipfile.ZipFile(path)
        try:
            self._entries = self._checked()
        except UserError:
            self._file.close()
            raise

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *exception):
        self._file.close()

    def _checked(self):
        entries, packed = {}, 0
        for entry in self._file.infolist():
            if entry.filename in entries:
                raise UserError("%s has two entries %r" % (self._path, entry.filename))
            if entry.compress_type not in (_STORED, _DEFLATED) or entry.flag_bits & _ENCRYPTED:
                text = "%s: %r is encrypted or compressed in an unusual way"
                raise UserError(text % (self._path, entry.filename))
            if entry.compress_type == _STORED and entry.compress_size != entry.file_size:
                text = "%s is damaged: %r has two sizes"
                raise UserError(text % (self._path, entry.filename))
            packed += entry.compress_size
            entries[entry.filename] = entry
        if packed > os.path.getsize(self._path):
            text = "%s is damaged: its entries are to have %d bytes, the file has %d"
            raise UserError(text % (self._path, packed, os.path.getsize(self._path)))
        check_declared(self._path, sum(entry.file_size for entry in entries.values()))
        return entries

    def names(self) -> List[str]:
        """Returns the names of the entries in the order of the file."""
        return list(self._entries)

    def size(self, name: str) -> int:
        """Returns the bytes that the entry declares; UserError where there is no such entry."""
        if name not in self._entries:
            raise UserError("%s is damaged: it lacks %r" % (self._path, name))
        return self._entries[name].file_size

    def read(self, name: str, count: int = -1) -> bytes:
        """Returns the content of an entry, or its first `count` bytes.

        Raises:
          UserError: if there is no such entry, or less in it than it declares.
        """
        size = self.size(name)
        wanted = size if count < 0 else min(count, size)
        with told(self._path), self._file.open(self._entries[name]) as file:
            content = file.read(wanted)
            # The checksum is looked at where the content ends.
            more = file.read(1) if wanted == size else b""
        if len(content) != wanted or more:
            text = "%s is damaged: %r has not the %d bytes that it declares"
            raise UserError(text % (self._path, name, size))
        return content
