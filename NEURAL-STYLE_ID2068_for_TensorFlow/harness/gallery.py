# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/harness/gallery.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""Lists of the pictures that a run makes, for its report: sample grids, and tested pictures."""

import json
import os
import sys
from typing import Dict, List, NamedTuple, Optional

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
    folder: str,
    pairs: List[Pair],
    metrics: Dict[str, float],
    protocol: Optional[Dict[str, str]] = None,
) -> None:
    """Writes FOLDER/tested.json: what a test phase made, and how good it is.

    Args:
      folder: of the test phase.
      pairs: some of its pictures, or all.
      metrics: {name: value}, means over all of them.
      protocol: {name: how it was measured}.
    """
    pictures = []
    for pair in pairs:
        places = {name: path for name, path in pair._asdict().items() if path and name != "title"}
        pictures.append({name: _relative(path, folder) for name, path in places.items()})
        pictures[-1]["title"] = pair.title
    words = {"model": MODEL, "command": ["python3"] + sys.argv, "pairs": pictures}
    words.update(metrics=metrics, protocol=protocol or {})
    write_json(os.path.join(folder, TESTED), words)


def _relative(path, folder) -> str:
    return os.path.relpath(os.path.abspath(path), os.path.abspath(folder))
