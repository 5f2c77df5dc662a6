# SPDX-License-Identifier: Apache-2.0
"""What a run of verdicts leaves: a table, report.md, junit.xml, results.json and report.html."""

import argparse
import dataclasses
import math
import pathlib
import sys
from collections.abc import Iterable

import junitparser
from tabulate import tabulate

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "tools" / "shared"))

from verdicts import STATUSES, Verdict

from harness import pages
from harness.files import atomic_path, write_json, write_text

COLUMNS = ("value", "unit", "measured", "baseline", "allowed", "verdict")
FILES = ("report.md", "junit.xml", "results.json", "report.html")
ROOT = pathlib.Path(__file__).resolve().parent.parent


class Parser(argparse.ArgumentParser):
    """Ends the program with status 2 and one sentence where the command line is wrong.

    Has --output, --baselines and --update of every program that gives verdicts.

    Args:
      kind: "performance" or "accuracy": names the baseline file and the output folder.
      **words: of argparse.ArgumentParser.
    """

    def __init__(self, kind: str, **words):
        super().__init__(allow_abbrev=False, **words)
        output, baselines = ROOT / "ci" / "output" / kind, ROOT / "ci" / "baselines"
        self.add_argument(
            "--output", type=pathlib.Path, default=output, help="folder of %s" % ", ".join(FILES)
        )
        self.add_argument(
            "--baselines", type=pathlib.Path, default=baselines / f"{kind}.json", help="JSON file"
        )
        self.add_argument("--update", action="store_true", help="write the baselines anew")

    def error(self, message):
        """Says what is wrong, without the usage."""
        self.exit(2, f"{self.prog}: error: {message} (--help lists every option)\n")


def number(value: float | None) -> str:
    """Returns four significant digits, with thousands for large ones; "-" for None."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def allowed(verdict: Verdict) -> str:
    """Returns the band in words, with the direction that is better."""
    low, high = verdict.low, verdict.high
    if low is None and high is None:
        return "-"
    if low is None or high is None:
        return f"at least {number(low)}" if high is None else f"at most {number(high)}"
    return f"{number(low)} to {number(high)}"


def row(verdict: Verdict) -> list[str]:
    """Returns the cells of a verdict, in the order of COLUMNS."""
    measured = verdict.measured
    note = f" ({measured.note})" if measured.note else ""
    cells = [measured.name, measured.unit, number(measured.value), number(verdict.baseline)]
    return [*cells, allowed(verdict), verdict.status + note]


def table(verdicts: Iterable[Verdict], form: str = "github") -> str:
    """Returns the verdicts as a table of tabulate's `form`."""
    rows = [row(verdict) for verdict in verdicts]
    return tabulate(rows, COLUMNS, tablefmt=form, disable_numparse=True)


def summary(verdicts: list[Verdict]) -> str:
    """Returns one sentence: how many values have which status."""
    counts = {name: sum(v.status == name for v in verdicts) for name in STATUSES}
    parts = [f"{count} {name}" for name, count in counts.items() if count]
    text = f"{len(verdicts)} values: {', '.join(parts) or 'none measured'}."
    if counts["no baseline"]:
        text += " What has no baseline is not judged: the same command with --update stores one."
    return text


def finite(value):
    """Returns `value` for JSON, which has neither NaN nor infinity: those as text."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    is_odd = isinstance(value, float) and not math.isfinite(value)
    return str(value) if is_odd else value


def junit(kind: str, verdicts: list[Verdict]) -> junitparser.JUnitXml:
    """Returns a test suite with a case for each value; what is worse is a failure."""
    suite = junitparser.TestSuite(kind)
    for verdict in verdicts:
        group, _, name = verdict.name.rpartition("/")
        case = junitparser.TestCase(name, f"{kind}.{group}")
        text = f"{number(verdict.measured.value)} {verdict.measured.unit}, allowed: "
        text += allowed(verdict)
        if verdict.status in ("worse", "no baseline"):
            case.result = [junitparser.Failure(f"{verdict.status}: {text}")]
        elif verdict.is_bad:
            note = verdict.measured.note or "it was not measured"
            case.result = [junitparser.Error(f"{verdict.status}: {note}")]
        else:
            case.system_out = f"{verdict.status}: {text}"
        suite.add_testcase(case)
    xml = junitparser.JUnitXml()
    xml.add_testsuite(suite)
    return xml


def write(
    folder: pathlib.Path,
    kind: str,
    verdicts: list[Verdict],
    made: dict,
    tables: dict | None = None,
    details: object = None,
) -> None:
    """Writes FILES into `folder`, each whole or not at all.

    Args:
      folder: is made where it is missing.
      kind: "performance", "accuracy": the title.
      verdicts: of the run.
      made: from provenance.here, of the start of the run.
      tables: {title: (columns, rows)} of more, cells as text, for report.md and report.html.
      details: goes into results.json as it is.
    """
    tables = tables or {}
    where = "{cpu}, {cores} cores, {memory_gib} GiB; commit ".format(**made["machine"])
    where += made["commit"] + ("" if made["clean"] else " + changes") + ", " + made["date"]
    text = [f"# {kind.capitalize()}", where, summary(verdicts), table(verdicts)]
    for title, (columns, rows) in tables.items():
        shown = tabulate(rows, columns, tablefmt="github", disable_numparse=True)
        text += [f"## {title}", shown]
    folder = pathlib.Path(folder)
    write_text(str(folder / "report.md"), "\n\n".join(text) + "\n")
    with atomic_path(str(folder / "junit.xml")) as temporary:
        junit(kind, verdicts).write(temporary, pretty=True)
    values = [dataclasses.asdict(verdict) for verdict in verdicts]
    content = {"made": made, "verdicts": values, "details": details}
    write_json(str(folder / "results.json"), finite(content))
    marks = ["bad" if v.is_bad else "good" if v.status == "better" else "" for v in verdicts]
    shown = [pages.Table("Verdicts", list(COLUMNS), list(map(row, verdicts)), marks=marks)]
    shown += [pages.Table(title, list(each[0]), list(each[1])) for title, each in tables.items()]
    title = f"{kind.capitalize()}: {summary(verdicts)}"
    pages.write(str(folder / "report.html"), title, where, shown)
