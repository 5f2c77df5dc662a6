# SPDX-License-Identifier: Apache-2.0
"""Training: a discriminator step for every batch, a generator step for every fifth of them."""

import datetime
import os
from typing import Dict, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from harness.errors import UserError
from harness.files import read_json, write_json
from harness.images import grid, write_image
from stargan import data, losses, starting
from stargan.labels import encode, find_sources, fingerprint
from stargan.networks import discriminator, generator
from stargan.serving import LABELS_FILE, describe_sources
from stargan.targets import default_targets, labels_for
from tf_runtime import device as devices
from tf_runtime import ranks
from tf_runtime.checkpoints import checkpoint_steps
from tf_runtime.run import Periods, Run

SAMPLES = 8  # pictures in a sample grid
D_LOSSES = ("D/loss_real", "D/loss_fake", "D/loss_cls", "D/loss_gp", "D_loss")
G_LOSSES = ("G/loss_fake", "G/loss_rec", "G/loss_cls", "G_loss")


class StepGraph(NamedTuple):
    """The graph of one training step.

    Attributes:
      images: placeholder [N, S, S, 3] in [-1, 1].
      labels, targets: placeholders [N, L]: the pictures' own labels and those to translate to.
      mixing: placeholder [N] in [0, 1]: how much of x_hat is real.
      learning_rate: scalar placeholder.
      d_losses: {name: scalar} of the discriminator before its step.
      g_losses: {name: scalar} of the generator against the discriminator after its step.
      d_train: the operation that makes the discriminator's step.
      g_train: the operation that makes the discriminator's step and then the generator's.
    """

    images: tf.Tensor
    labels: tf.Tensor
    targets: tf.Tensor
    mixing: tf.Tensor
    learning_rate: tf.Tensor
    d_losses: Dict[str, tf.Tensor]
    g_losses: Dict[str, tf.Tensor]
    d_train: tf.Operation
    g_train: tf.Operation


def build_step(config, kinds, device: devices.Device, group: ranks.Group) -> StepGraph:
    """Builds the discriminator's and the generator's step (Choi et al. 2018, equations 6 to 8).

    Where both are due they are one session.run: the picture is translated once, the discriminator
    steps, then judges the same translation with its new weights, and the generator steps.

    Args:
      config: the options.
      kinds: ("celeba" or "classes", number of labels) of each data set.
      device: from `device.choose`.
      group: from `ranks.connect`.
    """
    n, side, known = config.batch_size, config.image_size, sum(count for _, count in kinds)
    count = known + (2 if len(kinds) == 2 else 0)
    images = tf.placeholder(tf.float32, [n, side, side, 3], "images")
    labels = tf.placeholder(tf.float32, [n, count], "labels")
    targets = tf.placeholder(tf.float32, [n, count], "targets")
    mixing = tf.placeholder(tf.float32, [n], "mixing")
    learning_rate = tf.placeholder(tf.float32, [], "learning_rate")
    minimal = device.name == "cpu" and not device.mixed

    def translate(x, c):
        return generator(x, c, config.g_conv_dim, config.g_repeat_num, minimal, config.seed)

    def judge(x):
        return discriminator(x, known, config.d_conv_dim, config.d_repeat_num, config.seed)

    def minimize(loss, scope, name):
        adam = tf.train.AdamOptimizer(learning_rate, config.beta1, config.beta2)
        variables = tf.trainable_variables(scope)
        return devices.minimize(adam, loss, variables, device, group, name)

    fakes = translate(images, targets)
    constant_fakes = tf.stop_gradient(fakes)

    # Real and fake pictures as one batch: no statistics are shared between pictures.
    src, cls = judge(tf.concat([images, constant_fakes], 0))
    d_real, d_fake = losses.adversarial_losses(*tf.split(src, 2))
    d_cls = losses.classification_loss(tf.split(cls, 2)[0], labels, kinds)
    x_hat = losses.between(images, constant_fakes, mixing)
    d_gp = losses.gradient_penalty(lambda x: judge(x)[0], x_hat)
    d_loss = d_real + d_fake + config.lambda_cls * d_cls + config.lambda_gp * d_gp
    d_train = minimize(d_loss, "D/", "discriminator_train")

    with tf.control_dependencies([d_train]):  # variables are read when used: D's are the new ones
        src, cls = judge(tf.identity(fakes))
    g_fake = -tf.reduce_mean(src)
    g_cls = losses.classification_loss(cls, targets, kinds)
    g_rec = losses.reconstruction_loss(images, translate(fakes, labels))
    g_loss = g_fake + config.lambda_rec * g_rec + config.lambda_cls * g_cls
    g_train = tf.group(d_train, minimize(g_loss, "G/", "generator_train"))
    return StepGraph(
        images,
        labels,
        targets,
        mixing,
        learning_rate,
        group.average_losses(dict(zip(D_LOSSES, (d_real, d_fake, d_cls, d_gp, d_loss)))),
        group.average_losses(dict(zip(G_LOSSES, (g_fake, g_rec, g_cls, g_loss)))),
        d_train,
        g_train,
    )


