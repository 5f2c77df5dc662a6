# SPDX-License-Identifier: Apache-2.0
"""Arrays -> the files of a run: a TensorFlow checkpoint and its settings."""

import os
import re
from typing import Dict, Sequence

import numpy as np
import tensorflow.compat.v1 as tf

from harness.errors import UserError
from harness.files import write_json
from harness.options import must_agree
from tf_runtime.checkpoints import checkpoint_steps
from tools.weights.graphs import checkpoint_prefix


def write(path: str, arrays: Dict[str, np.ndarray]) -> None:
    """Writes `path`.index and `path`.data-00000-of-00001 into a folder from `outputs.new_folder`.

    Args:
      path: as `tf.train.Saver.restore` takes it.
      arrays: {name: array}; they are stored in their own types.
    """
    with tf.Graph().as_default(), tf.device("/cpu:0"):
        tensors = [tf.placeholder(array.dtype, array.shape) for array in arrays.values()]
        names, slices = list(arrays), [""] * len(arrays)
        save = tf.raw_ops.SaveV2(
            prefix=path, tensor_names=names, shape_and_slices=slices, tensors=tensors
        )
        try:
            with tf.Session(config=tf.ConfigProto(device_count={"GPU": 0})) as session:
                session.run(save, dict(zip(tensors, arrays.values())))
        except tf.errors.OpError as error:
            text = "cannot write %s: %s; free space or choose another place"
            raise UserError(text % (path, str(error).splitlines()[0])) from error


def write_settings(folder: str, config, known: Sequence[str], source: str) -> None:
    """Writes config.json, from which the commands of a model folder take a network's options.

    Args:
      folder: where the checkpoint is.
      config: the options.
      known: names of those that the weights tell; the others are the command line's.
      source: what was converted.
    """
    options = {name: getattr(config, name) for name in known}
    around = {"weights": "converted from " + source}
    values = {"must_agree": must_agree(config), "options": options, "surroundings": around}
    write_json(os.path.join(folder, "config.json"), values)


def find(path: str, name: str) -> str:
    """Returns the checkpoint that `path` means, without an ending.

    Args:
      path: a checkpoint, one of its files, or a folder with checkpoints `name`-N: the last one.
      name: such as "model".

    Raises:
      UserError: if there is none.
    """
    if os.path.isdir(path):
        steps = checkpoint_steps(path, name)
        if not steps:
            raise UserError("%s has no checkpoint %s-N; name the checkpoint" % (path, name))
        return os.path.join(path, "%s-%d" % (name, steps[-1]))
    prefix = checkpoint_prefix(path)
    if not prefix:
        text = "%s is no TensorFlow checkpoint, as there is no %s.index; name one without an ending"
        raise UserError(text % (path, path))
    return prefix


def step_of(path: str) -> int:
    """Returns N of a file called model-N, N-G.ckpt or the like; 0 for other names."""
    found = re.search(r"(?:^|-)(\d+)(?:-[GD])?(?:\.ckpt)?$", os.path.basename(path))
    return int(found.group(1)) if found else 0
