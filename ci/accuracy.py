# SPDX-License-Identifier: Apache-2.0
"""Trains each model for a short time on drawn data and judges the result against committed bars.

  python ci/accuracy.py [MODEL ...]      trains through test/train_full_1p.sh (1 or 2 minutes each)
  python ci/accuracy.py --prove          trains the broken variants of ci/broken.py too and shows
                                         that a bar catches each
  python ci/accuracy.py --update         measures the bars anew: several seeds, and the variants
  python ci/accuracy.py MODEL --full --data_path MODEL=FOLDER
                                         the script's own settings, on data of your own

MODEL is the beginning of a model folder's name; without any, all five. TensorFlow's models train in
.venv/tf2 (--tf1: in .venv/tf1), U-GAT-IT in .venv/ms; an environment that is missing is made. Exit
status 1: a bar was missed, a training failed, or a variant was not caught.

A bar in ci/baselines/accuracy.json is one end of the band around the median of the seeds of the
right model (verdicts.band): three deviations, at least a share of the value and a least width. With
it are the values of the seeds ("samples") and of the variants ("broken").
"""

import argparse
import os
import pathlib
import shutil
import statistics
import sys
import tempfile

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "tools" / "shared"))

import broken
import environments

try:
    import measures
    import outputs
    import trainings
    import verdicts
except ModuleNotFoundError:  # this Python lacks a package; that environment has all of them
    there = environments.ROOT / ".venv" / "tf2"
    python = str(there / "bin" / "python")
    if pathlib.Path(sys.prefix) == there or not os.path.exists(python):
        raise
    os.execv(python, [python, *sys.argv])

from harness.errors import run_program

SEEDS = (0, 1, 2)
FLOOR = 0.1  # least half width of a band, a share of the value
MOST = {"psnr", "ssim", "attribute_accuracy"}  # of --full: the names of which more is better
CAUGHT = {"value": 1.0, "low": 1.0, "high": None, "better": "higher"}  # bars a variant misses


