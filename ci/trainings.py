# SPDX-License-Identifier: Apache-2.0
"""One training of ci/accuracy.py: a model folder's test/train_full_1p.sh, and what it left."""

import math
import pathlib
import time
from typing import NamedTuple

import drawing
import measures
import scripts

from harness.files import read_json

TIMEOUT = 3600  # seconds that a short training may take
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
    # With an identity loss these domains, of one colour each, are learnt without adversaries too.
    "U-GAT-IT_for_MindSpore": "--iteration=200 --light --img_size=32 --ch=8 --n_res=1 --n_dis=3 "
    "--identity_weight=0 --cycle_weight=1 --cam_weight=10 "
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
      RuntimeError: if that training fails.
    """
    if not data.is_dir():
        drawing.draw(model, data)
    if model != STARGAN:
        return []
    path = data / "classifier.npz"
    if not path.exists():
        command = [python, scripts.ROOT / model / "train_classifier.py", f"--output={path}"]
        command += ["--classifier_steps=60", "--classifier_batch=16", f"--data_path={data}"]
        command += [word for word in settings(model) if word != "--test_concatenate=False"]
        scripts.run_logged(command, python, data.parent / "classifier.log", TIMEOUT)
    return [f"--classifier={path}"]


def train(
    model: str, folder, data, output, words, python, measure=measures.measure, timeout=TIMEOUT
) -> Trained:
    """Trains through test/train_full_1p.sh into the empty folder `output`, and measures.

    Args:
      model: name of the model's folder.
      folder: that, or a copy of it.
      data: for --data_path.
      output: for --output_path.
      words: options besides.
      python: of the environment to train with.
      measure: is called with (model, data, output) if the training ended well.
      timeout: seconds the training may take; None: as long as it needs.
    """
    begin = time.monotonic()
    case = (folder, "full", data, output, words, python, timeout)
    _, problem = scripts.attempt(scripts.run_case, *case)
    seconds, values = time.monotonic() - begin, {}
    if not problem:
        values, problem = scripts.attempt(measure, model, data, output)
    odd = [name for name, value in (values or {}).items() if not math.isfinite(value)]
    if odd:
        problem = ", ".join(f"{name} is {values[name]}" for name in odd)
    return Trained({} if problem else values, seconds, problem)


def written_metrics(model: str, data: pathlib.Path, output: pathlib.Path) -> dict:
    """Returns the metrics in result.json of a finished case, as `train` takes them.

    Raises:
      RuntimeError: if there are none.
    """
    found = read_json(str(output / "result.json"), {}).get("metrics", {})
    values = {name: float(value) for name, value in found.items() if value is not None}
    if not values:
        raise RuntimeError(f"the training left no metrics in {output / 'result.json'}")
    return values
