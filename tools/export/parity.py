# SPDX-License-Identifier: Apache-2.0
"""How far an exported file is from the network it was made of, and the report about that.

Outputs are lists of float32 arrays of any shapes, one array per run.
"""

import contextlib
import hashlib
import os
import shlex
import shutil
import sys
import tempfile
import time
from typing import Callable, Dict, List, Sequence

import numpy as np

from harness.errors import UserError
from tools.digests import digest_file

PEAK = 2.0  # of pictures in [-1, 1]
REPEATS = 5  # of which the median is the latency
SAVED_MODEL = "_saved_model"  # ending of a folder that TensorFlow Serving reads
VARIABLES = "_variables"  # ending of a folder with the weights of a .mindir beyond 1 GB
FOLDERS = {SAVED_MODEL: "saved_model.pb", VARIABLES: "data_0"}  # {ending: what is in such a folder}


def compare(expected: List[np.ndarray], found: List[np.ndarray]) -> Dict[str, float]:
    """Returns {"max_difference", "mean_difference", "greatest", "psnr_db", "identical"}.

    Differences are absolute, over all arrays; "greatest" is the greatest absolute value expected.
    "psnr_db" is None where all values are identical: it would be infinite.

    Raises:
      UserError: if a value is not finite, or shapes differ.
    """
    shapes = [[list(array.shape) for array in arrays] for arrays in (expected, found)]
    if shapes[0] != shapes[1]:
        text = "the export returns the shapes %s and the network %s; do not use it, and report it"
        raise UserError(text % (shapes[1], shapes[0]))
    old, new = (
        np.concatenate([array.astype(np.float64).ravel() for array in arrays])
        for arrays in (expected, found)
    )
    for values, owner in ((old, "the network"), (new, "the export")):
        if not np.isfinite(values).all():
            text = "%s returns values that are not finite; take the checkpoint of an earlier step"
            raise UserError(text % owner)
    apart = np.abs(new - old)
    square = float(np.mean(np.square(apart)))
    return {
        "max_difference": float(apart.max()),
        "mean_difference": float(apart.mean()),
        "greatest": float(np.abs(old).max()),
        "psnr_db": round(10 * float(np.log10(PEAK**2 / square)), 2) if square else None,
        "identical": not square,
    }


def is_within(difference: Dict[str, float], tolerance: float) -> bool:
    """Returns whether the largest difference is at most `tolerance`.

    It is a share of the greatest value where that is more than 1.
    """
    return difference["max_difference"] <= tolerance * max(1.0, difference["greatest"])


def check(records: Dict[str, dict]) -> None:
    """Raises UserError if a file is not within its tolerance."""
    for name, record in records.items():
        if not record["within_tolerance"]:
            text = "%s is up to %.1e off the network, %.0e is allowed; nothing was written, report "
            text += "it with the versions of what was used"
            worst = max(one["max_difference"] for one in record["differences"].values())
            raise UserError(text % (name, worst, record["tolerance"]))


def latency(run: Callable, feed, repeats: int = REPEATS) -> float:
    """Returns the median time of run(feed) in milliseconds, after one run that does not count."""
    run(feed)
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        run(feed)
        times.append(time.perf_counter() - begin)
    return round(1000 * float(np.median(times)), 2)


def fingerprint(path: str) -> Dict[str, object]:
    """Returns {"bytes", "sha256"} of a file or of all files in a folder.

    A folder's sum is what `find * -type f | LC_ALL=C sort | xargs sha256sum | sha256sum` prints in
    it: that of one line per file, "SUM  NAME".
    """
    if not os.path.isdir(path):
        return {"bytes": os.path.getsize(path), "sha256": digest_file(path)}
    names = sorted(
        os.path.relpath(os.path.join(folder, name), path)
        for folder, _, files in os.walk(path)
        for name in files
    )
    lines = ["%s  %s\n" % (digest_file(os.path.join(path, name)), name) for name in names]
    size = sum(os.path.getsize(os.path.join(path, name)) for name in names)
    return {"bytes": size, "sha256": hashlib.sha256("".join(lines).encode()).hexdigest()}


def command_line() -> str:
    """Returns the command that this program was started with."""
    return " ".join(map(shlex.quote, [os.path.basename(sys.executable)] + sys.argv))


