# SPDX-License-Identifier: Apache-2.0
"""Small data sets drawn in code, a tiny configuration, TensorFlow in graph mode."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, FOLDER)  # pytest 7 and 9 alike, from any directory

TINY = ["--patch_size=32", "--batch_size=2", "--superpixels=8", "--superpixel_workers=1"]
TINY += ["--d_width=4", "--device=cpu", "--precision_mode=force_fp32", "--log_steps=1"]
VGG_LAYERS = ["conv%d_%d" % (b, i + 1) for b, n in enumerate((2, 2, 4, 4), 1) for i in range(n)]


@pytest.fixture(autouse=True)
def _graph_mode():
    import tensorflow.compat.v1 as tf

    tf.logging.set_verbosity(tf.logging.ERROR)
    tf.disable_v2_behavior()
    with tf.Graph().as_default():
        yield


def _draw_shapes(draw, rng, size, outline):
    """Draws ellipses (heads, trees) and boxes (houses) of random colours."""
    for number in range(5):
        left, top = rng.randint(size[0] * 3 // 4), rng.randint(size[1] * 3 // 4)
        box = [left, top, left + 8 + rng.randint(size[0] // 2), top + 8 + rng.randint(size[1] // 2)]
        colour = tuple(rng.randint(40, 250, 3).tolist())
        (draw.rectangle if number % 2 else draw.ellipse)(box, fill=colour, outline=outline)


def draw_photo(rng, size=(72, 64)):
    """Returns uint8 [H, W, 3]: a smooth sky and shapes under noise; `size` is (W, H)."""
    rows, columns = np.mgrid[0 : 1 : size[1] * 1j, 0 : 1 : size[0] * 1j]
    first, down, right = rng.randint(60, 160, 3), rng.randint(-60, 90, 3), rng.randint(-60, 90, 3)
    sky = first + rows[:, :, None] * down + columns[:, :, None] * right
    image = Image.fromarray(np.clip(sky, 0, 255).astype(np.uint8))
    _draw_shapes(ImageDraw.Draw(image), rng, size, None)
    pixels = np.asarray(image) + rng.normal(0, 8, (size[1], size[0], 3))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def draw_cartoon(rng, size=(72, 64)):
    """Returns uint8 [H, W, 3]: shapes of one colour each with dark edges; `size` is (W, H)."""
    image = Image.new("RGB", size, tuple(rng.randint(120, 250, 3).tolist()))
    _draw_shapes(ImageDraw.Draw(image), rng, size, (20, 20, 30))
    return np.array(image)


def draw_data(folder, count=6, size=(72, 64), seed=0):
    """Writes dataset/face_photo and so on below `folder`; returns `folder` as str.

    Each of the four folders gets `count` pictures, 1.jpg, 2.png, 3.jpg ..., of `size` (W, H).
    """
    rng = np.random.RandomState(seed)
    for name in ("face_photo", "face_cartoon", "scenery_photo", "scenery_cartoon"):
        path = os.path.join(str(folder), "dataset", name)
        os.makedirs(path)
        draw = draw_photo if name.endswith("photo") else draw_cartoon
        for number in range(1, count + 1):
            ending = "jpg" if number % 2 else "png"
            picture = Image.fromarray(draw(rng, size))
            picture.save(os.path.join(path, "%d.%s" % (number, ending)))
    return str(folder)


def write_vgg(path, widths=(4, 4, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8), seed=0):
    """Writes random weights conv1_1/kernel [3, 3, in, out], conv1_1/bias ... conv4_4 as .npz."""
    rng, channels, arrays = np.random.RandomState(seed), 3, {}
    for name, width in zip(VGG_LAYERS, widths):
        bound = np.sqrt(6.0 / (9 * channels))  # He initialisation
        kernel = rng.uniform(-bound, bound, (3, 3, channels, width))
        arrays[name + "/kernel"] = kernel.astype(np.float32)
        arrays[name + "/bias"] = rng.uniform(-0.1, 0.1, width).astype(np.float32)
        channels = width
    np.savez(str(path), **arrays)


@pytest.fixture
def drawn(tmp_path):
    """The path of a folder with a small data set in its folder dataset."""
    return draw_data(tmp_path / "data")


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
