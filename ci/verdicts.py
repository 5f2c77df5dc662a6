# SPDX-License-Identifier: Apache-2.0
"""Measured values against the committed ones: what is worse, better, new or failed.

A baseline file holds {"runs": {run: provenance}, "values": {name: entry}}. An entry has "value",
"unit", "low" and "high" (the band; null leaves a side open), "better" (which direction is: "lower",
"higher" or "same") and "run", the key of the provenance; other keys are the writer's own and stay.
`judge` compares, `update` rewrites, `outputs.write` (ci/outputs.py) tells what came out.
"""

import dataclasses
import datetime
import math
import os
import pathlib
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterable

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "tools" / "shared"))

from harness.errors import UserError
from harness.files import read_json, write_json

ROOT = pathlib.Path(__file__).resolve().parent.parent
BETTER = ("lower", "higher", "same")
BAD = ("worse", "failed")
# Range over standard deviation of so many normal samples, Tippett's d2.
RANGE_OVER_SIGMA = {2: 1.128, 3: 1.693, 4: 2.059, 5: 2.326, 6: 2.534, 7: 2.704, 8: 2.847}


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
      robust: whether single samples far from the others leave the band as it is.
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
      status: "ok", "worse", "better", "new" (has no baseline) or "failed" (has no value).
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


def band(
    value: float, samples: Iterable[float], floor: float, least: float = 0.0, robust: bool = False
) -> tuple:
    """Returns (low, high) around `value`: three deviations of the samples, at least the floors.

    Args:
      value: the middle, such as the samples' median.
      samples: repeats of one run; their deviation is estimated from their range.
      robust: estimate it from the median distance to their median, so that one of three may be off.
      floor: least half width, a share of |value|: what runs of other days differ by.
      least: least half width, in the unit of the value.
    """
    found = list(samples)
    deviation = 0.0
    if robust and len(found) > 1:
        middle = statistics.median(found)
        deviation = 1.4826 * statistics.median(abs(sample - middle) for sample in found)
    elif len(found) > 1:
        divisor = RANGE_OVER_SIGMA.get(len(found))
        deviation = (max(found) - min(found)) / divisor if divisor else statistics.stdev(found)
    half = max(3 * deviation, floor * abs(value), least)
    return value - half, value + half


def judge(measured: Measured, entry: dict | None) -> Verdict:
    """Returns the verdict on a value.

    Args:
      measured: the value.
      entry: its entry in the baseline file, None where there is none.
    """
    if not entry:
        return Verdict(measured, "new" if measured.value is not None else "failed")
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


def exit_status(verdicts: Iterable[Verdict]) -> int:
    """Returns 1 where a value is worse or failed, else 0."""
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
    if not is_whole or any("value" not in entry for entry in found["values"].values()):
        raise UserError(f"{path} is damaged: it needs runs and values; mend or remove it")
    return found


def update(path: pathlib.Path, entries: dict[str, dict], replaces: tuple[str, ...] = ()) -> None:
    """Writes entries into a baseline file, with where and when they were measured.

    Args:
      path: the file; what it holds besides stays.
      entries: {name: entry}, see `entry_of`.
      replaces: beginnings of names; entries that begin so and are not among the new ones go.

    Raises:
      UserError: if the file is damaged.
    """
    found, made = read_baselines(path), provenance()
    clean = "" if made["clean"] else " changed"
    run = f"{made['date']} {made['commit'][:7] or 'no commit'}{clean}"
    values = {
        name: entry
        for name, entry in found["values"].items()
        if name not in entries and not name.startswith(replaces or ("\0",))
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
    words = (measured.samples, measured.floor, measured.least, measured.robust)
    low, high = band(measured.value, *words)
    entry = {"value": measured.value, "unit": measured.unit, "better": measured.better}
    entry.update({"low": low, "high": high, "samples": list(measured.samples)}, **more)
    return {key: _rounded(value) for key, value in entry.items()}


def _rounded(value):
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def provenance() -> dict:
    """Returns {"commit", "clean", "date", "machine"} of now and here."""

    def git(*words):
        done = subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    now = datetime.datetime.now(datetime.timezone.utc)  # noqa: UP017 - as in the model folders
    changed = git("status", "--porcelain", "--untracked-files=no")
    commit = git("rev-parse", "HEAD")
    return {
        "commit": commit,
        "clean": bool(commit) and not changed,
        "date": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": machine(),
    }


def machine() -> dict:
    """Returns {"cpu", "cores", "memory_gib", "system"} of this machine."""
    model = platform.machine()
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text("utf-8")
        names = [
            line.split(":", 1)[1].strip() for line in text.splitlines() if "model name" in line
        ]
        model = names[0] if names else model
    except OSError:
        pass
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    system = f"{platform.system()} {platform.release()}"
    return {"cpu": model, "cores": cores, "memory_gib": round(memory, 1), "system": system}
