# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/harness/runs.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""What a run left in its folders, read for its report; whatever is not there is empty."""

import glob
import os
from typing import Dict, List, NamedTuple, Tuple

from harness.errors import UserError
from harness.files import read_json, read_jsonl
from harness.gallery import SAMPLES, TESTED

SPEED = ("seconds_per_step", "images_per_second")
# What these keys hold in whichever file they are; another value is damage.
_KINDS = {
    dict: "accuracy defaults losses loss_weights metrics options protocol surroundings versions",
    list: "command pairs tested",
    str: "model preset resume_option run_folder start",
    (int, float): "duration_seconds first_step_seconds images_per_second peak_memory_mb "
    "seconds_per_step share_of_time_waiting_for_data steps",
}


class Run(NamedTuple):
    """A run; all paths begin as the path of the folder that was asked for.

    Attributes:
      folder: that folder.
      case, result, config, training: content of case.json and so on; {} where there is none.
      last_step: the last one in log.jsonl; 0 where there is none.
      lines: {name in log.jsonl: (steps, values)}.
      samples: (step, paths of its sample grids), by step.
      tested: content of each tested.json, with its "folder".
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

    @property
    def model(self) -> str:
        """The name of the model, else of the folder."""
        named = [part.get("model") for part in [self.case, self.result, self.config] + self.tested]
        return next(filter(None, named), os.path.basename(os.path.abspath(self.folder)))


class Metric(NamedTuple):
    """A number and how it was measured: numbers with unlike protocols cannot be compared."""

    name: str
    value: float
    protocol: str


def read_run(folder: str) -> Run:
    """Returns what is in `folder`: a case's output, or that of a training or of a test phase.

    Raises:
      UserError: if there is nothing of the kind, or a file is damaged.
    """
    if not os.path.isdir(folder):
        text = "there is no folder %s; give the output folder of a case, of a training or of a test"
        raise UserError(text % folder)
    case = _read_object(os.path.join(folder, "case.json"))
    run_folder = _find_run_folder(folder, case)
    tested = [folder] + [os.path.normpath(os.path.join(folder, n)) for n in case.get("tested", [])]
    log = _read_log(os.path.join(run_folder, "log.jsonl"))
    run = Run(
        folder,
        case,
        _read_object(os.path.join(folder, "result.json")),
        _read_object(os.path.join(run_folder, "config.json")),
        _read_object(os.path.join(run_folder, "training.json")),
        log[-1]["step"] if log else 0,
        _series(log),
        _read_samples(run_folder),
        [found for found in map(_read_tested, dict.fromkeys(tested)) if found],
    )
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
        protocols = tested.get("protocol", {})
        for name, value in tested.get("metrics", {}).items():
            found.append(Metric(where + name, value, protocols.get(name, "")))
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


def _read_object(path) -> dict:
    """Returns the object in a JSON file without what is null; {} where there is no file."""
    value = read_json(path, {})
    if not isinstance(value, dict):
        raise UserError("%s is damaged: it must hold an object; mend or remove it" % path)
    value = {key: value[key] for key in value if value[key] is not None}
    for kinds, keys in _KINDS.items():
        for key in keys.split():
            if key in value and not isinstance(value[key], kinds):
                text = "%s is damaged: %s is %.50r; mend or remove it"
                raise UserError(text % (path, key, value[key]))
    return value


def _read_tested(folder) -> dict:
    path = os.path.join(folder, TESTED)
    tested = _read_object(path)
    for pair in tested.get("pairs", []):
        if not isinstance(pair, dict) or not all(isinstance(text, str) for text in pair.values()):
            text = "%s is damaged: a pair is %.50r; mend or remove it"
            raise UserError(text % (path, pair))
    return tested and dict(tested, folder=folder)


def _read_records(path, kinds) -> List[dict]:
    """Returns the records of a .jsonl file, each with a step and all values of these types."""
    try:
        records = read_jsonl(path)
    except ValueError as error:
        raise UserError("%s is damaged: %s; mend or remove it" % (path, error)) from error
    for record in records:
        values = record.values() if isinstance(record, dict) and "step" in record else [None]
        if not all(isinstance(value, kinds) for value in values):
            raise UserError("%s is damaged: a line is %.50r; mend or remove it" % (path, record))
    return records


def _read_log(path) -> List[dict]:
    log = {record["step"]: record for record in _read_records(path, (int, float))}
    return [log[step] for step in sorted(log)]  # of a step done twice the later record


def _series(log):
    names = dict.fromkeys(name for record in log for name in record if name != "step")
    points = {name: [(r["step"], r[name]) for r in log if name in r] for name in names}
    return {name: tuple(map(list, zip(*points[name]))) for name in names}


def _read_samples(folder):
    steps = {}
    for record in _read_records(os.path.join(folder, SAMPLES), (int, str)):
        path = os.path.normpath(os.path.join(folder, record.get("picture", "")))
        steps.setdefault(record["step"], {})[path] = None  # a resumed run names some again
    return [(step, list(steps[step])) for step in sorted(steps)]
