# SPDX-License-Identifier: Apache-2.0
"""Times Inception on pictures in memory, and from files to statistics; prints JSON.

`python -m tools.fid.speed network|end_to_end [--count N]`. Both are timed in turns, so that
"end_to_end_share" compares them under the same load.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time

sys.path.append(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "shared"))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from harness.images import write_image
from tools.fid.features import Stream
from tools.fid.images import PROTOCOLS, find_images, resize_bicubic
from tools.fid.networks import open_random
from tools.fid.statistics import collect

IMAGES, BATCH, SIDE = 64, 32, 256  # pictures a step, pictures at a time, their pixels


def draw(folder: str) -> list:
    """Writes smooth random JPEG pictures; returns their paths."""
    rng = np.random.RandomState(0)
    for number in range(IMAGES):
        noise = rng.randint(0, 256, (24, 24, 3)).astype(np.uint8)
        pixels = np.rint(resize_bicubic(noise, SIDE)).astype(np.uint8)
        write_image(os.path.join(folder, "%d.jpg" % number), pixels)
    return find_images(folder)


def main() -> int:
    """Times what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("network", "end_to_end"))
    parser.add_argument("--count", type=int, default=5, help="steps of %d pictures" % IMAGES)
    options = parser.parse_args()
    network, protocol, seconds = open_random(), PROTOCOLS["clean"], {}
    pixels = np.random.RandomState(1).rand(BATCH, network.side, network.side, 3).astype("f4")
    with tempfile.TemporaryDirectory() as folder:
        paths = draw(folder)
        steps = {
            "network": lambda: [network.run(pixels) for _ in range(IMAGES // BATCH)],
            "end_to_end": lambda: collect(Stream(network, protocol, BATCH)(paths)),
        }
        for _ in range(options.count + 1):  # the first of each is left out
            for name, step in steps.items():
                begin = time.perf_counter()
                step()
                seconds.setdefault(name, []).append(time.perf_counter() - begin)
    medians = {name: float(np.median(times[1:])) for name, times in seconds.items()}
    result = {
        "seconds": seconds[options.what][1:],
        "first_seconds": seconds[options.what][0],
        "images": IMAGES,
        "end_to_end_share": medians["end_to_end"] / medians["network"],
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "precision": "float32",
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
