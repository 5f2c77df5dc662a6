# SPDX-License-Identifier: Apache-2.0
"""The optimisation of a picture: the graph of a step, and the loop."""

import zlib
from typing import Any, Dict, List, NamedTuple, Optional

import numpy as np
import tensorflow.compat.v1 as tf

from harness.errors import UserError
from stylize import data, losses, progress
from stylize.data import Pictures
from stylize.lbfgs import Lbfgs
from stylize.networks import Vgg
from stylize.progress import LOSSES
from tf_runtime import device as devices
from tf_runtime import ranks
from tf_runtime.run import NotFiniteError, Periods, Run

WORST = np.finfo(np.float32).max  # a total loss that any other is below
IN_STRIPS = " in strips"


class StepGraph(NamedTuple):
    """The graph of one step.

    Attributes:
      image: the variable that is optimised, float32 [1, H, W, 3], network input.
      pixels: `image` as the losses see it; another picture may be fed in its place.
      losses: {name of LOSSES: scalar} of `pixels`, weights included.
      distance: scalar, mean over style layers of |G - A| / |A| (Frobenius norms).
      gradient: of the total loss, [1, H, W, 3]; None with Adam.
      best, best_loss: variables, the picture with the lowest total loss and that loss.
      keep_best: the operation that makes `pixels` the best if it is.
      train: the operation of one Adam step; keeps the best first.
      new_image, set_image: placeholder and operation that give `image` a value.
      content: features of `pixels`, what the content's become `wanted` of.
      styles: placeholders of the style pictures, network input.
      style_grams: their Gram matrices, [layer][style].
      wanted: placeholders of what the losses compare with: features, then Gram matrices.
    """

    image: Any
    pixels: tf.Tensor
    losses: Dict[str, tf.Tensor]
    distance: tf.Tensor
    gradient: Optional[tf.Tensor]
    best: Any
    best_loss: Any
    keep_best: tf.Operation
    train: Optional[tf.Operation]
    new_image: tf.Tensor
    set_image: tf.Operation
    content: List[tf.Tensor]
    styles: List[tf.Tensor]
    style_grams: List[List[tf.Tensor]]
    wanted: List[tf.Tensor]


def used_layers(config):
    """Returns ({content layer: weight}, {style layer: weight}) without those of weight 0."""
    blend = config.content_weight_blend if len(config.content_layers) == 2 else 1.0
    content = dict(zip(config.content_layers, (blend, 1 - blend)))
    weights = losses.layer_weights(len(config.style_layers), config.style_layer_weight_exp)
    style = dict(zip(config.style_layers, weights))
    return tuple({n: w for n, w in each.items() if w > 0} for each in (content, style))


