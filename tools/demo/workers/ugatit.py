# SPDX-License-Identifier: Apache-2.0
"""U-GAT-IT with a training's folder, a .ckpt or a .mindir.

Request: "picture", "folder", "direction", "A2B" or "B2A".
"""

import dataclasses
import glob
import os
import re

import numpy as np

from harness.errors import UserError
from harness.files import read_json
from tools.demo.workers.protocol import read_picture, write_picture
from ugatit.config import Config
from ugatit.device import connect, prepare

NAMES = {"A2B": ("genA2B", "UGATIT_AtoB"), "B2A": ("genB2A", "UGATIT_BtoA")}
TRAINED = ("variant", "light", "ch", "n_res", "img_size", "img_ch")


def open_model(weights: str):
    """Returns the model; see `tools.demo.workers`."""
    prepare(Config())
    connect(Config())
    from ugatit.pictures import resize, to_float, to_uint8  # after the device is chosen
    from ugatit.samples import heat_map

    loaded = {}  # {direction: (options of the training, what translates)}

    def answer(request, _):
        direction = request["direction"]
        if direction not in loaded:
            loaded[direction] = _load(find_file(weights, direction), direction)
        config, translate = loaded[direction]
        pixels = resize(read_picture(request["picture"], config.img_ch), config.img_size)
        made, _, heat = translate(to_float(pixels)[np.newaxis])
        folder = request["folder"]
        return {
            "before": write_picture(folder, "before", pixels),
            "after": write_picture(folder, "after", to_uint8(made[0])),
            "attention": write_picture(folder, "attention", heat_map(heat[0], config.img_size)),
        }

    return answer


def find_file(weights: str, direction: str) -> str:
    """Returns the file for a direction: in the folder `weights`, or beside the file `weights`.

    Raises:
      UserError: if there is none.
    """
    generator, export = NAMES[direction]
    if os.path.isdir(weights):
        pattern = os.path.join(glob.escape(weights), "*_%s_params_latest.ckpt" % generator)
        found = sorted(glob.glob(pattern))
        path = found[0] if found else pattern
    else:
        folder, name = os.path.split(weights)
        name = re.sub(r"gen(A2B|B2A)", generator, name)
        path = os.path.join(folder, re.sub(r"UGATIT_(AtoB|BtoA)", export, name))
    if not os.path.isfile(path):
        text = "there are no weights for the direction %s: no %s; choose the other direction"
        raise UserError(text % (direction, path))
    return path


def _load(path, direction):
    generator, export = NAMES[direction]
    if path.endswith(".mindir"):
        from ugatit.exporting import run_mindir

        records = read_json(os.path.join(os.path.dirname(path), export + "_parity.json")) or {}
        records = [record for file, record in records.items() if file.endswith(".mindir")]
        if not records:
            text = "%s has no %s_parity.json beside it, which names its size; copy that too"
            raise UserError(text % (path, export))
        options = records[0].get("options", {})
        return trained(options), run_mindir(path)
    from ugatit.serving import Translator
    from ugatit.weights import read_parameters

    config = trained(stored_options(path) or guess_options(read_parameters(path)))
    return config, Translator(config, generator, path)


def trained(options: dict):
    """Returns the Config with what `options` says of the network."""
    return dataclasses.replace(
        Config(phase="test"), **{k: options[k] for k in TRAINED if k in options}
    )


def stored_options(path: str) -> dict:
    """Returns the options that were stored with the training of a .ckpt; {} without any."""
    folder = os.path.dirname(os.path.abspath(path))
    for place in (folder, os.path.dirname(folder)):
        options = read_json(os.path.join(place, "checkpoint", "config.json"))
        if options:
            return dict(options.get("options", {}), **options.get("must_agree", {}))
    return {}


def guess_options(arrays: dict) -> dict:
    """Returns the options that the shapes of converted published weights tell.

    They compute as the PyTorch code does, which most of those are from.
    """
    if "fc1.weight" not in arrays or "stem.weight" not in arrays:
        return {}
    width, inputs = arrays["fc1.weight"].shape
    blocks = [name for name in arrays if re.fullmatch(r"encoder\.\d+\.conv1\.weight", name)]
    options = {"variant": "pytorch", "ch": width // 4, "light": inputs == width}
    options.update(n_res=len(blocks), img_ch=arrays["stem.weight"].shape[1])
    if inputs != width:
        options["img_size"] = 4 * round((inputs / width) ** 0.5)
    return options
