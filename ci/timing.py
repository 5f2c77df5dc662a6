# SPDX-License-Identifier: Apache-2.0
"""Times what a model folder's test/speed.py (or tools/fid/speed.py) can time, beside the machine.

Every measurement is a process of its own. The repeats of all of them take turns, and before and
after each model's turn the machine's rates are measured with the same Python, so that a repeat is
compared with what the machine could do in that minute.
"""

import json
import os
import pathlib
import shlex
import statistics
import subprocess
import sys
from typing import NamedTuple

import calibration
from verdicts import Measured

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "tools" / "shared"))

from harness.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parent.parent
FID = "tools/fid"  # what describes pictures for FID; in float32 only
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
    """One thing to time: its words, the Python of the environment, and the framework."""

    words: list[str]
    python: str
    framework: str
    environment: str


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


def environment_of(folder: pathlib.Path, tf1: bool) -> tuple[str, str, str]:
    """Returns (environment, path of its Python, framework) that measures `folder`.

    Raises:
      UserError: if the environment is not there.
    """
    is_mindspore = folder.name.endswith("_for_MindSpore")
    name = "ms" if is_mindspore else "tf1" if tf1 else "tf2"
    python = ROOT / ".venv" / name / "bin" / "python"
    if not python.exists():
        text = f"{python} is missing, which measures {folder.name}; python3 ci/environments.py "
        raise UserError(f"{text}{name} makes it")
    return name, str(python), "mindspore" if is_mindspore else "tensorflow"


def commands(folder: pathlib.Path, options) -> dict[str, Command]:
    """Returns {"MODEL/WHAT PRECISION": command} of what is timed in a folder.

    Args:
      folder: a model folder, or tools/fid.
      options: has count, with_option and tf1.
    """
    environment, python, framework = environment_of(folder, options.tf1)
    count, found = f"--count={options.count}", {}
    if folder.resolve() == ROOT / FID:
        for what in ("network", "end_to_end"):
            words = [python, "-m", "tools.fid.speed", what, count]
            found[f"{FID}/{what}"] = Command(words, python, framework, environment)
        return found
    model = model_of(folder)
    for what, given in model.steps.items():
        for precision, mode in PRECISIONS.items():
            if precision == "float32" or model.mixed:
                words = [python, str(folder / "test" / "speed.py"), what, *given.split(), count]
                words += [f"--precision_mode={mode}", "--device=cpu", *options.with_option]
                key = f"{model.name}/{what} {precision}"
                found[key] = Command(words, python, framework, environment)
    return found


def run(words: list[str], timeout: float = TIMEOUT) -> dict:
    """Returns the JSON object in the last line that a command prints.

    Raises:
      RuntimeError: if it fails, prints none or takes too long; holds the end of what it said.
    """
    place = ROOT if "tools.fid.speed" in words else None  # where Python finds it
    environment = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3")
    shown = shlex.join(map(str, words))
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=timeout, cwd=place, env=environment
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{shown} took more than {timeout} s") from None
    if done.returncode:
        raise RuntimeError(f"{shown} ended with {done.returncode}: {done.stderr[-1000:].strip()}")
    try:
        return last_object(done.stdout)
    except (IndexError, ValueError):
        raise RuntimeError(f"{shown} printed no JSON object: {done.stdout[-500:]}") from None


def last_object(text: str) -> dict:
    """Returns the JSON object in the last line of `text` that is one."""
    return json.loads([line for line in text.splitlines() if line[:1] == "{"][-1])


def one_repeat(result: dict, rates: dict) -> dict:
    """Returns a repeat of a measurement, from what speed.py or a command of --versus printed."""
    seconds = result.get("sec_per_step") or statistics.median(result["seconds"])
    precision = result.get("precision", "float32")
    rate = rates.get(precision) or rates["float32"]
    return {
        "seconds": seconds,
        "cost": seconds * rate,
        "first_cost": (result.get("first_seconds") or 0) * rate,
        "first_seconds": result.get("first_seconds"),
        "images": result.get("images") or result.get("images_per_step", 1),
        "gflop": result["flops"] / 1e9 if result.get("flops") else None,
        "memory": result.get("peak_memory_mb") or result.get("peak_rss_mb") or 0,
        "precision": precision,
        "rate": rate,
        "matmul": rates["matmul_gflops"],
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
        peak_memory_mb=max(repeat["memory"] for repeat in repeats),
        share_of_peak=gflop / found["cost"] if gflop else None,
        repeats=len(repeats),
    )
    return found


def measured(environment: str, key: str, repeats: list[dict]) -> list[Measured]:
    """Returns the values of one measurement that have baselines.

    Args:
      environment: begins their names.
      key: "MODEL/WHAT PRECISION"; that which really ran takes its place.
      repeats: from `one_repeat`.
    """
    words, _, asked = key.rpartition(" ")
    name = f"{environment}/{words} {repeats[0]['precision']}" if words else f"{environment}/{key}"
    note = f"{asked} was asked for" if asked == "mixed" and name.endswith("float32") else ""

    def values(what):
        return tuple(repeat[what] for repeat in repeats)

    def value(what, unit, floor, **more):
        samples = values(what)
        words = {"samples": samples, "floor": floor, "robust": True, "note": note, **more}
        return Measured(f"{name}/{what}", statistics.median(samples), unit, **words)

    found = [
        value("cost", "GFLOP of convolution", 0.25),
        value("first_cost", "GFLOP of convolution", 1.0),
        value("memory", "MiB", 0.1),
    ]
    if repeats[0]["gflop"] is not None:
        found.append(value("gflop", "GFLOP a step", 0.001, better="same"))
    return found


def table(rows: dict[str, dict]) -> tuple[list[str], list[list[str]]]:
    """Returns (columns, rows) of the summaries, cells as text."""
    columns = ["what", "precision", "s/step median (min-max)", "images/s", "first step, s"]
    columns += ["GFLOP/step", "share of peak", "matmul GFLOP per image", "MiB"]
    cells = []
    for what, row in rows.items():
        seconds, gflop, share = row["seconds_per_step"], row["gflop"], row["share_of_peak"]
        times = "{median:.3f} ({min:.3f}-{max:.3f})".format(**seconds)
        line = [what, row["precision"], times, f"{row['images_per_second']:.2f}"]
        line.append(f"{row['first_seconds']:.2f}" if row["first_seconds"] else "-")
        line.append(f"{gflop:.1f}" if gflop else "-")
        line.append(f"{share:.0%}" if share else "-")
        line += [f"{row['gflop_of_matmul_per_image']:.0f}", str(row["peak_memory_mb"])]
        cells.append(line)
    return columns, cells


def rates(command: Command) -> dict:
    """Returns the machine's rates now with the software of a command's environment."""
    print("the machine", file=sys.stderr, flush=True)
    return calibration.rates(command.python, command.framework)


def mean(before: dict, after: dict) -> dict:
    """Returns the means of the rates before and after a turn."""
    return {key: (before[key] + after[key]) / 2 for key in before}


class Machine:
    """The rates of the machine; those after one turn are those before the next."""

    def __init__(self):
        self._environment, self._rates = "", {}

    def measure(self, command: Command) -> dict:
        """Returns the rates now, with the software of a command's environment."""
        self._environment, self._rates = command.environment, rates(command)
        return self._rates

    def rates(self, command: Command) -> dict:
        """Returns the rates measured last, if they are of the command's environment, or new."""
        if command.environment == self._environment:
            return self._rates
        return self.measure(command)
