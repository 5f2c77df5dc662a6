# SPDX-License-Identifier: Apache-2.0
"""Names of published U-GAT-IT weights: of znxlwm/UGATIT-pytorch and of MindSpore's models.

All axes are as in PyTorch.
"""

import re
from typing import Dict, List, Tuple

import numpy as np

from harness.errors import UserError
from tools.weights import audit
from tools.weights.audit import Arrays
from ugatit import networks
from ugatit.config import Config

# The batch norms that the MindSpore code normalises with: not trained, their statistics not used.
UNUSED = re.compile(r"DownBlock\.[\w.]*\.(gamma|beta|moving_mean|moving_variance)")


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

    Raises:
      UserError: if a tensor that tells one is missing or of another number of dimensions.
    """
    code, blocks = code_of(arrays), blocks_of(network, arrays)
    generator = network in networks.GENERATORS
    weight = "weight_orig" if code == "pytorch" and not generator else "weight"
    first = "%s.1.%s" % ("DownBlock" if generator else "model", weight)
    shape = audit.first_shape(network, arrays, first, 4, first)
    found = {"variant": code, "ch": shape[0], "img_ch": shape[1]}
    if not generator:
        return dict(found, n_layers=blocks)
    first = "FC.0.weight" if code == "pytorch" else "FC.0.dense.weight"
    inputs = audit.first_shape(network, arrays, first, 2, first)[1]
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
    code, found = code_of(arrays), settings(network, arrays)
    n_layers = found.get("n_layers")
    names = names_of(network, found.get("n_res") or n_layers, code)
    unused = [name for name in arrays if code == "mindspore" and UNUSED.fullmatch(name)]
    cell = _build(network, found)
    if code == "mindspore" and n_layers:
        networks.initialise(cell, Config.seed)
    shapes = {p.name: tuple(p.shape) for p in cell.get_parameters()}
    ours, theirs = {}, {mine: name for name, mine in names.items()}
    if code == "mindspore":
        made = {p.name: p.asnumpy() for p in cell.get_parameters() if p.name not in theirs}
        ours.update(made)
    for name, array in arrays.items():
        if name not in unused:
            mine = names.get(name, name)
            is_vector = mine.endswith((".u", ".v")) and np.ndim(array) == 1
            ours[mine] = np.reshape(array, (-1, 1)) if is_vector else array
    source = "%s with --ch=%d" % (network, found["ch"])
    return audit.check(source, ours, shapes, theirs), unused


def names_of(network: str, blocks: int, code: str = "pytorch") -> Dict[str, str]:
    """Returns {published name: ours} of a generator or discriminator of so many blocks."""
    make = generator_names if network in networks.GENERATORS else discriminator_names
    return make(blocks, code)


def _build(network, found):
    """Returns our network with the options `found`."""
    found = dict(found)
    n_layers = found.pop("n_layers", None)
    try:
        config = Config(phase="test", **found)
    except ValueError as error:
        raise UserError("%s does not fit: %s" % (network, error)) from error
    return networks.Discriminator(n_layers, config) if n_layers else networks.Generator(config)


def to_published(network: str, arrays: Arrays) -> Arrays:
    """Returns {name in the PyTorch code: float32 array} of {our name: array}.

    Args:
      network: one of `networks.NAMES`.
      arrays: {our name: array}.

    Raises:
      UserError: if a tensor is missing, not known, of another shape, or not finite.
    """
    generator = network in networks.GENERATORS
    pattern = re.compile(r"decoder\.(\d+)\." if generator else r"body\.(\d+)\.")
    found = {match.group(1) for match in map(pattern.match, arrays) if match}
    names = names_of(network, len(found) + (not generator))
    known = set(names.values())
    unknown = [name for name in arrays if name not in known]
    if unknown:
        text = "%s does not fit: no names of ours are %s; give the .ckpt files of a training here"
        raise UserError(text % (network, audit.some(unknown)))
    theirs = {name: arrays[mine] for name, mine in names.items() if mine in arrays}
    ours, _ = convert(network, theirs)
    flat = (".u", ".v")
    return {n: ours[m].ravel() if m.endswith(flat) else ours[m] for n, m in names.items()}
