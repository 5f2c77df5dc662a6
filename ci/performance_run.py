# SPDX-License-Identifier: Apache-2.0
"""The work of ci/performance.py: the command line, the parts in turn, verdicts and reports."""

import argparse
import json
import os
import pathlib
import shlex
import shutil
import sys

import growth
import outputs
import performance_cases
import rank_scaling
import timing
import verdicts

from harness.errors import UserError
from harness.files import write_json

ROOT = pathlib.Path(__file__).resolve().parent.parent
PARTS = ("cases", "steps", "growth")


def everything(tf1: bool) -> list:
    """Returns the model folders whose environment is there, and tools/fid."""
    folders = []
    for path in sorted(ROOT.glob("*_for_*/test/speed.py")):
        try:
            timing.environment_of(path.parents[1], tf1)
            folders.append(path.parents[1])
        except UserError as error:
            print(f"left out: {error}", file=sys.stderr)
    return folders


def find_folder(parser, name: str) -> pathlib.Path:
    """Returns the folder that `name` is, or the one of the repository that begins so."""
    path = pathlib.Path(name)
    if path.is_dir():
        return path.resolve()
    found = [f for f in sorted(ROOT.glob("*_for_*")) if f.name.lower().startswith(name.lower())]
    if len(found) != 1 or not name:
        parser.error(f"{name!r} is no folder and the beginning of no model's name")
    return found[0]


