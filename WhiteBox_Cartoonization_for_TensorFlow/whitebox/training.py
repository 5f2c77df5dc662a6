# SPDX-License-Identifier: Apache-2.0
"""Adversarial training: in every step the generator's, then that of both discriminators."""

import dataclasses
import os
from typing import Dict, NamedTuple

import tensorflow.compat.v1 as tf

from harness.errors import UserError
from tf_runtime import device as devices
from tf_runtime import ranks
from tf_runtime.checkpoints import checkpoint_steps
from tf_runtime.run import Periods, Run
from whitebox import data, losses
from whitebox.config import PretrainConfig, TrainingOptions
from whitebox.generators import newest_generator, read_generator
from whitebox.networks import GENERATOR, Discriminator, generator
from whitebox.pretraining import BETAS, finished_generator
from whitebox.progress import GENERATORS_FOLDER, Generators, Lines, Samples, is_due
from whitebox.representations import guided_filter, surface, texture, texture_weights
from whitebox.superpixels import Flattener
from whitebox.vgg import Vgg
from whitebox.weights import find_vgg, read_vgg

DISCRIMINATORS = ("disc_gray", "disc_blur")


class StepGraph(NamedTuple):
    """The graph of one training step.

    Attributes:
      photos, cartoons: placeholders [N, S, S, 3], BGR in [-1, 1].
      flattened: placeholder [N, S, S, 3]: superpixels of what the generator makes of the photos.
      weights: placeholder [3]: of blue, green and red in the texture.
      losses: {name: scalar} before the step.
      train: the operation that makes the step of generator and discriminators.
      remember: the operation that keeps the generator as it is now for `preview`.
      preview: [N, S, S, 3], the photos cartoonized by the generator that was kept.
    """

    photos: tf.Tensor
    cartoons: tf.Tensor
    flattened: tf.Tensor
    weights: tf.Tensor
    losses: Dict[str, tf.Tensor]
    train: tf.Operation
    remember: tf.Operation
    preview: tf.Tensor


def cartoonize(photos: tf.Tensor, minimal=False, seed=0, trainable=True) -> tf.Tensor:
    """Returns the generator's cartoons of `photos` as they are trained: filtered, radius 1."""
    return guided_filter(photos, generator(photos, minimal, seed, trainable), 1, 1e-2)