def build_step(config, vgg: Vgg, pictures: Pictures, in_strips: bool, device) -> StepGraph:
    """Builds the losses of the picture, their gradient and the optimiser's step.

    Args:
      config: the options.
      vgg: the network.
      pictures: at the size of the run.
      in_strips: see `Vgg.describe`.
      device: from `device.choose`.
    """
    content_weights, style_weights = used_layers(config)
    shape = (1,) + pictures.content.shape
    image = tf.get_variable("image", shape, tf.float32, tf.zeros_initializer())
    new_image = tf.placeholder(tf.float32, shape)
    pixels = tf.identity(image)
    found = vgg.describe(pixels, pictures.masks, in_strips)

    styles, described = [], []
    for style in pictures.styles:
        styles.append(tf.placeholder(tf.float32, (1,) + style.shape))
        described.append(vgg.describe(styles[-1], in_strips=in_strips).grams)
    style_grams = [[grams[layer][0] for grams in described] for layer in style_weights]

    content = [found.features[layer] for layer in content_weights]
    wanted_features = [tf.placeholder(tf.float32, maps.shape) for maps in content]
    wanted_grams = [[tf.placeholder(tf.float32, g.shape) for g in each] for each in style_grams]
    pairs = list(zip(content, wanted_features, content_weights.values()))
    content_loss = tf.add_n([w * losses.content_loss(f, p) for f, p, w in pairs])
    style_loss, distances = [], []
    blend = losses.blend_weights(config.style_blend_weights, len(styles))
    for number, share in enumerate(blend):
        mask = number if pictures.masks else 0
        grams = [found.grams[layer][mask] for layer in style_weights]
        wanted = [each[number] for each in wanted_grams]
        style_loss.append(share * losses.style_loss(grams, wanted, style_weights.values()))
        distances += [tf.norm(g - a) / tf.maximum(tf.norm(a), 1e-12) for g, a in zip(grams, wanted)]

    content_loss = config.content_weight * content_loss
    style_loss = config.style_weight * tf.add_n(style_loss)
    tv_loss = config.tv_weight * losses.total_variation_loss(pixels)
    total = content_loss + style_loss + tv_loss

    # The losses belong to the picture before the step, and so does the best of them.
    best, best_loss, keep_best = _keep_best(pixels, total)
    train = gradient = None
    if config.optimizer == "lbfgs":
        (gradient,) = tf.gradients(total, pixels)
    else:
        adam = tf.train.AdamOptimizer(config.learning_rate, config.beta1, config.beta2, config.eps)
        with tf.control_dependencies([keep_best]):
            loss = tf.identity(total)
        group = ranks.Group(0, 1, (), device.name)
        train = devices.minimize(adam, loss, [image], device, group, "adam")
    return StepGraph(
        image=image,
        pixels=pixels,
        losses=dict(zip(LOSSES, (content_loss, style_loss, tv_loss, total))),
        distance=tf.reduce_mean(tf.stack(distances)),
        gradient=gradient,
        best=best,
        best_loss=best_loss,
        keep_best=keep_best,
        train=train,
        new_image=new_image,
        set_image=tf.assign(image, new_image),
        content=content,
        styles=styles,
        style_grams=style_grams,
        wanted=wanted_features + [gram for each in wanted_grams for gram in each],
    )


def _keep_best(pixels, total):
    """Returns (picture, its total loss, operation that makes `pixels` that picture if it is)."""
    shape = pixels.shape.as_list()
    best = tf.get_variable("best_image", shape, tf.float32, tf.zeros_initializer(), trainable=False)
    worst = tf.constant_initializer(WORST)
    best_loss = tf.get_variable("best_loss", [], tf.float32, worst, trainable=False)
    is_best = total < best_loss
    new_best = tf.where(tf.fill(shape, is_best), pixels, best)
    new_loss = tf.where(is_best, total, best_loss)
    with tf.control_dependencies([new_best, new_loss]):
        return best, best_loss, tf.group(tf.assign(best, new_best), tf.assign(best_loss, new_loss))


def measure_wanted(session, graph: StepGraph, pictures: Pictures, mean_pixel) -> dict:
    """Returns the feed of `graph.wanted`: the content's features and the styles' Gram matrices."""
    content = data.to_input(pictures.content, mean_pixel)
    values = session.run(graph.content, {graph.pixels: content})
    feed = {
        place: data.to_input(style, mean_pixel)
        for place, style in zip(graph.styles, pictures.styles)
    }
    grams = session.run(graph.style_grams, feed)
    return dict(zip(graph.wanted, values + [gram for each in grams for gram in each]))


class Outcome(NamedTuple):
    """What `optimise` found.

    Attributes:
      best: the picture with the lowest total loss, network input [1, H, W, 3].
      measures: {name: number} of it.
      is_complete: whether all steps were made.
      asked_to_stop: whether the user asked to stop, be it in the last step.
    """

    best: np.ndarray
    measures: Dict[str, float]
    is_complete: bool
    asked_to_stop: bool


