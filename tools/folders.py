# SPDX-License-Identifier: Apache-2.0
"""The model folders of the repository, and how a tool imports from one."""

import glob
import importlib.util
import os
import sys

from harness.errors import UserError

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def model_folders() -> list:
    """Returns the names of the model folders, sorted."""
    return sorted(map(os.path.basename, glob.glob(os.path.join(ROOT, "*_for_*"))))


def find_folder(name: str) -> str:
    """Returns the path of the model folder that `name` means: its name or path, or how that begins.

    Upper and lower case are the same: "stargan" means StarGAN_ID1472_for_TensorFlow.

    Raises:
      UserError: if none or several are meant; names those that there are.
    """
    start = os.path.basename(os.path.normpath(name)).lower()
    found = [one for one in model_folders() if one.lower().startswith(start)]
    if len(found) != 1:
        text = "--model %s: it must be one of %s, or how one of them begins"
        raise UserError(text % (name, ", ".join(model_folders())))
    return os.path.join(ROOT, found[0])


def require(*modules: str) -> None:
    """Raises UserError unless this Python has these modules."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        text = "this Python has no %s; use one with the requirements that tools/README.md names"
        raise UserError(text % ", ".join(missing))


def enter(folder: str) -> None:
    """Makes the package, `harness` and `tf_runtime` of a model folder importable, before others."""
    sys.path.insert(0, folder)
