# SPDX-License-Identifier: Apache-2.0
"""Published Pix2Pix checkpoints (affinelayer/pix2pix-tensorflow) -> ours and back.

Our variables have the names that their code gives since it uses tf.layers; earlier ones are mapped.
The result is a folder that main.py and frozen_graph.py take as --checkpoint_dir.
"""

import os
import re
from typing import Dict, List, Tuple

import numpy as np
import tensorflow.compat.v1 as tf

from harness.errors import UserError
from harness.files import read_json, write_json, write_text
from pix2pix import networks
from pix2pix.config import Config
from tools.weights import audit, bundle, files, outputs
from tools.weights.audit import Arrays
from tools.weights.graphs import checkpoint_prefix

OLD = {
    "conv/filter": "conv2d/kernel",
    "deconv/filter": "conv2d_transpose/kernel",
    "batchnorm/offset": "batch_normalization/beta",
    "batchnorm/scale": "batch_normalization/gamma",
}
# Statistics that their code never reads, Adam's state, averages of losses.
UNUSED = re.compile(
    r".*/(moving_mean|moving_variance|Adam(_1)?|ExponentialMovingAverage)|.*beta[12]_power(_\d+)?"
)
NORM = "generator/encoder_8/batch_normalization/gamma"
OTHERS = {
    r"generator/g_e\d_conv/|discriminator/d_h\d_": "is of the Ascend ModelZoo's Pix2Pix (ID0359), "
    "another network with 5x5 kernels and a discriminator of whole pictures; it fits nothing here: "
    "train anew",
    r".*separable_conv2d/": "is of a training with --separable_conv, which is not built here",
}
OPTIONS_FILE = "options.json"  # what their code stores beside its checkpoints


