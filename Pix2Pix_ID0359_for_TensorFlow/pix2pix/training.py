# SPDX-License-Identifier: Apache-2.0
"""Training: for every batch one discriminator step, then one generator step against its result."""

import os
from typing import Dict, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from harness.images import grid, write_image
from pix2pix import data
from pix2pix.losses import adversarial_loss, discriminator_loss, l1_loss
from pix2pix.networks import discriminator, generator
from tf_runtime import device as devices
from tf_runtime import ranks
from tf_runtime.run import Periods, Run

LOG_LINE = "Epoch: [%2d] [%4d/%4d] time: %.4f, d_loss: %.8f, g_loss: %.8f"
SAMPLES = 4  # pairs in a sample grid


class StepGraph(NamedTuple):
    """The graph of one training step.

    Attributes:
      conditions, targets: placeholders [N, S, S, C] in [-1, 1].
      step, learning_rate: scalar placeholders.
      losses: {name: scalar}: d_loss before the step, the others after the discriminator's.
      train: the operation that makes both steps.
    """

    conditions: tf.Tensor
    targets: tf.Tensor
    step: tf.Tensor
    learning_rate: tf.Tensor
    losses: Dict[str, tf.Tensor]
    train: tf.Operation


def build_step(config, device: devices.Device, group: ranks.Group) -> StepGraph:
    """Builds one discriminator and one generator step (Isola et al. 2017, section 3.3).

    Both are one session.run: the generator runs forward once, the discriminator steps, then judges
    the same translation again with its new weights, and the generator steps against that.
    """
    shape = [config.batch_size, config.fine_size, config.fine_size]
    conditions = tf.placeholder(tf.float32, shape + [config.input_nc], "conditions")
    targets = tf.placeholder(tf.float32, shape + [config.output_nc], "targets")
    step = tf.placeholder(tf.int32, [], "step")
    learning_rate = tf.placeholder(tf.float32, [], "learning_rate")

    # Every picture has noise of its own, whichever rank it is on.
    n = config.batch_size
    numbers = (step - 1) * (n * group.size) + tf.range(group.rank * n + 1, (group.rank + 1) * n + 1)
    noise_seeds = tf.stack([tf.fill([n], config.seed), numbers], 1)
    fakes = generator(
        conditions,
        config.output_nc,
        config.ngf,
        noise_seeds,
        config.legacy_bottleneck_norm,
        config.seed,
    )

    # Real and fake pairs as one batch: no statistics are shared between pictures.
    both_logits = discriminator(
        tf.concat([conditions, conditions], 0),
        tf.concat([targets, fakes], 0),
        config.ndf,
        config.seed,
    )
    real_logits, fake_logits = tf.split(both_logits, 2)
    d_loss = discriminator_loss(real_logits, fake_logits)
    d_train = devices.minimize(
        tf.train.AdamOptimizer(learning_rate, config.beta1),
        config.d_loss_weight * d_loss,
        tf.trainable_variables("discriminator"),
        device,
        group,
        "discriminator_train",
    )

    with tf.control_dependencies([d_train]):  # variables are read when used: D's are the new ones
        new_logits = discriminator(conditions, tf.identity(fakes), config.ndf, config.seed)
    g_adversarial, g_l1 = adversarial_loss(new_logits), l1_loss(targets, fakes)
    g_loss = g_adversarial + config.L1_lambda * g_l1
    g_train = devices.minimize(
        tf.train.AdamOptimizer(learning_rate, config.beta1),
        g_loss,
        tf.trainable_variables("generator"),
        device,
        group,
        "generator_train",
    )
    losses = {
        "d_loss": d_loss,
        "g_loss": g_loss,
        "g_loss_adversarial": g_adversarial,
        "g_loss_l1": g_l1,
    }
    losses = group.average_losses(losses)
    return StepGraph(conditions, targets, step, learning_rate, losses, tf.group(d_train, g_train))


