# SPDX-License-Identifier: Apache-2.0
"""Trains each model for a short time on drawn data and judges the result against committed bars.

  python ci/accuracy.py [MODEL ...]      trains through test/train_full_1p.sh (a minute or so each)
  python ci/accuracy.py --prove          trains the broken variants of ci/broken.py too and shows
                                         that a bar catches each
  python ci/accuracy.py --update         measures the bars anew: --repeats seeds, and the variants
  python ci/accuracy.py MODEL --full --data_path MODEL=FOLDER
                                         the script's own settings, on data of your own

MODEL is the beginning of a model folder's name; without any, all five. TensorFlow's models train in
.venv/tf2 (--tf1: in .venv/tf1, against the same bars), U-GAT-IT in .venv/ms; ci/environments.py
makes these. A model that fails does not end the others. Exit status 1: a bar was missed, is missing
or was not measured, or a variant was not caught.

A bar in ci/baselines/accuracy.json is one end of the band around the median of the seeds of the
right model (verdicts.band): three deviations, at least a share of the value and a least width. With
it are the values of the seeds ("samples") and of the variants ("broken").
"""

import argparse
import pathlib
import signal
import statistics
import sys
import tempfile

import scripts

if __name__ == "__main__":
    scripts.enter()

import broken
import measures
import outputs
import provenance
import trainings
import verdicts

from harness.errors import run_program

SEEDS = 3  # of an update
FLOOR = 0.1  # least half width of a band, a share of the value
# Of --full: what is better if there is more of it, and what should not change.
HIGHER = {"psnr", "ssim", "attribute_accuracy"}
SAME = ("pictures", "photos", "cartoons", "blocks", "untranslated", "photo_to_cartoon")
SAME += ("total_variation_ratio", "frechet_photo", "fid_photo")
CAUGHT = {"value": 1.0, "low": 1.0, "high": None, "better": "higher"}  # bars a variant misses
STOPPED = "stopped by Ctrl-C"


