# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/harness/runs.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""What a run left in its folders, read for its report; whatever is not there is empty."""

import glob
import json
import os
from typing import Dict, List, NamedTuple, Tuple

from harness.errors import UserError
from harness.files import read_json
from harness.gallery import SAMPLES, TESTED

SPEED = ("seconds_per_step", "images_per_second")
# What these keys hold in whichever file they are; another value is damage.
_KINDS = {
    dict: "accuracy defaults losses loss_weights metrics options protocol surroundings versions",
    list: "command pairs tested",
    str: "model preset resume_option run_folder start working_directory",
    (int, float): "duration_seconds first_step_seconds images_per_second peak_memory_mb "
    "seconds_per_step share_of_time_waiting_for_data steps",
}
_ITEMS = {"loss_weights": (int, float), "pairs": dict, "tested": str}  # what these hold in turn


class Run(NamedTuple):
    """A run; all paths begin as the path of the folder that was asked for.

    Attributes:
      folder: that folder.
      case, result, config, training: content of case.json and so on; {} where there is none.
      last_step: the last one in log.jsonl; 0 where there is none.
      lines: {name in log.jsonl: (steps, values)}.
      samples: (step, paths of its sample grids), by step.
      tested: content of each tested.json, with its "folder".
      damaged: a sentence about each file that could not be read, or not all of it.
    """

    folder: str
    case: dict
    result: dict
    config: dict
    training: dict
    last_step: int
    lines: Dict[str, Tuple[List[int], List[float]]]
    samples: List[Tuple[int, List[str]]]
    tested: List[dict]
    damaged: List[str]

    @property
    def model(self) -> str:
        """The name of the model, else of the folder."""
        named = [part.get("model") for part in [self.case, self.result, self.config] + self.tested]
        return next(filter(None, named), os.path.basename(os.path.abspath(self.folder)))


class Metric(NamedTuple):
    """A number, how it was measured and with which data: only numbers alike in both compare."""

    name: str
    value: float
    protocol: str
    data: str = ""


def read_run(folder: str) -> Run:
    """Returns what is in `folder`: a case's output, or that of a training or of a test phase.

    Raises:
      UserError: if there is nothing of the kind, or nothing but damaged files.
    """
    if not os.path.isdir(folder):
        text = "there is no folder %s; give the output folder of a case, of a training or of a test"
        raise UserError(text % folder)
    damaged = []
    case = _read_object(os.path.join(folder, "case.json"), damaged)
    run_folder = _find_run_folder(folder, case)
    tested = [folder] + [os.path.normpath(os.path.join(folder, n)) for n in case.get("tested", [])]
    log = _read_log(os.path.join(run_folder, "log.jsonl"), damaged)
    run = Run(
        folder,
        case,
        _read_object(os.path.join(folder, "result.json"), damaged),
        _read_object(os.path.join(run_folder, "config.json"), damaged),
        _read_object(os.path.join(run_folder, "training.json"), damaged),
        log[-1]["step"] if log else 0,
        _series(log),
        _read_samples(run_folder, damaged),
        [found for found in (_read_tested(n, damaged) for n in dict.fromkeys(tested)) if found],
        damaged,
    )
    if damaged and not any(run[1:-1]):
        raise UserError(damaged[0])
    if not any(run[1:]):
        text = "%s holds no run: no case.json, log.jsonl or tested.json; give the output folder of "
        raise UserError((text + "a case, of a training or of a test") % folder)
    return run


def accuracy(run: Run) -> List[Metric]:
    """Returns the main metric of a case, if there is one."""
    values = run.result.get("accuracy", {})
    if not values:
        return []
    return [Metric(*(values.get(key, "") for key in ("metric", "value", "protocol")))]


def metrics(run: Run) -> List[Metric]:
    """Returns what the test phases measured, else what result.json says of it."""
    found = []
    for tested in run.tested:
        where = os.path.basename(tested["folder"]) + ": " if len(run.tested) > 1 else ""
        protocols, data = tested.get("protocol", {}), tested.get("surroundings", {}).get("data", "")
        for name, value in tested.get("metrics", {}).items():
            found.append(Metric(where + name, value, protocols.get(name, ""), data))
    if not run.tested:
        found = accuracy(run)
        known = [metric.name.lower() for metric in found]
        others = run.result.get("metrics", {}).items()
        found += [Metric(name, value, "") for name, value in others if name not in known]
    return found


