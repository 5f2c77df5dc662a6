# SPDX-License-Identifier: Apache-2.0
"""Times what a model folder's test/speed.py (or tools/fid/speed.py) can time, beside the machine.

Every measurement is a process of its own. The repeats of all of them take turns, and before and
after each model's turn the machine's rates are measured with the same Python, so that a repeat is
compared with what the machine could do in that minute.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
from typing import NamedTuple

import calibration
import scripts
from verdicts import Measured

from harness.errors import UserError

ROOT = scripts.ROOT
FID = "tools/fid"  # what describes pictures for FID; in float32 only, and only where it is named
TIMEOUT = 900  # seconds that one measurement may take
PRECISIONS = {"float32": "force_fp32", "mixed": "allow_mix_precision"}


class Model(NamedTuple):
    """What is timed in a folder whose name begins with `name`.

    Attributes:
      name: beginning of the folder's name, and the model's name in the baselines.
      steps: {what speed.py times: its options}, small enough for a run of all models.
      mixed: whether it has mixed precision on a CPU.
    """

    name: str
    steps: dict[str, str]
    mixed: bool = True


MODELS = (
    Model("NEURAL-STYLE", {"train": "--side=256"}),
    Model("Pix2Pix", {"train": "", "infer": ""}),
    Model("StarGAN", {"train": "--batch_size=1", "infer": "--batch_size=4"}),
    Model("U-GAT-IT", {"train": "--img_size=64 --ch=32 --n_dis=4", "infer": ""}, mixed=False),
    Model("WhiteBox", {"train": "--batch_size=2 --patch_size=128", "network": ""}),
)


class Command(NamedTuple):
    """One thing to time: its words, and the environment that runs them."""

    words: list[str]
    environment: scripts.Environment


def name_of(folder: pathlib.Path) -> str:
    """Returns what a folder is called in the baselines.

    Raises:
      UserError: if nothing is known of it.
    """
    return FID if folder.resolve() == ROOT / FID else model_of(folder).name


def model_of(folder: pathlib.Path) -> Model:
    """Returns what is known of the model in `folder`.

    Raises:
      UserError: if its name is that of no model.
    """
    for model in MODELS:
        if folder.name.startswith(model.name):
            return model
    names = ", ".join(f"{model.name}..." for model in MODELS)
    raise UserError(f"{folder}: its name must begin as that of a model ({names}), or be {FID}")


def commands(folder: pathlib.Path, options) -> dict[str, Command]:
    """Returns {"MODEL/steps/WHAT PRECISION": command} of what is timed in a folder.

    Args:
      folder: a model folder, or tools/fid.
      options: has count, with_option and tf1.
    """
    environment = scripts.environment_of(folder.name, options.tf1)
    python, count, found = str(environment.python), f"--count={options.count}", {}
    if name_of(folder) == FID:
        for what in ("network", "end_to_end"):
            words = [python, "-m", "tools.fid.speed", what, count]
            found[f"{FID}/steps/{what} float32"] = Command(words, environment)
        return found
    model = model_of(folder)
    for what, given in model.steps.items():
        for precision, mode in PRECISIONS.items():
            if precision == "float32" or model.mixed:
                words = [python, str(folder / "test" / "speed.py"), what, *given.split(), count]
                words += [f"--precision_mode={mode}", "--device=cpu", *options.with_option]
                found[f"{model.name}/steps/{what} {precision}"] = Command(words, environment)
    return found


def run(words: list[str], timeout: float = TIMEOUT) -> dict:
    """Returns the JSON object in the last line that a command prints.

    Raises:
      RuntimeError: if it fails, prints none or takes too long; holds the end of what it said.
    """
    place = ROOT if "tools.fid.speed" in words else None  # where Python finds it
    more = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": place}
    more["env"] = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3")
    shown = scripts.shown(words)
    status, out, err = scripts.finish(words, timeout, **more)
    if status:
        raise RuntimeError(f"{shown} ended with {status}: {err[-1000:].strip()}")
    try:
        return last_object(out)
    except (IndexError, ValueError):
        raise RuntimeError(f"{shown} printed no JSON object: {out[-500:]}") from None


def _refuse(word: str):
    raise ValueError(f"{word} is no number")


def last_object(text: str) -> dict:
    """Returns the JSON object in the last line of `text` that is one, if its numbers are finite."""
    lines = [line for line in text.splitlines() if line[:1] == "{"]
    return json.loads(lines[-1], parse_constant=_refuse)


def one_repeat(result: dict, rates: dict) -> dict:
    """Returns a repeat of a measurement, from what speed.py or a command of --versus printed.

    What it did not print is None.
    """
    seconds = result.get("sec_per_step") or statistics.median(result["seconds"])
    first, precision = result.get("first_seconds"), result.get("precision", "float32")
    rate = rates.get(precision) or rates["float32"]
    return {
        "seconds": seconds,
        "cost": seconds * rate,
        "first_cost": first * rate if first else None,
        "first_seconds": first,
        "images": result.get("images") or result.get("images_per_step", 1),
        "gflop": result["flops"] / 1e9 if result.get("flops") else None,
        "memory": result.get("peak_memory_mb") or result.get("peak_rss_mb"),
        "precision": precision,
        "rate": rate,
        "matmul": rates["matmul_gflops"],
        "copy": rates["copy_gbytes"],
    }


def summarise(repeats: list[dict]) -> dict:
    """Returns medians of the repeats of one measurement, and the range of its seconds."""

    def median(key):
        values = [repeat[key] for repeat in repeats if repeat[key] is not None]
        return statistics.median(values) if values else None

    seconds = [repeat["seconds"] for repeat in repeats]
    found = {key: median(key) for key in ("cost", "first_cost", "first_seconds", "gflop", "rate")}
    gflop, images = found["gflop"], repeats[0]["images"]
    found.update(
        precision=repeats[0]["precision"],
        seconds_per_step={"median": median("seconds"), "min": min(seconds), "max": max(seconds)},
        images_per_second=images / median("seconds"),
        gflop_of_matmul_per_image=median("seconds") * median("matmul") / images,
        matmul_gflops=median("matmul"),
        copy_gbytes=median("copy"),
        peak_memory_mb=max((r["memory"] for r in repeats if r["memory"]), default=None),
        of_convolution_rate=gflop / found["cost"] if gflop else None,
        repeats=len(repeats),
    )
    return found


def measured(environment: str, key: str, repeats: list[dict]) -> list[Measured]:
    """Returns the values of one measurement that have baselines.

    Args:
      environment: begins their names.
      key: "MODEL/steps/WHAT PRECISION"; that which really ran takes its place.
      repeats: from `one_repeat`.
    """
    name = f"{environment}/{key.rpartition(' ')[0]} {repeats[0]['precision']}"

    def value(what, unit, floor, **more):
        samples = tuple(repeat[what] for repeat in repeats)
        if None in samples:  # it is not told
            return None
        words = {"samples": samples, "floor": floor, "robust": True, **more}
        return Measured(f"{name}/{what}", statistics.median(samples), unit, **words)

    found = [
        value("cost", "GFLOP of convolution", 0.25, most=0.5),
        value("first_cost", "GFLOP of convolution", 0.5, most=1.0),
        value("memory", "MiB", 0.1),
        value("gflop", "GFLOP a step", 0.001, better="same"),
    ]
    return [one for one in found if one is not None]


def table(rows: dict[str, dict]) -> tuple[list[str], list[list[str]]]:
    """Returns (columns, rows) of the summaries, cells as text.

    "rate / convolution's" is the step's operations a second over those of the convolution measured
    beside it: other shapes may run faster than that one, so it may be more than 1.
    """
    columns = ["what", "precision", "s/step median (min-max)", "images/s", "first step, s"]
    columns += ["GFLOP/step", "rate / convolution's", "matmul GFLOP per image", "MiB"]
    cells = []
    for what, row in rows.items():
        seconds, gflop, share = row["seconds_per_step"], row["gflop"], row["of_convolution_rate"]
        times = "{median:.3f} ({min:.3f}-{max:.3f})".format(**seconds)
        line = [what, row["precision"], times, f"{row['images_per_second']:.2f}"]
        line.append(f"{row['first_seconds']:.2f}" if row["first_seconds"] else "-")
        line.append(f"{gflop:.1f}" if gflop else "-")
        line.append(f"{share:.2f}" if share else "-")
        line += [f"{row['gflop_of_matmul_per_image']:.0f}", str(row["peak_memory_mb"] or "-")]
        cells.append(line)
    return columns, cells


def rates(environment: scripts.Environment) -> dict:
    """Returns the machine's rates now with the software of an environment."""
    print("the machine", file=sys.stderr, flush=True)
    return calibration.rates(environment.python, environment.framework)


def mean(before: dict, after: dict) -> dict:
    """Returns the means of the rates before and after a turn."""
    return {key: (before[key] + after[key]) / 2 for key in before}


class Machine:
    """The rates of the machine; those after one turn are those before the next."""

    def __init__(self):
        self._environment, self._rates = "", {}

    def measure(self, environment: scripts.Environment) -> dict:
        """Returns the rates now, with the software of an environment."""
        self._environment = ""
        self._rates = rates(environment)
        self._environment = environment.name
        return self._rates

    def rates(self, environment: scripts.Environment) -> dict:
        """Returns the rates measured last, if they are of the environment, or new ones."""
        name, self._environment = self._environment, ""  # after what fails they are too old
        return self._rates if name == environment.name else self.measure(environment)
