# SPDX-License-Identifier: Apache-2.0
"""Published U-GAT-IT weights -> ours: of znxlwm/UGATIT-pytorch and of MindSpore's models.

`python tools/weights/ugatit.py PUBLISHED... --output FOLDER [--dataset NAME]` converts one .pt of
six networks (needs PyTorch), an .npz with names such as genA2B/DownBlock.1.weight, or one .ckpt
for each network. It writes FOLDER/NAME/NAME_<network>_params_latest.ckpt for the networks that are
there, names what it left out, and tells the options that fit. All axes are as in PyTorch.
"""

import argparse
import os
import re
import sys
import zipfile
from typing import Dict, List, Tuple

import numpy as np

if __name__ == "__main__":  # finds the package `ugatit` before this file
    _ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    sys.path.insert(0, os.path.join(_ROOT, "U-GAT-IT_for_MindSpore"))

import mindspore as ms

from harness.errors import UserError, run_program
from ugatit import networks
from ugatit.config import Config
from ugatit.weights import write_parameters

Arrays = Dict[str, np.ndarray]
# The batch norms that the MindSpore code normalises with: not trained, their statistics not used.
UNUSED = re.compile(r"DownBlock\.[\w.]*\.(gamma|beta|moving_mean|moving_variance)")
PREFIX = re.compile(r"(?:\w+\.)*(%s)\." % "|".join(networks.NAMES))
FILE_NAME = re.compile(r"(?:.*_)?(%s)_" % "|".join(networks.NAMES))


def generator_names(n_res: int, code: str = "pytorch") -> Dict[str, str]:
    """Returns {published name: ours} of a generator.

    Args:
      n_res: residual blocks before and after the attention.
      code: "pytorch" or "mindspore", which wraps the dense layers.
    """
    names = {"DownBlock.1.weight": "stem.weight", "DownBlock.5.weight": "down1.weight"}
    names["DownBlock.9.weight"] = "down2.weight"
    for i in range(n_res):
        for j in (1, 2):
            theirs, ours = "UpBlock1_%d." % (i + 1), "decoder.%d." % i
            place = (12 + i, 4 * j - 3)
            names["DownBlock.%d.conv_block.%d.weight" % place] = "encoder.%d.conv%d.weight" % (i, j)
            names["%sconv%d.weight" % (theirs, j)] = "%sconv%d.weight" % (ours, j)
            names["%snorm%d.rho" % (theirs, j)] = "%snorm%d.rho" % (ours, j)
    dense = {"gap_fc": "attention.gap_fc", "gmp_fc": "attention.gmp_fc", "FC.0": "fc1"}
    dense.update({"FC.2": "fc2", "gamma": "gamma", "beta": "beta"})
    for theirs, ours in dense.items():
        names[theirs + (".dense" if code == "mindspore" else "") + ".weight"] = ours + ".weight"
    for part in ("weight", "bias"):
        names["conv1x1." + part] = "attention.conv1x1." + part
    for i in (1, 2):
        names["UpBlock2.%d.weight" % (5 * i - 3)] = "up%d.convolution.weight" % i
        for part in ("rho", "gamma", "beta"):
            names["UpBlock2.%d.%s" % (5 * i - 2, part)] = "up%d_norm.%s" % (i, part)
    names["UpBlock2.11.weight"] = "out.weight"
    return names


def discriminator_names(n_layers: int, code: str = "pytorch") -> Dict[str, str]:
    """Returns {published name: ours} of a discriminator; without spectral norm in "mindspore".

    Args:
      n_layers: as in `networks.Discriminator`.
      code: "pytorch" or "mindspore".
    """
    layers = {"model.%d" % (3 * i + 1): "body.%d" % i for i in range(n_layers - 1)}
    names = {"%s.bias" % theirs: "%s.layer.bias" % ours for theirs, ours in layers.items()}
    layers["conv"] = "out"
    for name in ("gap_fc", "gmp_fc"):
        layers[name + (".dense" if code == "mindspore" else "")] = "attention." + name
    for theirs, ours in layers.items():
        if code == "mindspore":
            names[theirs + ".weight"] = ours + ".layer.weight"
        else:
            names[theirs + ".weight_orig"] = ours + ".layer.weight"
            names[theirs + ".weight_u"], names[theirs + ".weight_v"] = ours + ".u", ours + ".v"
    for part in ("weight", "bias"):
        names["conv1x1." + part] = "attention.conv1x1." + part
    return names


def code_of(arrays: Arrays) -> str:
    """Returns "pytorch" or "mindspore": whose names these are."""
    return "mindspore" if any(".dense." in name for name in arrays) else "pytorch"


def blocks_of(network: str, names) -> int:
    """Returns a generator's n_res, a discriminator's n_layers."""
    pattern = r"UpBlock1_(\d+)\." if network in networks.GENERATORS else r"model\.(\d+)\."
    found = {match.group(1) for match in map(re.compile(pattern).match, names) if match}
    return len(found) + (network in networks.DISCRIMINATORS)


def settings(network: str, arrays: Arrays) -> dict:
    """Returns {option: value} that these published arrays are for.

    A generator tells n_res and light, and img_size if it is not light; a discriminator n_layers.
    """
    code, blocks = code_of(arrays), blocks_of(network, arrays)
    generator = network in networks.GENERATORS
    weight = "weight_orig" if code == "pytorch" and not generator else "weight"
    first = arrays["%s.1.%s" % ("DownBlock" if generator else "model", weight)]
    found = {"variant": code, "ch": first.shape[0], "img_ch": first.shape[1]}
    if not generator:
        return dict(found, n_layers=blocks)
    inputs = arrays["FC.0.weight" if code == "pytorch" else "FC.0.dense.weight"].shape[-1]
    found.update(n_res=blocks, light=inputs == 4 * found["ch"])
    if not found["light"]:
        found["img_size"] = 4 * round((inputs / (4 * found["ch"])) ** 0.5)
    return found


