# SPDX-License-Identifier: Apache-2.0
"""test/speed.py: the operations of a step, counted by hand."""

import dataclasses
import importlib.util
import os

import numpy as np

from ugatit import device
from ugatit.config import Config

CH, SIZE, N, RES = 4, 32, 2, 1
OPTIONS = {"device": "cpu", "light": True, "ch": CH, "img_size": SIZE, "n_res": RES, "n_dis": 3}


def load():
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "speed.py")
    spec = importlib.util.spec_from_file_location("folder_speed", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def generator_products(size=SIZE):
    """Multiplications of a generator's convolutions for one picture, of borders too."""
    wide = 4 * CH
    places, down = size * size, (size // 2) ** 2
    inner = (size // 4) ** 2
    total = places * CH * 3 * 49 + down * 2 * CH * CH * 9 + inner * wide * 2 * CH * 9
    total += 4 * RES * inner * wide * wide * 9 + inner * wide * wide
    # Each picture element of a transposed convolution, the border's too, meets the whole kernel.
    total += (size // 4 + 2) ** 2 * wide * 2 * CH * 16 + (size // 2 + 2) ** 2 * 2 * CH * CH * 16
    return total + (size + 6) ** 2 * CH * 3 * 49


def discriminator_products(layers):
    """(of the first convolution, of the others) for one picture."""
    widths, size, found = [3] + [CH * 2**i for i in range(layers - 1)], SIZE, []
    for number, (inputs, outputs) in enumerate(zip(widths, widths[1:])):
        size = size // 2 if number < layers - 2 else size - 1
        found.append(size * size * outputs * inputs * 16)
    last = widths[-1]
    found += [size * size * last * last, (size - 1) ** 2 * last * 16]
    return found[0], sum(found[1:])


def test_the_operations_of_a_step_and_of_a_translation_are_as_counted_by_hand():
    speed = load()
    config = dataclasses.replace(Config(), batch_size=N, **OPTIONS)
    place = device.connect(config)
    rng = np.random.RandomState(0)
    run, products = speed.build_training(config, place, rng, 0)
    with products:
        run()
    wanted = 3 * 6 * N * generator_products()  # forward and twice back, each generator thrice
    for layers in (4, 2):  # globally and locally, for both domains
        first, rest = discriminator_products(layers)
        wanted += 2 * (2 * N * (2 * first + 3 * rest) + N * 2 * (first + rest))
    assert products.total == 2 * wanted
    run, products = speed.build_inference(config, place, rng)
    with products:
        run()
    assert products.total == 2 * N * generator_products()
    run()
    assert products.total == 2 * N * generator_products()
