# SPDX-License-Identifier: Apache-2.0
"""Times training steps or the generator on random pictures; prints one JSON object.

`python3 test/speed.py train|train64|train128|train256|infer [--count 5] [options of train.py]`;
started by ci/performance.py. The light generator; train takes its size from --img_size, the others
below 256 pixels have discriminators of 5 layers, as in the PyTorch yardstick that this is compared
with. infer is A2B at 256 pixels. As one of several ranks it trains together with them.
"""

import contextlib
import dataclasses
import json
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import numpy as np

from harness import memory
from harness.options import option, parse_several
from ugatit import device
from ugatit.config import Config

WARM_UP = 2  # runs that compile and settle, not counted
LAYERS = 5  # of both discriminators below 256 pixels


@dataclasses.dataclass(frozen=True)
class SpeedOptions:
    """Speed."""

    count: int = option(5, "runs to time", low=1)


class Products:
    """Counts the operations of a step: its convolutions and matrix products.

    MindSpore has no counter on CPUs. In PyNative every forward product is a call from Python, which
    is counted with its shapes; a multiplication and an addition are two operations. A product has
    two of its size in the backward pass: for the gradient of its input and of its weight. That of
    the pictures is not made where a discriminator learns, those of weights are not where it only
    judges, which is where it sees as many pictures as the step has. Spectral norms are left out.

    Args:
      batch: pictures of each domain in a step; 0: there is no backward pass.
    """

    KINDS = ("Conv2D", "Conv2DTranspose")

    def __init__(self, batch=0):
        self.total, self.batch = 0, batch
        self._factor, self._pictures = 3 if batch else 1, None

    def __enter__(self):
        from mindspore import ops

        self._calls = {kind: getattr(ops, kind).__call__ for kind in self.KINDS}
        for kind, call in self._calls.items():
            getattr(ops, kind).__call__ = self._counting(kind, call)
        return self

    def __exit__(self, *exception):
        from mindspore import ops

        for kind, call in self._calls.items():
            getattr(ops, kind).__call__ = call

    def watch(self, judge):
        """Lets the products of a discriminator count as its gradients ask for."""
        construct = judge.construct

        def counted(pictures):
            self._factor = 3 if pictures.shape[0] > self.batch else 2
            self._pictures = pictures.shape if self._factor == 3 else None
            try:
                return construct(pictures)
            finally:
                self._factor, self._pictures = 3, None

        judge.construct = counted

    def _counting(self, kind, call):
        def counted(primitive, x, weight, *more):
            result = call(primitive, x, weight, *more)
            maps = result if kind == "Conv2D" else x
            factor = self._factor
            if self._pictures is not None:  # the first one: nobody asks for the pictures' gradient
                factor, self._pictures = factor - 1, None
            self.total += factor * 2 * int(np.prod(maps.shape)) * int(np.prod(weight.shape[1:]))
            return result

        return counted


def random_pictures(rng, config):
    """Returns random pictures as a tensor [N, 3, S, S] in [-1, 1]."""
    from mindspore import Tensor

    shape = (config.batch_size, 3, config.img_size, config.img_size)
    return Tensor(rng.uniform(-1, 1, shape).astype(np.float32))


def build_training(config, place, rng, layers):
    """Returns (a function that makes one training step, Products that know its networks).

    Args:
      config: the options.
      place: from `device.connect`.
      rng: of the pictures.
      layers: of every discriminator; 0: as --n_dis says.
    """
    from ugatit import networks, steps, training

    nets = networks.build_networks(config, place.half)
    if layers:
        for name in networks.DISCRIMINATORS:
            nets[name] = networks.Discriminator(layers, config, place.half)
            nets[name].update_parameters_name(name + ".")
            networks.initialise(nets[name], config.seed)
    rates = steps.learning_rates(config, 1000, 1000)
    sides = [
        steps.Optimizer(name, training.trained(nets, names), rates, config, place)
        for name, names in (("g", networks.GENERATORS), ("d", networks.DISCRIMINATORS))
    ]
    step = steps.build_step(nets, sides[0], sides[1], config, place)
    a, b = (random_pictures(rng, config) for _ in range(2))
    products = Products(config.batch_size)
    for name in networks.DISCRIMINATORS:
        products.watch(nets[name])
    return lambda: step(a, b), products


def build_inference(config, place, rng):
    """Returns (a function that translates a batch, Products)."""
    from ugatit import networks

    generator = networks.build_generator(config, "genA2B", half=place.half)
    generator.set_train(False)
    pictures = random_pictures(rng, config)
    return lambda: generator(pictures)[0].asnumpy(), Products()


def main() -> int:
    """Times what the command line names."""
    what = sys.argv[1] if len(sys.argv) > 1 else ""
    if what not in ("train", "train64", "train128", "train256", "infer"):
        print("give train, train64, train128, train256 or infer first", file=sys.stderr)
        return 2
    (speed, config), _ = parse_several([SpeedOptions, Config], sys.argv[2:])
    config = dataclasses.replace(config, light=True)
    if what != "train":
        size = 256 if what == "infer" else int(what[len("train") :])
        config = dataclasses.replace(config, img_size=size, n_dis=6 if size == 256 else 4)
    layers = LAYERS if what in ("train64", "train128") else 0
    device.prepare(config)
    place = device.connect(config, train=what != "infer")
    rng, seconds, base = np.random.RandomState(0), [], memory.peak() // 2**20
    if what == "infer":
        run, products = build_inference(config, place, rng)
    else:
        run, products = build_training(config, place, rng, layers)
    for number in range(WARM_UP + speed.count):
        begin = time.perf_counter()
        with products if number == 1 and not place.graph else contextlib.nullcontext():
            run()
        seconds.append(time.perf_counter() - begin)
    result = {
        "seconds": seconds[WARM_UP:],
        "first_seconds": seconds[0],
        "images": config.batch_size,
        "flops": None if place.graph else products.total,
        "precision": "float16" if place.half else "float32",
        "base_memory_mb": base,
        "peak_memory_mb": memory.peak() // 2**20,
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
