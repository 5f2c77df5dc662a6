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

ATTRIBUTES = ("Black_Hair", "Blond_Hair", "Male")
TINY = ["--image_size=64", "--g_conv_dim=4", "--d_conv_dim=4", "--g_repeat_num=1"]
TINY += ["--batch_size=4", "--device=cpu", "--precision_mode=force_fp32", "--summary_steps=1"]


@pytest.fixture(autouse=True)
def _graph_mode():
    import tensorflow.compat.v1 as tf

    tf.logging.set_verbosity(tf.logging.ERROR)
    tf.disable_v2_behavior()
    with tf.Graph().as_default():
        yield


def draw_face(rng, labels, width=89, height=109):
    """Returns uint8 [H, W, 3]: a face whose hair, and a tie if Male, show its labels."""
    black, blond, male = labels
    picture = np.full((height, width, 3), rng.randint(90, 160), np.uint8)
    rows, columns = np.mgrid[:height, :width]
    hair = (40, 30, 30) if black else (230, 210, 110) if blond else (120, 70, 40)
    centre, radius = (height * 0.5, width * 0.5), width * 0.3
    inside = np.hypot((rows - centre[0]) * 0.8, columns - centre[1]) < radius
    picture[np.hypot((rows - centre[0]) * 0.8, columns - centre[1]) < radius * 1.3] = hair
    picture[inside] = (220, 180, 150)
    if male:
        picture[int(height * 0.8) :, int(width * 0.35) : int(width * 0.65)] = (30, 40, 120)
    noise = rng.randint(-12, 12, picture.shape)
    return np.clip(picture.astype(int) + noise, 0, 255).astype(np.uint8)


def draw_celeba(folder, count=24, seed=0):
    """Writes CelebA/Img and CelebA/Anno below `folder`; returns `folder` as str."""
    rng = np.random.RandomState(seed)
    images = folder / "CelebA" / "Img" / "img_align_celeba"
    images.mkdir(parents=True)
    (folder / "CelebA" / "Anno").mkdir()
    lines = ["%d" % count, " ".join(ATTRIBUTES) + " "]
    for number in range(1, count + 1):
        hair = rng.randint(3)
        labels = (hair == 0, hair == 1, rng.randint(2) == 1)
        name = "%06d.jpg" % number
        Image.fromarray(draw_face(rng, labels)).save(str(images / name))
        lines.append(name + " " + " ".join("%2d" % (1 if label else -1) for label in labels))
    (folder / "CelebA" / "Anno" / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    return str(folder)


def draw_classes(folder, classes=("angry", "happy"), count=6, seed=0):
    """Writes RaFD/<class>/ below `folder`; returns `folder` as str."""
    rng = np.random.RandomState(seed)
    for index, name in enumerate(classes):
        (folder / "RaFD" / name).mkdir(parents=True)
        for number in range(count):
            labels = (index == 0, index == 1, False)
            picture = Image.fromarray(draw_face(rng, labels, 100, 80))
            picture.save(str(folder / "RaFD" / name / ("%d.png" % number)))
    return str(folder)


@pytest.fixture
def celeba(tmp_path):
    """The path of a small CelebA data set."""
    return draw_celeba(tmp_path / "data")


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
        timeout=300,
        check=False,
    )
