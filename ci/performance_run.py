# SPDX-License-Identifier: Apache-2.0
"""The work of ci/performance.py: the parts in turn, verdicts and reports."""

import os
import pathlib
import sys

import growth
import outputs
import performance_cases
import performance_options
import performance_steps
import provenance
import rank_scaling
import scripts
import timing
import verdicts
from performance_results import Results, entries_of, judge, replaced

from harness.errors import UserError
from harness.files import write_json

STOPPED = "stopped by Ctrl-C"
CORES = 2  # of the baselines; a cost carries over to as many cores of another machine


def absent(options) -> dict[pathlib.Path, str]:
    """Returns {folder: why it cannot be measured} of those whose environment is missing."""
    found = {}
    for folder in options.folders:
        problem = scripts.problem_of(scripts.environment_of(folder.name, options.tf1))
        if problem:
            found[folder] = problem
            print(f"{folder.name} is not measured: {problem}", file=sys.stderr, flush=True)
    return found


def measure(folders: list[pathlib.Path], options, results: Results) -> None:
    """Adds what the parts asked for find of `folders` to results."""
    models = [folder for folder in folders if timing.name_of(folder) != timing.FID]
    if "cases" in options.only:
        performance_cases.measure(models, options, results)
    if "steps" in options.only and folders:
        performance_steps.measure(folders, options, results)
    if "growth" in options.only:
        growth.measure(models, options, results)


def asked_for(options, results: Results, notes: dict) -> dict[str, str]:
    """Returns {beginning of the names of a part: why it is not measured, or ""}."""
    names = {"cases": "full" if options.full else "case", "steps": "steps", "growth": "growth"}
    return {
        results.begin(folder, names[part]): notes.get(folder, "")
        for folder in options.folders
        for part in options.only
        if timing.name_of(folder) != timing.FID or part == "steps"
    }


def scale(options) -> int:
    """Measures how training scales over ranks and prints the table."""
    missing = "; ".join(absent(options).values())
    if missing:
        raise UserError(f"--ranks cannot measure all: {missing}, or name other folders")
    rows = rank_scaling.rows(options.folders, options)
    print(rank_scaling.table(rows))
    if options.json:
        write_json(str(options.json), rows)
    return 0


def main(text: str) -> int:
    """Measures, prints the tables, writes the reports and returns the exit status.

    Args:
      text: what the program says about itself.
    """
    options = performance_options.read(None, text)
    if options.ranks:
        return scale(options)
    made = provenance.here(["ci/performance.py", *sys.argv[1:]])
    verdicts.read_baselines(options.baselines)
    if not options.full:  # what is started inherits it
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    if "cases" in options.only and not options.full:
        scripts.claim(options.output / "cases")
    notes, results, stopped = absent(options), Results(options.tf1), False
    try:
        measure([f for f in options.folders if f not in notes], options, results)
    except KeyboardInterrupt:
        stopped = True
        print(STOPPED, flush=True)
        notes = {folder: notes.get(folder, STOPPED) for folder in options.folders}
    asked = asked_for(options, results, notes)
    problem = ""
    if options.update and not stopped:
        words = (entries_of(results.values), replaced(results, asked), made)
        _, problem = scripts.attempt(verdicts.update, options.baselines, *words)
    found = judge(results, asked, options.baselines)
    for title, (columns, rows) in results.tables.items():
        print(f"{title}\n{outputs.tabulate(rows, columns, 'github', disable_numparse=True)}\n")
    print(f"{outputs.table(found)}\n{outputs.summary(found)}")
    outputs.write(options.output, "performance", found, made, results.tables, results.details)
    if options.json:
        write_json(str(options.json), outputs.finite(results.details))
    print(f"see {options.output / 'report.html'}")
    if problem:
        print(f"the baselines are as they were: {problem}", file=sys.stderr)
    return max(verdicts.exit_status(found), int(stopped or bool(problem)))
