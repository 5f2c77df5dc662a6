# SPDX-License-Identifier: Apache-2.0
"""Published StarGAN weights -> ours and back: the authors' (yunjey/stargan), the Ascend ModelZoo's.

The ModelZoo's TensorFlow checkpoints have our names and axes, but are for BGR. The result is a
folder that main.py and frozen_graph.py take as --output_dir.
"""

import os
import re
from typing import List, Tuple

from harness.errors import UserError
from harness.files import write_json
from stargan.config import Config
from stargan.labels import Labelled, Source
from stargan.serving import LABELS_FILE, describe_sources, label_width
from tools.weights import audit, bundle, files, outputs, pytorch
from tools.weights.audit import Arrays
from tools.weights.graphs import checkpoint_prefix
from tools.weights.stargan_maps import Widths, check, from_pytorch, to_pytorch, widths

RAFD = ("angry", "contemptuous", "disgusted", "fearful", "happy", "neutral", "sad", "surprised")
# Where pictures enter and leave: {variable: axis of their channels}.
COLOURS = {"G/conv/conv2d/kernel": 2, "G/G_logit/conv2d/kernel": 3, "D/conv_0/conv2d/kernel": 2}
OURS = re.compile(r"[GD]/.*(?<!/Adam)(?<!/Adam_1)")  # Adam's slots end in those


def turn_colours(arrays: Arrays) -> Arrays:
    """Returns the weights that do with RGB what `arrays` do with BGR, and the other way round."""
    turned = dict(arrays)
    for name, axis in COLOURS.items():
        if name in arrays:
            order = list(range(arrays[name].shape[axis]))
            order[:3] = [2, 1, 0]
            turned[name] = arrays[name].take(order, axis)
    return turned