def kind(name: str) -> str:
    """Returns what a series of the log is: "rate", "scale", "speed", "memory" or "loss"."""
    if name in SPEED:
        return "speed"
    ends = {"learning_rate": "rate", "loss_scale": "scale", "memory_mb": "memory"}
    return next((what for end, what in ends.items() if name.endswith(end)), "loss")


def number(value, most: int = 4) -> str:
    """Returns a value as people read it, with `most` digits that count; "-" for None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        words = [str(item) for item in value] if isinstance(value, (list, tuple)) else [str(value)]
        return "-" if value is None else " ".join(words) or "(empty)"
    if isinstance(value, int):
        return str(value)
    return "%.0f" % value if 1000 <= abs(value) < 1e9 else "%.*g" % (most, value)


def _find_run_folder(folder, case):
    if "run_folder" in case:
        return os.path.normpath(os.path.join(folder, case["run_folder"]))
    if any(os.path.exists(os.path.join(folder, n)) for n in ("log.jsonl", "config.json", TESTED)):
        return folder
    found = []
    for pattern in (("*",), ("*", "*")):
        found += glob.glob(os.path.join(glob.escape(folder), *pattern, "log.jsonl"))
    previous = os.path.join(folder, "previous", "")  # of an earlier case
    found = [os.path.dirname(path) for path in found if not path.startswith(previous)]
    if len(found) > 1:
        text = "%s holds several runs; give one of them, or all to compare them: %s"
        raise UserError(text % (folder, " ".join(sorted(found))))
    return found[0] if found else folder


def _read_object(path, damaged) -> dict:
    """Returns the object in a JSON file without what is null; {} where there is no file.

    If the file is damaged, that is added to `damaged`, and of it only what is sound is returned.
    """
    try:
        value = read_json(path, {})
        if not isinstance(value, dict):
            raise UserError("%s is damaged: it must hold an object; mend or remove it" % path)
    except UserError as error:
        damaged.append(str(error))
        return {}
    value = {key: value[key] for key in value if value[key] is not None}
    for key in [key for key in value if not _is_sound(key, value[key])]:
        text = "%s is damaged: %s is %.50r; mend or remove it"
        damaged.append(text % (path, key, value.pop(key)))
    return value


def _is_sound(key, value) -> bool:
    if not all(isinstance(value, kinds) for kinds, keys in _KINDS.items() if key in keys.split()):
        return False
    items = value.values() if isinstance(value, dict) else value
    return key not in _ITEMS or all(isinstance(item, _ITEMS[key]) for item in items)


def _read_tested(folder, damaged) -> dict:
    tested = _read_object(os.path.join(folder, TESTED), damaged)
    return tested and dict(tested, folder=folder)


def _read_records(path, kinds, damaged) -> List[dict]:
    """Returns the records of a .jsonl file, each with a step and all values of these types.

    Other lines are left out and told of in `damaged`; not a half-written last one, as of a kill.
    """
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = [line for line in file if line.endswith("\n")]
    records, wrong = [], []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        values = record.values() if isinstance(record, dict) else [None]
        if all(isinstance(value, kinds) for value in values) and isinstance(
            record.get("step"), int
        ):
            records.append(record)
        else:
            wrong.append("line %d is %.50r" % (number, line.strip()))
    if wrong:
        more = " and %d more" % (len(wrong) - 1) if wrong[1:] else ""
        damaged.append("%s is damaged: %s%s; mend or remove it" % (path, wrong[0], more))
    return records


def _read_log(path, damaged) -> List[dict]:
    log = {record["step"]: record for record in _read_records(path, (int, float), damaged)}
    return [log[step] for step in sorted(log)]  # of a step done twice the later record


def _series(log):
    names = dict.fromkeys(name for record in log for name in record if name != "step")
    points = {name: [(r["step"], r[name]) for r in log if name in r] for name in names}
    return {name: tuple(map(list, zip(*points[name]))) for name in names}


def _read_samples(folder, damaged):
    steps = {}
    for record in _read_records(os.path.join(folder, SAMPLES), (int, str), damaged):
        path = os.path.normpath(os.path.join(folder, str(record.get("picture", ""))))
        steps.setdefault(record["step"], {})[path] = None  # a resumed run names some again
    return [(step, list(steps[step])) for step in sorted(steps)]