def read_command(words=None) -> argparse.Namespace:
    """Returns the options; `model` becomes a list of names, `data_path` {name: path}."""
    parser = outputs.Parser(
        "accuracy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("model", nargs="*", metavar="MODEL", help="beginning of a folder's name; all without any")
    add("--prove", action="store_true", help="train the broken variants too")
    add("--repeats", type=int, metavar="N", help=f"seeds of --update ({SEEDS})")
    add("--full", action="store_true", help="the script's own settings and data")
    add("--data_path", action="append", default=[], metavar="MODEL=FOLDER")
    add("--with_option", action="append", default=[], metavar="=--OPTION=VALUE", help="of the case")
    add("--tf1", action="store_true", help="TensorFlow 1.15 instead of 2")
    given = parser.parse_args(words)
    given.model = [scripts.find_model(parser, name) for name in given.model]
    given.model = list(dict.fromkeys(given.model)) or list(measures.METRICS)
    if any("=" not in text for text in given.data_path):
        parser.error(f"--data_path {' '.join(given.data_path)}: it must be MODEL=FOLDER")
    pairs = [text.partition("=") for text in given.data_path]
    given.data_path = {
        scripts.find_model(parser, name): pathlib.Path(path) for name, _, path in pairs
    }
    if given.full and given.prove:
        parser.error("--full goes with --update alone; leave --prove out")
    if given.tf1 and given.update:
        text = "the bars are TensorFlow 2's, which 1.15 has to reach too"
        parser.error(f"--tf1 with --update: {text}; leave one of them out")
    if given.repeats is not None and (given.repeats < 2 or not given.update):
        parser.error(f"--repeats {given.repeats}: it is for --update and at least 2")
    given.repeats = given.repeats or SEEDS
    for model in given.model if given.full else ():
        if model not in given.data_path or not given.data_path[model].is_dir():
            parser.error(f"--full needs --data_path {model}=FOLDER with the data")
    if not given.full and (given.data_path or given.with_option):
        parser.error("--data_path and --with_option are for --full; leave them out or add it")
    given.output = given.output.resolve()
    for model in given.model if given.full else ():
        output = given.output / "full" / model
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            parser.error(f"{output} is not empty; move it away or choose another --output")
    given.prove = given.prove or (given.update and not given.full)
    return given


def train_short(model: str, given, seed: int, variant: str = "") -> trainings.Trained:
    """Trains `model` on drawn data, as it is or as a broken variant, and measures it."""
    name = variant.replace(" ", "_") or f"seed_{seed}"
    output = given.output / "runs" / model / name
    data = given.output / "data" / model
    python, folder = scripts.environment_of(model, given.tf1).python, broken.ROOT / model
    words = [*trainings.settings(model), *trainings.prepare(model, data, python), f"--seed={seed}"]
    with tempfile.TemporaryDirectory() as temporary:
        if variant:
            change = broken.VARIANTS[model][variant]
            folder = broken.break_copy(folder, pathlib.Path(temporary), change)
            words += change.words
        return trainings.train(model, folder, data, scripts.emptied(output), words, python)


def train_full(model: str, given) -> trainings.Trained:
    """Runs a model's full case on the user's data."""
    output, data = given.output / "full" / model, given.data_path[model].resolve()
    output.mkdir(parents=True, exist_ok=True)
    words = [word.removeprefix("=") for word in given.with_option]
    python = scripts.environment_of(model, given.tf1).python
    more = (trainings.written_metrics, None)
    return trainings.train(model, broken.ROOT / model, data, output, words, python, *more)


def train(model: str, given, runs: dict) -> None:
    """Trains what is asked for of one model into `runs` {name: Trained} and says how each went."""

    def add(name, function, *words):
        run, problem = scripts.attempt(function, model, given, *words)
        runs[name] = run = run or trainings.Trained({}, 0.0, problem)
        values = ", ".join(f"{key} {value:.4g}" for key, value in run.values.items())
        print(f"{model}, {name}: {run.seconds:.0f} s: {run.problem or values}", flush=True)

    if given.full:
        return add("full", train_full)
    scripts.emptied(given.output / "data" / model).rmdir()  # of an earlier drawing.py
    for seed in range(given.repeats if given.update else 1):
        add(f"seed {seed}", train_short, seed)
    for variant in broken.VARIANTS[model] if given.prove else ():
        add(variant, train_short, 0, variant)
    return None


def measured_of(model: str, runs: dict) -> list:
    """Returns a verdicts.Measured for each metric: the median of the seeds, or of the full run.

    Where one of them failed they are all without value.
    """
    if "full" in runs:
        run, kind = runs["full"], f"{model}/full"
        found = []
        for name, value in run.values.items():
            better = "same" if name.endswith(SAME) else "higher" if name in HIGHER else "lower"
            one = verdicts.Measured(f"{kind}/{name}", value, better=better, floor=FLOOR)
            found.append(one)
        return found or [verdicts.Measured(f"{kind}/metrics", None, note=run.problem)]
    seeds = [run for name, run in runs.items() if name not in broken.VARIANTS[model]]
    problem = next((run.problem for run in seeds if run.problem), "")
    found = []
    for name, metric in measures.METRICS[model].items() if seeds else ():
        samples = () if problem else tuple(run.values[name] for run in seeds)
        value = statistics.median(samples) if samples else None
        words = {"unit": metric.unit, "better": metric.better, "least": metric.least}
        words.update(samples=samples, floor=FLOOR, note=problem)
        found.append(verdicts.Measured(f"{model}/drawn/{name}", value, **words))
    return found


def bar_of(measured, of_variants: dict) -> dict:
    """Returns the baseline entry: a band that is open on the side that is better, if one is."""
    rounded = {name: float(f"{value:.4g}") for name, value in of_variants.items()}
    entry = verdicts.entry_of(measured, **({"broken": rounded} if rounded else {}))
    if measured.better != "same":
        entry["high" if measured.better == "higher" else "low"] = None
    return entry


def update(model: str, given, runs: dict, made: dict) -> None:
    """Writes the bars of one model.

    Raises:
      RuntimeError: if a training failed or the bars would not catch a variant; the old ones stay.
    """
    if any(run.problem for run in runs.values()):
        raise RuntimeError("a training failed; the bars stay as they were")
    entries, variants = {}, [name for name in runs if name in broken.VARIANTS[model]]
    for one in measured_of(model, runs):
        metric = one.name.rpartition("/")[2]
        entries[one.name] = bar_of(one, {name: runs[name].values[metric] for name in variants})
    loose = [name for name in variants if not missed(model, runs[name].values, entries)]
    if loose:
        names = ", ".join(loose)
        raise RuntimeError(f"the new bars would not catch {names}; they stay as they were")
    begin = f"{model}/{'full' if given.full else 'drawn'}/"
    verdicts.update(given.baselines, entries, [begin], made)


def missed(model: str, values: dict, entries: dict) -> list:
    """Returns a text for each bar that `values` {metric: value} miss."""
    texts = []
    for name, value in values.items():
        entry = entries.get(f"{model}/drawn/{name}")
        verdict = verdicts.judge(verdicts.Measured(name, value), entry)
        if entry and verdict.is_bad:
            texts.append(f"{name} {outputs.number(value)} ({outputs.allowed(verdict)})")
    return texts


def judge(model: str, given, runs: dict, entries: dict, note: str) -> tuple:
    """Returns (verdicts, rows of the table of variants) of one model.

    Args:
      model: name of its folder.
      given: the options.
      runs: {name: Trained}, as far as they were trained.
      entries: the baselines.
      note: why there are no more, or "".
    """
    measured, rows = measured_of(model, runs), []
    found = [verdicts.judge(one, entries.get(one.name)) for one in measured]
    begin, names = f"{model}/{'full' if given.full else 'drawn'}/", [one.name for one in measured]
    failed = next((one.note for one in measured if one.value is None), "")
    found += verdicts.unmeasured(entries, begin, names, note or failed)
    for name in broken.VARIANTS[model] if given.prove else ():
        run = runs.get(name) or trainings.Trained({}, 0.0, note)
        texts = missed(model, run.values, entries)
        count = None if run.problem else float(len(texts))
        words = ("bars missed", "higher")
        one = verdicts.Measured(f"{model}/broken/{name}", count, *words, note=run.problem)
        found.append(verdicts.judge(one, CAUGHT))
        rows.append([model, name, run.problem or "; ".join(texts) or "not caught"])
    if note and measured and not failed:  # all was measured: it is the update that failed
        found.append(verdicts.judge(verdicts.Measured(f"{model}/run", None, note=note), None))
    return found, rows


def measure(model: str, given, runs: dict, made: dict) -> None:
    """Trains one model, and with --update stores its bars."""
    train(model, given, runs)
    if given.update:
        update(model, given, runs, made)


def main(words=None) -> int:
    """Trains what the command line asks for, prints and writes the verdicts."""
    given = read_command(words)
    made = provenance.here(["ci/accuracy.py", *(sys.argv[1:] if words is None else words)])
    verdicts.read_baselines(given.baselines)
    for name in () if given.full else ("data", "runs"):
        scripts.claim(given.output / name)
    runs, notes = {model: {} for model in given.model}, {}
    for model in given.model:
        notes[model] = scripts.problem_of(scripts.environment_of(model, given.tf1))
        if notes[model]:
            print(f"{model} is not measured: {notes[model]}", flush=True)
    left = [model for model in given.model if not notes[model]]
    try:
        while left:
            _, notes[left[0]] = scripts.attempt(measure, left[0], given, runs[left[0]], made)
            del left[0]
    except KeyboardInterrupt:
        print(STOPPED, flush=True)
        notes.update(dict.fromkeys(left, STOPPED))
    entries = verdicts.read_baselines(given.baselines)["values"]
    found, rows = [], []
    for model in given.model:
        more = judge(model, given, runs[model], entries, notes[model])
        found, rows = found + more[0], rows + more[1]
    print(outputs.table(found) + "\n" + outputs.summary(found))
    tables = {"Broken variants": (("model", "variant", "misses"), rows)} if rows else {}
    for cells in rows:
        print(": ".join(cells))
    details = {model: {k: run._asdict() for k, run in each.items()} for model, each in runs.items()}
    outputs.write(given.output, "accuracy", found, made, tables, details)
    print(f"see {given.output / 'report.html'}")
    return max(verdicts.exit_status(found), int(bool(left)))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run_program(main)