def learning_rate(config, step: int, last_step: int) -> float:
    """Returns the rate of a step: full at first, then falling every `lr_update_step` steps.

    "paper": linearly to zero over the last half (section 7.1). "legacy": as the published code,
    which takes INIT / num_step_decay away at each update, so that hardly anything is lost.
    """
    span = config.num_step_decay or last_step // 2
    if config.lr_decay == "paper":
        span = min(span, last_step)
    updates = max(0, step - 1 - max(0, last_step - span)) // config.lr_update_step
    lost = updates * (config.lr_update_step if config.lr_decay == "paper" else 1) / max(span, 1)
    return config.init_learning_rate * max(0.0, 1.0 - lost)


def train(config) -> None:
    """Trains StarGAN; with `continue_train` it goes on where the run's checkpoints end.

    Raises:
      UserError: if data, options, device or checkpoints do not allow it; before the first step.
    """
    device = devices.choose(config)
    group = ranks.connect(device.name)
    sources = find_sources(config)
    per_epoch = data.steps_per_epoch(sources, config, group.size)
    for source in sources:
        data.check_pictures(source.train.paths + source.test.paths)
    last_step = config.train_epochs * per_epoch or config.training_iterations
    print("%d steps per epoch, %d steps" % (per_epoch, last_step), flush=True)
    periods = Periods(config.summary_steps, config.checkpoint_steps, config.keep_checkpoints)

    def read_batches(step):
        return [read_batch(sources, number, config, step, group) for number in range(len(sources))]

    with tf.Graph().as_default():
        kinds = [(source.kind, len(source.names)) for source in sources]
        graph = build_step(config, kinds, device, group)
        networks = starting_networks(config, sources)
        sampler = Sampler(config, sources)
        with Run(
            config.run_folder,
            config,
            device,
            group,
            last_step,
            periods,
            resume=config.continue_train,
            summaries=os.path.join(config.output_dir, "summary"),
            data=fingerprint(sources),
            pictures=config.batch_size * len(sources),
            warm_up=max(2, config.d_train_repeat),
        ) as run:
            if group.rank == 0:
                write_labels(config.run_folder, sources, run.first_step > 1)
            if run.first_step == 1:
                starting.load_networks(run.session, networks)
            for step, batches in run.steps(read_batches):
                rate, values = learning_rate(config, step, last_step), {}
                for number, batch in enumerate(batches):  # one, or one of each data set
                    feed = dict(
                        zip((graph.images, graph.labels, graph.targets, graph.mixing), batch)
                    )
                    feed[graph.learning_rate] = rate
                    if step % config.d_train_repeat:
                        losses, _ = run.step((graph.d_losses, graph.d_train), feed)
                    else:
                        fetches = ({**graph.d_losses, **graph.g_losses}, graph.g_train)
                        losses, _ = run.step(fetches, feed)
                    prefix = "%s/" % sources[number].kind if number else ""
                    values.update({prefix + name: value for name, value in losses.items()})
                if run.log(step, values, learning_rate=rate):
                    line = log_line(step, last_step, values, run)
                    run.print(line)
                    with open(os.path.join(config.output_dir, "StarGAN.log"), "a") as file:
                        file.write(line + "\n")
                is_due = step == last_step or step % max(config.save_steps, 1) == 0
                if config.save_steps and is_due and group.rank == 0:
                    name = "train_stargan_%06d.png" % step
                    run.show(step, sampler.write(run.session, name))


