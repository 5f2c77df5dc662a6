# SPDX-License-Identifier: Apache-2.0
"""Times test/speed.py of folders in turns, with the machine's rates before and after each."""

import pathlib
import shlex
import sys

import calibration
import scripts
import timing


def take_turn(commands: dict, machine: timing.Machine, repeats: dict, failed: dict, count) -> None:
    """Adds a repeat of each command that did not fail yet.

    Args:
      commands: {name: timing.Command}, all of one environment.
      machine: its rates.
      repeats: {name: list from timing.one_repeat}, is added to.
      failed: {name: why}, is added to.
      count: which repeat of how many, for people.
    """
    for key in [key for key in commands if key not in failed]:
        command = commands[key]
        print(f"{count} {key}", file=sys.stderr, flush=True)
        found, problem = scripts.attempt(one_repeat, command, machine)
        if problem:
            failed[key] = problem
        else:
            repeats.setdefault(key, []).append(found)


def one_repeat(command: timing.Command, machine: timing.Machine) -> dict:
    """Returns a repeat of a command.

    Raises:
      RuntimeError: if it or the machine cannot be measured.
    """
    before = machine.rates(command.environment)
    result = timing.run(command.words)
    rates = timing.mean(before, machine.measure(command.environment))
    return timing.one_repeat(result, rates)


def measure(folders: list[pathlib.Path], options, results) -> None:
    """Adds the steps of folders to performance_results.Results; the repeats of all take turns.

    Args:
      folders: of models, or tools/fid.
      options: of ci/performance.py.
      results: takes them, as far as they came when it is stopped.
    """
    turns, repeats, failed, machine = [], {}, {}, timing.Machine()
    names = {folder: scripts.environment_of(folder.name, options.tf1).name for folder in folders}
    for folder in sorted(folders, key=names.get):  # environments after one another
        turns.append(timing.commands(folder, options))
    if options.versus:
        one = next(iter(turns[0].values()))
        pairs = [text.partition("=") for text in options.versus]
        turns.append({name: one._replace(words=shlex.split(text)) for name, _, text in pairs})
    try:
        for number in range(1, options.repeats + 1):
            for commands in turns:
                count = f"{number}/{options.repeats}"
                take_turn(commands, machine, repeats, failed, count)
    finally:
        rows = results.details["steps"] = {}
        for key, command in {k: c for commands in turns for k, c in commands.items()}.items():
            name = f"{command.environment.name}/{key}"
            begin = name.replace(" mixed", " bfloat16") + "/"
            if key in failed:
                results.problems[begin] = failed[key]
            if key not in repeats or key in failed:
                continue
            rows[name] = timing.summarise(repeats[key])
            if key.endswith(" mixed") and repeats[key][0]["precision"] == "float32":
                if command.environment.name == "tf2" and calibration.has_bfloat16():
                    results.problems[begin] = "mixed precision was asked for, float32 ran"
            elif "/steps/" in key:
                words = (command.environment.name, key, repeats[key])
                results.add(name + "/", timing.measured, *words)
        results.tables["Steps"] = timing.table(rows)
