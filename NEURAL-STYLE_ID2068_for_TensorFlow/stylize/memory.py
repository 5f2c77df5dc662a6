# SPDX-License-Identifier: Apache-2.0
"""How much memory a run will need, and what to do where there is not so much."""

from typing import Optional, Sequence

from harness.errors import UserError
from stylize.networks import BLOCKS
from stylize.weights import LAYERS

GIB = 2**30
CHANNELS = (64, 128, 256, 512, 512)
# Fitted to the peaks of runs at 256 to 2048 pixels on a CPU.
BASE = 1.0 * GIB  # TensorFlow, the network's weights
STRIP = 0.4 * GIB  # one strip and its gradients
KEPT = {"float32": 1.7, "mixed": 1.0}  # of the maps that the backward pass needs, in float32


def estimate(height: int, width: int, layers: Sequence[str], in_strips: bool, mixed: bool) -> float:
    """Returns the bytes that a run on a picture of `height` x `width` pixels will need.

    Args:
      height: pixels.
      width: pixels.
      layers: the layers that are asked for; the network ends after the last.
      in_strips: see `Vgg.describe`.
      mixed: whether most maps have half precision.
    """
    last = max(LAYERS.index(layer) for layer in layers)
    kept = 0
    for number, (block, channels) in enumerate(zip(BLOCKS, CHANNELS)):
        places = -(-height // 2**number) * -(-width // 2**number)
        whole = [name for name in block if LAYERS.index(name) <= last]
        maps = sum(1 for name in whole if name.startswith("relu"))
        if in_strips and number < 2:
            maps = 0
        kept += 4 * channels * places * (maps + (1 if whole else 0) / 4)
    return BASE + KEPT["mixed" if mixed else "float32"] * kept + (STRIP if in_strips else 0)


def available() -> Optional[float]:
    """Returns the bytes that this process may still take; None where the system does not say."""
    found = []
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            words = dict(line.split(":") for line in file)
        found.append(int(words["MemAvailable"].split()[0]) * 1024)
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:
            limit = file.read().strip()
        with open("/sys/fs/cgroup/memory.current", encoding="ascii") as file:
            found.append(int(limit) - int(file.read()))
    except (OSError, KeyError, ValueError):
        pass  # no such file, or no limit
    return min(found) if found else None


def choose_strips(config, pictures, layers, device) -> bool:
    """Returns whether to compute in strips, and prints what the run will need.

    Raises:
      UserError: if there is too little memory either way; names a width that would fit.
    """
    height, width = pictures.content.shape[:2]
    names, mixed = [name for each in layers for name in each], bool(device.mixed)
    needs = {on: estimate(height, width, names, on, mixed) for on in (False, True)}
    there = available() if device.name == "cpu" else None
    in_strips = config.strips == "on"
    if config.strips == "auto":
        in_strips = there is not None and needs[False] > there
    text = "%d x %d pixels, about %.1f GiB%s" % (
        width,
        height,
        needs[in_strips] / GIB,
        ", in strips" if in_strips else "",
    )
    print(text, flush=True)
    if there is not None and needs[in_strips] > there:
        fits = width
        while fits > 16 and estimate(height * fits // width, fits, names, True, mixed) > there:
            fits -= 16
        advice = "%s; only %.1f GiB are free. Give --width=%d%s, or free memory"
        strips = "" if in_strips else " or --strips=on"
        raise UserError(advice % (text, there / GIB, fits, strips))
    return in_strips
