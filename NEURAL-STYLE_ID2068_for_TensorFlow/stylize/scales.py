# SPDX-License-Identifier: Apache-2.0
"""A picture from start to file: one run, or several from coarse to fine."""

import dataclasses
import os
from typing import Optional

import numpy as np
import tensorflow.compat.v1 as tf

from harness.files import write_json
from harness.images import write_image
from stylize import data, progress
from stylize.config import checkpoint_name
from stylize.training import optimise


def stylise(config, network, device, pictures, output: str, folder: str) -> Optional[np.ndarray]:
    """Optimises a picture at each of `scales`, each from the one before, and writes it.

    Args:
      config: the options.
      network: from `weights.read_network`.
      device: from `device.choose`.
      pictures: data.Pictures as they are on disk.
      output: the picture to write; when the run is stopped, the best one so far.
      folder: takes state, log and metrics.json; of several scales one folder each.

    Returns:
      uint8 [H, W, 3], or None when the run was stopped.

    Raises:
      UserError: if the pictures, a state in `folder` or the losses do not allow it.
    """
    widths, steps = config.scales or (config.width,), config.iterations
    folders = [folder]
    if len(widths) > 1:
        folders = [os.path.join(folder, "%d-%d" % pair) for pair in enumerate(widths, 1)]
        steps = steps * (len(widths) if len(steps) == 1 else 1)
    for width, last_step, stage in zip(widths, steps, folders):
        sized = data.at_width(pictures, width, config.style_scales)
        write_picture = _Writer(config, sized.content, network.mean_pixel, output)
        with tf.Graph().as_default():
            words = (config, network, sized, last_step, stage, device, write_picture)
            best, measures, is_stopped = optimise(*words)
        result = write_picture(best)
        progress.write(config, output, folders)
        if is_stopped:
            return None
        # The next scale starts from this picture, enlarged, without new noise.
        pictures = pictures._replace(initial=data.to_uint8(best, network.mean_pixel))
        config = dataclasses.replace(config, initial_noiseblend=0.0)
    write_json(os.path.join(folder, "metrics.json"), measures)
    return result


class _Writer:
    """Writes network input [1, H, W, 3] as the output, or as the picture on the way of a step."""

    def __init__(self, config, content, mean_pixel, output):
        self._config, self._content = config, content
        self._mean_pixel, self._output = mean_pixel, output

    def __call__(self, image, step=None):
        result, path = data.to_uint8(image, self._mean_pixel), self._output
        if self._config.preserve_colors:
            result = data.keep_colors(result, self._content)
        if step is not None:
            name = checkpoint_name(self._config.checkpoint_output, step)
            path = os.path.join(os.path.dirname(path), name)
        write_image(path, result)
        return result
