# SPDX-License-Identifier: Apache-2.0
"""Small data sets drawn in code, a tiny configuration, the programs in a subprocess."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, FOLDER)  # pytest 7 and 9 alike, from any directory

DATASET = "shapes"
TINY = ["--dataset=" + DATASET, "--light", "--img_size=32", "--ch=4", "--n_res=1", "--n_dis=4"]
TINY += ["--device_target=CPU", "--log_freq=1"]


def draw_picture(rng, round_shape, height=40, width=36):
    """Returns uint8 [H, W, 3]: a disc (domain A) or a square (domain B) on noise."""
    picture = rng.randint(0, 80, (height, width, 3))
    rows, columns = np.mgrid[:height, :width]
    centre, radius = (height * rng.uniform(0.4, 0.6), width * rng.uniform(0.4, 0.6)), width * 0.3
    apart = np.abs(rows - centre[0]), np.abs(columns - centre[1])
    inside = np.hypot(*apart) < radius if round_shape else np.maximum(*apart) < radius
    picture[inside] = rng.randint(120, 255, 3)
    return picture.astype(np.uint8)


def draw_domains(folder, train=4, test=2, seed=0):
    """Writes trainA, trainB, testA and testB to `folder`/shapes; returns `folder` as str."""
    rng = np.random.RandomState(seed)
    for domain, count in (
        ("trainA", train),
        ("trainB", train + 1),
        ("testA", test),
        ("testB", test),
    ):
        place = folder / DATASET / domain
        place.mkdir(parents=True)
        for number in range(count):
            picture = Image.fromarray(draw_picture(rng, domain.endswith("A")))
            picture.save(str(place / ("%d.png" % number)))
    return str(folder)


@pytest.fixture
def shapes(tmp_path):
    """The path of a small data set."""
    return draw_domains(tmp_path / "data")


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
