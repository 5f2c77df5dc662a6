# SPDX-License-Identifier: Apache-2.0
"""Weights of a training -> translations of pictures."""

import dataclasses
import os
import re
from typing import Tuple

import numpy as np
from mindspore import Tensor

from harness.errors import UserError
from harness.files import read_json
from ugatit.networks import build_generator
from ugatit.weights import LATEST, load_weights, weights_path


def find_weights(config, name: str) -> str:
    """Returns the weights of a generator.

    They are --gen_a2b_ckpt or --gen_b2a_ckpt where that is given, else those of the number
    --checkpoint, or the latest, in --load_path or --output_path.

    Args:
      config: the options.
      name: "genA2B" or "genB2A".

    Raises:
      UserError: if there are none; names those that there are.
    """
    given = {"genA2B": config.gen_a2b_ckpt, "genB2A": config.gen_b2a_ckpt}[name]
    if given:
        if not os.path.isfile(given):
            raise UserError("--%s_ckpt %s: there is no such file" % (name, given))
        return given
    number = config.checkpoint or LATEST
    if number != LATEST and not re.fullmatch("[0-9]+", number):
        text = "--checkpoint %s: it must be the number of a step, or latest"
        raise UserError(text % config.checkpoint)
    place = dataclasses.replace(config, output_path=config.load_path or config.output_path)
    path = weights_path(place, name, number)
    if os.path.isfile(path):
        _check_variant(place)
        return path
    numbers = _numbers(place, name)
    if numbers:
        hint = "give --checkpoint with one of %s" % ", ".join(map(str, numbers))
    else:
        hint = "train first, or give --output_path and --dataset of a training, or --%s_ckpt" % name
    raise UserError("there are no weights at %s; %s" % (path, hint))


def _check_variant(config) -> None:
    """Raises UserError if the training beside the weights had another --variant."""
    before = read_json(os.path.join(config.folder, "checkpoint", "config.json")) or {}
    variant = before.get("must_agree", {}).get("variant", config.variant)
    if variant != config.variant:
        text = "the weights in %s were trained with --variant=%s, not %s; give that"
        raise UserError(text % (config.folder, variant, config.variant))


def _numbers(config, name):
    """Returns the steps whose weights stayed, ascending."""
    folder, example = os.path.split(weights_path(config, name, 0))
    head = example[: -len("0000000.ckpt")]
    names = os.listdir(folder) if os.path.isdir(folder) else []
    found = [re.fullmatch(re.escape(head) + r"(\d+)\.ckpt", name) for name in names]
    return sorted(int(match.group(1)) for match in found if match)


class Translator:
    """Translates pictures with a generator.

    Args:
      config: the options that the weights were trained with.
      name: "genA2B" or "genB2A".
      path: its weights.
      half: compute convolutions and dense layers in float16.

    Raises:
      WeightsError: if the weights are damaged or of another network.
    """

    def __init__(self, config, name: str, path: str, half: bool = False):
        self.path = path
        self._network = build_generator(config, name, half=half)
        load_weights(self._network, path)

    def __call__(self, pictures: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns (pictures [N, C, S, S] in [-1, 1], CAM logits [N, 2], heat maps [N, 1, h, w]).

        Takes and returns float32.
        """
        made, logits, heat = self._network(Tensor(pictures))
        return made.asnumpy(), logits.asnumpy(), heat.asnumpy()
