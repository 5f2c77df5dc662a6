# SPDX-License-Identifier: Apache-2.0
"""Weights and training states on disk: whole files, checked before they are used."""

import os
from typing import Dict

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn

from harness.errors import UserError
from harness.files import atomic_path
from ugatit.device import first_line
from ugatit.networks import own_name

LATEST = "latest"


class WeightsError(UserError):
    """A file of weights that is missing, damaged, or of another network; the message says which."""


def weights_path(config, name: str, number=LATEST) -> str:
    """Returns where the weights of a network are.

    Args:
      config: --output_path and --dataset.
      name: one of networks.NAMES.
      number: the step they were saved after, or "latest".
    """
    if number == LATEST:
        return os.path.join(config.folder, "%s_%s_params_latest.ckpt" % (config.dataset, name))
    file = "%s_%s_params_%07d.ckpt" % (config.dataset, name, int(number))
    return os.path.join(config.folder, "model", file)


def write_parameters(path: str, parameters: Dict[str, Tensor]) -> None:
    """Writes {name: parameter or tensor} as a MindSpore checkpoint, whole or not at all."""
    values = [{"name": name, "data": p} for name, p in parameters.items()]
    with atomic_path(path) as temporary:
        ms.save_checkpoint(values, temporary)
        os.chmod(temporary, 0o644)


def read_parameters(path: str) -> Dict[str, np.ndarray]:
    """Returns {name: array} of a checkpoint.

    Raises:
      WeightsError: if it is missing or damaged.
    """
    if not os.path.isfile(path):
        raise WeightsError("there are no weights at %s; train first or give their path" % path)
    try:
        return {name: p.asnumpy() for name, p in ms.load_checkpoint(path).items()}
    except (ValueError, RuntimeError, TypeError, OSError) as error:
        text = "%s is damaged or no MindSpore checkpoint: %s; use another one or train again"
        raise WeightsError(text % (path, first_line(error))) from error


def set_parameters(path: str, values: Dict[str, np.ndarray], parameters: Dict[str, Parameter]):
    """Gives `parameters` {name: parameter} the `values` read from `path`; all or none of them.

    Raises:
      WeightsError: if one is missing, of another shape, or there are others.
    """
    for name in values:
        if name not in parameters and "loss_scale" not in name:
            text = "%s has %s, which this network has not: give the options of its training%s"
            raise WeightsError(text % (path, name, _hint(values)))
    for name, p in parameters.items():
        if name not in values:
            raise WeightsError("%s has no %s%s" % (path, name, _hint(values)))
        if tuple(values[name].shape) != tuple(p.shape):
            words = (path, name, tuple(values[name].shape), tuple(p.shape), _hint(values))
            raise WeightsError("%s does not fit: %s is %s there, %s here%s" % words)
    for name, p in parameters.items():
        p.set_data(Tensor(values[name].astype(p.asnumpy().dtype).reshape(p.shape)))


def write_weights(network: nn.Cell, path: str) -> None:
    """Writes a network's weights under their names without the network's."""
    write_parameters(path, {own_name(p): p for p in network.get_parameters()})


def load_weights(network: nn.Cell, path: str) -> None:
    """Gives a network the weights of a file; all or none.

    Raises:
      WeightsError: if the file is missing, damaged or of another network.
    """
    parameters = {own_name(p): p for p in network.get_parameters()}
    set_parameters(path, read_parameters(path), parameters)


def _hint(values) -> str:
    """Returns what the options of the file's training were, as far as its shapes tell."""
    style = values.get("fc1.weight", values.get("genA2B.fc1.weight"))
    if style is None:
        return "; it belongs to another network"
    width = style.shape[0]
    if style.shape[1] == width:
        return "; those weights are of --light=True --ch=%d" % (width // 4)
    side = 4 * round((style.shape[1] / width) ** 0.5)
    return "; those weights are of --light=False --ch=%d --img_size=%d" % (width // 4, side)
