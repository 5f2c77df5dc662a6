# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/harness/comparison.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""Several runs side by side, as the blocks of a page."""

import os
import statistics
from typing import List

from harness import pages, runs
from harness.runs import Run, number

WIDE = 20  # losses that differ by more than so many times are shown on a logarithmic scale
MANY = 20  # settings that differ are folded where there are more
_SPEED = {"images_per_second": "images per second", "seconds_per_step": "seconds per step"}
_SPEED.update(first_step_seconds="seconds of the first step", peak_memory_mb="peak memory, MiB")
_SPEED.update(duration_seconds="seconds of the training", steps="steps")


def names(found: List[Run]) -> List[str]:
    """Returns short names of the runs that tell them apart: what their folders do not share."""
    folders = [os.path.realpath(run.folder) for run in found]
    return [os.path.relpath(folder, os.path.commonpath(folders)) for folder in folders]


def is_wide(lines: dict) -> bool:
    """Returns whether lines of positive values are so far apart that a logarithmic scale helps."""
    values = [ys for _, ys in lines.values()]
    if not values or min(map(min, values)) <= 0:
        return False
    middles = [statistics.median(ys) for ys in values]
    return max(middles) > WIDE * min(middles)


def blocks(found: List[Run]) -> list:
    """Returns the blocks of the page; some may be empty."""
    labels = names(found)
    rows, notes = _metrics(found)
    columns = [""] + labels
    content = [pages.Table("Metrics", columns, rows)]
    notes += [sentence for run in found for sentence in run.damaged]
    content.append(pages.Notes("What cannot be compared", notes, "warning"))
    content.append(pages.Table("Speed and size", columns, _speed(found)))
    lines = [run.lines for run in found]
    for name in dict.fromkeys(name for each in lines for name in each):
        chosen = {label: each.get(name, ([], [])) for label, each in zip(labels, lines)}
        is_constant = len({value for _, values in chosen.values() for value in values}) == 1
        if sum(name in each for each in lines) > 1 and not is_constant:
            kind = runs.kind(name)
            words = {"smoothing": 0.6 if kind == "loss" else 0.0, "small": True}
            words["y"] = "MiB" if kind == "memory" else ""
            content.append(pages.Curves(name, "step", chosen, **words))
    content.append(_samples(found, labels))
    settings = _settings(found)
    folded = len(settings) > MANY
    content.append(pages.Table("Settings that differ", columns, settings, folded=folded))
    return content


def _metrics(found):
    """Returns (rows, notes): a row for each metric measured alike, a note where there are more."""
    measured = [{(m.name, m.protocol, m.data): m.value for m in runs.metrics(run)} for run in found]
    rows, notes = [], []
    keys = dict.fromkeys(key for each in measured for key in each)
    for name in dict.fromkeys(key[0] for key in keys):
        ways = [key for key in keys if key[0] == name]
        for key in ways:
            how = (key[1] or "protocol not stated") + ("; data: " + key[2] if key[2] else "")
            label = "%s (%s)" % (name, how)
            rows.append([label] + [number(each.get(key)) for each in measured])
        if len(ways) > 1:
            text = "%s was measured in %d ways or with other data; its values are in rows of their "
            notes.append((text + "own: only those of one row may be compared.") % (name, len(ways)))
    return rows, notes


def _speed(found):
    rows = []
    for key, label in _SPEED.items():
        values = [run.training.get(key) for run in found]
        if any(value is not None for value in values):
            rows.append([label] + [number(value) for value in values])
    return rows


def _samples(found, labels):
    sampled = [(label, dict(run.samples)) for label, run in zip(labels, found) if run.samples]
    common = sorted(set.intersection(*[set(steps) for _, steps in sampled])) if sampled else []
    pictures = [(step, [steps[step][0] for _, steps in sampled]) for step in common]
    return pages.Scrubber("Samples of the same step", pictures, "", [label for label, _ in sampled])


def _settings(found):
    options = [run.config.get("options", {}) for run in found]
    every = dict.fromkeys(name for each in options for name in each)
    rows = [[name] + [number(each.get(name)) for each in options] for name in every]
    return [row for row in rows if len(set(row[1:])) > 1]
