# SPDX-License-Identifier: Apache-2.0
"""A folder that is written whole or not at all."""

import contextlib
import os
import shutil

from harness.errors import UserError


def check_free(folder: str) -> None:
    """Raises UserError if `folder` holds anything, which would be mixed with what is written."""
    there = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    if there:
        shown = ", ".join(there[:3]) + (" ..." if len(there) > 3 else "")
        raise UserError("%s holds %s already; choose another --output" % (folder, shown))


@contextlib.contextmanager
def new_folder(folder: str):
    """Yields a hidden folder that becomes `folder` when the block succeeds, else is removed.

    Raises:
      UserError: if `folder` holds anything.
    """
    folder = os.path.abspath(folder)
    check_free(folder)
    hidden = os.path.join(os.path.dirname(folder), ".saving-%d" % os.getpid())
    os.makedirs(hidden)
    try:
        yield hidden
        os.replace(hidden, folder)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
