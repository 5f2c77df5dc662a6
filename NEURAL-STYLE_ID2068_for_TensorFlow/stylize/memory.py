# SPDX-License-Identifier: Apache-2.0
"""How much memory a run will need, and what to do where there is not so much."""

from typing import Optional, Sequence

from harness.errors import UserError
from stylize.networks import BLOCKS
from stylize.weights import LAYERS

GIB = 2**30
CHANNELS = (64, 128, 256, 512, 512)
# Fitted to the peaks of runs at 256 to 2048 pixels on a CPU.
LBFGS = 28 * 8 * 3  # bytes per pixel: SciPy keeps so many float64 pictures of three channels
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
    try:
        free = 1024 * _number("/proc/meminfo", "MemAvailable:")
    except (OSError, ValueError):
        return None
    group = "/sys/fs/cgroup/memory."
    try:  # what a container may take; files that were read count as taken and can be let go
        taken = _number(group + "current") - _number(group + "stat", "inactive_file")
        return min(free, _number(group + "max") - taken)
    except (OSError, ValueError):  # no such file, or "max" for no limit
        return free


def _number(path, key="") -> int:
    """Returns the number in a file of the system, of the line that begins with `key`."""
    with open(path, encoding="ascii") as file:
        for line in file:
            words = line.split()
            if not key or words[0] == key:
                return int(words[bool(key)])
    raise ValueError("%s has no %s" % (path, key))


def choose_strips(config, pictures, layers, device) -> bool:
    """Returns whether to compute in strips, and prints what the run will need.

    Args:
      config: the options.
      pictures: data.Pictures at the size of the run.
      layers: the content layers and the style layers.
      device: from `device.choose`; only of the CPU's memory it is known how much there is.

    Raises:
      UserError: if there is too little memory either way; names a width that would fit.
    """
    height, width = pictures.content.shape[:2]
    names, mixed = [name for each in layers for name in each], bool(device.mixed)

    def need(width, in_strips):
        lines = max(1, pictures.content.shape[0] * width // pictures.content.shape[1])
        extra = LBFGS * lines * width if config.optimizer == "lbfgs" else 0
        return estimate(lines, width, names, in_strips, mixed) + extra

    there = available() if device.name == "cpu" else None
    in_strips = config.strips == "on"
    if config.strips == "auto" and there is not None:
        in_strips = need(width, False) > there >= need(width, True)
    needed, how = need(width, in_strips), ", in strips" if in_strips else ""
    text = "%d x %d pixels, about %.1f GiB%s" % (width, height, needed / GIB, how)
    if there is not None and needed > there:
        fits = next((w for w in range(width, 15, -16) if need(w, True) <= there), 0)
        advice = "give --width=%d" % fits if fits else "free memory"
        if config.strips == "off" and need(width, True) <= there:
            advice = "leave --strips=off out, or " + advice
        raise UserError("%s; only %.1f GiB are free: %s" % (text, there / GIB, advice))
    print(text, flush=True)
    return in_strips
