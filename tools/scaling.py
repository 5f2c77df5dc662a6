# SPDX-License-Identifier: Apache-2.0
"""What it costs to train on several NPUs: computed from gradients and link speeds, not measured.

In every step the gradients are averaged over the devices. In a server that is a ring: each device
sends 2 (n-1)/n times all gradients. Several servers do it in a hierarchy: each device gets its
share of the server's sum, averages it with its partners in the other servers, and passes it on.
"""

import dataclasses
import os
import sys
from typing import Dict, NamedTuple, Optional, Tuple

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "shared"))

from harness.errors import UserError, run_program
from harness.options import option, parse

SERVER = 8  # devices of a server
BYTES = 4  # of a gradient: float32, with mixed precision too
HIDDEN = 2 / 3  # of a step is its backward pass, which may hide the averaging
TITLES = ("sends, MB", "averaging, ms", "efficiency")  # for each number of devices

ASSUMED = """
Computed, not measured: %g GB/s in a server, %g GB/s between servers, %g us a message. Steps are
those that others published for Ascend 910 (that of U-GAT-IT on 8, averaging included), or given.
Efficiency is from nothing hidden, as in the TensorFlow folders, which send the gradients of an
optimizer together, to a backward pass, two thirds of a step, that hides it."""


class Model(NamedTuple):
    """A model whose gradients are averaged.

    Attributes:
      title: its name in the table.
      gradients: {optimizer: (parameters it averages, in every how many-th step it does)}.
      seconds: of a step, published for Ascend 910 by others, or None.
      devices: how many of them that was measured on, their averaging included.
    """

    title: str
    gradients: Dict[str, Tuple[int, int]]
    seconds: Optional[float]
    devices: int


# With the default options of each folder; the tests count the same in the real training steps.
# Neural style shares its pictures out and averages nothing.
MODELS = {
    "whitebox": Model(
        "White-box",
        {"generator_train": (1467075, 1), "discriminator_train": (573698, 1)},
        1 / 1.46,  # 1.46 steps a second
        1,
    ),
    "pix2pix": Model(
        "Pix2Pix",
        {"generator_train": (54414531, 1), "discriminator_train": (2768705, 1)},
        None,
        1,
    ),
    "stargan": Model(
        "StarGAN",
        {"generator_train": (8430528, 5), "discriminator_train": (44762048, 1)},
        0.112,  # 112 s for 1000 steps
        1,
    ),
    "ugatit": Model(
        "U-GAT-IT", {"generators": (557919616, 1), "discriminators": (112841472, 1)}, 0.640, 8
    ),
}


@dataclasses.dataclass(frozen=True)
class ScalingOptions:
    """What several devices cost."""

    devices: Tuple[int, ...] = option((8, 64), "up to 8 of one server, or whole servers", low=1)
    bandwidth: float = option(30.0, "of a link in a server (HCCS), GB/s one way", low=1e-3)
    network: float = option(12.5, "of a device's link to other servers (RoCE), GB/s", low=1e-3)
    latency: float = option(10.0, "of one message, microseconds", low=0)
    step_seconds: Tuple[str, ...] = option((), "MODEL=SECONDS of a step on one device")

    def __post_init__(self):
        """Checks that the devices are whole servers."""
        for count in self.devices:
            if count > SERVER and count % SERVER:
                text = "--devices %d: it must be up to %d, or a multiple of it"
                raise ValueError(text % (count, SERVER))


class Cost(NamedTuple):
    """Of averaging in one step: bytes that a device sends in its server and beyond it, seconds."""

    in_server: float
    network: float
    seconds: float


def averaged_bytes(model: Model) -> float:
    """Returns the bytes of gradients that one step averages, as a mean over the steps."""
    return BYTES * sum(count / every for count, every in model.gradients.values())


