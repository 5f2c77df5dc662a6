# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/harness/files.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""Files that are either whole or absent: written under a temporary name, then renamed."""

import contextlib
import json
import os

from harness.errors import UserError


@contextlib.contextmanager
def atomic_path(path: str):
    """Yields a temporary name beside `path` and renames it to `path` when the block succeeds.

    The temporary name is hidden and keeps the extension. Missing folders are made. When the block
    fails, the temporary file is removed and what stood at `path` stays as it was.
    """
    folder, name = os.path.split(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, ".%d-%s" % (os.getpid(), name))
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def write_text(path: str, text: str) -> None:
    """Writes `text` as UTF-8 under `path`, whole or not at all."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(text)


def write_json(path: str, value) -> None:
    """Writes `value` as indented JSON; NaN and Infinity raise ValueError, as JSON has neither."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str, default=None):
    """Returns the value stored in `path`, or `default` where there is no such file."""
    if not os.path.exists(path):
        return default
    with open(path, encoding="utf-8") as file:
        try:
            return json.load(file)
        except ValueError as error:
            raise UserError("%s is damaged: %s; mend or remove it" % (path, error)) from error


def keep_whole_lines(path: str, keep: bool) -> None:
    """Cuts off a half-written last line of `path`, or the whole content unless `keep`."""
    if os.path.exists(path):
        with open(path, "r+b") as file:
            text = file.read() if keep else b""
            file.truncate(text.rfind(b"\n") + 1)


def read_jsonl(path: str) -> list:
    """Returns the objects of a file with one JSON object a line; [] where there is no file.

    A half-written last line (the process was killed) is left out.
    """
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.endswith("\n")]


def read_log(path: str) -> list:
    """Returns the records of a run's log.jsonl by step; [] where there is no file.

    A run that was killed and resumed did some steps twice: the later record counts.
    """
    log = {record["step"]: record for record in read_jsonl(path)}
    return [log[step] for step in sorted(log)]