def convert(network: str, arrays: Arrays) -> Tuple[Arrays, List[str]]:
    """Returns ({our name: float32 array}, published names that have no use here).

    The spectral norms' vectors, which the MindSpore code does not have and `--variant mindspore`
    does not use, get their initial values.

    Args:
      network: one of `networks.NAMES`.
      arrays: {published name: array}, of either code.

    Raises:
      UserError: if a tensor is missing, not known, of another shape, or not finite.
    """
    make = generator_names if network in networks.GENERATORS else discriminator_names
    code = code_of(arrays)
    names = make(blocks_of(network, arrays), code)
    unused = [name for name in arrays if code == "mindspore" and UNUSED.fullmatch(name)]
    odd = [name for name in arrays if name not in names and name not in unused]
    missing = [name for name in names if name not in arrays]
    for text, some in (("lacks", missing), ("has unknown tensors:", odd)):
        if some:
            raise UserError("%s %s %s" % (network, text, ", ".join(some[:5])))
    found = settings(network, arrays)
    n_layers = found.pop("n_layers", None)
    config = Config(phase="test", **found)
    cell = networks.Discriminator(n_layers, config) if n_layers else networks.Generator(config)
    if code == "mindspore" and n_layers:
        networks.initialise(cell, Config.seed)
    theirs, ours = {mine: name for name, mine in names.items()}, {}
    for parameter in cell.get_parameters():
        name, shape = theirs.get(parameter.name), tuple(parameter.shape)
        if name is None:
            ours[parameter.name] = parameter.asnumpy()
            continue
        array = np.asarray(arrays[name], np.float32)
        array = array.reshape(-1, 1) if parameter.name.endswith((".u", ".v")) else array
        if array.shape != shape:
            text = "%s/%s has the shape %s; with --ch %d it must be %s"
            raise UserError(text % (network, name, array.shape, found["ch"], shape))
        if not np.isfinite(array).all():
            raise UserError("%s/%s has values that are not finite" % (network, name))
        ours[parameter.name] = array
    return ours, unused


def read(paths: List[str]) -> Tuple[Dict[str, Arrays], List[str]]:
    """Returns ({network: {published name: array}}, names that belong to no network).

    Raises:
      UserError: if a file is missing, damaged or of another kind, or holds no network.
    """
    found, rest = {}, []
    for path in paths:
        if not os.path.isfile(path):
            raise UserError("%s: there is no such file" % path)
        ending = os.path.splitext(path)[1]
        if ending not in _READERS:
            raise UserError("%s must end in one of %s" % (path, ", ".join(_READERS)))
        flat = _READERS[ending](path)
        for name, array in flat.items():
            network, _, own = name.partition("/")
            if network in networks.NAMES and own:
                if own in found.setdefault(network, {}):
                    raise UserError("%s: %s was given before" % (path, name))
                found[network][own] = array
            else:
                rest.append(name)
    if not found:
        text = "%s: no tensor of %s; give the published weights"
        raise UserError(text % (", ".join(paths), ", ".join(networks.NAMES)))
    return found, rest


def _read_npz(path):
    try:
        with np.load(path) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError("%s is no .npz of numbers: %s" % (path, error)) from error


def _read_torch(path):
    try:
        import torch
    except ImportError:
        text = "%s is PyTorch's: install torch to read it, here or where an .npz is made of it"
        raise UserError(text % path) from None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        return {
            "%s/%s" % (network, name): tensor.float().numpy()
            for network, tensors in content.items()
            for name, tensor in tensors.items()
        }
    except Exception as error:  # what torch raises for a damaged file is not documented
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise UserError("%s is no file of PyTorch networks: %s" % (path, reason)) from error


def _read_mindspore(path):
    try:
        content = ms.load_checkpoint(path)
    except (ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError("%s is no MindSpore checkpoint: %s" % (path, reason)) from error
    of_file, flat = FILE_NAME.match(os.path.basename(path)), {}
    for name, parameter in content.items():
        of_name = PREFIX.match(name)
        network = of_name or of_file
        own = name[of_name.end() :] if of_name else name
        flat["%s/%s" % (network.group(1), own) if network else own] = parameter.asnumpy()
    return flat


_READERS = {
    ".npz": _read_npz,
    ".pt": _read_torch,
    ".pth": _read_torch,
    ".ckpt": _read_mindspore,
}


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


def main() -> int:
    """Converts what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("published", nargs="+", help="a .pt or an .npz, or a .ckpt per network")
    parser.add_argument("--output", required=True, help="--output_path or --load_path of training")
    parser.add_argument("--dataset", default=Config.dataset, help="default %(default)s")
    arguments = parser.parse_args()
    found, rest = read(arguments.published)
    converted = {network: convert(network, arrays) for network, arrays in found.items()}
    line = options_line(found)
    for network, (arrays, unused) in converted.items():
        name = "%s_%s_params_latest.ckpt" % (arguments.dataset, network)
        path = os.path.join(arguments.output, arguments.dataset, name)
        write_parameters(path, {n: ms.Tensor(array) for n, array in arrays.items()})
        size = sum(array.size for array in arrays.values())
        print("%s: %d tensors, %d values" % (path, len(arrays), size))
        rest += ["%s/%s" % (network, name) for name in unused]
    print("left out: %s" % (", ".join(rest) or "nothing"))
    print("options that fit: %s" % line)
    return 0


if __name__ == "__main__":
    run_program(main)
