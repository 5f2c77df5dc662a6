# SPDX-License-Identifier: Apache-2.0
"""Measures images per second and peak memory of a model folder's training step and inference.

`python ci/performance.py [FOLDER ...] [--versus 'train=COMMAND' ...]`, with the Python of the
environment to measure; tools/fid is such a folder too. Every measurement is a process of its own
(the folder's test/speed.py, or tools.fid.speed); the repeats of all of them take turns, each with
the machine's float32 matrix product beside it, so that figures of different machines compare. A
COMMAND of --versus takes its turn too; it prints a JSON object with "sec_per_step" as its last
line.

--ranks 1 2 measures instead how training scales: as many processes train together, each on one core
and with its own batch. Beside each the matrix product runs on as many cores at once: what it loses
is the machine's doing.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import pathlib
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "tools" / "shared"))

from harness.launch import launch

ROOT = pathlib.Path(__file__).resolve().parent.parent
# What test/speed.py of a folder can time, by how the folder's name begins.
STEPS = {
    "StarGAN": ("train_d", "train", "infer"),
    "NEURAL-STYLE": ("train",),
    "WhiteBox": ("train", "network", "infer", "end_to_end", "large"),
    "U-GAT-IT": ("train64", "train128", "train256", "infer"),
}
FID = "tools/fid"  # what describes pictures for FID; in float32 only
USUAL_STEPS = ("train", "infer")
# What several ranks are timed with; neural style shares pictures out, so that none wait for others.
RANK_STEPS = {"Pix2Pix": "train", "StarGAN": "train", "WhiteBox": "train", "U-GAT-IT": "train128"}
PRECISIONS = {"float32": "force_fp32", "mixed": "allow_mix_precision"}


def matmul_gflops(size: int = 2048, repeats: int = 5) -> float:
    """Returns the machine's float32 matrix product rate now, in GFLOP/s, the best of `repeats`."""
    rng = np.random.RandomState(0)
    a, b = (rng.rand(size, size).astype(np.float32) for _ in range(2))
    best = float("inf")
    for _ in range(repeats):
        begin = time.perf_counter()
        np.matmul(a, b)
        best = min(best, time.perf_counter() - begin)
    return 2 * size**3 / best / 1e9


def sustained_gflops(seconds: float = 3, size: int = 1024) -> float:
    """Returns the float32 matrix product rate of this process over `seconds`, a median, GFLOP/s."""
    rng, times = np.random.RandomState(0), []
    a, b = (rng.rand(size, size).astype(np.float32) for _ in range(2))
    while sum(times) < seconds:
        begin = time.perf_counter()
        np.matmul(a, b)
        times.append(time.perf_counter() - begin)
    return 2 * size**3 / statistics.median(times) / 1e9


