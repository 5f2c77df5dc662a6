# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/harness/trial.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""A training of a few steps, for harness.doctor: what one takes, and so what all would take.

Nothing is guessed: the case's own training program runs in a folder that is removed afterwards.
"""

import dataclasses
import os
import re
import shutil
import signal
import tempfile

from harness import cases, machine, settings
from harness.files import read_json
from harness.machine import GIB, PROBLEM, Finding
from harness.memory import available

MORE_ROOM = "another --output_path, or free some"
SWITCHES = ("over_dump", "data_dump_flag", "profiling", "autotune")  # off
NO_MEMORY = re.compile("OOM when|out of memory|bad_alloc|MemoryError|Cannot allocate memory", re.I)
NO_ROOM = re.compile("cannot save step|No space left|quota exceeded", re.I)
KEYS = ("seconds_per_step", "first_step_seconds", "peak_memory_mb")  # of training.json


def attempt(case, module, seconds: float, measured: dict) -> list:
    """Trains a few steps and returns findings: time, memory and disk, or what went wrong.

    Args:
      case: harness.cases.Case.
      module: the folder's test/cases.py; has `trial` and `runs`.
      seconds: how long it may take.
      measured: takes the numbers.
    """
    changes = {name: False for name in SWITCHES if getattr(case.config, name, False)}
    changes.update(module.trial(case))
    given = {name: value for name, value in changes.items() if value is not None}
    kept = {name: value for name, value in case.settings.items() if name not in changes}
    with tempfile.TemporaryDirectory(
        prefix=".doctor-", dir=machine.existing(case.output)
    ) as folder:
        config = dataclasses.replace(case.config, **given)
        few = case._replace(output=folder, ranks=1, config=config, settings=dict(kept, **given))
        command = cases.program(few, module.training(few), "")
        status, lines, errors = machine.finish(command, seconds)
        if status != 0:
            return [_failure(case, module, status, errors or lines, seconds)]
        measured["runs"] = list(_measure(case, module.runs(case), module.runs(few)))
    return _estimates(case, module, measured)


def _failure(case, module, status, lines, seconds) -> Finding:
    """Returns what ended the trial."""
    if status is None:
        text = "the trial did not end within %d s" % seconds
        return Finding("trial", text, PROBLEM, "a longer --trial_seconds, or --no_trial")
    if status in (-signal.SIGKILL, 128 + signal.SIGKILL) or NO_MEMORY.search("\n".join(lines)):
        text = "too little memory for this training (%s)" % machine.free_memory().text
        return Finding("trial", text, PROBLEM, _smaller(case, module))
    if NO_ROOM.search("\n".join(lines)):
        free = shutil.disk_usage(machine.existing(case.output)).free / 2**20
        text = "a checkpoint of the trial could not be written; %.0f MiB are free" % free
        return Finding("trial", text, PROBLEM, MORE_ROOM)
    last = (lines or ["it ended with status %d" % status])[-1]
    return Finding("trial", re.sub(r"^[\w.-]+\.py: error: ", "", last), PROBLEM)


def _smaller(case, module) -> str:
    """Returns the options that can be made smaller, and what they are."""
    lowest = {field.name: field.metadata["low"] for field in dataclasses.fields(case.config)}
    values = [(name, getattr(case.config, name)) for name in module.SMALLER]
    able = ["--%s (it is %s)" % pair for pair in values if pair[1] != lowest[pair[0]]]
    return "a smaller " + " or ".join(able) if able else "a machine with more memory"


def _measure(case, runs, few):
    """Yields what is known of each run, as its few steps have shown."""
    goes_on = getattr(case.config, "continue_train", False)
    for (name, folder, steps, kept), (_, tried, _, _) in zip(runs, few):
        training = read_json(os.path.join(tried, "training.json"), {})
        files = [os.path.join(top, n) for top, _, names in os.walk(tried) for n in names]
        one = {"name": name, "disk_bytes": kept * sum(map(os.path.getsize, files))}
        if steps and training:  # a pretraining, say, may not be needed
            left = max(0, steps - (settings.steps_done(folder) if goes_on else 0))
            one.update({key: training[key] for key in KEYS}, steps=left, tried=training["steps"])
            first = min(left, 1) * one["first_step_seconds"]
            one["seconds"] = first + max(0, left - 1) * one["seconds_per_step"]
        yield one


def _estimates(case, module, measured) -> list:
    """Returns findings about time, memory and disk; adds them up in `measured`."""
    runs = [one for one in measured["runs"] if "seconds" in one]
    peak = max([one["peak_memory_mb"] for one in runs] or [0]) * 2**20 * case.ranks
    needed = sum(one["disk_bytes"] for one in measured["runs"])
    seconds = sum(one["seconds"] for one in runs)
    measured.update(seconds=seconds, peak_memory_bytes=peak, disk_bytes=needed)
    ending = ", of one rank alone)" if case.ranks > 1 else ")"
    text = "%s: about %s for %d steps, at %.3g s a step (from %d, the first of %.3g s" + ending
    keys = ("steps", "seconds_per_step", "tried", "first_step_seconds")
    words = [(one["name"], duration(one["seconds"])) + tuple(one[k] for k in keys) for one in runs]
    found = [Finding("time", text % each) for each in words]
    there, free = available(), shutil.disk_usage(machine.existing(case.output)).free
    text = "about %.2f GiB of memory" % (peak / GIB)
    if there is not None and peak > there:
        text = "too little memory: %s, %.1f GiB are free" % (text, there / GIB)
        found.append(Finding("needs", text, PROBLEM, _smaller(case, module)))
    else:
        found.append(Finding("needs", text))
    text = "about %.0f MiB on the disk for checkpoints" % (needed / 2**20)
    if needed > free:
        text = "the disk is too full: %s, %.0f MiB are free" % (text, free / 2**20)
        return found + [Finding("needs", text, PROBLEM, MORE_ROOM)]
    return found + [Finding("needs", text)]


def duration(seconds: float) -> str:
    """Returns a time in words, such as 3 h 20 min."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return "%.0f s" % seconds
    if minutes < 60:
        return "%d min" % minutes
    if minutes < 48 * 60:
        return "%d h %d min" % divmod(minutes, 60)
    return "%d days %d h" % divmod(round(minutes / 60), 24)
