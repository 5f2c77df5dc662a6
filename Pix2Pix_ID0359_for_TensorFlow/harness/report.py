# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/harness/report.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""report.html: one page of a run, or of several side by side.

`python -m harness.report RUN [RUN ...] [--output FILE]`. A RUN is the output folder of a case, of a
training (with log.jsonl) or of a test phase (with tested.json). The page is one file that opens
from disk. Programs write it at their end unless they are told --report=False, or a case started
them, as it says in the environment: the case writes one of all.
"""

import argparse
import math
import os
import shlex
import sys
from typing import List

from harness import comparison, pages, runs
from harness.errors import UserError, run_program
from harness.runs import Run, number, read_run

WAITING = 0.1  # a greater share of the time waiting for data is worth a warning
SMOOTHING, LEAST_POINTS = 0.6, 50  # of the losses at first, where there are so many points
IN_A_CASE = "STARTED_BY_A_CASE"  # in the environment of the programs that a case starts
MAY_DIFFER = ("data", "precision", "ranks", "threads")  # between a training and its test
FLAT, LEAST_FLAT = 1e-3, 20  # a loss that moved less than so much of itself, of so many records


def write(folder: str, config=None, again: bool = False) -> None:
    """Writes FOLDER/report.html of the run in `folder`; prints where it is, or why it is not.

    A report that fails is no reason for a training to fail: nothing is raised.

    Args:
      folder: as for `read_run`.
      config: the options; nothing is written if their `report` is False.
      again: whether it was written before, so that where it is has been printed.
    """
    if not getattr(config, "report", True) or os.environ.get(IN_A_CASE):
        return
    path = os.path.join(os.path.abspath(folder), "report.html")
    try:
        _write_page([read_run(folder)], path)
        if not again:
            print("report: %s" % path, flush=True)
    except Exception as error:  # whatever it is
        print("no report.html: %s" % (str(error) or repr(error)), flush=True)


def _write_page(found: List[Run], path: str) -> None:
    if len(found) > 1:
        models = dict.fromkeys(run.model.replace("_", " ") for run in found)
        title, parts = "%d runs side by side" % len(found), [", ".join(models)]
        content = comparison.blocks(found)
    else:
        run, content = found[0], blocks(found[0])
        title, parts = run.model.replace("_", " "), _subtitle(run)
    try:
        pages.write(path, title, " \u00b7 ".join(parts), content)
    except ImportError as error:
        text = "%s is not installed; pip install -r requirements.txt"
        raise UserError(text % (error.name or error)) from error


def _subtitle(run):
    around = _surroundings(run)
    parts = [run.case["preset"] + " case"] if "preset" in run.case else []
    parts += [", ".join(str(around[key]) for key in ("device", "precision") if key in around)]
    start = str(run.result.get("start", ""))
    parts += [start[:16].replace("T", " ") + " UTC" * start.endswith("+00:00")]
    return [part for part in parts + [os.path.basename(os.path.abspath(run.folder))] if part]


def blocks(run: Run) -> list:
    """Returns the blocks of one run's page; some may be empty."""
    metrics = [(m.name, number(m.value), m.protocol) for m in runs.metrics(run)]
    around = [(name, number(value)) for name, value in _surroundings(run).items()]
    around += [("%s, %s" % one[:2], number(one[3])) for one in _unlike(run)]
    return [
        pages.Numbers("", _figures(run)),
        pages.Notes("Look at this first", warnings(run), "warning"),
        pages.Sliders("Before and after", _pairs(run)),
        pages.Scrubber("Samples while it trained", run.samples),
        *_curves(run),
        pages.Table("Metrics", ("Metric", "Value", "How it was measured"), metrics),
        _weights(run),
        *_settings(run),
        pages.Table("Environment", ("What", "Value"), around),
        pages.Commands("Commands", _commands(run)),
    ]


