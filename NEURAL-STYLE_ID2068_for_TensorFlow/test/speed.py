# SPDX-License-Identifier: Apache-2.0
"""Times a step on random pictures and weights of VGG-19's shape; prints one JSON object.

`python3 test/speed.py train [--count 8] [--side 512] [options of neural_style.py]`; started by
ci/performance.py. All layers are used: --content_weight_blend is 0.5 unless it is given.
"""

import dataclasses
import json
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow.compat.v1 as tf

from harness import memory
from harness.options import option, parse_several
from stylize import training
from stylize.config import Config
from stylize.data import Pictures
from stylize.memory import CHANNELS, choose_strips
from stylize.networks import Vgg
from stylize.weights import LAYERS, MEAN_PIXEL, Network
from tf_runtime import device as devices
from tf_runtime import flops

WARM_UP = 3  # runs that compile and settle, not counted


@dataclasses.dataclass(frozen=True)
class SpeedOptions:
    """What to time."""

    count: int = option(8, "runs to time", low=1)
    side: int = option(512, "side of the pictures, pixels", low=16)


def random_network() -> Network:
    """Returns VGG-19 with random weights."""
    rng, layers, before = np.random.RandomState(0), {}, 3
    for name in (name for name in LAYERS if name.startswith("conv")):
        after = CHANNELS[int(name[4]) - 1]
        kernel = rng.standard_normal((3, 3, before, after)) * np.sqrt(2 / (9 * before))
        layers[name] = (kernel.astype("f"), 0.01 * rng.standard_normal(after).astype("f"))
        before = after
    return Network(layers, np.array(MEAN_PIXEL), "random")


def time_steps(config, device, options):
    """Returns (seconds of each step, warm-up first; operations of one)."""
    rng, seconds = np.random.RandomState(0), []
    network, side = random_network(), options.side
    content, style = rng.randint(0, 256, [2, side, side, 3]).astype(np.uint8)
    pictures = Pictures(content, [style], [], None)
    layers = [list(weights) for weights in training.used_layers(config)]
    vgg = Vgg(network, *layers, config.pooling, device.name == "cpu" and not device.mixed)
    in_strips = choose_strips(config, (side, side), [(side, side)], layers, device)
    graph = training.build_step(config, vgg, pictures, in_strips, device)
    fetches = (graph.losses, graph.train or graph.gradient)
    operations = flops.count(fetches)
    with tf.Session(config=devices.session_config(device)) as session:
        session.run(tf.global_variables_initializer())
        vgg.load(session)
        mean = network.mean_pixel
        feed = training.measure_wanted(session, graph, pictures, mean)
        session.run(graph.set_image, {graph.new_image: style[None] - mean})
        for _ in range(WARM_UP + options.count):
            begin = time.perf_counter()
            session.run(fetches, feed)
            seconds.append(time.perf_counter() - begin)
    return seconds, operations


if __name__ == "__main__":
    (options, config), (_, given) = parse_several([SpeedOptions, Config], sys.argv[2:])
    if "content_weight_blend" not in given:
        config = dataclasses.replace(config, content_weight_blend=0.5)
    device, base = devices.choose(config), memory.peak() // 2**20
    seconds, operations = time_steps(config, device, options)
    print(
        json.dumps(
            {
                "seconds": seconds[WARM_UP:],
                "first_seconds": seconds[0],
                "images": 1,
                "flops": operations,
                "precision": device.mixed or "float32",
                "base_memory_mb": base,
                "peak_memory_mb": memory.peak() // 2**20,
                "tensorflow": tf.__version__,
            }
        )
    )
