# SPDX-License-Identifier: Apache-2.0
"""What both trainings leave behind while they run: generators, pictures, lines."""

import os
from typing import List

import numpy as np
import tensorflow.compat.v1 as tf

from harness.images import write_image
from tf_runtime.checkpoints import Checkpoints
from tf_runtime.run import Run
from whitebox import data
from whitebox.generators import NAME
from whitebox.networks import GENERATOR

GENERATORS_FOLDER = "saved_models"  # in a training's folder: generators alone, as published
SIDE = 4  # pictures per row and column of a sample grid


def is_due(step: int, period: int) -> bool:
    """Returns whether a step ends a period; 0 never ends."""
    return bool(period) and step % period == 0


class Generators:
    """Writes the checkpoints `saved_models/model-<step>`: the 36 variables of the generator."""

    def __init__(self, config):
        variables = tf.trainable_variables(GENERATOR + "/")
        folder = os.path.join(config.folder, GENERATORS_FOLDER)
        self._checkpoints = Checkpoints(folder, NAME, variables, config.keep_generators)
        self._finite = tf.reduce_all([tf.reduce_all(tf.is_finite(v)) for v in variables])

    def write(self, session, step: int) -> None:
        """Writes the generator after `step`, unless it is not finite: the run then ends."""
        if session.run(self._finite):
            self._checkpoints.save(session, step)


class Samples:
    """Writes grids of some fixed photos and what the generator makes of them.

    Args:
      config: the options.
      domains: from `data.find_domains`.
      cartoonize: from [N, S, S, 3] in [-1, 1] to the same; it adds to the graph.
    """

    def __init__(self, config, domains: List[data.Domain], cartoonize):
        self._folder, side = os.path.join(config.folder, "images"), config.patch_size
        self._photos = {d.subject: data.sample_photos(d, config, SIDE**2) for d in domains}
        self._images = tf.placeholder(tf.float32, [None, side, side, 3])
        self._results = cartoonize(self._images)

    def write(self, session, step: int) -> List[str]:
        """Writes `<step>_<subject>_photo.jpg` and `<step>_<subject>_result.jpg`; returns these."""
        written = []
        for subject, photos in self._photos.items():
            results = session.run(self._results, {self._images: data.to_float(photos)})
            for kind, pictures in (("photo", photos), ("result", data.to_uint8(results))):
                path = os.path.join(self._folder, "%d_%s_%s.jpg" % (step, subject, kind))
                write_image(path, mosaic(pictures))
                written.append(path)
        return written


def mosaic(pictures: np.ndarray) -> np.ndarray:
    """Returns uint8 [4 H, 4 W, 3] of up to 16 pictures [N, H, W, 3]; what is left over is white."""
    count, height, width, _ = pictures.shape
    cells = np.full([SIDE**2, height, width, 3], 255, np.uint8)
    cells[:count] = pictures
    rows = cells.reshape(SIDE, SIDE, height, width, 3).swapaxes(1, 2)
    return rows.reshape(SIDE * height, SIDE * width, 3)


class Lines:
    """Prints the documented line of the time per step."""

    def __init__(self, run: Run):
        self._run, self._step, self._seconds = run, run.first_step - 1, 0.0

    def time_per_step(self, step: int, last_step: int) -> None:
        """Prints the mean since the line before."""
        seconds = self._run.seconds()
        mean = (seconds - self._seconds) / (step - self._step)
        self._run.print("Iter: %d/%d , time_per_step %.3f" % (step, last_step, mean))
        self._step, self._seconds = step, seconds
