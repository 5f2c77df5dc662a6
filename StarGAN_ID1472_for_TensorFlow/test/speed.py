# SPDX-License-Identifier: Apache-2.0
"""Times a training step or inference on random pictures; prints one JSON object.

`python3 test/speed.py train_d|train|infer [--count 8] [options of main.py]`; started by
ci/performance.py. train_d is a discriminator step, train one with a generator step after it.
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
from stargan import serving, training
from stargan.config import Config
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


def time_training(config, device, count, with_generator):
    """Returns (seconds of each training step, warm-up first; operations of one)."""
    rng, n, side = np.random.RandomState(0), config.batch_size, config.image_size
    group = ranks.connect(device.name)
    with tf.Graph().as_default():
        graph = training.build_step(config, [("celeba", 5)], device, group)
        feed = {graph.learning_rate: config.init_learning_rate, graph.mixing: rng.rand(n)}
        feed[graph.images] = rng.uniform(-1, 1, [n, side, side, 3])
        feed[graph.labels], feed[graph.targets] = rng.randint(0, 2, [2, n, 5])
        fetches = [graph.d_losses, graph.d_train]
        if with_generator:
            fetches = [graph.d_losses, graph.g_losses, graph.g_train]
        operations = flops.count(fetches)
        session_config = devices.session_config(device)
        group.start(session_config)
        with tf.Session(group.target, config=session_config) as session:
            session.run(tf.global_variables_initializer())
            return _time(lambda: group.run(session, fetches, feed), count), operations


def time_inference(config, device, count):
    """Returns (seconds of each batch through a checkpoint's translator, operations of one)."""
    n, side = config.batch_size, config.image_size
    rng = np.random.RandomState(0)
    batch = rng.uniform(-1, 1, [n, side, side, 3]).astype(np.float32)
    labels = rng.randint(0, 2, [n, 5]).astype(np.float32)
    sources = serving.named_sources([{"kind": "celeba", "names": config.selected_attrs}])
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = os.path.join(folder, "model-0")
        with tf.Graph().as_default(), tf.Session() as session:
            images, wanted, output = serving.build_inference(config, sources)
            operations = flops.count(output, {images: batch.shape, wanted: labels.shape})
            session.run(tf.global_variables_initializer())
            tf.train.Saver().save(session, checkpoint, write_meta_graph=False)
        with serving.CheckpointTranslator(config, sources, checkpoint, device) as translate:
            return _time(lambda: translate(batch, labels), count), operations


if __name__ == "__main__":
    (options, config), _ = parse_several([SpeedOptions, Config], sys.argv[2:])
    device, base = devices.choose(config), memory.peak() // 2**20
    if sys.argv[1] == "infer":
        seconds, operations = time_inference(config, device, options.count)
    else:
        with_generator = sys.argv[1] == "train"
        seconds, operations = time_training(config, device, options.count, with_generator)
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