def add_arguments(parser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("published", nargs="+", help="N-G.ckpt and N-D.ckpt, or a TF checkpoint")
    parser.add_argument("--output", required=True, help="folder: --output_dir of main.py")
    parser.add_argument(
        "--to_published", action="store_true", help="our checkpoint -> OUTPUT/N-G.ckpt, N-D.ckpt"
    )
    parser.add_argument(
        "--selected_attrs", default="", help="names of the CelebA labels; default: the authors' 5"
    )
    parser.add_argument("--classes", default="", help="names of the classes; default: RaFD's 8")


def run(arguments) -> int:
    """Converts what the command line names.

    Raises:
      UserError: if the files are no such weights or the output cannot be written.
    """
    paths = arguments.published
    if os.path.isdir(paths[0]) or checkpoint_prefix(paths[0]):
        if len(paths) > 1:
            raise UserError("%s: a TensorFlow checkpoint holds both networks" % " ".join(paths))
        paths = [bundle.find(paths[0], "model")]
    step = bundle.step_of(paths[0])
    if arguments.to_published:
        return _to_published(paths[0], arguments.output, step)
    arrays, left_out, notes, crop = _read(paths)
    found = widths(arrays, paths[0])
    sources = find_sources(found, arguments.selected_attrs, arguments.classes)
    config, known = _settings(found, sources, crop)
    folder = os.path.join(arguments.output, "checkpoint")
    with outputs.new_folder(folder) as hidden:
        bundle.write_settings(hidden, config, known, " ".join(paths))
        write_json(os.path.join(hidden, LABELS_FILE), describe_sources(sources))
        bundle.write(os.path.join(hidden, "model-%d" % step), arrays)
    if not found.d:
        text = "--image_size of their training where it was not %d: without D nothing tells it"
        notes.append(text % Config.image_size)
    named = [" ".join(source.names) for source in sources]
    notes.append("these labels to be right, in this order: %s" % ", ".join(named))
    options = audit.options_line({name: getattr(config, name) for name in known})
    options += " (config.json has them)"
    path = os.path.join(folder, "model-%d" % step)
    audit.print_report({path: arrays}, left_out, options, notes)
    return 0


def _read(paths: List[str]) -> Tuple[Arrays, List[str], List[str], int]:
    """Returns (our arrays, names left out, switches needed, --crop_size)."""
    if checkpoint_prefix(paths[0]):
        folder = os.path.dirname(paths[0])
        if os.path.exists(os.path.join(folder, LABELS_FILE)):
            text = "%s is ours, as %s beside it tells: use it as it is, or add --to_published"
            raise UserError(text % (paths[0], LABELS_FILE))
        arrays, left_out = _ours(paths[0])
        notes = ["no switch for BGR, which these weights are for: they were turned to RGB"]
        notes.append(
            "pictures of 178x218 squashed to squares beforehand: their training did not crop, so "
            "--crop_size=0 is in config.json"
        )
        return turn_colours(arrays), left_out, notes, 0
    arrays = {}
    for path in paths:
        for name, array in _with_network(files.read(path)).items():
            if name in arrays:
                raise UserError("%s: %s was given before" % (path, name))
            arrays[name] = array
    arrays, left_out = from_pytorch(arrays)
    notes = ["no switch: the networks compute the same, with --crop_size=178 as it is by default"]
    notes.append("--lr_decay=legacy only to train as they were: the weights do not depend on it")
    return arrays, left_out, notes, Config.crop_size


def _with_network(arrays: Arrays) -> Arrays:
    """Returns {name: array}, names beginning with G/ or D/ as those of some files do by nature."""
    if any(name[:2] in ("G/", "D/") for name in arrays):
        return arrays
    network = "D/" if "conv1.weight" in arrays or "conv2.weight" in arrays else "G/"
    return {network + name: array for name, array in arrays.items()}


def _ours(path) -> Tuple[Arrays, List[str]]:
    """Returns ({variable: array}, names left out) of a TensorFlow checkpoint."""
    everything = files.read(path)
    arrays = {name: array for name, array in everything.items() if OURS.fullmatch(name)}
    return check(arrays, path), [name for name in everything if name not in arrays]


def find_sources(found: Widths, attributes: str, classes: str) -> List[Source]:
    """Returns the data sets that the labels are of, without pictures.

    Args:
      found: the widths of the networks.
      attributes: names of the CelebA attributes, or "".
      classes: names of the classes, or "".

    Raises:
      UserError: if so many names do not make so many labels.
    """
    names = attributes.replace(",", " ").split() or Config.selected_attrs
    celeba = Source("celeba", tuple(names), Labelled([], None), Labelled([], None))
    names = classes.replace(",", " ").split() or RAFD
    classed = Source("classes", tuple(names), Labelled([], None), Labelled([], None))
    choices = [[celeba, classed]]
    choices += [] if classes and not attributes else [[celeba]]
    choices += [] if attributes and not classes else [[classed]]
    for sources in choices:
        labels = sum(len(source.names) for source in sources)
        if label_width(sources) == found.labels and found.d_labels in (0, labels):
            return sources
    text = "the generator takes %d labels%s; name them with --selected_attrs (%d given) or "
    text += "--classes (%d given), or all with both: then 2 labels are the mask"
    judged = ", the discriminator judges %d" % found.d_labels if found.d else ""
    raise UserError(text % (found.labels, judged, len(celeba.names), len(classed.names)))


def _settings(found: Widths, sources: List[Source], crop: int) -> Tuple[Config, List[str]]:
    """Returns (the options, names of those that the weights tell)."""
    dataset = sources[0].kind if len(sources) == 1 else "both"
    values = {"dataset": dataset, "crop_size": crop}
    values.update(g_conv_dim=found.g, g_repeat_num=found.blocks)
    if sources[0].kind == "celeba":
        values["selected_attrs"] = sources[0].names
    if found.d:
        values.update(d_conv_dim=found.d, d_repeat_num=found.layers, image_size=found.image_size)
    return Config(**values), list(values)


def _to_published(path, output, step) -> int:
    if not checkpoint_prefix(path):
        raise UserError("%s: --to_published takes a checkpoint of ours, model-N" % path)
    arrays, left_out = _ours(path)
    theirs, written = to_pytorch(arrays), {}
    with outputs.new_folder(output) as hidden:
        for network in ("G", "D"):
            part = {k[2:]: array for k, array in theirs.items() if k[0] == network}
            if part:
                name = "%d-%s.ckpt" % (step, network)
                pytorch.write(os.path.join(hidden, name), part)
                written[os.path.join(output, name)] = part
    found = widths(arrays, path)
    options = {"g_conv_dim": found.g, "g_repeat_num": found.blocks}
    if found.d:
        options.update(d_conv_dim=found.d, d_repeat_num=found.layers, image_size=found.image_size)
    notes = ["%d labels in all (theirs: c_dim, c2_dim and the mask)" % found.labels]
    audit.print_report(written, left_out, audit.options_line(options), notes)
    return 0
