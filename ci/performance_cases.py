# SPDX-License-Identifier: Apache-2.0
"""Runs a folder's own test/train_performance_1p.sh and reads what it leaves."""

import os
import pathlib
import subprocess
import sys

import drawing
import timing
from verdicts import Measured

from harness.files import read_json

TIMEOUT = 3600  # seconds
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


def run_script(folder: pathlib.Path, data, output: pathlib.Path, words, python: str) -> str:
    """Runs the script of `folder`; returns what went wrong, "" where nothing did."""
    path = os.pathsep.join((str(pathlib.Path(python).parent), os.environ["PATH"]))
    around = dict(os.environ, PATH=path, PYTHONDONTWRITEBYTECODE="1", TF_CPP_MIN_LOG_LEVEL="3")
    around.pop("PYTHONPATH", None)
    script = folder / "test" / "train_performance_1p.sh"
    command = ["bash", str(script), f"--data_path={data}", f"--output_path={output}", *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, env=around)
    except subprocess.TimeoutExpired:
        return f"{script} took more than {TIMEOUT} s"
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip())[-600:]
        return f"{script} ended with {done.returncode}: {said}"
    return ""


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


def measured(name: str, found: dict, rate: float) -> list[Measured]:
    """Returns the values of a case that have baselines.

    Args:
      name: begins their names.
      found: from `read_results`.
      rate: of the convolution in the same minute, GFLOP/s.
    """
    cost, unit = found["seconds"] * rate, "GFLOP of convolution"
    return [
        Measured(f"{name}/cost", cost, unit, floor=0.4),
        Measured(f"{name}/first_cost", found["first_seconds"] * rate, unit, floor=1.0),
        Measured(f"{name}/memory", found["memory"], "MiB", floor=0.1),
        Measured(f"{name}/waiting", found["waiting"], "share of the time", floor=0.0, least=0.1),
    ]


def measure(folder: pathlib.Path, options) -> tuple[list[Measured], dict]:
    """Returns (the values of a folder's case, what it was), run below options.output."""
    model = timing.model_of(folder)
    environment, python, framework = timing.environment_of(folder, options.tf1)
    name = f"{environment}/{model.name}/{'full ' if options.full else ''}case"
    work = options.output / "cases" / folder.name
    words = [] if options.full else SETTINGS[model.name].split()
    words += ["--device=cpu", "--precision_mode=force_fp32", *options.with_option]
    print(f"case {folder.name}", file=sys.stderr, flush=True)
    try:
        data = options.data_path.get(folder.name)
        if data is None:
            data = work / "data"
            if not data.is_dir():
                drawing.draw(folder.name, data)
        command = timing.Command([], python, framework, environment)
        before = timing.rates(command)
        problem = run_script(folder, data, work / "output", words, python)
        if problem:
            raise RuntimeError(problem)
        found = read_results(work / "output")
        rates = timing.mean(before, timing.rates(command))
    except RuntimeError as error:
        whats = ("cost", "first_cost", "memory", "waiting")
        return [Measured(f"{name}/{what}", None, note=str(error)) for what in whats], {}
    return measured(name, found, rates["float32"]), {name: dict(found, rate=rates["float32"])}
