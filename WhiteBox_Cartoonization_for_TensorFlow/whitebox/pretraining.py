# SPDX-License-Identifier: Apache-2.0
"""Pretraining: the generator learns to reproduce photos, so that cartoons start from content."""

import os
import time

import tensorflow.compat.v1 as tf

from harness.errors import UserError
from harness.files import read_json
from tf_runtime import device as devices
from tf_runtime import ranks
from tf_runtime.run import Periods, Run
from whitebox import data
from whitebox.generators import newest_generator
from whitebox.networks import GENERATOR, generator
from whitebox.progress import GENERATORS_FOLDER, Generators, Lines, Samples, is_due

BETAS = 0.5, 0.99  # Adam's momentum terms
LOG_LINE = "pretrain, iter: %d, recon_loss: %.6f"
SECONDS_TO_WRITE = 60  # until the other ranks give up


def reconstruction_loss(photos: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """Returns E|photo - G(photo)|.

    Differs from the paper: pixels are compared, as in the published code, not VGG features.
    """
    return tf.reduce_mean(tf.abs(photos - outputs))


def pretrain(config) -> bool:
    """Pretrains the generator; with `continue_train` it goes on where the checkpoints end.

    Args:
      config: a PretrainConfig.

    Returns:
      Whether it came to its end; not if it was asked to stop.

    Raises:
      UserError: if data, options, device or checkpoints do not allow it; before the first step.
    """
    device = devices.choose(config)
    group = ranks.connect(device.name)
    domains = data.find_domains(config, photos_only=True)
    per_epoch = data.steps_per_epoch(domains, config, group.size)
    data.check_pictures(domains)
    last_step = config.train_epochs * per_epoch or config.total_iter
    print("pretraining: %d steps per epoch, %d steps" % (per_epoch, last_step), flush=True)
    periods = Periods(config.log_steps, config.save_steps, config.keep_checkpoints)

    def read_photos(step):
        return data.photo_batch(domains, config, step, group.rank, group.size)

    with tf.Graph().as_default():
        n, side = config.batch_size, config.patch_size
        minimal = device.name == "cpu" and not device.mixed
        photos = tf.placeholder(tf.float32, [n, side, side, 3], "photos")
        loss = reconstruction_loss(photos, generator(photos, minimal, config.seed))
        adam = tf.train.AdamOptimizer(config.adv_train_lr, *BETAS)
        variables = tf.trainable_variables(GENERATOR + "/")
        train = devices.minimize(adam, loss, variables, device, group, "pretraining")
        losses = group.average_losses({"recon_loss": loss})
        generators, samples = Generators(config), Samples(config, domains, generator)
        with Run(
            os.path.join(config.folder, "checkpoint"),
            config,
            device,
            group,
            last_step,
            periods,
            resume=config.continue_train,
            summaries=os.path.join(config.folder, "train_log"),
            data=data.fingerprint(domains),
        ) as run:
            lines = Lines(run)
            for step, batch in run.steps(read_photos):
                values, _ = run.step((losses, train), {photos: batch})
                if run.log(step, values):
                    lines.time_per_step(step, last_step)
                    run.print(LOG_LINE % (step, values["recon_loss"]))
                at_end = step == last_step or run.stopped
                if group.rank == 0 and (at_end or is_due(step, config.save_steps)):
                    generators.write(run.session, step)
                if group.rank == 0 and is_due(step, config.image_steps):
                    run.show(step, *samples.write(run.session, step))
            complete = not run.asked_to_stop
    if complete and group.rank:
        _wait_for(os.path.join(config.folder, GENERATORS_FOLDER, "model-%d.index" % last_step))
    return complete


def _wait_for(path):
    """Waits until rank 0 has written `path`."""
    deadline = time.monotonic() + SECONDS_TO_WRITE
    while not os.path.exists(path):
        if time.monotonic() > deadline:
            raise UserError("rank 0 has not written %s; see its log, then --continue_train" % path)
        time.sleep(0.2)


def finished_generator(output_path: str, steps: int) -> str:
    """Returns the generator of a pretraining in `output_path` that came to its end, or "".

    It did if it says so, or if its newest generator has trained for `steps`.
    """
    folder = os.path.join(output_path, "pretrain")
    training = read_json(os.path.join(folder, "checkpoint", "training.json"), {})
    path = newest_generator(os.path.join(folder, GENERATORS_FOLDER))
    done = path and int(path.rsplit("-", 1)[1]) >= steps
    return path if done or not training.get("stopped", True) else ""
