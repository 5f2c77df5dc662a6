# SPDX-License-Identifier: Apache-2.0
"""Published U-GAT-IT weights -> ours and back: of znxlwm/UGATIT-pytorch and of MindSpore's models.

Published are one .pt of six networks, an .npz with names such as genA2B/DownBlock.1.weight, or one
.ckpt of MindSpore for each network. The result is a folder that train.py, eval.py and export.py
take as --output_path or --load_path; networks that are not there are left out. OUTPUT/DATASET must
be empty or not there, so that no training's own weights are lost; a published .pt is replaced.
"""

import os
import re
from typing import Dict, List, Tuple

import mindspore as ms

from harness.errors import UserError
from harness.files import read_json
from tools.weights import audit, files, outputs, pytorch
from tools.weights.audit import Arrays
from tools.weights.ugatit_maps import convert, settings, to_published
from ugatit import networks
from ugatit.config import Config
from ugatit.weights import write_parameters

PREFIX = re.compile(r"(?:\w+\.)*(%s)\." % "|".join(networks.NAMES))
FILE_NAME = re.compile(r"(?:.*_)?(%s)_" % "|".join(networks.NAMES))
SWITCHES = {
    "pytorch": "their code divides variances in (Ada)LIN by n - 1, and its attention takes the "
    "weight before the spectral norm",
    "mindspore": "their code pads with zeros and has no spectral norm",
}


def add_arguments(parser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("published", nargs="+", help="a .pt or an .npz, or a .ckpt per network")
    parser.add_argument("--output", required=True, help="folder: --output_path or --load_path")
    parser.add_argument(
        "--to_published",
        action="store_true",
        help="our .ckpt files -> OUTPUT/NAME_params_latest.pt",
    )
    parser.add_argument("--dataset", default=Config.dataset, help="NAME; default %(default)s")


def run(arguments) -> int:
    """Converts what the command line names.

    Raises:
      UserError: if the files are no such weights, or OUTPUT/DATASET holds anything.
    """
    folder = os.path.join(arguments.output, arguments.dataset)
    if not arguments.to_published:
        outputs.check_free(folder)
    found, rest = read(arguments.published)
    if arguments.to_published:
        return _to_published(arguments, found, rest)
    converted = {network: convert(network, arrays) for network, arrays in found.items()}
    line, written = options_line(found), {}
    with outputs.new_folder(folder) as hidden:
        for network, (arrays, unused) in converted.items():
            name = "%s_%s_params_latest.ckpt" % (arguments.dataset, network)
            tensors = {n: ms.Tensor(array) for n, array in arrays.items()}
            write_parameters(os.path.join(hidden, name), tensors)
            written[os.path.join(folder, name)] = arrays
            rest += ["%s/%s" % (network, own) for own in unused]
    variant = settings(*next(iter(found.items())))["variant"]
    notes = ["--variant=%s: %s" % (variant, SWITCHES[variant])]
    audit.print_report(written, rest, line, notes)
    return 0


def read(paths: List[str]) -> Tuple[Dict[str, Arrays], List[str]]:
    """Returns ({network: {its own name: array}}, names that belong to no network).

    Raises:
      UserError: if a file is missing, damaged or of another kind, or holds no network.
    """
    found, rest = {}, []
    for path in paths:
        content = files.read(path)
        of_file = (
            FILE_NAME.match(os.path.basename(path)) if files.kind(path) == files.MINDSPORE else None
        )
        for name, array in content.items():
            network, _, own = name.partition("/")
            of_name = PREFIX.match(name)
            if of_name:
                network, own = of_name.group(1), name[of_name.end() :]
            elif of_file:
                network, own = of_file.group(1), name
            if network not in networks.NAMES or not own:
                rest.append(name)
            elif own in found.setdefault(network, {}):
                raise UserError("%s: %s/%s was given before" % (path, network, own))
            else:
                found[network][own] = array
    if not found:
        text = "%s: no tensor of %s; give the published weights"
        raise UserError(text % (", ".join(paths), ", ".join(networks.NAMES)))
    return found, rest


def options_line(found: Dict[str, Arrays]) -> str:
    """Returns the options that fit these published networks.

    Raises:
      UserError: if the networks do not fit each other.
    """
    common, layers = {}, {}
    for network, arrays in found.items():
        for key, value in settings(network, arrays).items():
            known = layers if key == "n_layers" else common
            place = network[3] if key == "n_layers" else key  # "G" or "L"
            if known.setdefault(place, value) != value:
                text = "%s has %s %s, the networks before it have %s; give those of one training"
                raise UserError(text % (network, key, value, known[place]))
    depths = {n_layers + (1 if place == "L" else -1) for place, n_layers in layers.items()}
    if len(depths) == 1:
        common["n_dis"] = depths.pop()
    line = " ".join("--%s=%s" % (key, common[key]) for key in sorted(common))
    if common.get("light"):
        line += ", any --img_size"
    if depths:
        text = ", no --n_dis: the discriminators have %d (global) and %d (local) layers"
        line += text % (layers["G"], layers["L"])
    return line


def _to_published(arguments, found, rest) -> int:
    theirs = {network: to_published(network, arrays) for network, arrays in found.items()}
    flat = {"%s/%s" % (n, name): array for n, own in theirs.items() for name, array in own.items()}
    path = os.path.join(arguments.output, "%s_params_latest.pt" % arguments.dataset)
    line = options_line(theirs)
    pytorch.write(path, flat)
    folder = os.path.dirname(os.path.abspath(arguments.published[0]))
    trained = read_json(os.path.join(folder, "checkpoint", "config.json"), {})
    variant = trained.get("must_agree", {}).get("variant", "pytorch")
    notes = ["the PyTorch code, which computes as --variant=pytorch: %s" % SWITCHES["pytorch"]]
    if variant != "pytorch":
        text = "care: the training was of --variant=%s, whose pictures will differ there"
        notes.append(text % variant)
    absent = [network for network in networks.NAMES if network not in found]
    if absent:
        notes.append("%s too before that code loads the file" % ", ".join(absent))
    audit.print_report({path: flat}, rest, line, notes)
    return 0
