# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/tf_runtime/run.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""One training run in TensorFlow: session, resume and checkpoints around harness.loop.

The training loop itself is an ordinary `for` in the model's training.py:

    with Run(folder, config, device, group, last_step, Periods(), resume=True) as run:
        for step, batch in run.steps(read_batch):
            losses = run.step(fetches, {images: batch})
            run.log(step, losses)
"""

import platform

import numpy as np
import tensorflow.compat.v1 as tf

from harness import report, settings
from harness.loop import Loop, NotFiniteError, Periods
from tf_runtime import device as devices
from tf_runtime.checkpoints import Checkpoints, checkpoint_steps

__all__ = ["NotFiniteError", "Periods", "Run", "surroundings"]


def surroundings(device, ranks=1) -> dict:
    """Returns what besides the options decides the bits of a run."""
    return {
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "device": device.name,
        "precision": device.mixed or "float32",
        "threads": device.threads,
        "ranks": ranks,
    }


class Run(Loop):
    """A training run in `folder`; a context manager. Build the whole graph before entering it.

    Args:
      folder: takes config.json, log.jsonl, training.json and the checkpoints.
      config: the options; those that may not change are compared on resume.
      device: from `device.choose`.
      group: from `ranks.connect`.
      last_step: the number of the last step; the first one ever is 1.
      periods: how often to log and save.
      resume: whether to go on where the checkpoints in `folder` end.
      name: first part of the checkpoints' names.
      summaries: folder for TensorBoard, or "".
      data: a text that changes with the training data; a resumed run says if it did.
      pictures: how many a step of one rank shows; 0 is config.batch_size.
      warm_up: the first steps, which compile; the mean speed leaves them out if there are others.
    """

    def __init__(
        self,
        folder,
        config,
        device,
        group,
        last_step,
        periods,
        resume,
        name="model",
        summaries="",
        data="",
        pictures=0,
        warm_up=2,
    ):
        around = dict(surroundings(device, group.size), data=data)
        shown = (pictures or config.batch_size) * group.size
        super().__init__(folder, last_step, periods, around, shown, group.rank, group.size, warm_up)
        self._config, self._device, self._group = config, device, group
        self._resume, self._name, self._writer = resume, name, None
        self._summaries, self._scale_values = summaries, {}

    def __enter__(self):
        if self.rank == 0:
            words = (self._config, self.around, self.last_step, self._resume)
            self._resume = settings.check(self.folder, self.saved_steps(), *words)
        self._build()
        session_config = devices.session_config(self._device)
        self._group.start(session_config)
        self.session = tf.Session(target=self._group.target, config=session_config)
        try:
            self._initialise()
        except BaseException:
            self.session.close()
            raise
        return self

    def _build(self):
        step = tf.train.get_or_create_global_step()
        self._step_value = tf.placeholder(tf.int64, [])
        self._set_step = tf.assign(step, self._step_value)
        variables = tf.global_variables()
        keep = (self.periods.keep, self.periods.keep_every)
        self.checkpoints = Checkpoints(self.folder, self._name, variables, *keep)
        floats = [variable for variable in variables if variable.dtype.is_floating]
        self._finite = {v.op.name: tf.reduce_all(tf.is_finite(v)) for v in floats}
        self._broadcast = self._group.broadcast(variables)
        self._my_vote, self._vote = self._group.stop_vote()
        self._scales = devices.loss_scales()
        self._read_step, self._init = step, tf.global_variables_initializer()

    def _initialise(self):
        self.session.run(self._init)
        if self.rank == 0:
            done = self.checkpoints.restore_newest(self.session) if self._resume else None
            if self._resume and (done or 0) < self.last_step:
                text = "continuing after step %d" % done if done else "no checkpoint yet: step 1"
                print(text, flush=True)
        self._group.run(self.session, self._broadcast)
        if self.rank == 0 and self._summaries:
            self._writer = tf.summary.FileWriter(self._summaries)
        self.open(int(self.session.run(self._read_step)) + 1)

    def saved_steps(self):
        """Returns the steps that have a checkpoint, ascending."""
        return checkpoint_steps(self.folder, self._name)

    def save(self, step):
        """Saves all variables after `step`, on rank 0, if they are finite.

        Raises:
          NotFiniteError: if one is not.
        """
        if self.rank == 0:
            for name, finite in self.session.run(self._finite).items():
                if not finite:
                    self.not_finite("%s is not finite after step %d" % (name, step))
            self.session.run(self._set_step, {self._step_value: step})
            self.checkpoints.save(self.session, step)

    def step(self, fetches, feed=None):
        """Runs a step: as session.run, together with all ranks and their wish to stop."""
        feed = dict(feed or {})
        feed[self._my_vote] = 1.0 if self.signalled else 0.0
        fetches = (fetches, self._vote, self._scales)
        values, vote, self._scale_values = self._group.run(self.session, fetches, feed)
        self.end_step(vote > 0 or (self.ranks == 1 and self.signalled))
        return values

    def log(self, step, losses, **more):
        """As Loop.log; the loss scales are further numbers of the record."""
        return super().log(step, losses, **dict(self._scale_values, **more))

    def record(self, step, values):
        """Writes the numbers for TensorBoard."""
        if self._writer:
            pairs = values.items()
            values = [tf.Summary.Value(tag=name, simple_value=value) for name, value in pairs]
            self._writer.add_summary(tf.Summary(value=values), step)

    def __exit__(self, *exception):
        self.close()
        if self._writer:
            self._writer.close()
        self.session.close()
        if self.rank == 0 and self.first_step <= self.last_step:
            report.write(self.folder, self._config)
