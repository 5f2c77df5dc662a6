# SPDX-License-Identifier: Apache-2.0
"""What a weight file may ask for, and the one sentence that a damaged file ends in."""

import contextlib
import os
import struct
import zipfile
import zlib

from harness.errors import UserError

GREATEST = 16 << 30  # bytes of all values together
GREATEST_RATIO = 100  # bytes of values for a byte of the file, from 64 MiB on
_DAMAGE = (ValueError, RuntimeError, EOFError, OverflowError, struct.error)
_DAMAGE += (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error)


@contextlib.contextmanager
def told(path: str):
    """Turns what reading a damaged, missing or forbidden file at `path` raises into a UserError."""
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        raise UserError("cannot read %s: %s" % (path, error.strerror or error)) from error
    except MemoryError as error:
        raise UserError("%s needs more memory than there is" % path) from error
    except _DAMAGE as error:
        text = "%s is damaged: %s; get the file again"
        raise UserError(text % (path, first_line(error))) from error


def first_line(error: Exception) -> str:
    """Returns what an error says, at most one line of 200 characters."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def check_declared(path: str, declared: int) -> None:
    """Raises UserError if `path` declares more bytes of values than a file of its size should."""
    allowed = min(GREATEST, (64 << 20) + GREATEST_RATIO * os.path.getsize(path))
    if declared > allowed:
        text = "%s declares %d bytes of values; a file of its size may have %d; it is damaged or "
        text += "made to fill the memory"
        raise UserError(text % (path, declared, allowed))