def learning_rate(config, epoch: float) -> float:
    """Returns the rate at a moment in epochs: full for `niter`, then linear to 0 at config.epoch.

    The default, niter 0, keeps it constant as the paper does.
    """
    if not config.niter or epoch < config.niter or config.niter >= config.epoch:
        return config.learning_rate
    return config.learning_rate * max(0.0, (config.epoch - epoch) / (config.epoch - config.niter))


def train(config) -> None:
    """Trains Pix2Pix; with `continue_train` it goes on where the run's checkpoints end.

    Raises:
      UserError: if data, options, device or checkpoints do not allow it; before the first step.
    """
    device = devices.choose(config)
    group = ranks.connect(device.name)
    pairs = data.find_pairs(config.data_path, "train")[: config.train_size]
    per_epoch = data.steps_per_epoch(pairs, config, group.size)
    data.check_pairs(pairs)
    if data.has_split(config.data_path, "val"):
        data.check_pairs(data.find_pairs(config.data_path, "val"))
    last_step = config.train_steps or config.epoch * per_epoch
    print(
        "%d training pairs, %d steps per epoch, %d steps" % (len(pairs), per_epoch, last_step),
        flush=True,
    )
    periods = Periods(
        log=config.print_freq,
        save=config.save_latest_freq,
        keep=config.keep_checkpoints,
        keep_every=config.save_epoch_freq * per_epoch,
    )

    def read_batch(step):
        return data.training_batch(pairs, config, step, group.rank, group.size)

    with tf.Graph().as_default():
        graph = build_step(config, device, group)
        sampler = Sampler(config, pairs)
        with Run(
            config.run_folder,
            config,
            device,
            group,
            last_step,
            periods,
            resume=config.continue_train,
            name="pix2pix.model",
            summaries=config.log_dir,
            data=data.fingerprint(pairs),
        ) as run:
            for step, (conditions, targets) in run.steps(read_batch):
                epoch, index = divmod(step - 1, per_epoch)
                rate = learning_rate(config, epoch + index / per_epoch)
                feed = {graph.conditions: conditions, graph.targets: targets}
                feed.update({graph.step: step, graph.learning_rate: rate})
                losses, _ = run.step((graph.losses, graph.train), feed)
                if run.log(step, losses, learning_rate=rate):
                    times = (epoch, index + 1, per_epoch, run.seconds())
                    run.print(LOG_LINE % (times + (losses["d_loss"], losses["g_loss"])))
                is_due = step == last_step or step % max(config.sample_freq, 1) == 0
                if config.sample_freq and is_due and group.rank == 0:
                    name = "train_%02d_%04d.png" % (epoch, index + 1)
                    run.show(step, sampler.write(run.session, name))


class Sampler:
    """Writes a grid of input, output and target for a few fixed pairs, of val/ if there is one."""

    def __init__(self, config, training_pairs):
        pairs = training_pairs
        if data.has_split(config.data_path, "val"):
            pairs = data.find_pairs(config.data_path, "val")
        side = config.fine_size
        self._folder = config.sample_dir
        self._pictures = [
            tuple(data.resize(pixels, side, side) for pixels in data.read_pair(pair, config))
            for pair in pairs[:SAMPLES]
        ]
        self._conditions = tf.placeholder(tf.float32, [None, side, side, config.input_nc])
        self._fakes = generator(
            self._conditions,
            config.output_nc,
            config.ngf,
            bottleneck_norm=config.legacy_bottleneck_norm,
        )

    def write(self, session, name: str) -> str:
        """Translates the pictures with the weights in `session`; returns the path written."""
        conditions = np.stack([data.to_float(condition) for condition, _ in self._pictures])
        fakes = data.to_uint8(session.run(self._fakes, {self._conditions: conditions}))
        rows = [
            (condition, fake, target) for (condition, target), fake in zip(self._pictures, fakes)
        ]
        path = os.path.join(self._folder, name)
        write_image(path, grid(rows, ("input", "output", "target")))
        return path