def table(records: Dict[str, dict]) -> str:
    """Returns the report as people read it, a block of lines per file."""
    lines = []
    for name, record in records.items():
        verdict = "ok" if record["within_tolerance"] else "NOT within tolerance"
        lines.append("%s: %s bytes, %s" % (name, format(record["bytes"], ","), verdict))
        for output, found in record["differences"].items():
            text = "  %-10s max %.1e, mean %.1e (tolerance %.0e)"
            words = (found["max_difference"], found["mean_difference"], record["tolerance"])
            text = text % ((output,) + words)
            if found["identical"]:
                text += ", identical"
            elif found.get("psnr_db") is not None:
                text += ", PSNR %.1f dB" % found["psnr_db"]
            lines.append(text)
        if "latency_ms" in record:
            times = (record["latency_ms"], record["network_latency_ms"])
            lines.append("  latency    %.1f ms, the network %.1f ms" % times)
        nodes = [
            ", ".join("%s %s" % (node, _shape(shape)) for node, shape in record[side].items())
            for side in ("inputs", "outputs")
        ]
        lines.append("  nodes      %s -> %s" % tuple(nodes))
        lines.append("  sha256     %s" % record["sha256"])
        if record.get("atc"):
            lines.append("  for an NPU %s" % record["atc"])
    return "\n".join(lines)


def _shape(shape) -> str:
    return "[%s]" % ", ".join("?" if size is None else str(size) for size in shape)


@contextlib.contextmanager
def hidden_folder(folder: str):
    """Yields a new hidden folder in `folder`, which is made where it is missing.

    It is removed in the end; so is what was made for it, if nothing else is in there.
    """
    path, missing, parent = None, [], os.path.abspath(folder)
    while not os.path.exists(parent):
        missing.append(parent)
        parent = os.path.dirname(parent)
    try:
        os.makedirs(folder, exist_ok=True)
        path = tempfile.mkdtemp(prefix=".export-", dir=folder)
        yield path
    finally:
        if path:
            shutil.rmtree(path, ignore_errors=True)
        for made in missing:
            with contextlib.suppress(OSError):  # the export is in it
                os.rmdir(made)


def check_targets(folder: str, names: Sequence[str]) -> None:
    """Raises UserError if something stands at a target that an export must not replace.

    Args:
      folder: of the targets.
      names: of the targets; those that end as FOLDERS says are folders.
    """
    for name in names:
        path = os.path.join(folder, name)
        marks = [mark for ending, mark in FOLDERS.items() if name.endswith(ending)]
        if marks and os.path.isdir(path):
            if os.listdir(path) and not os.path.exists(os.path.join(path, marks[0])):
                raise UserError("%s is a folder with something else in it; choose another" % path)
        elif os.path.exists(path) and (marks or os.path.isdir(path)):
            kind = "file" if marks else "folder"
            raise UserError("%s is a %s; choose another name for the export" % (path, kind))


def publish(temporary: str, folder: str, stale: Sequence[str] = ()) -> None:
    """Moves all of `temporary` to `folder`, over what an earlier export left; the report last.

    On an error all is put back as it was.

    Args:
      temporary: a folder on the same disk.
      folder: where to.
      stale: names there that an earlier export may have left and that go in any case.

    Raises:
      UserError: if something else stands there, see `check_targets`.
      OSError: if something cannot be moved.
    """
    names = os.listdir(temporary)
    names.sort(key=lambda name: (name.endswith(".json"), name))
    check_targets(folder, names + list(stale))
    replaced, moves = tempfile.mkdtemp(prefix=".replaced-", dir=folder), []

    def move(source, target):
        moves.append((source, target))
        os.replace(source, target)

    try:
        for name in [name for name in stale if name not in names] + names:
            target = os.path.join(folder, name)
            if os.path.lexists(target):
                move(target, os.path.join(replaced, name))
            if name in names:
                move(os.path.join(temporary, name), target)
    except BaseException:  # Ctrl-C too
        for source, target in reversed(moves):
            if not os.path.lexists(source):  # it was moved
                os.replace(target, source)
        os.rmdir(replaced)
        raise
    shutil.rmtree(replaced, ignore_errors=True)
