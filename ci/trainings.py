# SPDX-License-Identifier: Apache-2.0
"""One training of ci/accuracy.py: a model folder's test/train_full_1p.sh, and what it left."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "tools" / "shared"))

import drawing
import environments
import measures

from harness.errors import UserError
from harness.files import read_json

ROOT = pathlib.Path(__file__).resolve().parent.parent
STARGAN = "StarGAN_ID1472_for_TensorFlow"
FLOAT32 = "--precision_mode=force_fp32"  # whether the machine has bfloat16 must not matter
THREADS = "--threads=1"  # nor how many cores it has
SETTINGS = {
    "NEURAL-STYLE_ID2068_for_TensorFlow": "--iterations=200 --content_layers relu3_2 "
    "--style_layers relu1_1 relu2_1 relu3_1 --content_weight=5 --style_weight=0.3 --tv_weight=1",
    "Pix2Pix_ID0359_for_TensorFlow": "--train_steps=400 --ngf=16 --ndf=16 --load_size=256 "
    "--L1_lambda=10 --sample_freq=200",
    STARGAN: "--training_iterations=1000 --image_size=32 --g_conv_dim=16 --d_conv_dim=16 "
    "--g_repeat_num=1 --d_repeat_num=4 --batch_size=8 --d_train_repeat=2 --lr=5e-4 --lambda_rec=40 "
    "--num_test=24 --test_concatenate=False --save_steps=500 "
    "--selected_attrs Black_Hair Blond_Hair Brown_Hair",
    "U-GAT-IT_for_MindSpore": "--iteration=120 --light --img_size=32 --ch=8 --n_res=1 --n_dis=3 "
    "--batch_size=4 --lr=1e-3 --mode=graph --print_freq=60 --log_freq=10",
    # The weights of the losses are for the drawn VGG-19, whose features are small.
    "WhiteBox_Cartoonization_for_TensorFlow": "--pretrain_iter=80 --total_iter=120 "
    "--subjects scenery --patch_size=32 --batch_size=4 --d_width=16 --superpixels=20 "
    "--superpixel_workers=1 --lambda_content=20000 --lambda_structure=20000 --lambda_surface=1 "
    "--log_steps=10",
}


class Trained(NamedTuple):
    """What a training came to: {name: value}, seconds, and why there are no values, or ""."""

    values: dict
    seconds: float
    problem: str


def settings(model: str) -> list:
    """Returns the words of the short training of `model`."""
    words = [*SETTINGS[model].split(), THREADS]
    return words + ([FLOAT32] if model.endswith("TensorFlow") else [])


def prepare(model: str, data: pathlib.Path, python: pathlib.Path) -> list:
    """Draws the data of `model` where they are not yet there; returns the words that name more.

    The full case of StarGAN trains a classifier for minutes; it is given one, which is trained
    with the data for seconds. The metrics here do not ask it.

    Raises:
      UserError: if that training fails.
    """
    if not data.is_dir():
        with tempfile.TemporaryDirectory(dir=_made(data.parent)) as temporary:
            os.replace(drawing.draw(model, pathlib.Path(temporary) / data.name), data)
    if model != STARGAN:
        return []
    path = data / "classifier.npz"
    if not path.exists():
        command = [python, ROOT / model / "train_classifier.py", f"--output={path}"]
        command += ["--classifier_steps=60", "--classifier_batch=16", f"--data_path={data}"]
        command += [word for word in settings(model) if word != "--test_concatenate=False"]
        if _run(command, python, data.parent / "classifier.log"):
            raise UserError("train_classifier.py failed, see %s" % (data.parent / "classifier.log"))
    return [f"--classifier={path}"]


def _made(folder: pathlib.Path) -> pathlib.Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _run(command, python, log: pathlib.Path) -> int:
    """Runs `command`, for which python3 is `python`, logs it, and returns its status."""
    path = os.pathsep.join((str(python.parent), os.environ["PATH"]))
    environment = dict(os.environ, PATH=path, PYTHONDONTWRITEBYTECODE="1")
    environment.pop("PYTHONPATH", None)
    with open(log, "wb") as file:
        words = {"stdout": file, "stderr": subprocess.STDOUT, "env": environment}
        return subprocess.run(command, check=False, **words).returncode


def find_python(model: str, tf1: bool) -> pathlib.Path:
    """Returns the Python of the environment that trains `model`; makes the environment if missing.

    One that is there is taken as it is: others may be at work with it.

    Raises:
      UserError: if there is no Python of the version it needs.
    """
    name = "ms" if model.endswith("MindSpore") else "tf1" if tf1 else "tf2"
    present = environments.ROOT / ".venv" / name / "bin" / "python"
    if present.exists():
        return present
    python = environments.find_python(environments.VERSIONS[name])
    if not python:
        text = "there is no Python %s, which %s trains with; install it, or name other models"
        raise UserError(text % (environments.VERSIONS[name], model))
    return environments.make(name, python)


def run_case(folder: pathlib.Path, data, output, words, python) -> str:
    """Runs test/train_full_1p.sh of a model folder into an empty `output`, with a log beside it.

    Args:
      folder: the model's, or a copy of it.
      data: for --data_path.
      output: for --output_path; what an earlier run left there is removed.
      words: options besides.
      python: of the environment to train with.

    Returns:
      What went wrong, or "".
    """
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    command = ["bash", folder / "test" / "train_full_1p.sh", f"--data_path={data}"]
    command += [f"--output_path={output}", *words]
    log = output.parent / (output.name + ".log")
    status = _run(command, python, log)
    return f"train_full_1p.sh ended with status {status}, see {log}" if status else ""


def train(model: str, folder, data, output, words, python, measure=measures.measure) -> Trained:
    """Trains and measures; `measure` is called with (model, data, output) if the training ended."""
    begin = time.monotonic()
    problem, values = run_case(folder, data, output, words, python), {}
    seconds = time.monotonic() - begin
    if not problem:
        try:
            values = measure(model, data, output)
        except FileNotFoundError as error:
            problem = str(error)
    return Trained(values, seconds, problem)


def written_metrics(model: str, data: pathlib.Path, output: pathlib.Path) -> dict:
    """Returns the metrics in result.json of a finished case, as `train` takes them.

    Raises:
      FileNotFoundError: if there are none.
    """
    found = read_json(str(output / "result.json"), {}).get("metrics", {})
    values = {name: float(value) for name, value in found.items() if value is not None}
    if not values:
        raise FileNotFoundError(f"the training left no metrics in {output / 'result.json'}")
    return values
