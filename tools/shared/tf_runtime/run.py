# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/tf_runtime/run.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""One training run: session, resume, checkpoints, log, progress and stop signals.

The training loop itself is an ordinary `for` in the model's training.py:

    with Run(folder, config, device, group, last_step, Periods(), resume=True) as run:
        for step, batch in run.steps(read_batch):
            losses = run.step(fetches, {images: batch})
            run.log(step, losses)
"""

import dataclasses
import json
import math
import os
import resource
import signal
import sys
import time

import numpy as np
import tensorflow.compat.v1 as tf
from tqdm import tqdm

from harness.ahead import Ahead
from harness.errors import UserError
from harness.files import keep_whole_lines, write_json
from tf_runtime import device as devices
from tf_runtime import settings
from tf_runtime.checkpoints import Checkpoints


class NotFiniteError(UserError):
    """A loss or variable became NaN or infinite; the message names it."""


@dataclasses.dataclass(frozen=True)
class Periods:
    """How often a run does things, in steps; 0 is never.

    Attributes:
      log: a line in log.jsonl and on the screen.
      save: a checkpoint.
      keep: how many of the newest checkpoints stay.
      keep_every: the checkpoints of every so many steps stay as well.
    """

    log: int = 50
    save: int = 500
    keep: int = 3
    keep_every: int = 0


class Run:
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
      mixlist_file: see `device.session_config`.
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
        mixlist_file="",
        data="",
        pictures=0,
        warm_up=2,
    ):
        self.folder, self._config, self._device, self._group = folder, config, device, group
        self._last_step, self._periods, self._resume, self._name = last_step, periods, resume, name
        self._summaries, self._mixlist_file = summaries, mixlist_file
        self._summary_path = os.path.join(folder, "training.json")
        self._around = dict(settings.surroundings(device, group), data=data)
        self._pictures = (pictures or config.batch_size) * group.size
        self._warm_up, self._logged = warm_up, 0
        self.first_step, self.stopped = 1, False
        self._step_seconds, self._step_begin, self._first_step_seconds = [], None, None
        self._losses, self._signal, self._bar, self._log, self._writer = {}, None, None, None, None

    def __enter__(self):
        if self._group.rank == 0:
            words = (self._config, self._around, self._last_step, self._resume)
            self._resume = settings.check(self.folder, self._name, *words)
        self._build()
        session_config = devices.session_config(self._device, self._mixlist_file)
        self._group.start(session_config)
        self.session = tf.Session(target=self._group.target, config=session_config)
        try:
            self._initialise()
        except BaseException:
            self.session.close()
            raise
        stops = (signal.SIGTERM, signal.SIGINT)
        self._handlers = {s: signal.signal(s, self._on_signal) for s in stops}
        return self

    def _build(self):
        step = tf.train.get_or_create_global_step()
        self._step_value = tf.placeholder(tf.int64, [])
        self._set_step = tf.assign(step, self._step_value)
        variables = tf.global_variables()
        keep = (self._periods.keep, self._periods.keep_every)
        self.checkpoints = Checkpoints(self.folder, self._name, variables, *keep)
        floats = [variable for variable in variables if variable.dtype.is_floating]
        self._finite = {v.op.name: tf.reduce_all(tf.is_finite(v)) for v in floats}
        self._broadcast = self._group.broadcast(variables)
        self._my_vote, self._vote = self._group.stop_vote()
        self._read_step, self._init = step, tf.global_variables_initializer()

    def _initialise(self):
        self.session.run(self._init)
        if self._group.rank == 0:
            done = self.checkpoints.restore_newest(self.session) if self._resume else None
            if self._resume and (done or 0) < self._last_step:
                text = "continuing after step %d" % done if done else "no checkpoint yet: step 1"
                print(text, flush=True)
        self._group.run(self.session, self._broadcast)
        self.first_step = int(self.session.run(self._read_step)) + 1
        if self._group.rank == 0:
            path = os.path.join(self.folder, "log.jsonl")
            keep_whole_lines(path, self.first_step > 1)
            self._log = open(path, "a", encoding="utf-8")  # noqa: SIM115 - closed in __exit__
            if self.first_step <= self._last_step and os.path.exists(self._summary_path):
                os.remove(self._summary_path)  # it spoke of the run so far
            if self._summaries:
                self._writer = tf.summary.FileWriter(self._summaries)

    @property
    def asked_to_stop(self) -> bool:
        """Whether the user asked to stop, even if that was in the last step."""
        return self.stopped or self._signal is not None

    def _on_signal(self, number, frame):
        if self._signal and number == signal.SIGINT:  # Ctrl-C again: leave at once
            raise KeyboardInterrupt
        self._signal = number

    def steps(self, read_batch):
        """Yields (step, read_batch(step)) for the steps to do; saves; stops when asked to.

        `read_batch` makes a step's data from its number alone; it is called ahead in other threads.
        """
        last_step = self._last_step
        show = self._group.rank == 0 and (
            sys.stderr.isatty() or os.environ.get("PROGRESS_BAR") == "1"
        )
        self._begin = time.perf_counter()
        step = saved = self.first_step - 1
        self._bar = tqdm(total=last_step, initial=step, disable=not show, unit="step")
        with Ahead(read_batch, last_step) as ahead:
            while step < last_step and not self.stopped:
                step += 1
                self._step_begin = time.perf_counter()
                yield step, ahead(step)
                self._bar.update()
                periods = (self._periods.save, self._periods.keep_every)
                if any(period and step % period == 0 for period in periods):
                    saved = self._save(step)
        if saved < step:
            self._save(step)
        self._bar.close()
        self.stopped = self.stopped and step < last_step
        if self.stopped:
            self.print("stopped at step %d" % step)
        self._write_training(step, ahead.waited)

    def _not_finite(self, what):
        steps = self.checkpoints.steps()
        last = (
            "the last good checkpoint is that of step %d" % steps[-1]
            if steps
            else "no checkpoint is saved"
        )
        raise NotFiniteError("%s; %s. A lower learning rate may help" % (what, last))

    def _save(self, step):
        if self._group.rank == 0:
            for name, finite in self.session.run(self._finite).items():
                if not finite:
                    self._not_finite("%s is not finite after step %d" % (name, step))
            self.session.run(self._set_step, {self._step_value: step})
            self.checkpoints.save(self.session, step)
        return step

    def step(self, fetches, feed=None):
        """Runs a step: as session.run, together with all ranks and their wish to stop."""
        feed = dict(feed or {})
        feed[self._my_vote] = 1.0 if self._signal else 0.0
        values, vote = self._group.run(self.session, (fetches, self._vote), feed)
        self.stopped = bool(vote > 0) or (self._group.size == 1 and self._signal is not None)
        return values

    def log(self, step: int, losses: dict, **more) -> bool:
        """Ends the step's time; records it where one is due, and then returns True.

        Args:
          step: the step just done.
          losses: {name: value}; every value must be finite.
          **more: further numbers of the record, such as learning rates.

        Raises:
          NotFiniteError: if a loss is NaN or infinite.
        """
        seconds = time.perf_counter() - self._step_begin
        if self._first_step_seconds is None:
            self._first_step_seconds = seconds
        else:
            self._step_seconds.append(seconds)
        self._losses = {name: float(value) for name, value in losses.items()}
        for name, value in self._losses.items():
            if not math.isfinite(value):
                self._not_finite("%s is %s at step %d" % (name, value, step))
        self._bar.set_postfix(self._losses, refresh=False)
        due = self._periods.log and (step % self._periods.log == 0 or step == self._last_step)
        if self._group.rank or not due:
            return False
        # The mean since the last record, as steps may differ in what they do.
        recent = self._step_seconds[self._logged :] or [seconds]
        self._logged, seconds = len(self._step_seconds), float(np.mean(recent))
        rate = self._pictures / seconds
        record = dict(step=step, **self._losses, **{k: float(v) for k, v in more.items()})
        record.update(seconds_per_step=round(seconds, 6), images_per_second=round(rate, 4))
        self._log.write(json.dumps(record) + "\n")
        self._log.flush()
        if self._writer:
            values = [
                tf.Summary.Value(tag=name, simple_value=value)
                for name, value in record.items()
                if name != "step"
            ]
            self._writer.add_summary(tf.Summary(value=values), step)
        return True

    def seconds(self) -> float:
        """Returns the seconds since the loop began."""
        return time.perf_counter() - self._begin

    def print(self, line: str) -> None:
        """Prints a line above the progress bar; on rank 0 only."""
        if self._group.rank == 0:
            tqdm.write(line, file=sys.stdout)
            sys.stdout.flush()

    def _write_training(self, step, waited):
        """Writes training.json: what a case needs to know about the run."""
        if self._group.rank or step < self.first_step:
            return
        seconds = self._step_seconds[self._warm_up - 1 :] or self._step_seconds or None
        mean = float(np.mean(seconds)) if seconds else None
        duration = self.seconds()
        write_json(
            self._summary_path,
            {
                "steps": step,
                "first_step": self.first_step,
                "stopped": self.stopped,
                "first_step_seconds": self._first_step_seconds,
                "seconds_per_step": mean,
                "images_per_second": self._pictures / mean if mean else None,
                "share_of_time_waiting_for_data": round(waited / duration, 4),
                "duration_seconds": duration,
                "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                "losses": self._losses,
                "ranks": self._group.size,
                "batch": self._pictures,
                "surroundings": self._around,
            },
        )

    def __exit__(self, *exception):
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self._bar is not None:
            self._bar.close()
        for stream in (self._log, self._writer):
            if stream:
                stream.close()
        self.session.close()
