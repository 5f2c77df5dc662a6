# SPDX-License-Identifier: Apache-2.0
"""`inspect`: what is in a weight file, as a table or as JSON."""

import argparse
import json
import os
from typing import Dict

import numpy as np

from tools.digests import digest_file
from tools.weights import files, graphs
from tools.weights.limits import told
from tools.weights.values import count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `inspect` takes."""
    parser.add_argument("file", help="a weight file; a checkpoint's name may lack its ending")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Prints the report."""
    path = arguments.file
    print(json.dumps(contents(path), indent=2) if arguments.json else report(path))
    return 0


def contents(path: str) -> Dict:
    """Returns what `inspect --json` prints.

    Its keys: "kind"; "files", each with "file", "bytes" and "sha256"; "tensors", each with "name",
    "shape", "type" and "bytes" (None where NumPy has no such type); "values", their number; and
    "inputs" and "outputs" of a graph.

    Raises:
      UserError: if the file is missing, damaged or of an unknown kind.
    """
    kind = files.kind(path)
    tensors = [
        {"name": name, "shape": [int(size) for size in shape], "type": dtype}
        for name, shape, dtype in files.describe(path)
    ]
    for one in tensors:
        one["bytes"] = _bytes(one["shape"], one["type"])
    values = sum(count(one["shape"]) for one in tensors)
    content = {"kind": kind, "files": [_file(part) for part in _parts(path, kind)]}
    content.update(tensors=tensors, values=values, **files.ends(path))
    return content


def report(path: str) -> str:
    """Returns the table that `inspect` prints; raises UserError as `contents`."""
    return _table(contents(path))


def _parts(path, kind):
    """Returns the paths of the files that belong together."""
    if kind != files.CHECKPOINT:
        return [path]
    folder, name = os.path.split(graphs.checkpoint_prefix(path))
    names = sorted(os.listdir(folder or "."))
    parts = [one for one in names if one == name + ".index" or one.startswith(name + ".data-")]
    return [os.path.join(folder, one) for one in parts]


def _file(path):
    with told(path):
        return {"file": path, "bytes": os.path.getsize(path), "sha256": digest_file(path)}


def _bytes(shape, dtype):
    try:
        return count(shape) * (2 if dtype == "bfloat16" else np.dtype(dtype).itemsize)
    except TypeError:
        return None


def _table(content):
    lines = ["kind     %s" % content["kind"]]
    for one in content["files"]:
        lines += ["file     %s" % one["file"], "bytes    %d" % one["bytes"]]
        lines.append("sha-256  %s" % one["sha256"])
    lines.append("tensors  %d, %d values" % (len(content["tensors"]), content["values"]))
    for key in ("inputs", "outputs"):
        if key in content:
            lines.append("%-8s %s" % (key, ", ".join(map(_shown, content[key])) or "none"))
    rows = [("name", "shape", "type", "bytes")]
    for one in content["tensors"]:
        shape = "x".join(map(str, one["shape"])) or "one number"
        size = "?" if one["bytes"] is None else str(one["bytes"])
        rows.append((_shown(one["name"]), shape, one["type"], size))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    form = "%%-%ds  %%-%ds  %%-%ds  %%%ds" % tuple(widths)
    return "\n".join(lines + [""] + [form % row for row in rows])


def _shown(name):
    """Returns a name without characters that would move the cursor."""
    return name if name.isprintable() else ascii(name)
