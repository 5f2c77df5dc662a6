# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/tf_runtime/checkpoints.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""Checkpoints that are whole, checked before they are loaded, and fall back when one is damaged."""

import os
import re
import shutil
from typing import List, Optional

import tensorflow.compat.v1 as tf

from harness.errors import UserError
from harness.files import write_text


class CheckpointError(UserError):
    """A checkpoint that cannot be written or read, or does not fit; the message says why."""


class Checkpoints:
    """The checkpoints `<folder>/<name>-<step>` of one run.

    Args:
      folder: where they are.
      name: first part of their file names.
      variables: what they hold.
      keep: how many of the newest stay.
      keep_every: those of every so many steps stay as well; 0 for none.
    """

    def __init__(self, folder: str, name: str, variables, keep: int = 3, keep_every: int = 0):
        self.folder, self.name = folder, name
        self._keep, self._keep_every = keep, keep_every
        self._variables = variables
        self._saver = tf.train.Saver(variables, max_to_keep=None)

    def path(self, step: int) -> str:
        """Returns the path of the checkpoint after `step`, without an ending."""
        return os.path.join(self.folder, "%s-%d" % (self.name, step))

    def steps(self) -> List[int]:
        """Returns the steps that have a checkpoint, oldest first."""
        return checkpoint_steps(self.folder, self.name)

    def save(self, session, step: int) -> None:
        """Writes the checkpoint of `step` under a hidden name, renames it, drops the oldest.

        Raises:
          CheckpointError: if it cannot be written; earlier checkpoints stay as they are.
        """
        hidden = os.path.join(self.folder, ".saving")
        try:
            shutil.rmtree(hidden, ignore_errors=True)
            os.makedirs(hidden)
            base = os.path.basename(self.path(step))
            self._saver.save(
                session, os.path.join(hidden, base), write_meta_graph=False, write_state=False
            )
            for name in sorted(os.listdir(hidden), key=lambda name: name.endswith(".index")):
                os.replace(os.path.join(hidden, name), os.path.join(self.folder, name))
            self._drop_old()
            self._write_state()
        except (OSError, tf.errors.OpError) as error:
            before = ", ".join(str(step) for step in self.steps()) or "none"
            text = (
                "cannot save step %d in %s: %s. Free space or mend it and continue; saved steps: %s"
            )
            raise CheckpointError(text % (step, self.folder, _first_line(error), before)) from error
        finally:
            shutil.rmtree(hidden, ignore_errors=True)

    def _drop_old(self):
        for step in self.steps()[: -self._keep]:
            if not (self._keep_every and step % self._keep_every == 0):
                _remove(self.path(step))

    def _write_state(self):
        """Writes the file `checkpoint` that tf.train.latest_checkpoint reads."""
        names = ["%s-%d" % (self.name, step) for step in self.steps()]
        lines = ['model_checkpoint_path: "%s"' % names[-1]]
        lines += ['all_model_checkpoint_paths: "%s"' % name for name in names]
        write_text(os.path.join(self.folder, "checkpoint"), "\n".join(lines) + "\n")

    def restore_newest(self, session) -> Optional[int]:
        """Loads the newest checkpoint that is whole and returns its step; None where there is none.

        Raises:
          CheckpointError: if there are checkpoints but none can be used.
        """
        problems = []
        for step in reversed(self.steps()):
            try:
                restore(session, self.path(step), self._variables, self._saver)
                return step
            except CheckpointError as error:
                print("%s; trying the one before" % error, flush=True)
                problems.append(str(error))
        if problems:
            raise CheckpointError("no usable checkpoint in %s: %s" % (self.folder, problems[0]))
        return None


def checkpoint_steps(folder: str, name: str) -> List[int]:
    """Returns the steps N of the checkpoints `<folder>/<name>-N`, ascending."""
    pattern = re.compile(re.escape(name) + r"-(\d+)\.index$")
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return sorted(int(match.group(1)) for match in map(pattern.match, names) if match)


def restore(session, path: str, variables, saver=None) -> None:
    """Loads `variables` from the checkpoint `path` after comparing names and shapes.

    Raises:
      CheckpointError: if it is damaged, misses a variable, or has one of another shape.
    """
    try:
        there = tf.train.NewCheckpointReader(path).get_variable_to_shape_map()
        for variable in variables:
            name, shape = variable.op.name, variable.shape.as_list()
            if name not in there:
                raise CheckpointError("%s has no %s; it belongs to another network" % (path, name))
            if there[name] != shape:
                text = "%s does not fit: %s is %s there, %s here; give the options of its training"
                raise CheckpointError(text % (path, name, there[name], shape))
        (saver or tf.train.Saver(variables)).restore(session, path)
    except CheckpointError:
        raise
    except (tf.errors.OpError, ValueError) as error:
        text = "%s is damaged or no checkpoint: %s; use another one or train again"
        raise CheckpointError(text % (path, _first_line(error))) from error


def _first_line(error) -> str:
    lines = [line for line in str(error).splitlines() if line and "Graph execution" not in line]
    return (lines or [type(error).__name__])[0]


def _remove(path):
    for ending in (".index", ".data-00000-of-00001", ".meta"):
        if os.path.exists(path + ending):
            os.remove(path + ending)
