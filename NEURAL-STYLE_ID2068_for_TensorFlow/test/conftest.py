# SPDX-License-Identifier: Apache-2.0
"""Small pictures and networks made in code, TensorFlow in graph mode."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, FOLDER)  # pytest 7 and 9 alike, from any directory

CONVOLUTIONS = (2, 2, 4, 4, 4)  # of each block
MEAN_PIXEL = (123.68, 116.779, 103.939)
NETWORK = "imagenet-vgg-verydeep-19.mat"


@pytest.fixture(autouse=True)
def _graph_mode():
    import tensorflow.compat.v1 as tf

    tf.logging.set_verbosity(tf.logging.ERROR)
    tf.disable_v2_behavior()
    with tf.Graph().as_default():
        yield


def random_layers(channels=(4, 6, 8, 8, 8), last="relu5_4", seed=0):
    """Returns {name: (kernel, bias), None for relu and pool} up to `last`, which may be fc6.

    The weights are He's, so that the activations neither vanish nor explode.
    """
    rng, layers, given = np.random.RandomState(seed), {}, 3

    def convolution(size, given, out):
        kernel = rng.randn(size, size, given, out) * np.sqrt(2.0 / (size * size * given))
        return kernel.astype(np.float32), rng.uniform(-0.5, 0.5, out).astype(np.float32)

    for block, out in enumerate(channels, 1):
        for index in range(1, CONVOLUTIONS[block - 1] + 1):
            layers["conv%d_%d" % (block, index)] = convolution(3, given, out)
            layers["relu%d_%d" % (block, index)] = None
            given = out
        layers["pool%d" % block] = None
    layers["fc6"] = convolution(7, given, 10)
    names = list(layers)
    return {name: layers[name] for name in names[: names.index(last) + 1]}


def write_mat(path, channels=(4, 6, 8, 8, 8), last="relu5_4", layout="meta", seed=0):
    """Writes random weights as a MatConvNet file of one of the two layouts; returns str(path)."""
    return save_mat(path, random_layers(channels, last, seed), layout)


def save_mat(path, layers, layout="meta", mean_pixel=MEAN_PIXEL, compress=True):
    """Writes layers such as `random_layers` returns as a MatConvNet file; returns str(path)."""
    cells = np.empty((1, len(layers)), object)
    for index, (name, weights) in enumerate(layers.items()):
        pair = np.empty((1, 0 if weights is None else 2), object)
        if weights is not None:
            pair[0, 0] = weights[0]
            pair[0, 1] = weights[1].reshape((-1, 1) if layout == "meta" else (1, -1))
        kind = {"re": "relu", "po": "pool"}.get(name[:2], "conv")
        if layout == "meta":
            cells[0, index] = {"name": name, "type": kind, "weights": pair, "pad": 1.0}
        elif weights is None:
            cells[0, index] = {"type": kind, "name": name}
        else:
            cells[0, index] = {"weights": pair, "pad": 1.0, "type": kind, "name": name}
    content = {"layers": cells}
    if layout == "meta":
        mean = np.array(mean_pixel, np.float32).reshape(1, 1, 3)
        size = np.array([224.0, 224.0, 3.0])
        content["meta"] = {"normalization": {"imageSize": size, "averageImage": mean}}
    else:
        mean = np.tile(np.array(mean_pixel, np.float32), (224, 224, 1))
        mean[:112] += 1
        mean[112:] -= 1
        content["classes"] = {"name": "none"}
        content["normalization"] = {"averageImage": mean, "keepAspect": 1.0}
    savemat(str(path), content, do_compression=compress)
    return str(path)


def draw_picture(rng, height=48, width=64):
    """Returns uint8 [H, W, 3]: a smooth gradient, a disc, a bar and noise."""
    rows, columns = np.mgrid[:height, :width]
    ends = rng.randint(0, 256, (2, 3))
    share = (rows / height + columns / width)[:, :, None] / 2
    picture = ends[0] * (1 - share) + ends[1] * share
    centre = rng.uniform(0.3, 0.7, 2) * (height, width)
    disc = np.hypot(rows - centre[0], columns - centre[1]) < 0.25 * min(height, width)
    picture[disc] = rng.randint(0, 256, 3)
    bar = np.abs(rows - columns * height / width - rng.randint(-8, 9)) < 0.06 * height
    picture[bar] = rng.randint(0, 256, 3)
    noise = rng.randint(-12, 13, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def draw_data(folder, seed=0, **network):
    """Writes a content, a style and a network, as `write_mat` takes it; returns str(folder)."""
    rng = np.random.RandomState(seed)
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw_picture(rng, 48, 64)).save(str(folder / "1-content.jpg"), quality=95)
    Image.fromarray(draw_picture(rng, 60, 80)).save(str(folder / "1-style.jpg"), quality=95)
    write_mat(folder / NETWORK, seed=seed, **network)
    return str(folder)


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
