# SPDX-License-Identifier: Apache-2.0
"""Times training steps or the generator on random pictures; prints one JSON object.

`python3 test/speed.py train64|train128|train256|infer [--count 5] [options of train.py]`; started
by ci/performance.py. The light generator with 64 channels; below 256 pixels both discriminators
have 5 layers, as in the PyTorch yardstick that this is compared with. infer is A2B at 256 pixels in
batches of one. As one of several ranks it trains together with them.
"""

import dataclasses
import json
import os
import resource
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import numpy as np

from harness.options import option, parse_several
from ugatit import device
from ugatit.config import Config

WARM_UP = 2  # runs that compile and settle, not counted
LAYERS = 5  # of both discriminators below 256 pixels


@dataclasses.dataclass(frozen=True)
class SpeedOptions:
    """Speed."""

    count: int = option(5, "runs to time", low=1)


def random_picture(rng, size):
    """Returns a random picture as a tensor [1, 3, size, size] in [-1, 1]."""
    from mindspore import Tensor

    return Tensor(rng.uniform(-1, 1, (1, 3, size, size)).astype(np.float32))


def build_training(config, place, rng):
    """Returns a function that makes one training step."""
    from ugatit import networks, steps, training

    nets = networks.build_networks(config, place.half)
    if config.img_size < 256:
        for name in networks.DISCRIMINATORS:
            nets[name] = networks.Discriminator(LAYERS, config, place.half)
            nets[name].update_parameters_name(name + ".")
            networks.initialise(nets[name], config.seed)
    rates = steps.learning_rates(config, 1000, 1000)
    sides = [
        steps.Optimizer(name, training.trained(nets, names), rates, config, place)
        for name, names in (("g", networks.GENERATORS), ("d", networks.DISCRIMINATORS))
    ]
    step = steps.build_step(nets, sides[0], sides[1], config, place)
    a, b = (random_picture(rng, config.img_size) for _ in range(2))
    return lambda: step(a, b)


def build_inference(config, place, rng):
    """Returns a function that translates one picture."""
    from ugatit import networks

    generator = networks.build_generator(config, "genA2B", half=place.half)
    generator.set_train(False)
    picture = random_picture(rng, config.img_size)
    return lambda: generator(picture)[0].asnumpy()


def main() -> int:
    """Times what the command line names."""
    what = sys.argv[1] if len(sys.argv) > 1 else ""
    if what not in ("train64", "train128", "train256", "infer"):
        print("give train64, train128, train256 or infer first", file=sys.stderr)
        return 2
    (speed, config), _ = parse_several([SpeedOptions, Config], sys.argv[2:])
    size = 256 if what == "infer" else int(what[len("train") :])
    n_dis = 6 if size == 256 else 4
    config = dataclasses.replace(config, light=True, img_size=size, n_dis=n_dis)
    device.prepare(config)
    place = device.connect(config, train=what != "infer")
    rng, seconds = np.random.RandomState(0), []
    run = (build_inference if what == "infer" else build_training)(config, place, rng)
    for _ in range(WARM_UP + speed.count):
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    result = {
        "seconds": seconds[WARM_UP:],
        "first_seconds": seconds[0],
        "images": 1,
        "precision": "float16" if place.half else "float32",
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
