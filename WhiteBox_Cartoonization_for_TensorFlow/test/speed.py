# SPDX-License-Identifier: Apache-2.0
"""Times training steps or cartoonizing on random pictures; prints one JSON object.

`python3 test/speed.py train|network|infer|end_to_end|large [--count 8] [options of train.py]`;
started by ci/performance.py. train makes the superpixels as training does, beside the step; network
is the network with its guided filter on 1280x720 pictures, infer the same through the Cartoonizer,
end_to_end with reading and writing of JPEG files; large is one picture of 3840x2160 in tiles.
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
from harness.images import write_image
from harness.options import option, parse_several
from tf_runtime import device as devices
from tf_runtime import flops, ranks
from whitebox import cartoonizing, generators, serving, training
from whitebox.config import CartoonizeConfig, Config
from whitebox.networks import generator
from whitebox.representations import guided_filter
from whitebox.superpixels import Flattener
from whitebox.vgg import Vgg
from whitebox.weights import LAYERS

WARM_UP = 3  # runs that compile and settle, not counted
WIDTHS = (64, 64, 128, 128, 256, 256, 256, 256, 512, 512, 512, 512)


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


def random_vgg(rng):
    """Returns layers of VGG-19's shape with random weights."""
    layers, channels = {}, 3
    for name, filters in zip(LAYERS, WIDTHS):
        bound = np.sqrt(6 / (9 * channels))
        kernel = rng.uniform(-bound, bound, [3, 3, channels, filters]).astype(np.float32)
        layers[name] = kernel, rng.uniform(-0.1, 0.1, filters).astype(np.float32)
        channels = filters
    return layers


def smooth_pictures(rng, *shape):
    """Returns random float32 pictures in [-1, 1] whose superpixels are as costly as real ones."""
    coarse = rng.uniform(-1, 1, [shape[0], shape[1] // 16, shape[2] // 16, 3])
    fine = coarse.repeat(16, 1).repeat(16, 2) + rng.normal(0, 0.1, [*shape, 3])
    return np.clip(fine, -1, 1).astype(np.float32)


def time_training(config, device, count):
    """Returns (seconds of each training step, superpixels included; operations of one)."""
    rng, shape = np.random.RandomState(0), [config.batch_size] + [config.patch_size] * 2
    group = ranks.connect(device.name)
    vgg = Vgg(random_vgg(rng), device.name == "cpu" and not device.mixed)
    with tf.Graph().as_default(), Flattener(
        config.superpixels, config.use_enhance, config.is_published, config.superpixel_workers
    ) as flattener:
        graph = training.build_step(config, vgg, device, group)
        operations = flops.count((graph.losses, graph.train)) + flops.count(graph.preview)
        feed = {
            graph.photos: smooth_pictures(rng, *shape),
            graph.weights: np.array([0.1, 0.6, 0.3]),
        }
        feed[graph.cartoons] = smooth_pictures(rng, *shape)
        session_config = devices.session_config(device)
        group.start(session_config)
        with tf.Session(group.target, config=session_config) as session:
            session.run(tf.global_variables_initializer())
            vgg.load(session)
            session.run(graph.remember)
            coming = [flattener.submit(feed[graph.photos])]

            def step():
                feed[graph.flattened] = coming.pop().result()
                session.run(graph.remember)
                # What an untrained generator makes is noise, which takes longer than pictures do.
                session.run(graph.preview, {graph.photos: feed[graph.photos]})
                coming.append(flattener.submit(feed[graph.photos]))
                group.run(session, (graph.losses, graph.train), feed)

            return _time(step, count), operations


def _random_generator(folder):
    rng, arrays = np.random.RandomState(0), {}
    for name, shape in generators.GENERATOR_SHAPES.items():
        bound = np.sqrt(3 / np.prod(shape[:-1])) if len(shape) > 1 else 0.1
        arrays[name] = rng.uniform(-bound, bound, shape).astype(np.float32)
    path = os.path.join(folder, "generator.npz")
    generators.write_generator(path, arrays)
    return path


def time_network(device, count, folder):
    """Returns (seconds of the network and its filter on 1280x720 pixels, operations of a run)."""
    images = np.random.RandomState(0).uniform(-1, 1, [1, 720, 1280, 3]).astype(np.float32)
    minimal = device.name == "cpu" and not device.mixed
    with tf.Graph().as_default():  # one whose shapes are all known
        inputs = tf.placeholder(tf.float32, images.shape)
        cartoons = guided_filter(inputs, generator(inputs, minimal), 1, 5e-3)
        operations = flops.count(cartoons)
    with tf.Graph().as_default():
        inputs, outputs = serving.build_inference(minimal=minimal)
        with tf.Session(config=devices.session_config(device)) as session:
            serving.assign(session, generators.read_generator(_random_generator(folder)))
            return _time(lambda: session.run(outputs, {inputs: images}), count), operations


def time_pictures(device, count, folder, size):
    """Returns (seconds of one picture of `size` through the Cartoonizer, None)."""
    picture = np.random.RandomState(0).randint(0, 256, (1, *size, 3)).astype(np.uint8)
    with serving.Cartoonizer(_random_generator(folder), device) as cartoonize:
        return _time(lambda: cartoonize(picture), count), None


def time_end_to_end(device_words, count, folder):
    """Returns (seconds per picture of a folder of JPEG files, from file to file; None)."""
    rng = np.random.RandomState(0)
    for number in range(count):
        values = smooth_pictures(rng, 1, 720, 1280)[0] * 127.5 + 127.5
        write_image(os.path.join(folder, "in", "%d.jpg" % number), values.astype(np.uint8))
    words = {"input": os.path.join(folder, "in"), "weights": _random_generator(folder)}
    seconds = []
    for repeat in range(2):  # the first one compiles
        output = os.path.join(folder, "out%d" % repeat)
        config = CartoonizeConfig(output=output, **words, **device_words)
        begin = time.perf_counter()
        cartoonizing.cartoonize(config)
        seconds.append((time.perf_counter() - begin) / count)
    return [seconds[0]] * WARM_UP + seconds[1:], None


def main():
    """Times what the command line asks for and prints the JSON object."""
    modes = ("train", "network", "infer", "end_to_end", "large")
    what = sys.argv[1] if len(sys.argv) > 1 else ""
    if what not in modes:
        sys.exit("speed.py: %r is not one of %s" % (what, ", ".join(modes)))
    (options, config), _ = parse_several([SpeedOptions, Config], sys.argv[2:])
    device, base = devices.choose(config), memory.peak() // 2**20
    with tempfile.TemporaryDirectory() as folder:
        if what == "train":
            seconds, operations = time_training(config, device, options.count)
        elif what == "network":
            seconds, operations = time_network(device, options.count, folder)
        elif what == "infer":
            seconds, operations = time_pictures(device, options.count, folder, (720, 1280))
        elif what == "end_to_end":
            words = {"device": device.name, "precision_mode": config.precision_mode}
            seconds, operations = time_end_to_end(words, options.count, folder)
        else:
            seconds, operations = time_pictures(device, options.count, folder, (2160, 3840))
    result = {
        "seconds": seconds[WARM_UP:],
        "first_seconds": seconds[0],
        "images": config.batch_size if what == "train" else 1,
        "flops": operations,
        "precision": device.mixed or "float32",
        "base_memory_mb": base,
        "peak_memory_mb": memory.peak() // 2**20,
        "tensorflow": tf.__version__,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
