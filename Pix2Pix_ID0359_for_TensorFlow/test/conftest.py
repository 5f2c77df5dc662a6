# SPDX-License-Identifier: Apache-2.0
"""Small data sets drawn in code, a tiny configuration, TensorFlow in graph mode."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, FOLDER)  # pytest 7 and 9 alike, from any directory

TINY = ["--ngf=4", "--ndf=4", "--device=cpu", "--precision_mode=force_fp32", "--print_freq=1"]


@pytest.fixture(autouse=True)
def _graph_mode():
    import tensorflow.compat.v1 as tf

    tf.logging.set_verbosity(tf.logging.ERROR)
    tf.disable_v2_behavior()
    with tf.Graph().as_default():
        yield


def draw_pair(rng, height=64):
    """Returns uint8 [height, 2 * height, 3]: left a picture, right its coarse map."""
    coarse = rng.randint(0, 255, (4, 4, 3)).astype(np.uint8)
    label = np.asarray(Image.fromarray(coarse).resize((height, height), Image.NEAREST))
    noise = rng.randint(-20, 20, label.shape)
    photo = np.clip(255 - label.astype(int) + noise, 0, 255).astype(np.uint8)
    return np.concatenate([photo, label], axis=1)


def draw_set(folder, train=5, val=2, seed=0):
    """Writes a data set in the documented layout, JPEG and PNG mixed; returns `folder` as str."""
    rng = np.random.RandomState(seed)
    for split, count in (("train", train), ("val", val)):
        (folder / split).mkdir(parents=True)
        for number in range(1, count + 1):
            ending = "png" if number % 2 else "jpg"
            picture = Image.fromarray(draw_pair(rng))
            picture.save(str(folder / split / ("%d.%s" % (number, ending))))
    return str(folder)


@pytest.fixture
def dataset(tmp_path):
    """The path of a small data set."""
    return draw_set(tmp_path / "data")


def run(program, *words, **options):
    """Runs a program of the folder; returns the finished process with its output as text."""
    cwd = str(options.pop("cwd"))
    command = [sys.executable, os.path.join(FOLDER, program)] + [str(word) for word in words]
    return subprocess.run(
        command,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=dict(os.environ, **options),
        timeout=600,
        check=False,
    )
