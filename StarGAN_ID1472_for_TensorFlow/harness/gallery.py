# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/harness/gallery.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""Lists of the pictures that a run makes, for its report: sample grids, and tested pictures."""

import json
import os
import sys
import zlib
from typing import Dict, List, NamedTuple

from harness.files import write_json
from harness.settings import MODEL

SAMPLES, TESTED = "samples.jsonl", "tested.json"


class Pair(NamedTuple):
    """A picture before and after, of one size, as paths.

    Attributes:
      title: what the report calls it.
      before: the input.
      after: what the model made of it.
      target: what it should be, or "" where nobody knows.
    """

    title: str
    before: str
    after: str
    target: str = ""


def add_samples(folder: str, step: int, paths: List[str]) -> None:
    """Notes that the sample grids `paths` show what the run in `folder` made after `step`."""
    lines = [{"step": step, "picture": _relative(path, folder)} for path in paths]
    with open(os.path.join(folder, SAMPLES), "a", encoding="utf-8") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines))


def write_tested(
    folder: str, pairs: List[Pair], metrics: Dict[str, float], protocol=None, around=None
) -> None:
    """Writes FOLDER/tested.json: what a test phase made, and how good it is.

    Args:
      folder: of the test phase.
      pairs: some of its pictures, or all.
      metrics: {name: value}, means over all of them.
      protocol: {name: how it was measured}, or None.
      around: the surroundings, as a training records them, "data" for what was tested; or None.
    """
    pictures = []
    for pair in pairs:
        places = {name: path for name, path in pair._asdict().items() if path and name != "title"}
        pictures.append({name: _relative(path, folder) for name, path in places.items()})
        pictures[-1]["title"] = pair.title
    words = {"model": MODEL, "command": ["python3"] + sys.argv, "pairs": pictures}
    words.update(metrics=metrics, protocol=protocol or {}, surroundings=around or {})
    words["working_directory"] = os.getcwd()
    write_json(os.path.join(folder, TESTED), words)


def fingerprint(paths: List[str]) -> str:
    """Returns a short text that changes with the number, names and sizes of the pictures."""
    lines = ["%s %d" % (os.path.basename(path), os.path.getsize(path)) for path in paths]
    value = zlib.crc32("\n".join(lines).encode("utf-8", "surrogateescape"))
    return "%d pictures, %08x" % (len(paths), value)


def _relative(path, folder) -> str:
    return os.path.relpath(os.path.abspath(path), os.path.abspath(folder))
