# SPDX-License-Identifier: Apache-2.0
"""How much memory a training will need, said before it begins."""

from harness.errors import UserError
from harness.memory import available
from ugatit.device import Place

GIB = 2**30
# Fitted to the peaks of two steps on a CPU (MindSpore 2.10, 2026-11-21; 64 channels): light at 64,
# 128 and 256 pixels 1.7, 2.5 and 8.4 GiB, full at 128 pixels 9.1; as a graph, light at 64, 3.7.
BASE = 0.95 * GIB
WEIGHT = 28  # bytes a weight: itself, gradient, moments, and copies of some of them
MAPS = {False: 1000, True: 16000}  # bytes per pixel and channel of the first layer, by --mode=graph


def count_weights(config) -> int:
    """Returns the number of weights of both generators and all discriminators."""
    ch, width, inputs = config.ch, 4 * config.ch, config.img_ch
    side = 1 if config.light else config.img_size // 4
    down = 2 * inputs * ch * 49 + ch * 2 * ch * 9 + 2 * ch * width * 9
    up = width * 2 * ch * 9 + 2 * ch * ch * 9
    blocks = 4 * config.n_res * width * width * 9
    style = width * width * side * side + 3 * width * width
    generator = down + up + blocks + style + 2 * width * width
    discriminators = 0
    for n_layers in (config.n_dis - 1, config.n_dis + 1):
        widths = [inputs] + [ch * 2**i for i in range(n_layers - 1)]
        last = widths[-1]
        layers = sum(16 * i * o for i, o in zip(widths, widths[1:]))
        discriminators += layers + 2 * last * last + 16 * last
    return 2 * generator + 2 * discriminators


def estimate(config, graph: bool) -> float:
    """Returns the bytes that a training on a CPU will need."""
    maps = config.batch_size * config.ch * config.img_size**2
    return BASE + WEIGHT * count_weights(config) + MAPS[graph] * maps


def check(config, place: Place) -> None:
    """Prints what the training will need on a CPU, of all ranks together.

    Raises:
      UserError: if there is not so much.
    """
    if place.target != "CPU":
        return
    needed, there = estimate(config, place.graph) * place.ranks, available()
    if place.rank == 0:
        print("memory: about %.1f GiB" % (needed / GIB), flush=True)
    if there is not None and needed > there:
        text = (
            "this training needs about %.1f GiB and there are %.1f; use --light, or a smaller "
            "--ch, --img_size or --batch_size%s"
        )
        hint = ", or --mode=pynative" if place.graph else ""
        raise UserError(text % (needed / GIB, there / GIB, hint))