def optimise(
    config, network, pictures: Pictures, last_step: int, folder, device, in_strips, write_picture
) -> Outcome:
    """Optimises a picture of one size; with `continue_train` from where a stopped run ended.

    Args:
      config: the options.
      network: from `weights.read_network`.
      pictures: at the size of the run.
      last_step: the number of steps.
      folder: takes the state and the log.
      device: from `device.choose`.
      in_strips: see `Vgg.describe`.
      write_picture: called with (best network input so far, step) where a picture is due; the step
        is None when the losses are not finite any more; returns (pixels, path).

    Raises:
      UserError: if the losses are not finite any more, or memory is short.
    """
    layers = [list(weights) for weights in used_layers(config)]
    minimal = device.name == "cpu" and not device.mixed
    vgg = Vgg(network, *layers, pooling=config.pooling, minimal=minimal)
    graph = build_step(config, vgg, pictures, in_strips, device)
    group = ranks.Group(0, 1, (), device.name)  # a picture has one device
    periods = Periods(config.print_iterations, config.save_iterations)
    made_from, resume = fingerprint(network, pictures, in_strips), config.continue_train
    with Run(
        folder, config, device, group, last_step, periods, resume, data=made_from, pictures=1
    ) as run:
        vgg.load(run.session)
        wanted = measure_wanted(run.session, graph, pictures, network.mean_pixel)
        if run.first_step == 1:
            share, seed = config.initial_noiseblend, config.seed
            start = data.starting_image(pictures, share, seed, network.mean_pixel)
            run.session.run(graph.set_image, {graph.new_image: start})
        reporter = progress.Reporter(run.first_step, last_step)
        lbfgs = _lbfgs(graph, run, wanted, config.save_iterations)
        try:
            for step, _ in run.steps(lambda step: None):
                if config.optimizer == "adam":
                    values, _ = run.step((graph.losses, graph.train), wanted)
                else:
                    values = lbfgs.step(step)
                if run.log(step, values):
                    run.print(reporter.lines(step, values))
                every = config.checkpoint_iterations
                if every and (step % every == 0 or step == last_step):
                    run.session.run(graph.keep_best, wanted)  # if it is the one after the step
                    _, path = write_picture(run.session.run(graph.best), step)
                    run.show(step, path)
        except NotFiniteError as error:
            if run.session.run(graph.best_loss) == WORST:
                raise
            write_picture(run.session.run(graph.best), None)
            raise UserError("%s. The best picture so far was written" % error) from error
        finally:
            lbfgs.close()
        best, measures = _measure(run.session, graph, wanted)
        run.print("the best picture has\n" + progress.loss_lines(measures))
        return Outcome(best, measures, not run.stopped, run.asked_to_stop)


def _measure(session, graph: StepGraph, wanted: dict):
    """Returns (the best picture, that after the last step included, {measure: number} of it)."""
    session.run(graph.keep_best, wanted)
    best = session.run(graph.best)
    fetches = (graph.losses, graph.distance)
    values, distance = session.run(fetches, {**wanted, graph.pixels: best})
    measures = {name: float(value) for name, value in values.items()}
    return best, dict(measures, gram_distance=float(distance))


def _lbfgs(graph: StepGraph, run: Run, wanted: dict, restart: int) -> Lbfgs:
    def evaluate(image):
        fetches = (graph.losses, graph.gradient, graph.keep_best)
        return run.step(fetches, {**wanted, graph.pixels: image})[:2]

    def write(image):
        run.session.run(graph.set_image, {graph.new_image: image})

    return Lbfgs(evaluate, lambda: run.session.run(graph.image), write, restart)


def fingerprint(network, pictures: Pictures, in_strips: bool) -> str:
    """Returns a text that changes with what a picture is made from, and with how it is computed."""
    number = zlib.crc32(network.description.encode())
    start = [] if pictures.initial is None else [pictures.initial]
    for array in [pictures.content] + pictures.styles + pictures.masks + start:
        number = zlib.crc32(np.ascontiguousarray(array), number)
    return "%08x%s" % (number, IN_STRIPS if in_strips else "")
