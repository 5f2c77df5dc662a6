# SPDX-License-Identifier: Apache-2.0
"""A small attribute classifier: measures how often a translation shows what was asked for.

python3 -m stargan.classifier --data_path=./datasets --output=classifier.npz: it learns from
StarGAN's training pictures and is judged on the held-out ones.
Axes: M pictures in all, N of a batch, of SxS pixels; L labels.
"""

import concurrent.futures
import dataclasses
import os
import zlib
from typing import Tuple

import numpy as np
import tensorflow.compat.v1 as tf
from PIL import Image

from harness.errors import UserError, run_program
from harness.files import atomic_path
from harness.options import option, parse_several
from stargan import data, labels
from stargan.config import Config
from tf_runtime import device as devices
from tf_runtime import ranks

CLASSIFIER_SIZE = 64  # side of the pictures it judges; others are resized
LAYERS = ((32, 5, 2), (64, 3, 2), (64, 3, 1), (128, 3, 2), (128, 3, 1), (192, 3, 2), (192, 3, 1))
HIGHEST_RATE, WEIGHT_DECAY, DROPOUT, AVERAGE_DECAY = 2e-3, 0.5, 0.3, 0.99
MOST_TEST_PICTURES, PREDICT_BATCH, LOG_STEPS = 2000, 64, 100
REMEDY = "make one with python3 -m stargan.classifier"


@dataclasses.dataclass(frozen=True)
class ClassifierOptions:
    """Classifier."""

    output: str = option("./classifier.npz", "the file to write")
    classifier_steps: int = option(1500, "steps to train", low=1)
    classifier_batch: int = option(64, "pictures per step", low=1)
    classifier_pictures: int = option(20_000, "training pictures to use at the most", low=1)


def _convolution(x, name, filters, size, stride, seed):
    shape = [size, size, x.shape.as_list()[3], filters]
    own = seed + zlib.crc32((tf.get_variable_scope().name + name).encode()) % 2**30
    start = tf.random_normal_initializer(0.0, (2.0 / np.prod(shape[:3])) ** 0.5, seed=own)
    kernel = tf.get_variable(name, shape, tf.float32, start)
    return tf.nn.conv2d(x, kernel, [1, stride, stride, 1], "SAME")


def _normalise(x, name, training):
    """Batch norm: with the batch's statistics in training, else with their running mean."""
    shape, starts = x.shape.as_list()[3:], {"gamma": 1.0, "beta": 0.0, "mean": 0.0, "variance": 1.0}
    gamma, beta, mean, variance = (
        tf.get_variable(name + "/" + part, shape, tf.float32, tf.constant_initializer(start))
        for part, start in starts.items()
    )
    if not training:
        return tf.nn.fused_batch_norm(x, gamma, beta, mean, variance, 1e-5, is_training=False)[0]
    x, seen_mean, seen_variance = tf.nn.fused_batch_norm(x, gamma, beta, epsilon=1e-5)
    keep = tf.group(tf.assign(mean, seen_mean), tf.assign(variance, seen_variance))
    tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, keep)
    return x


def network(pictures: tf.Tensor, count: int, seed: int = 0, dropout_seed=None) -> tf.Tensor:
    """Returns the labels' logits, float32 [N, L], of a plain convolutional network.

    Args:
      pictures: float32 [N, 64, 64, 3] in [-1, 1].
      count: L, the number of labels.
      seed: of the initial weights.
      dropout_seed: int32 [2], such as (seed, step), in training; None to judge, where the logits
        of a picture do not depend on the other pictures of its batch.
    """
    x, training = pictures, dropout_seed is not None
    with tf.variable_scope("classifier"):
        for layer, (filters, size, stride) in enumerate(LAYERS, 1):
            x = _convolution(x, "kernel_%d" % layer, filters, size, stride, seed)
            x = tf.nn.relu(_normalise(x, "norm_%d" % layer, training))
        x = tf.reduce_mean(x, [1, 2], keep_dims=True)
        if training:
            noise = tf.random.stateless_uniform(tf.shape(x), seed=dropout_seed)
            x = tf.where(noise < DROPOUT, tf.zeros_like(x), x / (1.0 - DROPOUT))
        bias = tf.get_variable("bias", [count], tf.float32, tf.zeros_initializer())
        return tf.squeeze(_convolution(x, "logits", count, 1, 1, seed), [1, 2]) + bias


