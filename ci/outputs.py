# SPDX-License-Identifier: Apache-2.0
"""What a run of verdicts leaves: a table, report.md, junit.xml, results.json and report.html."""

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Iterable

import junitparser
from tabulate import tabulate

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "tools" / "shared"))

from verdicts import Verdict, provenance

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
    names = ("failed", "worse", "better", "new", "ok")
    counts = {name: sum(v.status == name for v in verdicts) for name in names}
    parts = [f"{count} {name}" for name, count in counts.items() if count]
    return f"{len(verdicts)} values: {', '.join(parts) or 'none measured'}."


def junit(kind: str, verdicts: list[Verdict]) -> junitparser.JUnitXml:
    """Returns a test suite with a case for each value; what is worse is a failure."""
    suite = junitparser.TestSuite(kind)
    for verdict in verdicts:
        group, _, name = verdict.name.rpartition("/")
        case = junitparser.TestCase(name, f"{kind}.{group}")
        text = f"{number(verdict.measured.value)} {verdict.measured.unit}, allowed: "
        text += allowed(verdict)
        if verdict.status == "worse":
            case.result = [junitparser.Failure(text)]
        elif verdict.status == "failed":
            case.result = [junitparser.Error(verdict.measured.note or "it was not measured")]
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
    tables: dict | None = None,
    blocks: tuple = (),
    details: object = None,
) -> None:
    """Writes FILES into `folder`, each whole or not at all.

    Args:
      folder: is made where it is missing.
      kind: "performance", "accuracy": the title.
      verdicts: of the run.
      tables: {title: (columns, rows)} of more, cells as text, for report.md and report.html.
      blocks: of harness.pages, for report.html after the tables.
      details: goes into results.json as it is.
    """
    tables, made = tables or {}, provenance()
    where = (
        "{machine[cpu]}, {machine[cores]} cores, {machine[memory_gib]} GiB; commit {commit}, {date}"
    )
    where = where.format(**made) + ("" if made["clean"] else ", files changed since")
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
    write_json(str(folder / "results.json"), content)
    marks = [
        {"worse": "bad", "failed": "bad", "better": "good"}.get(v.status, "") for v in verdicts
    ]
    shown = [pages.Table("Verdicts", list(COLUMNS), list(map(row, verdicts)), marks=marks)]
    shown += [pages.Table(title, list(each[0]), list(each[1])) for title, each in tables.items()]
    title = f"{kind.capitalize()}: {summary(verdicts)}"
    pages.write(str(folder / "report.html"), title, where, [*shown, *blocks])
