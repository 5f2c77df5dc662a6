# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/harness/fid.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""FID, and Inception's features for KID, through tools/fid of the repository.

A protocol is a name of tools/fid for how pictures are resized; it is part of the number.
"""

import os
import re
import subprocess
import sys
import tempfile
from typing import Sequence

import numpy as np

from harness.errors import UserError

# A model folder lies in it.
REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LEAST = 2  # pictures of each set


def check(inception: str, *counts: int) -> None:
    """Raises UserError unless there are the tool, such a file, and enough pictures of each set."""
    if not os.path.isfile(os.path.join(REPOSITORY, "tools", "fid", "__main__.py")):
        text = "--inception: it is for tools/fid, which is in the whole repository only; "
        raise UserError(text + "leave it out, or run this folder inside the repository")
    if not os.path.isfile(inception):
        text = "--inception %s: there is no such file; give classify_image_graph_def.pb or "
        raise UserError((text + "pt_inception-2015-12-05-6726825d.pth") % inception)
    if min(counts, default=LEAST) < LEAST:
        text = "--inception: a distance needs at least %d pictures of each set, not %d; "
        raise UserError((text + "add some, or leave --inception out") % (LEAST, min(counts)))


def fid(real: Sequence[str], fake: Sequence[str], inception: str, protocol: str) -> float:
    """Returns the FID of two sets: `python -m tools.fid REAL FAKE --inception FILE`.

    Args:
      real: paths of pictures.
      fake: the same.
      inception: the network's file.
      protocol: how pictures are resized.

    Raises:
      UserError: if the tool fails.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folders = [_gather(real, scratch, "real"), _gather(fake, scratch, "fake")]
        printed = _run(folders, inception, protocol)
    found = re.findall(r"^FID:\s+(\S+)", printed, re.MULTILINE)
    if not found:
        raise UserError("tools/fid failed for --inception %s: it printed no FID" % inception)
    return float(found[-1])


def features(paths: Sequence[str], inception: str, protocol: str) -> np.ndarray:
    """Returns float32 [N, D], one row a picture, in the order of `paths`.

    `python -m tools.fid FOLDER --inception FILE --features OUT.npy`. Arguments as of `fid`.

    Raises:
      UserError: if the tool fails.
    """
    with tempfile.TemporaryDirectory() as scratch:
        output = os.path.join(scratch, "features.npy")
        _run([_gather(paths, scratch, "pictures"), "--features", output], inception, protocol)
        rows = np.load(output, allow_pickle=False) if os.path.isfile(output) else ()
    if len(rows) != len(paths):
        text = "tools/fid failed for --inception %s: %d features for %d pictures"
        raise UserError(text % (inception, len(rows), len(paths)))
    return rows


def _gather(paths, scratch, name):
    """Returns a new folder of links to the pictures, in whose natural order they are."""
    folder = os.path.join(scratch, name)
    os.mkdir(folder)
    for number, path in enumerate(paths):
        name = "%d-%s" % (number, os.path.basename(path)[-60:])  # a message may name it
        os.symlink(os.path.abspath(path), os.path.join(folder, name))
    return folder


def _run(words, inception, protocol):
    """Returns what the tool prints; its warnings go on to stderr."""
    command = [sys.executable, "-m", "tools.fid"] + words
    command += ["--inception", os.path.abspath(inception), "--protocol", protocol]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    lines = done.stderr.strip().splitlines() or ["it ended with status %d" % done.returncode]
    if done.returncode:
        raise UserError("tools/fid failed for --inception %s: %s" % (inception, lines[-1]))
    for line in lines:
        if line.startswith("warning: "):
            print(line, file=sys.stderr, flush=True)
    return done.stdout