def resize(pixels: np.ndarray, box=None) -> np.ndarray:
    """Returns uint8 [64, 64, 3] for uint8 [S, S, 3] or its `box`, bilinear as PIL does it."""
    return np.asarray(Image.fromarray(pixels).resize((CLASSIFIER_SIZE,) * 2, Image.BILINEAR, box))


def read_pictures(part: labels.Labelled, most: int, kind: str, config):
    """Returns (uint8 [M, 64, 64, 3], float32 [M, L]), at most `most` pictures evenly spread."""
    rows = np.linspace(0, len(part.paths), min(len(part.paths), most), False).astype(int)
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        read = pool.map(lambda i: resize(data.read_picture(part.paths[i], kind, config)), rows)
        return np.stack(list(read)), part.labels[rows]


def training_batch(pictures: np.ndarray, truth: np.ndarray, size: int, config, step: int):
    """Returns (float32 [size, 64, 64, 3] about [-1, 1], float32 [size, L]), a random batch.

    It is drawn from `pictures`, uint8 [M, 64, 64, 3], and `truth`, float32 [M, L], as a function of
    (config.seed, step) alone. Each picture is moved, zoomed and changed in brightness and contrast,
    all a little; with `config.flip` half of them are mirrored.
    """
    rng, batch = np.random.RandomState([config.seed, step]), []
    rows = rng.choice(len(truth), size, replace=len(truth) < size)
    for pixels in np.pad(pictures[rows], [(0, 0), (16, 16), (16, 16), (0, 0)], "edge"):
        centre, reach = rng.uniform(44, 52, 2), rng.uniform(27, 37)  # of 96x96 pixels
        mirror = -1 if rng.randint(2) and config.flip else 1
        contrast, brightness = rng.uniform(0.8, 1.2), rng.uniform(-0.15, 0.15)
        box = (*(centre - reach), *(centre + reach))
        values = data.to_float(resize(pixels, box))[:, ::mirror]
        batch.append((values - values.mean()) * contrast + (values.mean() + brightness))
    return np.stack(batch), truth[rows]


