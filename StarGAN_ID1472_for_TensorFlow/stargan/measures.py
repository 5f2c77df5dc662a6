# SPDX-License-Identifier: Apache-2.0
"""Numbers for translations: attribute accuracy, reconstruction, and FID through the repository."""

import os
import re
import subprocess
import sys
from typing import Dict

import numpy as np

from harness.errors import UserError

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def attribute_accuracy(
    sources: np.ndarray, fakes: np.ndarray, own: np.ndarray, wanted: np.ndarray
) -> Dict[str, float]:
    """Returns how often a classifier sees the wanted label, where it was not there before.

    Args:
      sources: whether the classifier sees the label in the untranslated pictures, bool [M].
      fakes: the same for their translations.
      own: what the pictures' labels say.
      wanted: what the translation asks for.

    Returns:
      {"accuracy": share of translations that are seen as wanted, "accuracy_untranslated": the same
      for the pictures before, "changed": how many pictures these are shares of}; without pictures
      to change only the last.
    """
    chosen = own != wanted
    result = {"changed": float(np.sum(chosen))}
    if np.any(chosen):
        result["accuracy"] = float(np.mean(fakes[chosen] == wanted[chosen]))
        result["accuracy_untranslated"] = float(np.mean(sources[chosen] == wanted[chosen]))
    return result


def check_fid_tool() -> None:
    """Raises UserError unless this folder lies in the whole repository, with tools/fid in it."""
    if not os.path.exists(os.path.join(REPOSITORY, "tools", "fid", "__main__.py")):
        text = "--inception: FID is measured by tools/fid, which is in the whole repository only"
        raise UserError(text + "; leave --inception out, or run this folder inside it")


def fid(real: str, fake: str, inception: str) -> float:
    """Returns the FID of two folders of pictures: `python -m tools.fid REAL FAKE --inception FILE`.

    Raises:
      UserError: if the tool is not there or fails.
    """
    check_fid_tool()
    real, fake, inception = map(os.path.abspath, (real, fake, inception))
    command = [sys.executable, "-m", "tools.fid", real, fake, "--inception", inception]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    found = re.findall(r"FID:\s+(\S+)", done.stdout)
    if done.returncode or not found:
        problem = (done.stderr.strip().splitlines() or ["it printed no FID"])[-1]
        raise UserError("tools/fid failed for %s and %s: %s" % (real, fake, problem))
    return float(found[-1])