def add_arguments(parser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("published", help="a checkpoint, the folder of one, or an .npz")
    parser.add_argument("--output", required=True, help="folder: --checkpoint_dir of main.py")
    parser.add_argument(
        "--to_published", action="store_true", help="our checkpoint -> one of theirs in OUTPUT"
    )
    parser.add_argument("--dataset", default=Config.dataset_name, help="default %(default)s")


def run(arguments) -> int:
    """Converts what the command line names.

    Raises:
      UserError: if the file holds no such weights or the output cannot be written.
    """
    path, arrays = _read(arguments.published)
    step = int(np.ravel(arrays["global_step"])[0]) if "global_step" in arrays else 0
    step = step or bundle.step_of(path)
    ours, left_out, notes = from_published(arrays, path)
    values = settings(ours, path)
    if arguments.to_published:
        return _to_published(arguments.output, ours, left_out, step, path)
    if os.path.exists(os.path.join(os.path.dirname(os.path.abspath(path)), "config.json")):
        text = "%s is ours, as config.json beside it tells: use it as it is, or add --to_published"
        raise UserError(text % path)
    values.update(_told_beside(path))
    config = Config(dataset_name=arguments.dataset, **values)
    folder = os.path.join(arguments.output, os.path.basename(config.run_folder))
    with outputs.new_folder(folder) as hidden:
        bundle.write_settings(hidden, config, list(values), path)
        bundle.write(os.path.join(hidden, "pix2pix.model-%d" % step), ours)
    options = audit.options_line(values) + " (config.json has them)"
    written = {os.path.join(folder, "pix2pix.model-%d" % step): ours}
    audit.print_report(written, left_out, options, notes + _switches(values))
    return 0


def _read(published) -> Tuple[str, Arrays]:
    """Returns (the file's path, everything in it)."""
    if os.path.isdir(published) or checkpoint_prefix(published):
        names = os.listdir(published) if os.path.isdir(published) else []
        ours = any(name.startswith("pix2pix.model-") for name in names)
        published = bundle.find(published, "pix2pix.model" if ours else "model")
    return published, files.read(published)


def from_published(arrays: Arrays, source: str) -> Tuple[Arrays, List[str], List[str]]:
    """Returns ({our variable: float32 array}, names that have no use, switches they need).

    Args:
      arrays: {published name: array}, of either spelling; without the discriminator is well too.
      source: what they were read from, for messages.

    Raises:
      UserError: if a tensor is missing, not known, of another shape, not finite, or of another
        network.
    """
    for pattern, what in OTHERS.items():
        if any(re.match(pattern, name) for name in arrays):
            raise UserError("%s %s" % (source, what))
    ours, theirs, left_out = {}, {}, []
    for name, array in arrays.items():
        if UNUSED.fullmatch(name) or not name.startswith(("generator/", "discriminator/")):
            left_out.append(name)
            continue
        layer, _, end = name.rpartition("/")
        layer, _, kind = layer.rpartition("/")
        own = "%s/%s" % (layer, OLD.get("%s/%s" % (kind, end), "%s/%s" % (kind, end)))
        if own in ours:
            raise UserError("%s has both %s and %s; one is right" % (source, theirs[own], name))
        ours[own], theirs[own] = array, name
    shapes = _shapes(settings(ours, source), any(n.startswith("discriminator/") for n in ours))
    notes = []
    if not any(name.endswith("/bias") for name in ours):
        biases = [name for name in shapes if name.endswith("/bias")]
        ours.update({name: np.zeros(shapes[name], np.float32) for name in biases})
        notes.append("no switch for biases: theirs had none then, %d are 0 here" % len(biases))
    return audit.check(source, ours, shapes, theirs), left_out, notes


def _shapes(values: dict, judged: bool) -> Dict[str, Tuple[int, ...]]:
    """Returns {name: shape} of our graph; with the discriminator if `judged`."""
    config = Config(**values)
    with tf.Graph().as_default():
        conditions = tf.placeholder(tf.float32, [1, 256, 256, config.input_nc])
        norm = config.legacy_bottleneck_norm
        fakes = networks.generator(conditions, config.output_nc, config.ngf, bottleneck_norm=norm)
        if judged:
            networks.discriminator(conditions, fakes, config.ndf)
        return {v.op.name: tuple(v.shape.as_list()) for v in tf.global_variables()}


def settings(arrays: Arrays, source: str) -> dict:
    """Returns {option: value} that the shapes of {our variable: array} tell.

    Raises:
      UserError: if a tensor that tells it is missing or no network here can have it.
    """

    def shape(name):
        return audit.first_shape(source, arrays, name, 4, name)

    first = shape("generator/encoder_1/conv2d/kernel")
    last = shape("generator/decoder_1/conv2d_transpose/kernel")
    values = {"input_nc": first[2], "output_nc": last[2], "ngf": first[3]}
    if (values["input_nc"], values["output_nc"]) == (1, 2):
        text = "%s is of a network for --lab_colorization, which is not built here"
        raise UserError(text % source)
    for name in ("input_nc", "output_nc"):
        if values[name] not in (1, 3):
            text = "%s: its pictures have %d channels (%s); it must be 1 or 3"
            raise UserError(text % (source, values[name], name))
    if any(name.startswith("discriminator/") for name in arrays):
        values["ndf"] = shape("discriminator/layer_1/conv2d/kernel")[3]
    return dict(values, legacy_bottleneck_norm=NORM in arrays)


def _told_beside(path) -> dict:
    """Returns the direction that options.json beside a checkpoint tells."""
    told = read_json(os.path.join(os.path.dirname(os.path.abspath(path)), OPTIONS_FILE), {})
    if told.get("which_direction") not in ("AtoB", "BtoA"):
        return {}
    return {"which_direction": told["which_direction"]}


def _switches(values) -> List[str]:
    notes = []
    if values["legacy_bottleneck_norm"]:
        text = "--legacy_bottleneck_norm=True (config.json has it): their encoder_8 is normalised, "
        notes.append(text + "which at 256x256 leaves its beta and nothing of the picture")
    if "which_direction" not in values:
        text = "--which_direction of their training where it was not %s: no %s tells it"
        notes.append(text % (Config.which_direction, OPTIONS_FILE))
    notes.append("--stochastic=True only for the dropout noise that their test mode keeps")
    notes.append("--test_size=256 for single pictures as their test mode resizes them")
    return notes


def to_published(arrays: Arrays) -> Arrays:
    """Returns {published name: array}: the weights, and the statistics that their graph has.

    Args:
      arrays: {our variable: array}, which `from_published` returned.
    """
    theirs = dict(arrays)
    for name, array in arrays.items():
        layer, _, end = name.rpartition("/")
        if end == "gamma":
            theirs[layer + "/moving_mean"] = np.zeros_like(array)
            theirs[layer + "/moving_variance"] = np.ones_like(array)
    return theirs


def _to_published(output, ours, left_out, step, source) -> int:
    config = read_json(os.path.join(os.path.dirname(os.path.abspath(source)), "config.json"), {})
    values = settings(ours, source)
    theirs = dict(to_published(ours), global_step=np.array(step, np.int64))
    told = {"lab_colorization": False, "ngf": values["ngf"], "ndf": values.get("ndf", Config.ndf)}
    if "which_direction" in config.get("options", {}):
        told["which_direction"] = config["options"]["which_direction"]
    name = "model-%d" % step
    with outputs.new_folder(output) as hidden:
        bundle.write(os.path.join(hidden, name), theirs)
        write_json(os.path.join(hidden, OPTIONS_FILE), told)
        write_text(os.path.join(hidden, "checkpoint"), 'model_checkpoint_path: "%s"\n' % name)
    notes = ["their --mode=export: for their train and test modes Adam's slots are missing"]
    if not values["legacy_bottleneck_norm"]:
        text = "a generator without a norm in encoder_8: theirs has one, and cannot take these"
        notes.append(text + " weights (trained here without --legacy_bottleneck_norm)")
    path = os.path.join(output, name)
    audit.print_report({path: theirs}, left_out, audit.options_line(told), notes)
    return 0
