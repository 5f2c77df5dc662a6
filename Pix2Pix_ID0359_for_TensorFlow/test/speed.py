# SPDX-License-Identifier: Apache-2.0
"""Times the training step or inference on random pictures; prints one JSON object.

`python3 test/speed.py train|infer [--count 8] [options of main.py]`; started by ci/performance.py.
As one of several ranks it trains together with them.
"""

import dataclasses
import json
import os
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow.compat.v1 as tf

from harness import memory
from harness.options import option, parse_several
from pix2pix import serving, training
from pix2pix.config import Config
from tf_runtime import device as devices
from tf_runtime import flops, ranks

WARM_UP = 3  # runs that compile and settle, not counted


@dataclasses.dataclass(frozen=True)
class SpeedOptions:
    """Speed."""

    count: int = option(8, "runs to time", low=1)


def _time(function, count):
    seconds = []
    for _ in range(WARM_UP + count):
        begin = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - begin)
    return seconds


def time_training(config, device, count):
    """Returns (seconds of each training step, warm-up first; operations of one)."""
    rng, group = np.random.RandomState(0), ranks.connect(device.name)
    with tf.Graph().as_default():
        graph = training.build_step(config, device, group)
        feed = {graph.step: 1, graph.learning_rate: config.learning_rate}
        for node in (graph.conditions, graph.targets):
            feed[node] = rng.uniform(-1, 1, node.shape.as_list())
        fetches = [graph.losses, graph.train]
        operations = flops.count(fetches)
        session_config = devices.session_config(device)
        group.start(session_config)
        with tf.Session(group.target, config=session_config) as session:
            session.run(tf.global_variables_initializer())
            return _time(lambda: group.run(session, fetches, feed), count), operations


def time_inference(config, device, count):
    """Returns (seconds of each batch through the frozen graph, operations of one)."""
    side = config.fine_size
    shape = [config.batch_size, side, side, config.input_nc]
    batch = np.random.RandomState(0).uniform(-1, 1, shape).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, path = os.path.join(folder, "model-0"), os.path.join(folder, "model.pb")
        with tf.Graph().as_default(), tf.Session() as session:
            conditions, fakes = serving.build_inference(config)
            operations = flops.count(fakes, {conditions: shape})
            session.run(tf.global_variables_initializer())
            tf.train.Saver().save(session, checkpoint, write_meta_graph=False)
        serving.export(config, checkpoint, path)
        with serving.GraphTranslator(path, device) as translate:
            return _time(lambda: translate(batch), count), operations


if __name__ == "__main__":
    (options, config), _ = parse_several([SpeedOptions, Config], sys.argv[2:])
    device, base = devices.choose(config), memory.peak() // 2**20
    time_it = {"train": time_training, "infer": time_inference}[sys.argv[1]]
    seconds, operations = time_it(config, device, options.count)
    print(
        json.dumps(
            {
                "seconds": seconds[WARM_UP:],
                "first_seconds": seconds[0],
                "images": config.batch_size,
                "flops": operations,
                "precision": device.mixed or "float32",
                "base_memory_mb": base,
                "peak_memory_mb": memory.peak() // 2**20,
                "tensorflow": tf.__version__,
            }
        )
    )