def build_step(config, vgg: Vgg, device: devices.Device, group: ranks.Group) -> StepGraph:
    """Builds the step of the generator and the discriminators (section 3, equation 8).

    One session.run: every network sees the cartoons once. The discriminators learn from the
    cartoons that the generator's step was made with.

    Args:
      config: the options.
      vgg: compares contents.
      device: from `device.choose`.
      group: from `ranks.connect`.
    """
    n, side, seed = config.batch_size, config.patch_size, config.seed
    photos = tf.placeholder(tf.float32, [n, side, side, 3], "photos")
    cartoons = tf.placeholder(tf.float32, [n, side, side, 3], "cartoons")
    flattened = tf.placeholder(tf.float32, [n, side, side, 3], "flattened")
    weights = tf.placeholder(tf.float32, [3], "weights")
    minimal = device.name == "cpu" and not device.mixed

    outputs = cartoonize(photos, minimal, seed)
    judge_texture = Discriminator("disc_gray", 1, config.d_width, seed)
    judge_surface = Discriminator("disc_blur", 3, config.d_width, seed)
    fake_texture = judge_texture(texture(outputs, weights))
    fake_surface = judge_surface(surface(outputs))
    g_texture = losses.generator_loss(fake_texture)
    g_surface = losses.generator_loss(fake_surface)

    features = vgg(outputs)
    of_photos, of_flattened = tf.split(tf.stop_gradient(vgg(tf.concat([photos, flattened], 0))), 2)
    features_size, pixels_size = losses.sizes(config, features.shape.as_list()[3])
    content = losses.feature_distance(of_photos, features, features_size)
    structure = losses.feature_distance(of_flattened, features, features_size)
    tv = losses.total_variation(outputs, pixels_size)
    g_loss = (
        config.lambda_surface * g_surface
        + config.lambda_texture * g_texture
        + config.lambda_content * content
        + config.lambda_structure * structure
        + config.lambda_tv * tv
    )
    real_texture = judge_texture(texture(cartoons, weights))
    real_surface = judge_surface(surface(cartoons))
    d_texture = losses.discriminator_loss(real_texture, fake_texture)
    d_surface = losses.discriminator_loss(real_surface, fake_surface)
    d_loss = d_surface + d_texture

    def minimize(loss, variables, name):
        adam = tf.train.AdamOptimizer(config.adv_train_lr, *BETAS)
        return devices.minimize(adam, loss, variables, device, group, name)

    own = tf.trainable_variables(GENERATOR + "/")
    judges = [v for name in DISCRIMINATORS for v in tf.trainable_variables(name + "/")]
    # The generator's gradient needs the discriminators as they are, so theirs is the second step.
    g_train = minimize(g_loss, own, "generator_train")
    with tf.control_dependencies([g_train]):
        d_train = minimize(d_loss, judges, "discriminator_train")
    with tf.control_dependencies([d_train]):
        train = tf.group(judge_texture.update(), judge_surface.update())

    with tf.variable_scope("previous"):
        preview = cartoonize(photos, minimal, seed, trainable=False)
    kept = [v for v in tf.global_variables() if v.op.name.startswith("previous/")]
    remember = tf.group(*[tf.assign(old, new) for old, new in zip(kept, own)])
    names = "tv_loss photo_loss superpixel_loss recon_loss d_loss_gray g_loss_gray d_loss_blur "
    names += "g_loss_blur d_loss_total g_loss_total"
    values = (tv, content, structure, content + structure, d_texture, g_texture)
    values += (d_surface, g_surface, d_loss, g_loss)
    means = group.average_losses(dict(zip(names.split(), values)))
    return StepGraph(photos, cartoons, flattened, weights, means, train, remember, preview)


def run_folder(config) -> str:
    """Returns the folder of the run's log and of the checkpoints to go on from."""
    return os.path.join(config.folder, "checkpoint")


def pretrained_generator(config) -> str:
    """Returns the generator to start from, or "" if it must be pretrained first.

    That is --pretrained, else the newest in pretrain/saved_models of the data, else that of a
    finished pretraining in OUTPUT_PATH.
    """
    if config.pretrained:
        return config.pretrained
    places = config.data_path, os.path.join(config.data_path, "dataset"), data.find_root(config)
    for place in places:
        path = newest_generator(os.path.join(place, "pretrain", GENERATORS_FOLDER))
        if path:
            return path
    return finished_generator(config.output_path, config.pretrain_iter)


def needs_pretraining(config) -> bool:
    """Returns whether there is neither a run to go on with nor a pretrained generator."""
    if checkpoint_steps(run_folder(config), "model"):  # to go on with, or to complain about
        return False
    return not pretrained_generator(config)


def pretrain_config(config) -> PretrainConfig:
    """Returns the options of the pretraining that `config` wants first."""
    names = [field.name for field in dataclasses.fields(TrainingOptions)]
    values = {name: getattr(config, name) for name in names}
    return PretrainConfig(total_iter=config.pretrain_iter, **dict(values, train_epochs=0))


def check_inputs(config, rank_count: int):
    """Returns (domains, steps per epoch, path of VGG-19, its layers), all found usable.

    Raises:
      UserError: if data, VGG-19 or a given generator are not.
    """
    domains = data.find_domains(config)
    per_epoch = data.steps_per_epoch(domains, config, rank_count)
    vgg_path = config.vgg or find_vgg(data.find_root(config))
    layers = read_vgg(vgg_path)
    start = pretrained_generator(config)
    if start and not checkpoint_steps(run_folder(config), "model"):
        read_generator(start)
    data.check_pictures(domains)
    return domains, per_epoch, vgg_path, layers


