# SPDX-License-Identifier: Apache-2.0
"""Two ranks do what one does with twice the batch, and what is left when one of them dies."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import FOLDER, TINY, draw_set, run

# Little weight on L1, whose gradient jumps at 0 in every pixel: rounding decides on which side.
WORDS = TINY + ["--phase=train", "--seed=1", "--threads=1", "--L1_lambda=1", "--sample_freq=0"]
WORDS += ["--save_latest_freq=1", "--keep_checkpoints=9"]
STEPS = 8
# main.py, but rank 1 stays at the end of step 2 until it is killed.
RANK = """
import os, runpy, sys, time
program = sys.argv[1]
sys.path.insert(0, os.path.dirname(program))
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
# run_model.py, but it starts RANK, and has less patience with a rank when another one has failed.
LAUNCHER = """
import sys
rank = sys.argv.pop(1)
sys.path.insert(0, sys.argv.pop(1))
import run_model
from harness import launch
launch.GRACE_SECONDS = 2
def start(command, *more):
    return launch.launch([command[0], "-c", rank] + command[1:], *more)
run_model.launch = start
sys.exit(run_model.main())
"""


def _words(dataset, out, *more):
    folders = {"checkpoint_dir": "ckpt", "log_dir": "logs"}
    words = ["--%s=%s" % (key, out / name) for key, name in folders.items()]
    return WORDS + ["--data_path=%s" % dataset] + words + list(more)


def _of_two(out, *more):
    return ["--rank_size=2", "--rank_log_dir=%s" % (out / "ranks"), "--batch_size=2"] + list(more)


def _tensors(out, batch, step):
    path = out / "ckpt" / ("facades_%d_256" % batch) / ("pix2pix.model-%d" % step)
    reader = tf.train.NewCheckpointReader(str(path))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def _losses(out, batch):
    path = out / "ckpt" / ("facades_%d_256" % batch) / "log.jsonl"
    return [json.loads(line)["g_loss"] for line in path.open()]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """(data set, output folder) of two ranks that nothing disturbed."""
    folder = tmp_path_factory.mktemp("two")
    dataset = draw_set(folder / "data", train=9)
    words = _words(dataset, folder, *_of_two(folder, "--train_steps=%d" % STEPS))
    done = run("run_model.py", *words, cwd=folder)
    assert done.returncode == 0, done.stdout
    return dataset, folder


def _check_close(one, two):
    """Checks that the tensors agree within 1e-5; Adam turns rounding into steps here and there.

    Where a gradient is nothing but rounding, or jumps at 0, Adam's step may go either way.
    """
    assert set(one) == set(two)
    assert sum("Adam" in name for name in one) > 60
    apart = {name: np.abs(two[name] - value) > 1e-5 for name, value in one.items()}
    count, size = (sum(f(values) for values in apart.values()) for f in (np.sum, np.size))
    assert count <= size / 1000, {name: np.sum(values) for name, values in apart.items()}


def test_two_ranks_train_as_one_with_twice_the_batch(two, tmp_path):
    words = _words(two[0], tmp_path, "--batch_size=4", "--train_steps=3")
    done = run("main.py", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    one, both = _tensors(tmp_path, 4, 3), _tensors(two[1], 2, 3)
    _check_close(one, both)
    # The losses are the mean over the ranks, not those of rank 0.
    np.testing.assert_allclose(_losses(two[1], 2)[:3], _losses(tmp_path, 4), 1e-5)


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


def _disturb(words, cwd):
    """Trains two ranks and kills rank 1 after step 2; returns (status, text, seconds)."""
    command = [sys.executable, "-c", LAUNCHER, RANK, FOLDER] + words
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(command, cwd=str(cwd), universal_newlines=True, **pipes)
    lines, begin = [], None
    for line in process.stdout:
        lines.append(line)
        if line.startswith("Epoch: [ 0] [   2/"):
            os.kill(_rank_process(process.pid, 1), signal.SIGKILL)
            begin = time.monotonic()
    status = process.wait()
    assert begin, lines
    return status, "".join(lines), time.monotonic() - begin


def test_when_a_rank_is_killed_the_run_ends_says_so_and_goes_on_as_if_nothing_had_been(
    two, tmp_path
):
    words = _words(two[0], tmp_path, *_of_two(tmp_path, "--train_steps=%d" % STEPS))
    status, text, seconds = _disturb(words, tmp_path)
    assert status == 128 + signal.SIGKILL, text
    sentence = r"rank 1 was killed by SIGKILL; see its log \S+rank_1\.log\. The other ranks are "
    assert re.search(sentence + "stopped: .* --continue_train it goes on from the last", text), text
    assert seconds < 60
    again = run("run_model.py", *(words + ["--continue_train"]), cwd=tmp_path)
    assert again.returncode == 0, again.stdout
    first = int(re.search(r"continuing after step (\d+)", again.stdout).group(1))
    assert first in (1, 2)
    held, expected = _tensors(tmp_path, 2, STEPS), _tensors(two[1], 2, STEPS)
    assert set(held) == set(expected)
    assert [name for name in held if held[name].tobytes() != expected[name].tobytes()] == []
