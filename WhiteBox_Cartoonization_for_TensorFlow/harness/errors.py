# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/harness/errors.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""Mistakes that the user can mend are told in one sentence; everything else keeps its traceback."""

import errno
import os
import sys
from typing import Callable

_FULL_OR_FORBIDDEN = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)
_OF_ANOTHER_KIND = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR)  # a file for a folder or so


class UserError(ValueError):
    """Something the user can mend; the message names the value, what is allowed, and what to do."""


def run_program(main: Callable[[], int]) -> None:
    """Ends the program with the status of `main`; a UserError becomes one sentence and status 1."""
    try:
        status = main()
    except UserError as error:
        status = _complain(str(error))
    except OSError as error:
        if error.errno not in _FULL_OR_FORBIDDEN + _OF_ANOTHER_KIND:
            raise
        text = "cannot write %s: %s; choose another place"
        status = _complain(text % (error.filename2 or error.filename or "a file", error.strerror))
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)


def _complain(sentence: str) -> int:
    sys.stdout.flush()
    program = sys.argv[0].replace(os.sep + "__main__.py", "")  # python -m PACKAGE
    print("%s: error: %s" % (os.path.basename(program), sentence), file=sys.stderr, flush=True)
    return 1
