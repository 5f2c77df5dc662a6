# SPDX-License-Identifier: Apache-2.0
"""Measured values against the committed ones: what is worse, better, failed or was left out.

A baseline file holds {"runs": {run: provenance}, "values": {name: entry}}. An entry has "value",
"unit", "low" and "high" (the band; null leaves a side open), "better" (which direction is: "lower",
"higher" or "same") and "run", the key of the provenance; other keys are the writer's own and stay.
Names begin with what they are of, up to a "/": all that begin so are measured and updated together.
`judge` compares, `update` rewrites, `outputs.write` (ci/outputs.py) tells what came out.
"""

import dataclasses
import math
import pathlib
import statistics
import sys
from collections.abc import Iterable

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "tools" / "shared"))

from harness.errors import UserError
from harness.files import read_json, write_json

BETTER = ("lower", "higher", "same")
BAD = ("failed", "not measured", "worse", "no baseline")
STATUSES = (*BAD, "left out", "better", "ok")
# Range over standard deviation of so many normal samples, Tippett's d2.
RANGE_OVER_SIGMA = {2: 1.128, 3: 1.693, 4: 2.059, 5: 2.326, 6: 2.534, 7: 2.704, 8: 2.847}
# What the median distance of so few to their median lacks (Croux and Rousseeuw, 1992).
TOO_SMALL = {2: 1.196, 3: 1.495, 4: 1.363, 5: 1.206, 6: 1.2, 7: 1.14, 8: 1.129, 9: 1.107}