def train(pictures: np.ndarray, truth: np.ndarray, kind: str, options, config) -> dict:
    """Returns {name: value}, the running mean of every weight in training.

    It learns from `pictures`, uint8 [M, 64, 64, 3], and `truth`, float32 [M, L] of 0 and 1; for
    kind "classes" one label holds for each picture. `options` are ClassifierOptions.

    Raises:
      UserError: if the loss becomes NaN or infinite, or the device is not there.
    """
    size, last_step = options.classifier_batch, options.classifier_steps
    device = devices.choose(config)
    with tf.Graph().as_default():
        batch = tf.placeholder(tf.float32, [size, CLASSIFIER_SIZE, CLASSIFIER_SIZE, 3])
        batch_truth = tf.placeholder(tf.float32, [size, truth.shape[1]])
        step, rate = tf.placeholder(tf.int32, []), tf.placeholder(tf.float32, [])
        logits = network(batch, truth.shape[1], config.seed, tf.stack([config.seed, step]))
        if kind == "classes":
            losses = tf.nn.softmax_cross_entropy_with_logits_v2(batch_truth, logits)
        else:
            # The rarer value weighs more, by the square root of how much rarer it is, at most 4.
            weights = np.sqrt(np.clip(1.0 / np.maximum(truth.mean(0), 1e-6) - 1.0, 1 / 16, 16.0))
            parts = tf.nn.weighted_cross_entropy_with_logits(batch_truth, logits, weights)
            losses = tf.reduce_sum(parts / np.sqrt(weights), 1)
        loss, variables = tf.reduce_mean(losses), tf.trainable_variables()
        adam, group = tf.train.AdamOptimizer(rate), ranks.Group(0, 1, (), device.name)
        minimise = devices.minimize(adam, loss, variables, device, group, "train")
        with tf.control_dependencies([minimise]):  # weight decay beside Adam, as in AdamW
            kernels = [v for v in variables if v.shape.ndims > 1]
            decay = [tf.assign_sub(v, rate * WEIGHT_DECAY * v.read_value()) for v in kernels]
        update = tf.group(decay, tf.get_collection(tf.GraphKeys.UPDATE_OPS))
        mean = tf.train.ExponentialMovingAverage(AVERAGE_DECAY, step)
        average = mean.apply(variables)  # run by itself, after the step
        with tf.Session(config=devices.session_config(device)) as session:
            session.run(tf.global_variables_initializer())
            for number in range(1, last_step + 1):
                done = number / last_step
                now = HIGHEST_RATE * min(1.0, 20 * done) * (0.5 + 0.5 * np.cos(np.pi * done))
                values = (*training_batch(pictures, truth, size, config, number), number, now)
                feed = dict(zip((batch, batch_truth, step, rate), values))
                value, _ = session.run((loss, update), feed)
                session.run(average, feed)
                if not np.isfinite(value):
                    raise UserError("the loss is %s at step %d" % (value, number))
                if number % LOG_STEPS == 0 or number == last_step:
                    print("step %d of %d, loss: %.4f" % (number, last_step, value), flush=True)
            return session.run({v.op.name: mean.average(v) for v in variables})


def decide(probabilities: np.ndarray, kind: str) -> np.ndarray:
    """Returns bool [N, L]: above one half, or for "classes" the most probable label."""
    if kind == "classes":
        return np.arange(probabilities.shape[1]) == probabilities.argmax(1)[:, np.newaxis]
    return probabilities > 0.5


def score(shown: np.ndarray, truth: np.ndarray, kind: str) -> Tuple[np.ndarray, np.ndarray]:
    """Returns (accuracy, balanced accuracy), float [L], of bool [N, L] against [N, L] of 0 and 1.

    Balanced accuracy is the mean of the accuracies where a label holds and where it does not. Of
    classes both are the share of a class's pictures that are seen as that class.
    """
    right, pairs = shown == (truth > 0.5), list(zip(shown.T, truth.T))
    if kind == "classes":
        recall = np.array([np.mean(s[t > 0.5]) if np.any(t) else 0.0 for s, t in pairs])
        return recall, recall
    balanced = [np.mean([np.mean(s[t == v] == v) for v in np.unique(t)]) for s, t in pairs]
    return right.mean(0), np.array(balanced)