def _figures(run):
    get, result = run.training.get, run.result
    best = runs.accuracy(run) or runs.metrics(run)[:3]
    what = "of the training" if get("first_step", 1) == 1 else "from step %s on" % get("first_step")
    what = "training and tests" if "duration_seconds" in result else what
    figures = [(m.name, number(m.value), m.protocol) for m in best] + [
        ("Images per second", number(get("images_per_second"), 3), "mean of the training"),
        ("Seconds per step", number(get("seconds_per_step"), 3), "without the first steps"),
        (
            "Steps",
            number(get("steps", run.last_step or None)),
            "" if get("steps") else "in its log",
        ),
        ("Peak memory", "%.2f GiB" % (get("peak_memory_mb", 0) / 1024), "of the process"),
        ("Duration", _duration(result.get("duration_seconds", get("duration_seconds", 0))), what),
    ]
    for name, (_, values) in run.lines.items():
        if runs.kind(name) == "rate" and len(set(values)) == 1:
            figures.append((name.replace("_", " ").capitalize(), number(values[0]), "constant"))
    return [figure for figure in figures if figure[1] not in ("-", "0.00 GiB", "0 s")]


def _duration(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return "%d h %02d min" % (hours, minutes)
    return "%d min %02d s" % (minutes, seconds) if minutes else "%d s" % seconds


def warnings(run: Run) -> List[str]:
    """Returns one sentence for each thing about a run that its owner should know."""
    found, training = list(run.damaged), run.training
    if run.result.get("exit_status"):
        found.append("The case failed with exit status %s." % run.result["exit_status"])
    if training.get("stopped"):
        found.append("The training was stopped at step %s, before its end." % training.get("steps"))
    elif (run.config or run.lines) and not training:
        text = "There is no training.json: the training failed, was killed or still goes on. The "
        found.append(text + "last step in its log is %d." % run.last_step)
    share = training.get("share_of_time_waiting_for_data", 0)
    if share > WAITING:
        text = "%.0f %% of the time the training waited for data: disk or decoding slows it down."
        found.append(text % (100 * share))
    weights = run.config.get("loss_weights", {})
    for name, (steps, values) in run.lines.items():
        bad = [step for step, value in zip(steps, values) if not math.isfinite(value)]
        if bad:
            found.append("%s is not finite at step %d." % (name, bad[0]))
        elif runs.kind(name) == "scale" and values[-1] < values[0]:
            text = "%s fell from %s to %s: gradients overflowed in half precision."
            found.append(text % (name, number(values[0]), number(values[-1])))
        elif runs.kind(name) == "loss" and weights.get(name, 1) and _is_flat(values):
            found.append("%s has not moved since step %d." % (name, steps[len(steps) // 2]))
    text = "%s was %s in the training and %s in the test phase %s."
    unlike = [one for one in _unlike(run) if one[0] not in MAY_DIFFER]
    return found + [text % (name, was, value, place) for name, place, was, value in unlike]


def _is_flat(values):
    late = values[len(values) // 2 :]
    return len(values) >= LEAST_FLAT and max(late) - min(late) <= FLAT * max(map(abs, late))


def _unlike(run):
    """Returns (name, test phase, training's, test's) of surroundings that were not the same."""
    found, first = [], run.training.get("surroundings") or run.config.get("surroundings", {})
    for tested in run.tested:
        around, place = tested.get("surroundings", {}), os.path.basename(tested["folder"])
        names = [name for name in first if around.get(name, first[name]) != first[name]]
        found += [(name, place, first[name], around[name]) for name in names]
    return found


def _pairs(run):
    found = []
    for tested in run.tested:
        for pair in tested.get("pairs", []):
            paths = [pair.get(name) for name in ("before", "after", "target")]
            joined = [os.path.join(tested["folder"], str(path)) if path else "" for path in paths]
            found.append((pair.get("title", ""), *joined))
    return found


def _curves(run):
    kinds = {"loss": {}, "rate": {}, "scale": {}, "memory": {}, "speed": {}}
    for name, line in run.lines.items():
        kinds[runs.kind(name)][name] = line
    kinds["speed"].pop("seconds_per_step", None)  # says the same
    if all(len(set(values)) == 1 for _, values in kinds["rate"].values()):
        kinds["rate"] = {}  # is among the headline numbers
    longest = max([len(values) for _, values in kinds["loss"].values()], default=0)
    smoothing = SMOOTHING if longest >= LEAST_POINTS else 0.0
    log = "y" if comparison.is_wide(kinds["loss"]) else ""
    return [
        pages.Curves("Losses", "step", kinds["loss"], log=log, smoothing=smoothing),
        pages.Curves("Throughput", "step", kinds["speed"], y="images per second", small=True),
        pages.Curves("Memory", "step", kinds["memory"], y="MiB", small=True),
        pages.Curves("Learning rate", "step", kinds["rate"], small=True),
        pages.Curves("Loss scale", "step", kinds["scale"], small=True),
    ]


def _weights(run):
    """Returns a table of the losses that have a weight, from the last record of the log."""
    weights, is_weighted = run.config.get("loss_weights", {}), run.config.get("losses_are_weighted")
    terms, rows = {}, []
    for name in [name for name in weights if name in run.lines]:
        terms[name] = run.lines[name][1][-1] * (1 if is_weighted else weights[name])
    total = sum(map(abs, terms.values()))
    for name, term in terms.items():
        value = run.lines[name][1][-1]
        if is_weighted:
            value = term / weights[name] if weights[name] else None
        share = "%.1f %%" % (100 * abs(term) / total) if total else "-"
        rows.append((name, number(weights[name]), number(value), number(term), share))
    columns = ("Loss", "Weight", "Last value", "Weight \u00d7 value", "Share")
    note = "Shares are of all lines together, whichever network learns from them."
    return pages.Table("What the losses weigh", columns, rows, note)


def _settings(run):
    options, defaults = run.config.get("options", {}), run.config.get("defaults", {})
    options = {name: value for name, value in options.items() if name != "report"}
    changed = [name for name in options if name in defaults and options[name] != defaults[name]]
    rows = [(name, number(options[name]), number(defaults[name])) for name in changed]
    every = [(name, number(value)) for name, value in sorted(options.items())]
    return [
        pages.Table("Settings that differ from the defaults", ("Option", "Value", "Default"), rows),
        pages.Table("All settings", ("Option", "Value"), every, folded=True),
    ]


def _surroundings(run):
    around = {}
    for part in run.tested + [run.config, run.training]:  # the training's if they are not alike
        around.update(part.get("surroundings", {}))
    around.update(run.result.get("versions", {}))
    names = [name for name in ("batch", "ranks", "seed", "start") if name in run.result]
    return dict(around, **{name: run.result[name] for name in names})


def _commands(run):
    started = run.case if run.case.get("command") else run.config
    label = "Run the case again" if run.case.get("command") else "How it was trained"
    found = [(label, started, [])]
    found += [("Test again", tested, []) for tested in run.tested]
    if run.config and run.training.get("stopped", True):
        option = "continue_train" if run.case else run.config.get("resume_option", "continue_train")
        found.append(("Go on where it stopped", started, ["--" + option]))
    return [(label, _command(one, more)) for label, one, more in found if one.get("command")]


def _command(started, more) -> str:
    """Returns the line that does in any folder what `started` says was done, with `more` words."""
    words = " ".join(shlex.quote(str(word)) for word in started["command"] + more)
    place = started.get("working_directory")
    return "cd %s && %s" % (shlex.quote(place), words) if place else words


def main(argv: List[str]) -> int:
    """Writes the page of the given runs and says where it is."""
    parser = argparse.ArgumentParser(prog="harness.report", description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+", metavar="RUN", help="the output folder of a run")
    text = "the page (default RUN/report.html; of several runs ./comparison.html)"
    parser.add_argument("--output", default="", help=text)
    args = parser.parse_args(argv)
    folders = [os.path.realpath(folder) for folder in args.runs]
    for folder in folders:
        if folders.count(folder) > 1:
            raise UserError("%s is given twice; give each run once" % folder)
    found = [read_run(folder) for folder in args.runs]
    place = "comparison.html" if found[1:] else os.path.join(args.runs[0], "report.html")
    path = os.path.abspath(args.output or place)
    _write_page(found, path)
    print("report: %s" % path, flush=True)
    return 0


if __name__ == "__main__":
    sys.argv[0] = "harness.report"  # how its errors begin
    run_program(lambda: main(sys.argv[1:]))