def starting_networks(config, sources) -> Dict[str, np.ndarray]:
    """Returns {name: array} of both networks in --ckpt_path; {} without. Needs the graph of a step.

    Raises:
      UserError: if they do not fit, or were trained with other labels.
    """
    if not config.ckpt_path or checkpoint_steps(config.run_folder, "model"):  # it goes on instead
        return {}
    path = starting.named_checkpoint("ckpt_path", config.ckpt_path, config.run_folder)
    before = read_json(os.path.join(os.path.dirname(path), LABELS_FILE))
    if before and before != describe_sources(sources):
        text = "--ckpt_path %s was trained with the labels %s; mend --selected_attrs"
        names = [name for one in before for name in one["names"]]
        raise UserError(text % (path, " ".join(names)))
    print("starting from the networks in %s" % path, flush=True)
    variables = tf.trainable_variables("G/") + tf.trainable_variables("D/")
    return starting.read_networks(path, variables)


def write_labels(folder: str, sources, is_resumed: bool) -> None:
    """Writes the labels beside the checkpoints, for whoever uses them.

    Raises:
      UserError: if the run was trained with other labels so far.
    """
    path, now = os.path.join(folder, LABELS_FILE), describe_sources(sources)
    before = read_json(path)
    if is_resumed and before and before != now:
        names = [
            " ".join(name for one in one_run for name in one["names"]) for one_run in (before, now)
        ]
        text = "the run in %s was trained with the labels %s, the data have %s; give its data"
        raise UserError(text % (folder, *names))
    write_json(path, now)


def read_batch(sources, number: int, config, step: int, group: ranks.Group):
    """Returns (images, labels, targets, mixing) of source `number` as StepGraph takes them.

    A function of (seed, step, rank) alone.
    """
    words = (config, step, group.rank, group.size)
    images, labels, targets = data.training_batch(sources[number], *words)
    mixing = np.random.RandomState([config.seed, 3 + number, step])
    mixing = mixing.rand(group.size, config.batch_size)[group.rank]
    return images, encode(sources, number, labels), encode(sources, number, targets), mixing


def log_line(step: int, last_step: int, values: dict, run) -> str:
    """Returns the documented line: time, step, losses, and as Perf the mean seconds per step."""
    elapsed = datetime.timedelta(seconds=int(run.seconds()))
    shown = ["%s: %.4f" % (name, values[name]) for name in D_LOSSES + G_LOSSES if name in values]
    start = "Elapsed [%s], Iteration [%d/%d], " % (elapsed, step, last_step)
    perf = run.seconds() / (step - run.first_step + 1)
    return start + " , ".join(shown + ["Perf: %.4f" % perf])


class Sampler:
    """Writes a grid for a few fixed pictures of the test sets: each, and its translations."""

    def __init__(self, config, sources):
        side = config.image_size
        self._config, self._targets = config, default_targets(sources)
        self._pictures, self._labels = [], [[] for _ in self._targets]
        for number, source in enumerate(sources):
            part = source.test if source.test.paths else source.train
            count = min(len(part.paths), SAMPLES // len(sources))
            rows = np.arange(count) * len(part.paths) // count  # classes lie one after the other
            paths, labels = [part.paths[row] for row in rows], part.labels[rows]
            self._pictures += [data.read_picture(path, source.kind, config) for path in paths]
            for target, wanted in zip(self._targets, self._labels):
                wanted.extend(labels_for(target, sources, number, labels))
        count = len(self._labels[0][0])
        self._images = tf.placeholder(tf.float32, [None, side, side, 3])
        self._wanted = tf.placeholder(tf.float32, [None, count])
        self._fakes = generator(self._images, self._wanted, config.g_conv_dim, config.g_repeat_num)

    def write(self, session, name: str) -> str:
        """Translates the pictures with the weights in `session`; returns the path written."""
        images = np.stack([data.to_float(picture) for picture in self._pictures])
        columns = [self._pictures]
        for wanted in self._labels:
            feed = {self._images: images, self._wanted: wanted}
            columns.append(data.to_uint8(session.run(self._fakes, feed)))
        titles = ["source"] + [target.title for target in self._targets]
        path = os.path.join(self._config.output_dir, "sample", name)
        write_image(path, grid(list(zip(*columns)), titles))
        return path
