# SPDX-License-Identifier: Apache-2.0
"""What a run says on its way: the documented lines, progress.txt and progress.png."""

import os
import time

from harness.files import atomic_path, read_log, write_text
from stylize.outputs import is_one_picture

LOSSES = ("content", "style", "tv", "total")


def loss_lines(values: dict) -> str:
    """Returns the documented lines of the losses, labels set flush right."""
    return "\n".join("%13s: %g" % (name + " loss", values[name]) for name in LOSSES)


class Reporter:
    """Makes the lines of a run that goes from `first_step` to `last_step`."""

    def __init__(self, first_step: int, last_step: int):
        self._begin = self._before = time.perf_counter()
        self._first_step, self._last_step, self._step = first_step, last_step, first_step - 1

    def lines(self, step: int, values: dict) -> str:
        """Returns the lines after `step`; the gap is the mean since the lines before."""
        now = time.perf_counter()
        gap = (now - self._before) / max(1, step - self._step)
        elapsed = now - self._begin
        per_step = elapsed / (step - self._first_step + 1)
        self._before, self._step = now, step
        where = "Iteration %4d/%4d" % (step, self._last_step)
        times = (elapsed, per_step * (self._last_step - step), gap)
        spent = "(%.0f sec elapsed, %.0f sec remaining, %.9f gap)" % times
        return "%s %s\nsec/step: %.9f\n%s" % (where, spent, gap, loss_lines(values))


def write(config, output: str, folders) -> None:
    """Writes progress.txt and progress.png beside `output` as far as they are asked for.

    Args:
      config: the options.
      output: the picture; of several contents the files are named after it.
      folders: with a log.jsonl each; the steps of one scale follow those of the one before.
    """
    records, before = [], 0
    for folder in folders:
        log = read_log(os.path.join(folder, "log.jsonl"))
        records += [dict(record, step=before + record["step"]) for record in log]
        before = records[-1]["step"] if records else 0
    output = os.path.abspath(output)
    stem = os.path.join(os.path.dirname(output), "progress")
    if not is_one_picture(config.content):
        stem = os.path.splitext(output)[0] + ".progress"
    if config.progress_write:
        lines = [" ".join(("itr",) + LOSSES)]
        for record in records:
            lines.append(" ".join("%g" % record[name] for name in ("step",) + LOSSES))
        write_text(stem + ".txt", "\n".join(lines) + "\n")
    if config.progress_plot:
        _plot(records, stem + ".png")


def _plot(records, path):
    """Draws the losses over the steps, logarithmic."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # half a second to load
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(1, 1, 1)
    for name in LOSSES:
        steps = [record["step"] for record in records]
        axes.semilogy(steps, [record[name] for record in records], label=name)
    axes.set_xlabel("iteration")
    axes.set_ylabel("loss, weighted")
    axes.grid(alpha=0.3)
    axes.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary)