def read_options(words=None, text: str = "") -> argparse.Namespace:
    """Reads the command line, of a program that `text` describes; a mistake is status 2."""
    parser = outputs.Parser(
        "performance",
        prog="performance.py",
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("folders", nargs="*", metavar="FOLDER", help="folder or beginning of its name")
    add("--only", nargs="+", choices=PARTS, default=list(PARTS), help="these parts alone")
    add("--growth", action="store_true", help="the growth part alone, as --only growth")
    add("--repeats", type=int, default=3, help="of the steps part")
    add("--count", type=int, default=2, help="steps per repeat")
    add("--full", action="store_true", help="the cases with the script's own settings")
    add("--data_path", action="append", default=[], metavar="NAME=PATH", help="for --full")
    add("--tf1", action="store_true", help="TensorFlow 1.15 in place of 2")
    add("--with_option", action="append", default=[], metavar="=--OPTION=VALUE")
    add("--versus", action="append", default=[], metavar="NAME=COMMAND")
    add("--ranks", type=int, nargs="+", metavar="N", help="1 and more, such as 1 2")
    add("--json", type=pathlib.Path, help="also write the figures here")
    options = parser.parse_args(words)
    options.output = options.output.resolve()
    options.only = ["growth"] if options.growth else options.only
    options.folders = [find_folder(parser, name) for name in options.folders]
    for name in ("repeats", "count"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} {getattr(options, name)}: it must be at least 1")
    pairs = [text.partition("=") for text in options.data_path]
    options.data_path = {find_folder(parser, n).name: pathlib.Path(p) for n, _, p in pairs}
    check(parser, options)
    return options


def check(parser, options) -> None:
    """Ends the program where options do not go together."""
    ranks, cores = options.ranks or [1], len(os.sched_getaffinity(0))
    if ranks[0] != 1 or ranks != sorted(set(ranks)) or ranks[-1] > cores:
        parser.error(f"--ranks {ranks}: give 1 and then larger ones, up to the {cores} cores")
    if options.ranks and (options.versus or options.update or not shutil.which("taskset")):
        parser.error("--ranks goes without --versus and --update, and needs taskset to bind cores")
    if any("=" not in text for text in options.versus):
        parser.error(f"--versus {options.versus}: it must be NAME=COMMAND")
    if options.update and options.with_option:
        parser.error("--update is of the models as they are; leave --with_option out")
    if options.full:
        options.only = ["cases"]
        missing = [f.name for f in options.folders if f.name not in options.data_path]
        if missing or not options.folders:
            parser.error(f"--full needs --data_path NAME=PATH for {', '.join(missing) or 'MODEL'}")
    wrong = [str(path) for path in options.data_path.values() if not path.exists()]
    if wrong or (options.data_path and not options.full):
        parser.error(f"--data_path is for --full and must exist: {', '.join(wrong)}")


def time_steps(options) -> tuple:
    """Returns (values, {what: summary}) of the steps of all folders, in turns."""
    turns, repeats, failed = {}, {}, {}
    order = [timing.environment_of(folder, options.tf1)[0] for folder in options.folders]
    for _, folder in sorted(zip(order, options.folders)):  # environments after one another
        turns[str(folder)] = timing.commands(folder, options)
    if options.versus:
        one = next(iter(next(iter(turns.values())).values()))
        pairs = [text.partition("=") for text in options.versus]
        turns["versus"] = {n: one._replace(words=shlex.split(c)) for n, _, c in pairs}
    for number in range(1, options.repeats + 1):
        machine = timing.Machine()
        for commands in turns.values():
            before, results = machine.rates(next(iter(commands.values()))), {}
            for key, command in commands.items():
                if key in failed:
                    continue
                print(f"{number}/{options.repeats} {key}", file=sys.stderr, flush=True)
                try:
                    results[key] = timing.run(command.words)
                except RuntimeError as error:
                    failed[key] = str(error)
            rates = timing.mean(before, machine.measure(next(iter(commands.values()))))
            for key, result in results.items():
                repeats.setdefault(key, []).append(timing.one_repeat(result, rates))
    values, rows = [], {}
    for commands in turns.values():
        for key, command in commands.items():
            name = f"{command.environment}/{key}"
            if key in failed:
                values.append(verdicts.Measured(f"{name}/cost", None, note=failed[key]))
                continue
            rows[name] = timing.summarise(repeats[key])
            if commands is not turns.get("versus"):
                values += timing.measured(command.environment, key, repeats[key])
    return unique(values), rows


def unique(values: list) -> list:
    """Returns the values without those of a mixed precision that fell back to float32."""
    found = {}
    for value in values:
        found.setdefault(value.name, value)
    return list(found.values())


def entries_of(values: list) -> dict:
    """Returns {name: baseline entry} of the values that did not fail; none of them is below 0."""
    entries = {one.name: verdicts.entry_of(one) for one in values if one.value is not None}
    return {name: dict(entry, low=max(0.0, entry["low"])) for name, entry in entries.items()}


def measure(options) -> tuple:
    """Returns (values, {title: table}, everything as JSON) of the parts asked for."""
    values, tables, details = [], {}, {}
    models = [f for f in options.folders if f.resolve() != ROOT / timing.FID]
    if "cases" in options.only:
        details["cases"] = {}
        for folder in models:
            found, case = performance_cases.measure(folder, options)
            values += found
            details["cases"].update(case)
    if "steps" in options.only:
        found, details["steps"] = time_steps(options)
        values += found
        tables["Steps"] = timing.table(details["steps"])
    if "growth" in options.only:
        rows, details["growth"] = [], {}
        for folder in models:
            found, series = growth.measure(folder, options)
            values += found
            details["growth"].update(series)
        for name, points in details["growth"].items():
            rows += [
                [name, *(f"{p[k]:.4g}" for k in ("size", "seconds", "memory"))] for p in points
            ]
        tables["Growth"] = (("what", "pictures or pixels", "s/step", "MiB above the start"), rows)
    return values, tables, details


def main(text: str) -> int:
    """Measures, prints the tables, writes the reports and returns the exit status.

    Args:
      text: what the program says about itself.
    """
    options = read_options(None, text)
    options.folders = options.folders or everything(options.tf1)
    if options.ranks:
        rows = rank_scaling.rows(options.folders, options)
        print(rank_scaling.table(rows))
        if options.json:
            write_json(str(options.json), rows)
        return 0
    verdicts.read_baselines(options.baselines)
    values, tables, details = measure(options)
    if options.update:
        verdicts.update(options.baselines, entries_of(values))
    found = verdicts.judge_all(values, options.baselines)
    for title, (columns, rows) in tables.items():
        print(f"{title}\n{outputs.tabulate(rows, columns, 'github', disable_numparse=True)}\n")
    print(f"{outputs.table(found)}\n{outputs.summary(found)}")
    outputs.write(options.output, "performance", found, tables, details=details)
    if options.json:
        options.json.write_text(json.dumps(details, indent=2) + "\n")
    print(f"see {options.output / 'report.html'}")
    return verdicts.exit_status(found)
