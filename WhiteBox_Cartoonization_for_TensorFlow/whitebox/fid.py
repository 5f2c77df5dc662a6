# SPDX-License-Identifier: Apache-2.0
"""FID through tools/fid of the repository, where there is one."""

import os
import re
import subprocess
import sys

from harness.errors import UserError

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def check_fid(inception: str) -> None:
    """Raises UserError unless there is such a file and the tool that reads it."""
    if not os.path.exists(os.path.join(REPOSITORY, "tools", "fid", "__main__.py")):
        text = "--inception: FID is measured by tools/fid, which is in the whole repository only"
        raise UserError(text + "; leave --inception out, or run this folder inside it")
    if not os.path.isfile(inception):
        raise UserError("--inception %s: there is no such file" % inception)


def fid(real: str, fake: str, inception: str) -> float:
    """Returns the FID of two folders of pictures: `python -m tools.fid REAL FAKE --inception FILE`.

    Raises:
      UserError: if the tool fails.
    """
    real, fake, inception = map(os.path.abspath, (real, fake, inception))
    command = [sys.executable, "-m", "tools.fid", real, fake, "--inception", inception]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    found = re.findall(r"FID:\s+(\S+)", done.stdout)
    if done.returncode or not found:
        problem = (done.stderr.strip().splitlines() or ["it printed no FID"])[-1]
        raise UserError("tools/fid failed for %s and %s: %s" % (real, fake, problem))
    return float(found[-1])
