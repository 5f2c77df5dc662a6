# SPDX-License-Identifier: Apache-2.0
"""A training in numpy: it logs, saves, stops and goes on as that of a model folder."""

import glob
import os
import time

import numpy as np
from options_of_model import Config

from harness import settings
from harness.environment import rank_and_size
from harness.errors import UserError, run_program
from harness.files import read_json, write_json
from harness.loop import Loop, Periods
from harness.options import parse


class Run(Loop):
    """A run whose state is four numbers."""

    state = np.zeros(4)

    def saved_steps(self):
        """Returns the steps that have a state."""
        paths = glob.glob(os.path.join(glob.escape(self.folder), "model-*.index"))
        return sorted(int(path.split("-")[-1].split(".")[0]) for path in paths)

    def save(self, step):
        """Writes the state; the two newest stay."""
        if self.rank == 0:
            path = os.path.join(self.folder, "model-%d.index")
            write_json(path % step, self.state.tolist())
            for old in self.saved_steps()[:-2]:
                os.remove(path % old)


def wait_until_allowed(path, step, run):
    """Waits until the number in the file `path` is `step` or more, or a signal has come."""
    end = time.monotonic() + 600
    while not run.signalled:
        with open(path) as stream:
            if int(stream.read() or 0) >= step:  # empty while it is being written
                return
        if time.monotonic() > end:
            raise UserError("nobody allowed step %d" % step)
        time.sleep(0.01)


def main() -> int:
    """Trains."""
    config, _ = parse(Config)
    rank, size = rank_and_size()
    folder = os.path.join(config.output_path, "checkpoint")
    os.makedirs(folder, exist_ok=True)
    periods = Periods(log=1, save=config.save_steps)
    run = Run(folder, config.total_iter, periods, {"device": "cpu"}, 1, rank, size)
    first, more = 1, (config, run.around, config.total_iter, config.continue_train)
    print("rank %d of %d with %s" % (rank, size, sorted(os.listdir(config.data_path))), flush=True)
    if rank == 0 and settings.check(folder, run.saved_steps(), *more) and run.saved_steps():
        first = run.saved_steps()[-1] + 1
        run.state = np.array(read_json(os.path.join(folder, "model-%d.index" % (first - 1))))
        print("continuing after step %d" % (first - 1), flush=True)
    run.open(first)
    for step, data in run.steps(lambda step: np.random.RandomState(config.seed + step).randn(4)):
        if config.allowed:
            wait_until_allowed(config.allowed, step, run)
        run.state = 0.9 * run.state + data
        if step == config.fail_at:
            raise UserError("step %d fails" % step)
        run.end_step(run.signalled)
        run.log(step, {"loss": float(abs(run.state).sum())})
    run.close()
    return 0


if __name__ == "__main__":
    run_program(main)