def averaging(model: Model, devices: int, options: ScalingOptions) -> Cost:
    """Returns what a step's averaging over `devices` costs when nothing else is done meanwhile."""
    size, inside, servers = averaged_bytes(model), min(devices, SERVER), -(-devices // SERVER)
    in_server = 2 * (inside - 1) / inside * size
    network = 2 * (servers - 1) / servers * size / inside
    collectives = sum(1 / every for _, every in model.gradients.values())  # one for an optimizer
    messages = collectives * 2 * (inside - 1 + servers - 1)
    seconds = in_server / options.bandwidth / 1e9 + network / options.network / 1e9
    return Cost(in_server, network, seconds + messages * options.latency / 1e6)


def alone(seconds: float, cost: float, hidden: float) -> float:
    """Returns the seconds of a step on one device, from those with an averaging of `cost` seconds.

    Up to the share `hidden` of the step alone hides the averaging.
    """
    if cost <= hidden * seconds:
        return seconds
    return (seconds - cost) / (1 - hidden)


def efficiency(one: float, cost: float, hidden: float) -> float:
    """Returns the share of its time that a device computes, 0 to 1.

    Args:
      one: seconds of a step on one device.
      cost: seconds of the averaging.
      hidden: up to this share of `one` hides the averaging.
    """
    return one / (one + max(0.0, cost - hidden * one))


def given_seconds(words: Tuple[str, ...]) -> Dict[str, float]:
    """Returns {model: seconds} of the words MODEL=SECONDS.

    Raises:
      UserError: if a word is none.
    """
    found = {}
    for word in words:
        name, _, number = word.partition("=")
        name = name.lower().replace("-", "")
        try:
            seconds = float(number)
        except ValueError:
            seconds = 0.0
        if name not in MODELS or not 0 < seconds < float("inf"):
            text = "--step_seconds %s: it must be MODEL=SECONDS with a MODEL of %s"
            raise UserError(text % (word, ", ".join(MODELS)))
        found[name] = seconds
    return found


def efficiencies(model: Model, cost: float, options: ScalingOptions) -> str:
    """Returns how much of its time a device computes, from nothing hidden to the best case.

    Args:
      model: whose step it is; the averaging that its published seconds include is taken out.
      cost: seconds of the averaging.
      options: the links.

    Raises:
      UserError: if the links are too slow for the published step.
    """
    if not model.seconds:
        return "not known"
    before = averaging(model, model.devices, options).seconds
    if before >= model.seconds:
        text = "averaging over %d devices would take %.3f s, longer than the step of %s, %.3f s, "
        text += "that is known; give --bandwidth as it is, or --step_seconds"
        raise UserError(text % (model.devices, before, model.title, model.seconds))
    shares = []
    for hidden in (0, HIDDEN):
        shares.append(100 * efficiency(alone(model.seconds, before, hidden), cost, hidden))
    return "%.1f-%.1f %%" % tuple(shares)


def row(model: Model, options: ScalingOptions) -> str:
    """Returns the line of the table for `model`.

    Raises:
      UserError: as `efficiencies`.
    """
    step = "not known"
    if model.seconds:
        step = "%.3f" % model.seconds + (" on %d" % model.devices if model.devices > 1 else "")
    cells = [model.title, "%.1f" % (averaged_bytes(model) / 1e6), step]
    for devices in options.devices:
        cost = averaging(model, devices, options)
        sends = "%.1f" % (cost.in_server / 1e6)
        if cost.network:
            sends += " + %.1f" % (cost.network / 1e6)
        cells += [sends, "%.2f" % (1e3 * cost.seconds), efficiencies(model, cost.seconds, options)]
    return "| " + " | ".join(cells) + " |"


def table(options: ScalingOptions) -> str:
    """Returns the Markdown table, a line for each model."""
    titles = ["model", "gradients, MB", "step, s"]
    for devices in options.devices:
        titles += ["%d: %s" % (devices, TITLES[0]), *TITLES[1:]]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    given = given_seconds(options.step_seconds)
    for name, model in MODELS.items():
        if name in given:
            model = model._replace(seconds=given[name], devices=1)
        lines.append(row(model, options))
    return "\n".join(lines)


def main() -> int:
    """Prints the table and what it assumes."""
    options, _ = parse(ScalingOptions, prog="python -m tools.scaling", description=__doc__)
    print(table(options))
    print(ASSUMED % (options.bandwidth, options.network, options.latency))
    return 0


if __name__ == "__main__":
    run_program(main)