def train(config) -> None:
    """Trains generator and discriminators; with `continue_train` it goes on where the run ended.

    Raises:
      UserError: if data, options, device or checkpoints do not allow it; before the first step.
    """
    device = devices.choose(config)
    group = ranks.connect(device.name)
    domains, per_epoch, vgg_path, layers = check_inputs(config, group.size)
    vgg = Vgg(layers, device.name == "cpu" and not device.mixed)
    last_step = config.train_epochs * per_epoch or config.total_iter
    print("%d steps per epoch, %d steps" % (per_epoch, last_step), flush=True)
    weights = losses.effective_weights(config, layers["conv4_4"][1].size)
    print("VGG-19: %s; %s" % (vgg_path, weights), flush=True)
    periods = Periods(config.log_steps, config.save_steps, config.keep_checkpoints)

    def read_photos(step):
        return data.photo_batch(domains, config, step, group.rank, group.size)

    def read_batch(step):
        """Returns the step's cartoons and the photos of the next; of the first step its own too."""
        own = read_photos(step) if step == run.first_step else None
        coming = read_photos(step + 1) if step < last_step else None
        return own, data.cartoon_batch(domains, config, step, group.rank, group.size), coming

    with tf.Graph().as_default():
        graph = build_step(config, vgg, device, group)
        generators, samples = Generators(config), Samples(config, domains, cartoonize)
        flattener = Flattener(
            config.superpixels, config.use_enhance, config.is_published, config.superpixel_workers
        )
        with flattener, Run(
            run_folder(config),
            config,
            device,
            group,
            last_step,
            periods,
            resume=config.continue_train,
            summaries=os.path.join(config.folder, "train_log"),
            data=data.fingerprint(domains),
        ) as run:
            vgg.load(run.session)
            if run.first_step == 1:
                load_generator(run.session, pretrained_generator(config))
                run.session.run(graph.remember)
            lines, photos, coming = Lines(run), None, None

            def flatten(batch):
                """Begins to make the superpixels of the cartoons of `batch`."""
                return flattener.submit(run.session.run(graph.preview, {graph.photos: batch}))

            for step, (own, cartoons, next_photos) in run.steps(read_batch):
                photos = photos if own is None else own
                # The superpixels of a step are those of the generator one step earlier: they are
                # made while the step before trains.
                # Differs from the paper: there, and with --preset=published, of this step's.
                if config.is_published:
                    run.session.run(graph.remember)
                    coming = None
                flattened = (coming or flatten(photos)).result()
                if not config.is_published:
                    run.session.run(graph.remember)
                    coming = flatten(next_photos) if step < last_step else None
                feed = {graph.photos: photos, graph.cartoons: cartoons, graph.flattened: flattened}
                feed[graph.weights] = texture_weights(config.seed, step)
                values, _ = run.step((graph.losses, graph.train), feed)
                if run.log(step, values):
                    lines.time_per_step(step, last_step)
                    run.print(log_line(step, values))
                at_end = step == last_step or run.stopped
                if group.rank == 0 and (at_end or is_due(step, config.save_steps)):
                    generators.write(run.session, step)
                if group.rank == 0 and is_due(step, config.image_steps):
                    run.show(step, *samples.write(run.session, step))
                photos = next_photos


def load_generator(session, path: str) -> None:
    """Gives the generator in `session` the weights in `path`.

    Raises:
      UserError: if there are none.
    """
    if not path:
        text = "there is no pretrained generator; run train_code/pretrain.py, or give --pretrained"
        raise UserError(text)
    print("starting from the generator %s" % path, flush=True)
    arrays = read_generator(path)
    variables = tf.trainable_variables(GENERATOR + "/")
    # The initialisers assign, and the values that they assign are given.
    starts = {variable.initializer.inputs[1]: arrays[variable.op.name] for variable in variables}
    session.run([variable.initializer for variable in variables], starts)


def log_line(step: int, values: Dict[str, float]) -> str:
    """Returns the documented line of the losses."""
    shown = [values[name] for name in ("d_loss_total", "g_loss_total", "recon_loss")]
    return "Iter: %d, d_loss: %.6f, g_loss: %.6f, recon_loss: %.9f" % (step, *shown)
