# SPDX-License-Identifier: Apache-2.0
"""Of which commit, when, on what machine and by which command something was measured."""

import datetime
import os
import pathlib
import platform
import shlex
import subprocess
from collections.abc import Iterable

ROOT = pathlib.Path(__file__).resolve().parent.parent


def here(command: Iterable[str] = ()) -> dict:
    """Returns {"command", "commit", "clean", "date", "machine"} of now and here.

    Args:
      command: the words that this run was started with.
    """

    def git(*words):
        more = {"cwd": ROOT, "capture_output": True, "text": True, "check": False}
        try:
            done = subprocess.run(["git", *words], **more)
        except FileNotFoundError:  # no git here
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""

    now = datetime.datetime.now(datetime.timezone.utc)  # noqa: UP017 - as in the model folders
    # What an --update of another model wrote is no change of what is measured.
    own = (".", ":(exclude)ci/baselines")
    changed = git("status", "--porcelain", "--untracked-files=no", "--", *own)
    commit = git("rev-parse", "HEAD")
    return {
        "command": shlex.join(command),
        "commit": commit,
        "clean": bool(commit) and not changed,
        "date": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": machine(),
    }


def machine() -> dict:
    """Returns {"cpu", "cores", "memory_gib", "system"} of this machine."""
    model = platform.machine()
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text("utf-8")
        names = [
            line.split(":", 1)[1].strip() for line in text.splitlines() if "model name" in line
        ]
        model = names[0] if names else model
    except OSError:
        pass
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    system = f"{platform.system()} {platform.release()}"
    return {"cpu": model, "cores": cores, "memory_gib": round(memory, 1), "system": system}
