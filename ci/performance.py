# SPDX-License-Identifier: Apache-2.0
"""Measures images per second and peak memory of a model folder's training step and inference.

`python ci/performance.py [FOLDER ...] [--versus 'train=COMMAND' ...]`, with the Python of the
environment to measure; tools/fid is such a folder too. Every measurement is a process of its own
(the folder's test/speed.py, or tools.fid.speed); the repeats of all of them take turns, each with
the machine's float32 matrix product beside it, so that figures of different machines compare. A
COMMAND of --versus takes its turn too; it prints a JSON object with "sec_per_step" as its last
line.
"""

import argparse
import json
import pathlib
import shlex
import statistics
import subprocess
import sys
import time

import numpy as np

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


def main() -> int:
    """Measures, prints the table, and writes the JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help="default: all that have one")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--count", type=int, default=8, help="steps per repeat")
    parser.add_argument(
        "--with_option", action="append", default=[], metavar="OPTION", help="of the models"
    )
    parser.add_argument("--versus", action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--json", type=pathlib.Path, help="also write the figures here")
    options = parser.parse_args()
    everything = sorted(str(path.parent.parent) for path in ROOT.glob("*/test/speed.py"))
    commands = {}
    for folder in options.folders or [*everything, str(ROOT / FID)]:
        commands.update(timing_commands(folder, options))
    for versus in options.versus:
        name, command = versus.split("=", 1)
        commands[name] = shlex.split(command)
    repeats = {what: [] for what in commands}
    for number in range(1, options.repeats + 1):
        for what, command in commands.items():
            print(f"{number}/{options.repeats} {what}", file=sys.stderr, flush=True)
            repeats[what].append(measure(what, command))
    rows = [summarise(what, values) for what, values in repeats.items()]
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
