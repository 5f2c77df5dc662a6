# SPDX-License-Identifier: Apache-2.0
"""A picture from start to file: one run, or several from coarse to fine."""

import dataclasses
import os
from typing import Optional

import numpy as np
import tensorflow.compat.v1 as tf

from harness import report
from harness.errors import UserError
from harness.files import read_json, write_json
from harness.gallery import TESTED, Pair, write_tested
from harness.images import write_image
from stylize import data, memory, outputs, progress
from stylize.training import IN_STRIPS, fingerprint, optimise, used_layers
from tf_runtime.checkpoints import checkpoint_steps


def stylise(config, network, device, pictures, output: str, folder: str) -> Optional[np.ndarray]:
    """Optimises a picture at each of `scales`, each from the one before, and writes it.

    Args:
      config: the options.
      network: from `weights.read_network`.
      device: from `device.choose`.
      pictures: data.Pictures as they are on disk.
      output: the picture to write; when the run is stopped, the best one so far.
      folder: takes state, log and, when all is done, metrics.json; of several scales one each.

    Returns:
      uint8 [H, W, 3], or None when the user asked to stop, be it in the last step.

    Raises:
      UserError: if the pictures, the memory, a state in `folder` or the losses do not allow it.
    """
    widths, steps = config.scales or (config.width,), config.steps
    folders, strips = outputs.stage_folders(config, folder), []
    for path in (os.path.join(folder, "metrics.json"), os.path.join(folders[-1], TESTED)):
        if os.path.exists(path):
            os.remove(path)  # it spoke of the run so far
    for width, stage in zip(widths, folders):
        sizes = data.sizes_at(pictures, width, config.style_scales)
        strips.append(_choose_strips(config, sizes, stage, device))
    best = result = None
    for number, width in enumerate(widths):
        sized = data.at_width(pictures, width, config.style_scales)
        if number:  # from the picture before, enlarged, without new noise
            initial = data.to_uint8(best, network.mean_pixel)
            initial = data.resize(initial, *sized.content.shape[:2])
            sized = sized._replace(initial=initial)
            config = dataclasses.replace(config, initial_noiseblend=0.0)
        _check_same(config, network, sized, folders[number], strips[number])
        writer = _Writer(config, sized.content, network.mean_pixel, output, sum(steps[:number]))
        try:
            with tf.Graph().as_default():
                words = (steps[number], folders[number], device, strips[number], writer)
                outcome = optimise(config, network, sized, *words)
        except tf.errors.ResourceExhaustedError as error:
            text = "the memory of the %s is used up; give --strips=on or a smaller --width"
            raise UserError(text % device.name) from error
        finally:
            progress.write(config, output, folders[: number + 1])
        best = outcome.best
        is_done = outcome.is_complete and number + 1 == len(widths)
        if is_done or outcome.asked_to_stop:
            result, _ = writer(best)
        if is_done:
            write_json(os.path.join(folder, "metrics.json"), outcome.measures)
            if config.report:
                _write_report(config, sized.content, output, folders[-1], outcome.measures)
        if outcome.asked_to_stop:
            return None
    return result


def _write_report(config, content, output, folder, measures) -> None:
    before = os.path.join(folder, "content.png")  # at the size of the output
    write_image(before, content)
    protocol = {"gram_distance": "mean over the style layers of |G - A| / |A|"}
    for name in progress.LOSSES:
        protocol[name] = "loss of the picture that was written, its weight included"
    around = read_json(os.path.join(folder, "config.json"))["surroundings"]
    pairs = [Pair(os.path.basename(output), before, output)]
    write_tested(folder, pairs, measures, protocol, around)
    report.write(folder, config, again=True)  # the run itself wrote it without the picture


def _earlier(config, folder) -> str:
    """Returns the fingerprint of the run that goes on in `folder`, or ""."""
    if not (config.continue_train and checkpoint_steps(folder, "model")):
        return ""
    return read_json(os.path.join(folder, "config.json"), {})["surroundings"]["data"]


def _choose_strips(config, sizes, folder, device) -> bool:
    """Returns whether to compute in strips: a run that goes on does as it did before."""
    earlier = _earlier(config, folder)
    if earlier and config.strips == "auto":
        config = dataclasses.replace(config, strips="on" if IN_STRIPS in earlier else "off")
    layers = tuple(list(weights) for weights in used_layers(config))
    return memory.choose_strips(config, *sizes, layers=layers, device=device)


def _check_same(config, network, pictures, folder, in_strips):
    """Raises UserError if a run that is to go on was made from something else."""
    earlier = _earlier(config, folder)
    if earlier and earlier != fingerprint(network, pictures, in_strips):
        text = "the run in %s was made from other pictures or another network; give those, or"
        raise UserError((text + " --overwrite instead of --continue_train") % folder)


class _Writer:
    """Writes network input [1, H, W, 3] as the output, or as the picture on the way of a step.

    Returns (picture, path): uint8 [H, W, 3], and where it is.
    """

    def __init__(self, config, content, mean_pixel, output, steps_before):
        self._config, self._content, self._mean_pixel = config, content, mean_pixel
        self._output, self._steps_before = output, steps_before

    def __call__(self, image, step=None):
        result, path = data.to_uint8(image, self._mean_pixel), self._output
        if self._config.preserve_colors:
            result = data.keep_colors(result, self._content)
        if step is not None:
            path = outputs.on_the_way(self._config, path, self._steps_before + step)
        write_image(path, result)
        return result, path
