# SPDX-License-Identifier: Apache-2.0
"""Runs a folder's own test/train_performance_1p.sh and reads what it leaves."""

import pathlib
import statistics
import sys

import drawing
import scripts
import timing
from verdicts import Measured

from harness.files import read_json

TIMEOUT = 3600  # seconds that a short case may take
_STARGAN = "--image_size=64 --g_conv_dim=16 --d_conv_dim=16 --d_repeat_num=4 --batch_size=4 "
_STARGAN += "--training_iterations=30 --num_test=4 --save_steps=0 --selected_attrs Black_Hair "
# Small, on what ci/drawing.py draws; --full leaves them out.
SETTINGS = {
    "NEURAL-STYLE": "--iterations=25",
    "Pix2Pix": "--train_steps=30 --ngf=16 --ndf=16 --load_size=256 --sample_freq=0 --print_freq=5",
    "StarGAN": _STARGAN + "Blond_Hair Brown_Hair",
    "U-GAT-IT": "--light --img_size=64 --ch=16 --n_res=1 --n_dis=4 --iteration=15",
    "WhiteBox": "--subjects scenery --patch_size=64 --batch_size=2 --pretrain_iter=10 "
    "--total_iter=25",
}
EVERYWHERE = ["--device=cpu", "--precision_mode=force_fp32"]  # of the short cases


def read_results(output: pathlib.Path) -> dict:
    """Returns {"seconds", "first_seconds", "memory", "waiting", "images_per_second"} of a case.

    Raises:
      RuntimeError: if the case left no training.json or result.json.
    """
    case = read_json(str(output / "case.json"), {})
    result = read_json(str(output / "result.json"), {})
    training = read_json(str(output / case.get("run_folder", "") / "training.json"), {})
    if not result.get("seconds_per_step") or not training:
        raise RuntimeError(f"{output} holds no whole result.json and training.json")
    return {
        "seconds": result["seconds_per_step"],
        "first_seconds": result["first_step_seconds"],
        "images_per_second": result["images_per_second"],
        "memory": training["peak_memory_mb"],
        "waiting": training["share_of_time_waiting_for_data"],
    }


def measured(begin: str, repeats: list[dict]) -> list[Measured]:
    """Returns the values of a case that have baselines.

    Args:
      begin: of their names.
      repeats: from `read_results`; "rate" is that of the convolution in the same minute, GFLOP/s.
        Without it, as of --full on any device, times stay seconds.
    """
    is_cost = "rate" in repeats[0]
    scale = [repeat["rate"] if is_cost else 1.0 for repeat in repeats]
    unit, what = ("GFLOP of convolution", "cost") if is_cost else ("s", "seconds")

    def value(key, name, unit, factors=None, **words):
        factors = factors or [1.0] * len(repeats)
        samples = tuple(repeat[key] * factor for repeat, factor in zip(repeats, factors))
        words.update(samples=samples, robust=True)
        return Measured(begin + name, statistics.median(samples), unit, **words)

    return [
        value("seconds", what, unit, scale, floor=0.3, most=0.5),
        value("first_seconds", f"first_{what}", unit, scale, floor=0.5, most=1.0),
        value("memory", "memory", "MiB", floor=0.1),
        value("waiting", "waiting", "share of the time", floor=0.0, least=0.05),
    ]


def run_short(folder: pathlib.Path, options, machine: timing.Machine) -> dict:
    """Returns `read_results` of a folder's case on drawn data, and the "rate" beside it.

    Raises:
      RuntimeError: if something cannot be measured.
    """
    environment = scripts.environment_of(folder.name, options.tf1)
    work = options.output / "cases" / folder.name
    words = SETTINGS[timing.model_of(folder).name].split() + EVERYWHERE + options.with_option
    data = work / "data"
    drawing.draw(folder.name, scripts.emptied(data))
    before, output = machine.rates(environment), scripts.emptied(work / "output")
    scripts.run_case(folder, "performance", data, output, words, environment.python, TIMEOUT)
    rates = timing.mean(before, machine.measure(environment))
    return dict(read_results(output), rate=rates["float32"])


def run_full(folder: pathlib.Path, options, machine: timing.Machine) -> dict:
    """Returns `read_results` of a folder's case with its own settings, on the user's data.

    It takes the device that the settings say, for which `machine` has no rate.

    Raises:
      RuntimeError: if something cannot be measured.
    """
    python = scripts.environment_of(folder.name, options.tf1).python
    output = options.output / "full" / folder.name
    output.mkdir(parents=True, exist_ok=True)
    data = options.data_path[folder.name].resolve()
    scripts.run_case(folder, "performance", data, output, options.with_option, python)
    return read_results(output)


def measure(folders: list[pathlib.Path], options, results) -> None:
    """Adds the cases of folders to performance_results.Results; repeats take turns, --full is one.

    Args:
      folders: of models.
      options: of ci/performance.py.
      results: takes them, as far as they came when it is stopped.
    """
    part, rounds = ("full", 1) if options.full else ("case", options.repeats)
    repeats, failed, machine = {}, {}, timing.Machine()
    try:
        for number in range(1, rounds + 1):
            for folder in [folder for folder in folders if folder not in failed]:
                print(f"{number}/{rounds} {part} {folder.name}", file=sys.stderr, flush=True)
                run = run_full if options.full else run_short
                found, problem = scripts.attempt(run, folder, options, machine)
                if problem:
                    failed[folder] = problem
                else:
                    repeats.setdefault(folder, []).append(found)
    finally:
        for folder in folders:
            begin = results.begin(folder, part)
            if folder in failed:
                results.problems[begin] = failed[folder]
            elif folder in repeats:
                results.add(begin, measured, begin, repeats[folder])
        results.details[part] = {folder.name: found for folder, found in repeats.items()}