class Classifier:
    """Judges pictures with a file of this program; a context manager that holds a session.

    It computes on the CPU in float32, so that the figures are the same beside every device.

    Args:
      path: the .npz file.
      device_threads: threads of one operation; 0 takes every core.

    Attributes:
      names, kind: the labels, in the order of `predict`; "celeba" or "classes".
      accuracy, balanced_accuracy: {name: share of the held-out real pictures}.

    Raises:
      UserError: if there is no such file or it is another one.
    """

    def __init__(self, path: str, device_threads: int = 0):
        arrays, shape = _load(path), [None, CLASSIFIER_SIZE, CLASSIFIER_SIZE, 3]
        count = max(1, arrays.get("names", np.zeros(0)).size)
        with tf.Graph().as_default(), tf.device("/cpu:0"):
            self._pictures = tf.placeholder(tf.float32, shape)
            logits = network(self._pictures, count)
            variables = tf.global_variables()
            expected = {(v.op.name, tuple(v.shape.as_list()), "f") for v in variables}
            expected |= {(name, (count,), "f") for name in ("accuracy", "balanced_accuracy")}
            expected |= {("names", (count,), "U"), ("kind", (), "U")}
            if {(name, a.shape, a.dtype.kind) for name, a in arrays.items()} != expected:
                raise UserError("%s holds other arrays than a classifier; %s" % (path, REMEDY))
            self.kind = str(arrays["kind"])
            self._probabilities = (tf.nn.softmax if self.kind == "classes" else tf.sigmoid)(logits)
            settings = tf.ConfigProto(intra_op_parallelism_threads=device_threads)
            self._session = tf.Session(config=settings)
            for variable in variables:
                variable.load(arrays[variable.op.name], self._session)
        self.names = tuple(arrays["names"].tolist())
        self.accuracy = dict(zip(self.names, arrays["accuracy"].tolist()))
        self.balanced_accuracy = dict(zip(self.names, arrays["balanced_accuracy"].tolist()))

    def predict(self, pictures: np.ndarray) -> np.ndarray:
        """Returns the labels' probabilities, float32 [N, L], of uint8 [N, S, S, 3], any S."""
        parts = [np.zeros((0, len(self.names)), np.float32)]
        for first in range(0, len(pictures), PREDICT_BATCH):
            part = pictures[first : first + PREDICT_BATCH]
            batch = data.to_float(np.stack([resize(pixels) for pixels in part]))
            parts.append(self._session.run(self._probabilities, {self._pictures: batch}))
        return np.concatenate(parts)

    def see(self, pictures: np.ndarray) -> np.ndarray:
        """Returns which labels the pictures are seen to have, bool [N, L]."""
        return decide(self.predict(pictures), self.kind)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._session.close()


def _load(path):
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except OSError as error:
        raise UserError("cannot read %s: %s; %s" % (path, error.strerror, REMEDY)) from error
    except Exception as error:  # numpy and zipfile have many kinds for other and damaged files
        raise UserError("%s is no classifier; %s" % (path, REMEDY)) from error


def _report(names, truth, accuracy, balanced):
    figures = [accuracy, balanced, np.maximum(truth.mean(0), 1.0 - truth.mean(0))]
    rows = list(zip(names, *figures)) + [("mean", *np.mean(figures, 1))]
    print("%d held-out pictures; guess: always the more frequent value" % len(truth))
    print("%-20s %9s %9s %9s" % ("label", "accuracy", "balanced", "guess"))
    print("\n".join("%-20s %9.4f %9.4f %9.4f" % row for row in rows))


def main() -> int:
    """Trains a classifier, judges it on the held-out pictures and writes it."""
    (options, config), _ = parse_several([ClassifierOptions, Config], description=__doc__)
    if config.dataset == "both":
        raise UserError("--dataset both: train one with --dataset celeba, one with classes")
    source = labels.find_sources(config)[0]
    if not source.test.paths:
        raise UserError("--num_test 0 keeps no picture to judge the classifier with; leave it out")
    folder = os.path.dirname(os.path.abspath(options.output))
    os.makedirs(folder, exist_ok=True)
    is_file = options.output.endswith(".npz") and not os.path.isdir(options.output)
    if not is_file or not os.access(folder, os.W_OK):
        raise UserError("--output %s: name an .npz file that can be written" % options.output)
    kind, most = source.kind, options.classifier_pictures
    pictures, truth = read_pictures(source.train, most, kind, config)
    judged, judged_truth = read_pictures(source.test, MOST_TEST_PICTURES, kind, config)
    arrays, unknown = train(pictures, truth, kind, options, config), np.zeros(len(source.names))
    arrays.update(names=np.array(source.names), kind=np.array(kind))
    arrays.update(accuracy=unknown, balanced_accuracy=unknown)
    with atomic_path(options.output) as temporary:
        np.savez(temporary, **arrays)
        with Classifier(temporary, config.threads) as classifier:
            accuracy, balanced = score(classifier.see(judged), judged_truth, kind)
        arrays.update(accuracy=accuracy, balanced_accuracy=balanced)
        np.savez(temporary, **arrays)
    _report(source.names, judged_truth, accuracy, balanced)
    print("written: %s" % options.output)
    return 0


if __name__ == "__main__":
    run_program(main)
