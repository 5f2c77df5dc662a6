# SPDX-License-Identifier: Apache-2.0
"""How training scales over ranks on one machine: each on one core and with its own batch.

Beside each measurement the matrix product runs on as many cores at once: what it loses is the
machine's doing.
"""

import contextlib
import os
import pathlib
import statistics
import sys
import tempfile

import calibration
import scripts
import timing
from tabulate import tabulate

from harness.errors import UserError
from harness.launch import launch

# Neural style is not here: it shares pictures out, so that no rank waits for others.
STEPS = {"Pix2Pix": "train", "StarGAN": "train", "WhiteBox": "train", "U-GAT-IT": "train128"}


def run_ranks(command: list[str], count: int) -> list[dict]:
    """Runs a command as `count` ranks on a core each; returns the JSON object of each.

    Raises:
      UserError: if one fails; shows the end of what all said.
    """
    cores = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere:
        logs = [pathlib.Path(folder) / f"{rank}.log" for rank in range(count)]
        os.sched_setaffinity(0, sorted(cores)[:count])  # the launcher shares out what it may use
        try:
            with contextlib.redirect_stdout(nowhere):
                status = launch(command, [str(log) for log in logs], bind_core=True)
        finally:
            os.sched_setaffinity(0, cores)
        texts = [log.read_text() for log in logs]
    if status:
        ends = "\n".join(text[-2000:] for text in texts)
        raise UserError(f"{count} ranks of {' '.join(command)} ended with {status}:\n{ends}")
    return [timing.last_object(text) for text in texts]


def measure(command: list[str], count: int) -> dict:
    """Returns one repeat: seconds per step, images and memory of all ranks, matmul rate of all."""
    matmul = run_ranks([command[0], calibration.__file__, "matmul"], count)
    results = run_ranks(command, count)
    return {
        "seconds": max(statistics.median(result["seconds"]) for result in results),
        "images": sum(result["images"] for result in results),
        "memory": sum(result["peak_memory_mb"] for result in results),
        "matmul": sum(result["matmul_gflops"] for result in matmul),
    }


def commands(folders: list[pathlib.Path], options) -> dict[str, list[str]]:
    """Returns {name: words} of the training step of each folder whose ranks train together."""
    found = {}
    for folder in folders:
        what = next((step for name, step in STEPS.items() if folder.name.startswith(name)), None)
        if what is None:
            print(f"{folder}: left out, its ranks do not average gradients", file=sys.stderr)
            continue
        python = str(scripts.environment_of(folder.name, options.tf1).python)
        words = [python, str(folder / "test" / "speed.py"), what]
        words += ["--precision_mode=force_fp32", "--device=cpu", "--threads=1"]
        words += [f"--count={options.count}", *options.with_option]
        found[f"{folder.name} {what}"] = words
    return found


def rows(folders: list[pathlib.Path], options) -> list[dict]:
    """Returns a summary for each training step and number of ranks, with its efficiency."""
    found = commands(folders, options)
    if not found:
        raise UserError("none of these folders trains over ranks; name another")
    repeats = {(what, count): [] for what in found for count in options.ranks}
    for number in range(1, options.repeats + 1):
        for (what, count), values in repeats.items():
            text = f"{number}/{options.repeats} {what}, {count} rank(s)"
            print(text, file=sys.stderr, flush=True)
            values.append(measure(found[what], count))
    summaries = []
    for (what, count), values in repeats.items():
        seconds = [value["seconds"] for value in values]
        median, matmul = statistics.median(seconds), statistics.median(v["matmul"] for v in values)
        row = {
            "what": what,
            "ranks": count,
            "seconds_per_step": {"median": median, "min": min(seconds), "max": max(seconds)},
            "images_per_second": values[0]["images"] / median,
            "matmul_gflops": matmul,
            "peak_memory_mb": max(value["memory"] for value in values),
            "repeats": len(values),
        }
        one = next((x for x in summaries if (x["what"], x["ranks"]) == (what, 1)), row)
        row["efficiency"] = one["seconds_per_step"]["median"] / median
        row["matmul_efficiency"] = matmul / one["matmul_gflops"] / count
        summaries.append(row)
    return summaries


def table(summaries: list[dict]) -> str:
    """Returns the summaries as a Markdown table."""
    columns = ["what", "ranks", "s/step median (min-max)", "images/s", "efficiency", "matmul's"]
    lines = []
    for row in summaries:
        times = "{median:.3f} ({min:.3f}-{max:.3f})".format(**row["seconds_per_step"])
        line = [row["what"], str(row["ranks"]), times, f"{row['images_per_second']:.3f}"]
        line += [f"{row['efficiency']:.1%}", f"{row['matmul_efficiency']:.1%}"]
        lines.append([*line, str(row["peak_memory_mb"])])
    return tabulate(lines, [*columns, "MiB"], tablefmt="github", disable_numparse=True)
