# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/harness/loop.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""The loop over training steps: log, progress, speed and stop signals; knows no framework."""

import dataclasses
import json
import math
import os
import resource
import signal
import sys
import time
from typing import List

import numpy as np
from tqdm import tqdm

from harness.ahead import Ahead
from harness.errors import UserError
from harness.files import keep_whole_lines, write_json
from harness.gallery import SAMPLES, add_samples
from harness.memory import resident


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


class Loop:
    """What a training run in `folder` does in any framework.

    A subclass overrides `save` and `saved_steps`, and `record` if it wants to. Between `open` and
    `close`, the body of `for step, data in loop.steps(read_batch)` does the step, then calls
    `end_step` and `log`.

    Args:
      folder: takes log.jsonl and training.json.
      last_step: the number of the last step; the first one ever is 1.
      periods: how often to log and save.
      around: what decides the bits of the run besides the options; goes into training.json.
      pictures: how many a step of all ranks shows together.
      rank: this process, 0 to ranks - 1; only rank 0 prints, logs and writes files.
      ranks: how many processes train together.
      warm_up: the first steps, which compile; the mean speed leaves them out if there are others.

    Attributes:
      first_step: the first step to do; from `open`.
      stopped: whether the ranks have agreed to stop; when `steps` has ended, whether it did so
        before the last step.
    """

    def __init__(self, folder, last_step, periods, around, pictures, rank=0, ranks=1, warm_up=2):
        self.folder, self.last_step, self.periods, self.around = folder, last_step, periods, around
        self.rank, self.ranks = rank, ranks
        self._summary_path = os.path.join(folder, "training.json")
        self._pictures, self._warm_up, self._logged = pictures, warm_up, 0
        self.first_step, self.stopped = 1, False
        self._step_seconds, self._step_begin, self._first_step_seconds = [], None, None
        self._losses, self._signal, self._handlers, self._bar, self._log = {}, None, {}, None, None

    def save(self, step: int) -> None:
        """Saves the state after `step`; called on every rank. To be overridden."""
        raise NotImplementedError

    def saved_steps(self) -> List[int]:
        """Returns the steps that have a checkpoint, ascending. To be overridden."""
        raise NotImplementedError

    def record(self, step: int, values: dict) -> None:
        """Takes the numbers {name: value} just written to log.jsonl; here it does nothing."""

    def open(self, first_step: int) -> None:
        """Gets ready to begin at `first_step`: opens log.jsonl, catches SIGTERM and SIGINT."""
        self.first_step = first_step
        if self.rank == 0:
            path = os.path.join(self.folder, "log.jsonl")
            keep_whole_lines(path, first_step > 1)
            self._log = open(path, "a", encoding="utf-8")  # noqa: SIM115 - closed in close
            if first_step <= self.last_step:
                keep_whole_lines(os.path.join(self.folder, SAMPLES), first_step > 1)
                if os.path.exists(self._summary_path):
                    os.remove(self._summary_path)  # it spoke of the run so far
        stops = (signal.SIGTERM, signal.SIGINT)
        self._handlers = {s: signal.signal(s, self._on_signal) for s in stops}

    def close(self) -> None:
        """Undoes `open`; also when the loop was left by an exception."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        for stream in (self._bar, self._log):
            if stream is not None:
                stream.close()

    @property
    def signalled(self) -> bool:
        """Whether this process got a signal to stop."""
        return self._signal is not None

    @property
    def asked_to_stop(self) -> bool:
        """Whether the user asked to stop, even if that was in the last step."""
        return self.stopped or self.signalled

    def _on_signal(self, number, frame):
        if self._signal and number == signal.SIGINT:  # Ctrl-C again: leave at once
            raise KeyboardInterrupt
        self._signal = number

    def steps(self, read_batch):
        """Yields (step, read_batch(step)) for the steps to do; saves; stops when asked to.

        `read_batch` makes a step's data from its number alone; it is called ahead in other threads.
        """
        last_step = self.last_step
        show = self.rank == 0 and (sys.stderr.isatty() or os.environ.get("PROGRESS_BAR") == "1")
        self._begin = time.perf_counter()
        step = saved = self.first_step - 1
        self._bar = tqdm(total=last_step, initial=step, disable=not show, unit="step")
        with Ahead(read_batch, last_step) as ahead:
            while step < last_step and not self.stopped:
                step += 1
                self._step_begin = time.perf_counter()
                yield step, ahead(step)
                self._bar.update()
                periods = (self.periods.save, self.periods.keep_every)
                if any(period and step % period == 0 for period in periods):
                    self.save(step)
                    saved = step
        if saved < step:
            self.save(step)
        self._bar.close()
        self.stopped = self.stopped and step < last_step
        if self.stopped:
            self.print("stopped at step %d" % step)
        self._write_training(step, ahead.waited)

    def end_step(self, stop: bool) -> None:
        """Tells `steps` whether to end after this step; every rank must be told the same."""
        self.stopped = bool(stop)

    def not_finite(self, what: str) -> None:
        """Ends the run because of `what`.

        Raises:
          NotFiniteError: always; it names the last good checkpoint.
        """
        steps, last = self.saved_steps(), "no checkpoint is saved"
        if steps:
            last = "the last good checkpoint is that of step %d" % steps[-1]
        raise NotFiniteError("%s; %s. A lower learning rate may help" % (what, last))

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
                self.not_finite("%s is %s at step %d" % (name, value, step))
        self._bar.set_postfix(self._losses, refresh=False)
        due = self.periods.log and (step % self.periods.log == 0 or step == self.last_step)
        if self.rank or not due:
            return False
        # The mean since the last record, as steps may differ in what they do.
        recent = self._step_seconds[self._logged :] or [seconds]
        self._logged, seconds = len(self._step_seconds), float(np.mean(recent))
        rate = self._pictures / seconds
        values = dict(**self._losses, **{k: float(v) for k, v in more.items()})
        values.update(seconds_per_step=round(seconds, 6), images_per_second=round(rate, 4))
        values.update(memory_mb=resident() // 2**20)
        self._log.write(json.dumps(dict(step=step, **values)) + "\n")
        self._log.flush()
        self.record(step, values)
        return True

    def show(self, step: int, *paths: str) -> None:
        """Notes for the report that the sample grids `paths` were made after `step`, on rank 0."""
        add_samples(self.folder, step, list(paths))

    def seconds(self) -> float:
        """Returns the seconds since the loop began."""
        return time.perf_counter() - self._begin

    def print(self, line: str) -> None:
        """Prints a line above the progress bar; on rank 0 only."""
        if self.rank == 0:
            tqdm.write(line, file=sys.stdout)
            sys.stdout.flush()

    def _write_training(self, step, waited):
        """Writes training.json: what a case needs to know about the run."""
        if self.rank or step < self.first_step:
            return
        seconds = self._step_seconds[self._warm_up - 1 :] or self._step_seconds or None
        mean = float(np.mean(seconds)) if seconds else None
        duration = self.seconds()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # MiB
        values = {"steps": step, "first_step": self.first_step, "stopped": self.stopped}
        values.update(first_step_seconds=self._first_step_seconds, seconds_per_step=mean)
        values.update(images_per_second=self._pictures / mean if mean else None)
        values.update(share_of_time_waiting_for_data=round(waited / duration, 4))
        values.update(duration_seconds=duration, peak_memory_mb=peak, losses=self._losses)
        values.update(ranks=self.ranks, batch=self._pictures, surroundings=self.around)
        write_json(self._summary_path, values)