def run(command: list) -> dict:
    """Runs a command and returns the JSON object in the last line of its output.

    Raises:
      SystemExit: if it fails; shows the end of what it said.
    """
    place = ROOT if "tools.fid.speed" in command else None  # where Python finds it
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=place)
    if done.returncode:
        sys.exit(f"{shlex.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def run_ranks(command: list, count: int) -> list:
    """Runs a command as `count` ranks on a core each; returns the JSON object of each.

    Raises:
      SystemExit: if one fails; shows the end of what all said.
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
        sys.exit(f"{count} ranks of {shlex.join(command)} ended with {status}:\n{ends}")
    return [json.loads([x for x in text.splitlines() if x[:1] == "{"][-1]) for text in texts]


def measure_ranks(command: list, count: int) -> dict:
    """Returns one repeat: seconds per step, images and memory of all ranks, matmul rate of all."""
    matmul = run_ranks([sys.executable, __file__, "--matmul"], count)
    results = run_ranks(command, count)
    return {
        "seconds_per_step": max(statistics.median(result["seconds"]) for result in results),
        "images": sum(result["images"] for result in results),
        "peak_memory_mb": sum(result["peak_memory_mb"] for result in results),
        "precision": results[0]["precision"],
        "matmul_gflops": sum(result["gflops"] for result in matmul),
    }


def measure(what: str, command: list) -> dict:
    """Returns one repeat: median seconds per step, images, memory, and the matmul rate."""
    gflops = matmul_gflops()
    result = run(command)
    seconds = result.get("sec_per_step") or statistics.median(result["seconds"])
    return {
        "what": what,
        "seconds_per_step": seconds,
        "images": result.get("images") or result.get("images_per_step", 1),
        "first_seconds": result.get("first_seconds"),
        "peak_memory_mb": result.get("peak_memory_mb") or result.get("peak_rss_mb"),
        "precision": result.get("precision", ""),
        "matmul_gflops": gflops,
    }


def summarise(what: str, repeats: list) -> dict:
    """Returns median, minimum and maximum over the repeats of one measurement."""
    seconds = sorted(repeat["seconds_per_step"] for repeat in repeats)
    gflops = statistics.median(repeat["matmul_gflops"] for repeat in repeats)
    images = repeats[0]["images"]
    median = statistics.median(seconds)
    return {
        "what": what,
        "precision": repeats[0]["precision"],
        "seconds_per_step": {"median": median, "min": seconds[0], "max": seconds[-1]},
        "images_per_second": images / median,
        "gflop_of_matmul_per_image": median * gflops / images,
        "matmul_gflops": gflops,
        "peak_memory_mb": max(repeat["peak_memory_mb"] or 0 for repeat in repeats),
        "repeats": len(repeats),
    }


def steps(folder: str) -> tuple:
    """Returns what test/speed.py of a folder can time."""
    return next((v for k, v in STEPS.items() if folder.startswith(k)), USUAL_STEPS)


def timing_commands(folder: str, options) -> dict:
    """Returns {name: command} of all that can be timed in a folder."""
    count = f"--count={options.count}"
    if pathlib.Path(folder).resolve() == ROOT / FID:
        words = [sys.executable, "-m", "tools.fid.speed"]
        return {f"{FID} {what}": [*words, what, count] for what in ("network", "end_to_end")}
    name, commands = pathlib.Path(folder).name, {}
    for what in steps(name):
        for precision, mode in PRECISIONS.items():
            if precision == "mixed" and name.endswith("_for_MindSpore"):
                continue  # MindSpore has no mixed precision on a CPU
            words = [sys.executable, str(pathlib.Path(folder) / "test" / "speed.py"), what]
            words += [f"--precision_mode={mode}", "--device=cpu", count, *options.with_option]
            commands[f"{name} {what} {precision}"] = words
    return commands


def rank_commands(folders: list, options) -> dict:
    """Returns {name: command} of the training step of each folder whose ranks train together."""
    commands = {}
    for folder in folders:
        name = pathlib.Path(folder).resolve().name
        what = next((v for k, v in RANK_STEPS.items() if name.startswith(k)), None)
        if what is None:
            print(f"{folder}: left out, its ranks do not average gradients", file=sys.stderr)
            continue
        words = [sys.executable, str(pathlib.Path(folder) / "test" / "speed.py"), what]
        words += ["--precision_mode=force_fp32", "--device=cpu", "--threads=1"]
        commands[f"{name} {what}"] = [*words, f"--count={options.count}", *options.with_option]
    return commands


def scaling(options, folders: list) -> list:
    """Returns a summary for each training step and number of ranks, with its efficiency."""
    commands, rows = rank_commands(folders, options), []
    repeats = {(what, count): [] for what in commands for count in options.ranks}
    for number in range(1, options.repeats + 1):
        for (what, count), values in repeats.items():
            print(
                f"{number}/{options.repeats} {what}, {count} rank(s)", file=sys.stderr, flush=True
            )
            values.append(measure_ranks(commands[what], count))
    for (what, count), values in repeats.items():
        row = dict(summarise(what, values), ranks=count)
        one = row if count == 1 else next(x for x in rows if (x["what"], x["ranks"]) == (what, 1))
        seconds = [x["seconds_per_step"]["median"] for x in (one, row)]
        row["efficiency"] = seconds[0] / seconds[1]
        row["matmul_efficiency"] = row["matmul_gflops"] / one["matmul_gflops"] / count
        rows.append(row)
    return rows


def rank_table(rows: list) -> str:
    """Returns the summaries of `scaling` as a Markdown table."""
    lines = ["| what | ranks | s/step median (min-max) | images/s | efficiency | matmul's | MiB |"]
    lines.append("|---|---|---|---|---|---|---|")
    for row in rows:
        seconds = row["seconds_per_step"]
        times = f"{seconds['median']:.3f} ({seconds['min']:.3f}-{seconds['max']:.3f})"
        cells = [row["what"], str(row["ranks"]), times, f"{row['images_per_second']:.3f}"]
        cells += [f"{row['efficiency']:.1%}", f"{row['matmul_efficiency']:.1%}"]
        lines.append("| " + " | ".join([*cells, str(row["peak_memory_mb"])]) + " |")
    return "\n".join(lines)


def table(rows: list) -> str:
    """Returns the summaries as a Markdown table."""
    lines = [
        "| what | precision | s/step median (min-max) | images/s | matmul GFLOP per image | MiB |"
    ]
    lines.append("|---|---|---|---|---|---|")
    for row in rows:
        seconds = row["seconds_per_step"]
        times = f"{seconds['median']:.3f} ({seconds['min']:.3f}-{seconds['max']:.3f})"
        cells = [row["what"], row["precision"], times, f"{row['images_per_second']:.2f}"]
        cells += [f"{row['gflop_of_matmul_per_image']:.0f}", str(row["peak_memory_mb"])]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def read_options() -> argparse.Namespace:
    """Reads the command line; a mistake ends the program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help="default: all that have one")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--count", type=int, default=8, help="steps per repeat")
    parser.add_argument("--with_option", action="append", default=[], help="of the models")
    parser.add_argument("--versus", action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--ranks", type=int, nargs="+", metavar="N", help="1 and more, such as 1 2")
    parser.add_argument("--json", type=pathlib.Path, help="also write the figures here")
    parser.add_argument("--matmul", action="store_true", help="only the matrix product, as JSON")
    options = parser.parse_args()
    ranks, cores = options.ranks or [1], len(os.sched_getaffinity(0))
    if ranks[0] != 1 or ranks != sorted(set(ranks)) or ranks[-1] > cores:
        parser.error(f"--ranks {ranks}: give 1 and then larger ones, up to the {cores} cores")
    if options.ranks and (options.versus or not shutil.which("taskset")):
        parser.error("--ranks goes without --versus, and needs taskset to bind cores")
    return options


def single(options, folders: list) -> list:
    """Returns a summary for everything that the folders and --versus can time."""
    commands = {}
    for folder in folders:
        commands.update(timing_commands(folder, options))
    for versus in options.versus:
        name, command = versus.split("=", 1)
        commands[name] = shlex.split(command)
    repeats = {what: [] for what in commands}
    for number in range(1, options.repeats + 1):
        for what, command in commands.items():
            print(f"{number}/{options.repeats} {what}", file=sys.stderr, flush=True)
            repeats[what].append(measure(what, command))
    return [summarise(what, values) for what, values in repeats.items()]


def main() -> int:
    """Measures, prints the table, and writes the JSON if asked to."""
    options = read_options()
    if options.matmul:
        print(json.dumps({"gflops": sustained_gflops()}))
        return 0
    everything = [
        str(path.parents[1])
        for path in sorted(ROOT.glob("*_for_*/test/speed.py"))  # whose framework is here
        if importlib.util.find_spec(path.parts[-3].rpartition("_")[2].lower())
    ]
    if options.ranks:
        rows = scaling(options, options.folders or everything)
        print(rank_table(rows))
    else:
        rows = single(options, options.folders or [*everything, str(ROOT / FID)])
        print(table(rows))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
