# SPDX-License-Identifier: Apache-2.0
"""A platform of ModelArts jobs: environment variables, folders, and a moxing that copies them."""

import json
import os
import subprocess
import sys
import threading
import time

PLATFORM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "platform")
RANKS = ("RANK_ID", "RANK_SIZE", "DEVICE_ID", "ASCEND_DEVICE_ID", "JOB_ID", "MA_VJ_NAME")
LIMIT_SECONDS = 600  # for what ends by itself, however busy the machine is


class Platform:
    """A container at work on jobs: its buckets, its cache, and what a job printed.

    Args:
      root: where all that is.
      model: the model folder.
    """

    def __init__(self, root, model):
        self.root, self.model, self._started = root, model, []
        self.buckets, self.cache = root / "buckets", root / "cache"
        (self.buckets / "data" / "set").mkdir(parents=True)
        (self.buckets / "data" / "set" / "a.txt").write_text("a")
        (self.buckets / "data" / "b.txt").write_text("b")

    def start(self, *words, entry="modelarts_entry.py", moxing=True, **variables):
        """Starts a job from a bucket to a bucket, with further options and variables."""
        environment = {k: v for k, v in os.environ.items() if k not in RANKS}
        environment.update(variables, BUCKETS=str(self.buckets))
        environment["PYTHONPATH"] = PLATFORM if moxing else ""
        command = [sys.executable, os.path.join(self.model, entry), "--cache_path=%s" % self.cache]
        command += ["--upload_pause=0.01", "--data_url=obs://data", "--train_url=obs://out/run"]
        process = subprocess.Popen(
            command + [str(word) for word in words],
            cwd=str(self.root),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True,
        )
        self._started.append(process)
        return process

    def run(self, *words, **options):
        """Runs a job; returns (status, what it printed)."""
        process = self.start(*words, **options)
        printed = end(process)
        return process.returncode, printed

    def close(self):
        """Stops the jobs that a test which failed has left."""
        for process in self._started:
            if process.poll() is None:
                process.terminate()

    def trouble(self, kind, words):
        """Makes copies `in` or `out` fail or hang; see the moxing in platform."""
        (self.buckets / ("trouble_" + kind)).write_text(words)

    def go(self):
        """Ends the copy that hangs."""
        (self.buckets / "go").write_text("")

    def allow(self, step):
        """Lets trainings go as far as `step`; returns the option that makes them wait for it."""
        (self.root / "allowed").write_text(str(step))
        return "--allowed=%s" % (self.root / "allowed")

    def calls(self, kind):
        """Returns what moxing was asked for since the start, of one kind."""
        path = self.buckets / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.split() for line in lines if line.startswith(kind)]

    def left(self):
        """Returns the names in the cache that are no locks."""
        return [name for name in os.listdir(str(self.cache)) if not name.endswith(".lock")]


def end(process):
    """Waits until a job has ended; returns what it printed since it was last read."""
    timer = threading.Timer(LIMIT_SECONDS, process.kill)
    timer.start()
    try:
        printed = process.stdout.read()
        process.wait()
    finally:
        timer.cancel()
    return printed


def read_until(process, words):
    """Returns what a job prints, up to a line with `words`, which must come."""
    lines = []
    timer = threading.Timer(LIMIT_SECONDS, process.kill)
    timer.start()
    try:
        for line in process.stdout:
            lines.append(line)
            if words in line:
                return "".join(lines)
    finally:
        timer.cancel()
    raise AssertionError("no line with %r in %s" % (words, "".join(lines)))


def wait_for(condition, process):
    """Waits until `condition()`, which must come before the process ends."""
    last = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < last
        time.sleep(0.02)


def states(folder):
    """Returns {step: the state saved in `folder`}, which no job writes now."""
    paths = (folder / "checkpoint").glob("model-*.index")
    return {int(path.stem.split("-")[1]): json.loads(path.read_text()) for path in paths}
