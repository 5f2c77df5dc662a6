# SPDX-License-Identifier: Apache-2.0
"""What the parts of ci/performance.py found, and its verdicts.

Names are ENVIRONMENT/MODEL/PART/..., such as "tf2/Pix2Pix/steps/train float32/cost".
"""

import dataclasses
import pathlib

import calibration
import scripts
import timing
import verdicts
from verdicts import Measured, Verdict


@dataclasses.dataclass
class Results:
    """What was found so far.

    Attributes:
      tf1: whether TensorFlow 1.15 is measured.
      values: those that have baselines.
      problems: {beginning of names: why what begins so has no value}.
      tables: {title: (columns, rows)}, cells as text.
      details: everything as JSON.
    """

    tf1: bool
    values: list[Measured] = dataclasses.field(default_factory=list)
    problems: dict[str, str] = dataclasses.field(default_factory=dict)
    tables: dict[str, tuple] = dataclasses.field(default_factory=dict)
    details: dict = dataclasses.field(default_factory=dict)

    def begin(self, folder: pathlib.Path, part: str) -> str:
        """Returns what the names of a part of a folder begin with."""
        environment = scripts.environment_of(folder.name, self.tf1)
        return f"{environment.name}/{timing.name_of(folder)}/{part}/"

    def add(self, begin: str, function, *words) -> None:
        """Adds the values that function(*words) returns, or why it returned none."""
        found, problem = scripts.attempt(function, *words)
        self.values += found or []
        if problem:
            self.problems[begin] = problem


def entries_of(values: list[Measured]) -> dict:
    """Returns {name: baseline entry} of the values that did not fail; none of them is below 0."""
    entries = {one.name: verdicts.entry_of(one) for one in values if one.value is not None}
    return {name: dict(entry, low=max(0.0, entry["low"])) for name, entry in entries.items()}


def replaced(results: Results, asked: dict[str, str]) -> list[str]:
    """Returns the beginnings of names of which --update drops what was not measured.

    Args:
      results: of the run.
      asked: {beginning of the names of a part: why it was not measured}.
    """
    failed = [*results.problems, *(one.name for one in results.values if one.value is None)]
    whole = [begin for begin, note in asked.items() if not note]
    whole = [begin for begin in whole if not any(name.startswith(begin) for name in failed)]
    has_mixed = calibration.has_bfloat16()
    return [begin for begin in whole if has_mixed or not begin.endswith("/steps/")]


def judge(results: Results, asked: dict[str, str], path: pathlib.Path) -> list[Verdict]:
    """Returns the verdicts on what was measured, failed, and was to be measured but was not.

    Args:
      results: of the run.
      asked: as `replaced` takes it.
      path: of the baselines.
    """
    entries = verdicts.read_baselines(path)["values"]
    found = verdicts.judge_all(results.values, path)
    for begin, note in results.problems.items():
        found += verdicts.unmeasured(entries, begin, _names(found), note, "failed")
    for begin, note in asked.items():
        failed = any(name.startswith(begin) for name in results.problems)
        note = note or ("something beside it failed" if failed else "")
        found += verdicts.unmeasured(entries, begin, _names(found), note)
    return [_without_bfloat16(verdict) for verdict in found]


def _names(found: list[Verdict]) -> list[str]:
    return [verdict.name for verdict in found]


def _without_bfloat16(verdict: Verdict) -> Verdict:
    """Returns the verdict; one that this processor cannot measure is left out."""
    is_mixed = " bfloat16/" in verdict.name and not calibration.has_bfloat16()
    if verdict.status != "not measured" or not is_mixed:
        return verdict
    measured = dataclasses.replace(verdict.measured, note="this processor has no bfloat16")
    return dataclasses.replace(verdict, measured=measured, status="left out")
