# SPDX-License-Identifier: Apache-2.0
"""A training run of MindSpore: the loop of `harness.loop` with states to go on from.

A state `checkpoint/model-N.ckpt` holds everything a step changes: all networks with their spectral
norms, both optimisers and the loss scales. Data are a function of (seed, step).
"""

import glob
import os
import platform
import re
from typing import Callable, Dict, List

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, ops

from harness import report, settings
from harness.errors import UserError
from harness.files import read_json
from harness.loop import Loop, Periods
from harness.options import must_agree
from ugatit.device import Place
from ugatit.weights import WeightsError, read_parameters, set_parameters, write_parameters

STATE = re.compile(r"model-(\d+)\.ckpt$")


def run_folder(config) -> str:
    """Returns the folder of the run's states, log and settings."""
    return os.path.join(config.folder, "checkpoint")


def state_steps(folder: str) -> List[int]:
    """Returns the steps that have a state in `folder`, ascending."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return sorted(int(match.group(1)) for match in map(STATE.match, names) if match)


def state_path(folder: str, step: int) -> str:
    """Returns the path of the state after `step`."""
    return os.path.join(folder, "model-%07d.ckpt" % step)


def surroundings(place: Place, data: str) -> dict:
    """Returns what besides the options decides the bits of a run."""
    return {
        "mindspore": ms.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "device": place.target.lower(),
        "precision": "float16" if place.half else "float32",
        "graph": place.graph,
        "threads": place.threads,
        "ranks": place.ranks,
        "data": data,
    }


class Run(Loop):
    """A training run; a context manager.

    Args:
      config: the options.
      place: from `device.connect`.
      parameters: {name: parameter}, everything that a step changes.
      last_step: the number of the last step.
      periods: how often to log and save.
      data: a text that changes with the training data.
      write_outputs: called with the step before its state is saved, on rank 0.

    Attributes:
      recorded: {name: value} last written to log.jsonl.
    """

    def __init__(
        self,
        config,
        place: Place,
        parameters: Dict[str, Parameter],
        last_step: int,
        periods: Periods,
        data: str,
        write_outputs: Callable[[int], None],
    ):
        around, pictures = surroundings(place, data), config.batch_size * place.ranks
        super().__init__(
            run_folder(config), last_step, periods, around, pictures, place.rank, place.ranks
        )
        self._config, self._parameters, self._write_outputs = config, parameters, write_outputs
        self.recorded: Dict[str, float] = {}

    def __enter__(self):
        first_step = 1
        if self.rank == 0:
            self._remove_unfinished()
            words = (self.saved_steps(), self._config, self.around, self.last_step)
            if settings.check(self.folder, *words, self._config.resume):
                first_step = self._restore() + 1
            elif self._config.load_path:
                print("--load_path is used with --resume only: step 1", flush=True)
        if self.ranks > 1:
            first_step = self._agree(first_step)
        self.open(first_step)
        return self

    def __exit__(self, *exception):
        self.close()
        if self.rank == 0 and self.first_step <= self.last_step:
            report.write(self.folder, self._config)

    def saved_steps(self) -> List[int]:
        """Returns the steps that have a state, ascending."""
        return state_steps(self.folder)

    def record(self, step: int, values: dict) -> None:
        """Keeps the numbers just written to log.jsonl in `recorded`."""
        self.recorded = values

    def _restore(self) -> int:
        """Loads the newest state that is whole; returns its step, or 0 where there is none."""
        folders = [self.folder]
        if self._config.load_path:
            folders.append(os.path.join(self._config.load_path, self._config.dataset, "checkpoint"))
            if not any(map(state_steps, folders)):
                text = "there is no state in %s; give the --output_path of an earlier training"
                raise UserError(text % folders[1])
        for folder in folders:
            problems = []
            if folder != self.folder and state_steps(folder):
                self._compare(folder)
            for step in reversed(state_steps(folder)):
                path = state_path(folder, step)
                try:
                    set_parameters(path, read_parameters(path), self._parameters)
                except WeightsError as error:
                    print("%s; trying the one before" % error, flush=True)
                    problems.append(str(error))
                    continue
                if step < self.last_step:
                    print("continuing after step %d" % step, flush=True)
                elif folder != self.folder:
                    text = "the state in %s is that of step %d; train further than that: %d steps"
                    raise UserError(text % (folder, step, self.last_step))
                return step
            if problems:
                raise WeightsError("no usable state in %s: %s" % (folder, problems[0]))
        print("no state yet: step 1", flush=True)
        return 0

    def _remove_unfinished(self) -> None:
        """Removes what a process left that was killed while it saved."""
        for path in glob.glob(os.path.join(glob.escape(self.folder), ".*-model-*")):
            os.remove(path)

    def _compare(self, folder: str) -> None:
        """Says which settings the run in another folder had, where they differ."""
        before = (read_json(os.path.join(folder, "config.json")) or {}).get("must_agree", {})
        for name, value in must_agree(self._config).items():
            if name in before and before[name] != value:
                words = (name, before[name], folder, value)
                print("--%s was %s in %s and is %s: going on with that" % words, flush=True)

    def _agree(self, first_step: int) -> int:
        """Gives every rank the first one's parameters and first step."""
        broadcast = ops.Broadcast(0)
        for p in self._parameters.values():
            p.set_data(broadcast((Tensor(p.asnumpy()),))[0])
        return int(broadcast((Tensor([first_step], ms.int32),))[0].asnumpy()[0])

    def save(self, step: int) -> None:
        """Writes the outputs and the state after `step`, drops the oldest; on rank 0 only.

        Nothing good is replaced by what is not finite; a state comes last, so that a run that was
        killed in here does its step and its outputs again.
        """
        if self.rank:
            return
        self._check_finite(step)
        self._write_outputs(step)
        write_parameters(state_path(self.folder, step), self._parameters)
        for old in self.saved_steps()[: -self.periods.keep]:
            os.remove(state_path(self.folder, old))

    def _check_finite(self, step: int) -> None:
        """Ends the run with an error if a parameter is NaN or infinite after `step`."""
        for name, p in self._parameters.items():
            if not np.isfinite(p.asnumpy()).all():
                self.not_finite("%s is not finite after step %d" % (name, step))

    def end_step(self, stop: bool = False) -> None:
        """Ends the loop after this step if any rank got a signal."""
        stop = stop or self.signalled
        if self.ranks > 1:
            votes = ops.AllReduce()(Tensor([float(stop)], ms.float32))
            stop = bool(votes.asnumpy()[0] > 0)
        super().end_step(stop)