def read_command(words=None) -> argparse.Namespace:
    """Returns the options; `model` becomes a list of names, `data_path` {name: path}."""
    parser = outputs.Parser(
        "accuracy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="*", metavar="MODEL")
    parser.add_argument("--prove", action="store_true", help="train the broken variants too")
    parser.add_argument("--full", action="store_true", help="the script's own settings and data")
    parser.add_argument("--data_path", action="append", default=[], metavar="MODEL=FOLDER")
    parser.add_argument(
        "--with_option", action="append", default=[], metavar="=--OPTION=VALUE", help="of the case"
    )
    parser.add_argument("--tf1", action="store_true", help="TensorFlow 1.15 instead of 2")
    given = parser.parse_args(words)
    given.model = [find_model(parser, name) for name in given.model] or list(measures.METRICS)
    pairs = [text.partition("=") for text in given.data_path]
    given.data_path = {find_model(parser, name): pathlib.Path(path) for name, _, path in pairs}
    if given.full and (given.prove or (given.tf1 and given.update)):
        parser.error("--full goes with --update alone; leave --prove and --tf1 out")
    for model in given.model if given.full else ():
        if model not in given.data_path or not given.data_path[model].is_dir():
            parser.error(f"--full needs --data_path {model}=FOLDER with the data")
    if not given.full and (given.data_path or given.with_option):
        parser.error("--data_path and --with_option are for --full; leave them out or add it")
    given.prove = given.prove or (given.update and not given.full)
    return given


def find_model(parser, name: str) -> str:
    """Returns the one model whose name begins with `name`; ends the program where it is not one."""
    known = [model for model in measures.METRICS if model.lower().startswith(name.lower())]
    if len(known) != 1 or not name:
        parser.error(f"{name!r} is no model; give the beginning of {', '.join(measures.METRICS)}")
    return known[0]


def train_short(model: str, given, seed: int, variant: str = "") -> trainings.Trained:
    """Trains `model` on drawn data, as it is or as a broken variant, says so, and measures it."""
    place = given.output / "runs" / model
    data = given.output / "data" / model
    python, folder = trainings.find_python(model, given.tf1), broken.ROOT / model
    words = [*trainings.settings(model), *trainings.prepare(model, data, python), f"--seed={seed}"]
    with tempfile.TemporaryDirectory() as temporary:
        if variant:
            change = broken.VARIANTS[model][variant]
            folder = broken.break_copy(folder, pathlib.Path(temporary), change)
            words += change.words
        output = place / (variant.replace(" ", "_") or f"seed_{seed}")
        trained = trainings.train(model, folder, data, output, words, python)
    values = ", ".join(f"{name} {value:.4g}" for name, value in trained.values.items())
    name = variant or f"seed {seed}"
    print(f"{model}, {name}: {trained.seconds:.0f} s: {trained.problem or values}", flush=True)
    return trained


def measured_of(model: str, runs: list) -> list:
    """Returns a verdicts.Measured for each metric: the median of the runs, which are its samples.

    Where a run failed they are all without value.
    """
    problem = next((run.problem for run in runs if run.problem), "")
    found = []
    for name, metric in measures.METRICS[model].items():
        samples = () if problem else tuple(run.values[name] for run in runs)
        value = statistics.median(samples) if samples else None
        words = (metric.unit, metric.better, samples, FLOOR, metric.least, problem)
        found.append(verdicts.Measured(f"{model}/drawn/{name}", value, *words))
    return found


def bar_of(measured, of_variants: dict) -> dict:
    """Returns the baseline entry: a band that is open on the side that is better."""
    rounded = {name: value and float(f"{value:.4g}") for name, value in of_variants.items()}
    entry = verdicts.entry_of(measured, broken=rounded)
    entry["high" if measured.better == "higher" else "low"] = None
    return entry


def missed(model: str, values: dict, entries: dict) -> list:
    """Returns a text for each bar that `values` {metric: value} miss."""
    texts = []
    for name, value in values.items():
        entry = entries.get(f"{model}/drawn/{name}")
        if entry:
            verdict = verdicts.judge(verdicts.Measured(name, value), entry)
            if verdict.is_bad:
                text = f"{name} {outputs.number(value)} ({outputs.allowed(verdict)})"
                texts.append(text)
    return texts


def run_short(model: str, given) -> tuple:
    """Trains one model, and with --prove its variants.

    Returns:
      (verdicts, rows of the table of variants, {what: {metric: value}}).
    """
    shutil.rmtree(given.output / "data" / model, ignore_errors=True)  # of an earlier drawing.py
    seeds = SEEDS if given.update else SEEDS[:1]
    runs = {f"seed {seed}": train_short(model, given, seed) for seed in seeds}
    variants = broken.VARIANTS[model] if given.prove else ()
    damaged = {name: train_short(model, given, SEEDS[0], name) for name in variants}
    measured = measured_of(model, list(runs.values()))
    if given.update and None not in [one.value for one in measured]:
        entries = {}
        for one in measured:
            metric = one.name.rpartition("/")[2]
            values = {name: run.values.get(metric) for name, run in damaged.items()}
            entries[one.name] = bar_of(one, values)
        verdicts.update(given.baselines, entries, (f"{model}/drawn/",))
    entries = verdicts.read_baselines(given.baselines)["values"]
    found, rows = [verdicts.judge(one, entries.get(one.name)) for one in measured], []
    for name, run in damaged.items():
        texts = missed(model, run.values, entries)
        count = None if run.problem else float(len(texts))
        one = verdicts.Measured(
            f"{model}/broken/{name}", count, "bars missed", "higher", note=run.problem
        )
        found.append(verdicts.judge(one, CAUGHT))
        rows.append([model, name, run.problem or "; ".join(texts) or "not caught"])
    details = {name: run._asdict() for name, run in {**runs, **damaged}.items()}
    return found, rows, {model: details}


def run_full(model: str, given) -> tuple:
    """Runs a model's full case on the user's data; returns what `run_short` does."""
    output = given.output / "full" / model
    words = [word.removeprefix("=") for word in given.with_option]
    run = trainings.train(
        model,
        broken.ROOT / model,
        given.data_path[model].resolve(),
        output,
        words,
        trainings.find_python(model, given.tf1),
        trainings.written_metrics,
    )
    values = run.values or {"metrics": None}
    found = [
        verdicts.Measured(
            f"{model}/full/{name}",
            value,
            better="higher" if name in MOST else "lower",
            floor=FLOOR,
            note=run.problem,
        )
        for name, value in values.items()
    ]
    if given.update and not run.problem:
        verdicts.update(given.baselines, {one.name: bar_of(one, {}) for one in found})
    return verdicts.judge_all(found, given.baselines), [], {model: {"full": run._asdict()}}


def main(words=None) -> int:
    """Trains what the command line asks for, prints and writes the verdicts."""
    given = read_command(words)
    given.output = given.output.resolve()
    found, rows, details = [], [], {}
    for model in given.model:
        more = run_full(model, given) if given.full else run_short(model, given)
        found += more[0]
        rows += more[1]
        details.update(more[2])
    print(outputs.table(found) + "\n" + outputs.summary(found))
    tables = {"Broken variants": (("model", "variant", "misses"), rows)} if rows else {}
    for cells in rows:
        print(": ".join(cells))
    outputs.write(given.output, "accuracy", found, tables, details=details)
    print(f"see {given.output / 'report.html'}")
    return verdicts.exit_status(found)


if __name__ == "__main__":
    run_program(main)
