# SPDX-License-Identifier: Apache-2.0
"""Trains nothing: writes what a training of so many steps leaves, or does what --fault says."""

import errno
import os
import signal
import subprocess
import sys
import time

from options_of_fake import Config

from harness.errors import UserError, run_program
from harness.files import write_json, write_text
from harness.options import parse


def main():
    """Does so."""
    config, _ = parse(Config)
    if config.fault == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if config.fault == "oom":
        raise RuntimeError("OOM when allocating tensor with shape[1]\nHint: none")
    if config.fault == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), config.output_path)
    if config.fault == "sentence":
        raise UserError("the stars are not right; wait")
    if config.fault == "forever":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        write_text(config.log_path, str(child.pid))
        time.sleep(600)
    folder = os.path.join(config.output_path, "checkpoint")
    names = ("RANK_ID", "RANK_SIZE", "RANK_TABLE_FILE")
    if config.log_path:
        lines = [config.output_path, str(config.steps), str(config.profiling)]
        write_text(config.log_path, "\n".join(lines + [n for n in names if n in os.environ]))
    write_text(os.path.join(folder, "model-%d" % config.steps), "x" * 2**20)
    times = {"seconds_per_step": 0.25, "first_step_seconds": 10.0}
    values = dict(times, steps=config.steps, peak_memory_mb=config.memory_mb)
    write_json(os.path.join(folder, "training.json"), values)
    return 0


run_program(main)
