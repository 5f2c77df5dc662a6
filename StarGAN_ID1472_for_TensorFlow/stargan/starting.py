# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that the user names, and the networks in one, which a training may start from."""

import os
from typing import Dict

import numpy as np
import tensorflow.compat.v1 as tf

from harness.errors import UserError
from tf_runtime.checkpoints import CheckpointError, checkpoint_steps


def named_checkpoint(flag: str, name: str, run_folder: str) -> str:
    """Returns the checkpoint that `name` means, without an ending.

    Args:
      flag: the option that `name` was given with, for the message.
      name: a checkpoint's path with or without .index, its name in `run_folder`, or a folder: its
        newest checkpoint counts, or that in its folder checkpoint/.
      run_folder: of the run's own checkpoints.

    Raises:
      UserError: if there is none.
    """
    stem = name[: -len(".index")] if name.endswith(".index") else name
    for path in (stem, os.path.join(run_folder, stem)):
        if os.path.exists(path + ".index"):
            return path
    for folder in (name, os.path.join(name, "checkpoint")):
        steps = checkpoint_steps(folder, "model")
        if steps:
            return os.path.join(folder, "model-%d" % steps[-1])
    text = "--%s %s: there is no %s.index, here or in %s"
    raise UserError(text % (flag, name, stem, run_folder))


def read_networks(path: str, variables) -> Dict[str, np.ndarray]:
    """Returns {name: array} of `variables` as the checkpoint `path` has them.

    Raises:
      CheckpointError: if it is damaged, misses one, or has one of another shape.
    """
    arrays = {}
    try:
        reader = tf.train.NewCheckpointReader(path)
        there = reader.get_variable_to_shape_map()
        for variable in variables:
            name, shape = variable.op.name, variable.shape.as_list()
            if there.get(name) != shape:
                has = "%s there" % there[name] if name in there else "not there"
                text = "%s does not fit: %s is %s, %s here; give the options of its training"
                raise CheckpointError(text % (path, name, has, shape))
            arrays[name] = reader.get_tensor(name)
    except (tf.errors.OpError, ValueError) as error:
        text = "%s is damaged or no checkpoint: %s; use another one"
        raise CheckpointError(text % (path, str(error).splitlines()[0])) from error
    return arrays


def load_networks(session, arrays: Dict[str, np.ndarray]) -> None:
    """Gives the trainable variables of the session's graph their values in `arrays`."""
    variables = [v for v in tf.trainable_variables() if v.op.name in arrays]
    # The initialisers assign, and the values that they assign are given.
    values = {variable.initializer.inputs[1]: arrays[variable.op.name] for variable in variables}
    session.run([variable.initializer for variable in variables], values)
