# SPDX-License-Identifier: Apache-2.0
"""When one of several ranks is killed it is named, the others end, and the run can go on."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from conftest import DATASET, FOLDER, TINY

if not importlib.util.find_spec("mindspore"):
    pytest.skip("MindSpore is not installed", allow_module_level=True)

STEPS = 4
PROGRAM = os.path.join(FOLDER, "train.py")
# train.py, but rank 1 stays at the end of step 2 until it is killed.
RANK = """
import runpy, sys, time
program = sys.argv[1]
from harness.loop import Loop
log = Loop.log
def log_and_stay(loop, step, *values, **more):
    if loop.rank == 1 and step == 2:
        time.sleep(600)
    return log(loop, step, *values, **more)
Loop.log = log_and_stay
sys.argv = sys.argv[1:]
runpy.run_path(program, run_name="__main__")
"""
# ugatit.launcher with less patience with a rank when another one has failed.
LAUNCHER = """
import sys
from harness import launch
launch.GRACE_SECONDS = 2
from ugatit import launcher
sys.exit(launcher.main())
"""


def _start(data, out, program, *more):
    """Starts `program`, the first words of a Python's, as two ranks; returns their launcher."""
    logs = ",".join(str(out / ("rank_%d.log" % rank)) for rank in (0, 1))
    words = ["--data_path=%s" % data, "--output_path=%s" % out, "--iteration=%d" % STEPS]
    command = [sys.executable, "-c", LAUNCHER, logs] + program
    return subprocess.Popen(
        command + TINY + words + ["--print_freq=1", "--threads=1"] + list(more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=dict(os.environ, PYTHONPATH=FOLDER),
    )


def _rank_process(launcher, rank):
    """Returns the number of the launcher's child that is this rank."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % name) as file:
                parent = file.read().rsplit(")", 1)[1].split()[1]
            with open("/proc/%s/environ" % name, "rb") as file:
                is_rank = b"RANK_ID=%d" % rank in file.read().split(b"\0")
        except OSError:
            continue  # of another user, or it has just ended
        if int(parent) == launcher and is_rank:
            return int(name)
    raise AssertionError("rank %d is not running" % rank)


def test_a_killed_rank_ends_the_run_which_then_goes_on(shapes, tmp_path):
    broken, lines, begin = _start(shapes, tmp_path, ["-c", RANK, PROGRAM]), [], None
    for line in broken.stdout:
        lines.append(line)
        if line.startswith("epoch 1:[    2/"):
            os.kill(_rank_process(broken.pid, 1), signal.SIGKILL)
            begin = time.monotonic()
    assert begin, lines
    assert broken.wait(600) == 128 + signal.SIGKILL, lines
    assert time.monotonic() - begin < 60
    text = "".join(lines)
    assert re.search(r"rank 1 was killed by SIGKILL; see its log \S+rank_1\.log\. The other", text)
    again = _start(shapes, tmp_path, [PROGRAM], "--resume")
    printed = again.communicate(timeout=600)[0]
    assert again.returncode == 0, printed
    last = int(re.search(r"continuing after step ([12])\n", printed).group(1))
    with (tmp_path / DATASET / "checkpoint" / "training.json").open() as file:
        summary = json.load(file)
    found = [summary[name] for name in ("first_step", "steps", "ranks", "stopped")]
    assert found == [last + 1, STEPS, 2, False]