@dataclasses.dataclass(frozen=True)
class Measured:
    """One value that a run measured.

    Attributes:
      name: its key in the baseline file, such as "tf2/Pix2Pix/train float32/cost".
      value: a finite number; None where the measurement failed.
      unit: of the value, for people.
      better: "lower", "higher", or "same" where any change is wrong.
      samples: what the value is the median of; [] where it was measured once.
      floor: least half width of its band, a share of the value.
      least: least half width of its band, in its unit.
      robust: whether `value` is the median of the samples in every run, so that one far from the
        others changes little; the band then is that of the difference of two medians.
      most: most half width of its band, a share of the value; None: as wide as the samples say.
      note: what to know about it; where it failed, why.
    """

    name: str
    value: float | None
    unit: str = ""
    better: str = "lower"
    samples: tuple[float, ...] = ()
    floor: float = 0.1
    least: float = 0.0
    robust: bool = False
    most: float | None = None
    note: str = ""

    def __post_init__(self):
        """Refuses an unknown direction; a value that is not finite counts as failed."""
        if self.better not in BETTER:
            raise ValueError(f"{self.name}: better is {self.better!r}, not one of {BETTER}")
        if self.value is not None and not math.isfinite(self.value):
            text = f"{self.note}; " if self.note else ""
            object.__setattr__(self, "note", f"{text}the value is {self.value}")
            object.__setattr__(self, "value", None)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A measured value and what its baseline says about it.

    Attributes:
      measured: the value.
      status: "ok", "worse", "better", "failed" (has no value), "no baseline", "not measured" (has
        only a baseline), or "left out" (as that, and this machine cannot measure it).
      baseline: the committed value, None where there is none.
      low: lower end of the band, None where it is open.
      high: its upper end, None where it is open.
    """

    measured: Measured
    status: str
    baseline: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def name(self) -> str:
        """The name of the value."""
        return self.measured.name

    @property
    def is_bad(self) -> bool:
        """Whether the run has to end with status 1 because of it."""
        return self.status in BAD


def band(measured: Measured) -> tuple:
    """Returns (low, high) around a value: three deviations of its samples, within the floors.

    The deviation of one run is estimated from the range of the samples; that of the difference of
    two medians of so many samples, for a robust value, from their median distance to their median.
    """
    found, deviation = measured.samples, 0.0
    if measured.robust and len(found) > 1:
        middle = statistics.median(found)
        deviation = 1.4826 * statistics.median(abs(sample - middle) for sample in found)
        deviation *= TOO_SMALL.get(len(found), 1.0) * math.sqrt(math.pi / len(found))
    elif len(found) > 1:
        divisor = RANGE_OVER_SIGMA.get(len(found))
        deviation = (max(found) - min(found)) / divisor if divisor else statistics.stdev(found)
    half = max(3 * deviation, measured.floor * abs(measured.value), measured.least)
    if measured.most is not None:
        half = min(half, measured.most * abs(measured.value))
    return measured.value - half, measured.value + half


def judge(measured: Measured, entry: dict | None) -> Verdict:
    """Returns the verdict on a value.

    Args:
      measured: the value.
      entry: its entry in the baseline file, None where there is none.
    """
    if not entry:
        return Verdict(measured, "no baseline" if measured.value is not None else "failed")
    low, high = entry.get("low"), entry.get("high")
    verdict = Verdict(measured, "ok", entry["value"], low, high)
    if measured.value is None:
        return dataclasses.replace(verdict, status="failed")
    below = low is not None and measured.value < low
    above = high is not None and measured.value > high
    if not (below or above):
        return verdict
    better = entry.get("better", measured.better)
    is_worse = better == "same" or (above if better == "lower" else below)
    return dataclasses.replace(verdict, status="worse" if is_worse else "better")


def judge_all(values: Iterable[Measured], path: pathlib.Path) -> list[Verdict]:
    """Returns the verdict on each value, with the baselines in `path` ({} where there is none).

    Raises:
      UserError: if the file is damaged, or a name was measured twice.
    """
    entries, seen = read_baselines(path)["values"], set()
    verdicts = []
    for measured in values:
        if measured.name in seen:
            raise UserError(f"{measured.name} was measured twice; name each value once")
        seen.add(measured.name)
        verdicts.append(judge(measured, entries.get(measured.name)))
    return verdicts


def unmeasured(
    entries: dict, begin: str, found: Iterable[str], note: str, status: str = "not measured"
) -> list[Verdict]:
    """Returns a verdict for each entry that was to be measured and was not; one if there is none.

    Args:
      entries: the baselines.
      begin: of the names of what was to be measured.
      found: the names that were measured.
      note: why the others were not; "": nothing measures them any more.
      status: of the verdicts.
    """
    found = set(found)
    names = [name for name in entries if name.startswith(begin) and name not in found]
    if not names and not any(name.startswith(begin) for name in found):
        names = [begin + "all"]
    note = note or "nothing measures it any more; --update drops its baseline"
    verdicts = []
    for name in names:
        unit, *baseline = (
            entries.get(name, {}).get(key) for key in ("unit", "value", "low", "high")
        )
        verdicts.append(Verdict(Measured(name, None, unit or "", note=note), status, *baseline))
    return verdicts


def exit_status(verdicts: Iterable[Verdict]) -> int:
    """Returns 1 where a value is worse, failed or has nothing to be compared with, else 0."""
    return int(any(verdict.is_bad for verdict in verdicts))


def read_baselines(path: pathlib.Path) -> dict:
    """Returns {"runs", "values"} of a baseline file; both empty where there is no file.

    Raises:
      UserError: if it is damaged.
    """
    found = read_json(str(path), {"runs": {}, "values": {}})
    is_whole = isinstance(found, dict) and all(
        isinstance(found.get(key), dict) for key in ("runs", "values")
    )
    if not is_whole or not all(map(_is_entry, found["values"].values())):
        raise UserError(f"{path} is damaged: it needs runs and values; mend or remove it")
    return found


def _is_entry(entry) -> bool:
    if not isinstance(entry, dict) or "value" not in entry:
        return False
    return entry.get("low") is not None or entry.get("high") is not None


def update(
    path: pathlib.Path, entries: dict[str, dict], replaces: Iterable[str], made: dict
) -> None:
    """Writes entries into a baseline file, with how, where and when they were measured.

    Args:
      path: the file; what it holds besides stays.
      entries: {name: entry}, see `entry_of`.
      replaces: beginnings of names; entries that begin so and are not among the new ones go.
      made: from `provenance.here`, of the start of the run.

    Raises:
      UserError: if the file is damaged.
    """
    found, begins = read_baselines(path), tuple(replaces)
    changes = "" if made["clean"] else " + changes"
    run = f"{made['date']} {made['commit'][:7] or 'no commit'}{changes}"
    values = {
        name: entry
        for name, entry in found["values"].items()
        if name not in entries and not name.startswith(begins)
    }
    values.update({name: dict(entry, run=run) for name, entry in entries.items()})
    runs = dict(found["runs"], **{run: made})
    used = {entry.get("run") for entry in values.values()}
    runs = {key: runs[key] for key in sorted(runs) if key in used}
    write_json(str(path), {"runs": runs, "values": {key: values[key] for key in sorted(values)}})


def entry_of(measured: Measured, **more) -> dict:
    """Returns the baseline entry that `measured` would have; `more` goes over it.

    Raises:
      UserError: if it has no value.
    """
    if measured.value is None:
        raise UserError(f"{measured.name} failed ({measured.note}); there is nothing to commit")
    low, high = band(measured)
    entry = {"value": measured.value, "unit": measured.unit, "better": measured.better}
    entry.update({"low": low, "high": high, "samples": list(measured.samples)}, **more)
    return {key: _rounded(value) for key, value in entry.items()}


def _rounded(value):
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
