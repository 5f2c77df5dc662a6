# SPDX-License-Identifier: Apache-2.0
"""How much memory a run will need, and what to do where there is not so much."""

from harness.errors import UserError
from harness.memory import available
from stylize.networks import BLOCKS, may_strip
from stylize.weights import LAYERS

GIB = 2**30
MARGIN = 1.25  # of what is there, over what the estimate may take
CHANNELS = (64, 128, 256, 512, 512)
# Fitted to the peaks of "test/speed.py train --count 2 --side S [--strips on]" for S = 256, 512,
# 1024, 2048 on a CPU (TensorFlow 2.21, 2026-11-21): 1.1, 1.5, 3.2, 9.5 GiB; in strips 1.1 to 4.9.
LBFGS = 28 * 8 * 3  # bytes per pixel: SciPy keeps so many float64 pictures of three channels
BASE = 1.0 * GIB  # TensorFlow, the network's weights
STRIP = 0.4 * GIB  # one strip and its gradients
KEPT = {"float32": 1.7, "mixed": 1.0}  # of the maps that the backward pass needs, in float32


def estimate(height: int, width: int, layers, in_strips: bool, mixed: bool) -> float:
    """Returns the bytes that a run on a picture of `height` x `width` pixels will need.

    Args:
      height: pixels.
      width: pixels.
      layers: (content layers, style layers); the network ends after the last.
      in_strips: see `Vgg.describe`.
      mixed: whether most maps have half precision.
    """
    last = max(LAYERS.index(layer) for each in layers for layer in each)
    kept = 0
    for number, (block, channels) in enumerate(zip(BLOCKS, CHANNELS)):
        places = -(-height // 2**number) * -(-width // 2**number)
        whole = [name for name in block if LAYERS.index(name) <= last]
        maps = sum(1 for name in whole if name.startswith("relu"))
        if in_strips and may_strip(whole, layers[0]):
            maps = 0
        kept += 4 * channels * places * (maps + (1 if whole else 0) / 4)
    return BASE + KEPT["mixed" if mixed else "float32"] * kept + (STRIP if in_strips else 0)


def estimate_style(height: int, width: int, in_strips: bool) -> float:
    """Returns the bytes for the Gram matrices of a style of `height` x `width` pixels."""
    return BASE + (STRIP if in_strips else 3 * 4 * CHANNELS[0] * height * width)


def choose_strips(config, content, styles, layers, device) -> bool:
    """Returns whether to compute in strips, and prints what the run will need.

    Args:
      config: the options.
      content: (height, width) of the content, pixels.
      styles: (height, width) of each style.
      layers: (content layers, style layers).
      device: from `device.choose`; only of the CPU's memory it is known how much there is.

    Raises:
      UserError: if there is too little memory either way; names a width that would fit.
    """

    def need(width, in_strips):
        scale = width / content[1]
        lines = max(1, int(content[0] * scale))
        extra = LBFGS * lines * width if config.optimizer == "lbfgs" else 0
        needs = [estimate(lines, width, layers, in_strips, bool(device.mixed)) + extra]
        for style in styles:
            sides = [side * scale for side in style]
            needs.append(estimate_style(*sides, in_strips=in_strips))
        return max(needs)

    free = available() if device.name == "cpu" else None
    there = None if free is None else free / MARGIN
    height, width = content
    in_strips = config.strips == "on"
    if config.strips == "auto" and there is not None:
        in_strips = need(width, False) > there
    needed, how = need(width, in_strips), " in strips" if in_strips else ""
    text = "%d x %d pixels need about %.1f GiB%s" % (width, height, needed / GIB, how)
    if there is not None and needed > there:
        allowed = config.strips != "off"
        fits = next((w for w in range(width, 15, -16) if need(w, allowed) <= there), 0)
        option = "make the last of --scales " if config.scales else "give --width="
        advice = "%s%d" % (option, fits) if fits else "free memory"
        if not allowed and need(width, True) <= there:
            advice = "leave --strips=off out, or " + advice
        too_much = "%s; that is too much for the %.1f GiB that are free: %s"
        raise UserError(too_much % (text, free / GIB, advice))
    print(text, flush=True)
    return in_strips
