# SPDX-License-Identifier: Apache-2.0
"""The launcher of several ranks: which one failed is told, and nothing of the others stays."""

import os
import pty
import shutil
import signal
import subprocess
import sys
import time

import pytest

from harness import launch

# The first word says what rank 1 does; rank 0 waits, and writes when it is asked to stop.
PROGRAM = """
import os, signal, subprocess, sys, time
what, folder = sys.argv[1:]
def stop(number, frame):
    open(os.path.join(folder, "asked"), "w").close()
    if what != "kill":
        sys.exit(0)
signal.signal(signal.SIGTERM, stop)
open(os.path.join(folder, "ready" + os.environ["RANK_ID"]), "w").close()
while len(os.listdir(folder)) < 2:
    time.sleep(0.01)
if os.environ["RANK_ID"] == "1":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open(os.path.join(folder, "child.tmp"), "w") as file:
        file.write(str(child.pid))
    os.rename(os.path.join(folder, "child.tmp"), os.path.join(folder, "child"))
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.exit(3)
deadline = time.time() + 600
while time.time() < deadline:
    time.sleep(0.01)
"""

# A launcher whose terminal is the one of its input. Rank 0 of its ranks prints more than a pipe
# holds when it is asked to stop, then it saves.
IN_A_TERMINAL = """
import fcntl, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
folder, program, shared = sys.argv[1:]
sys.path.insert(0, shared)
from harness import launch
logs = [folder + "/0.log", folder + "/1.log"]
status = launch.launch([sys.executable, "-c", program, folder], logs)
with open(folder + "/status", "w") as file:
    file.write(str(status))
"""
SAVING = """
import os, signal, sys, time
folder, rank = sys.argv[1], os.environ["RANK_ID"]
asked = []
signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
open(folder + "/ready" + rank, "w").close()
deadline = time.time() + 600
while not asked and time.time() < deadline:
    print("a step", flush=True)
    time.sleep(0.01)
for step in range(20000):
    print("stopping at step", step, flush=True)
open(folder + "/saved" + rank, "w").close()
"""
LIMIT_SECONDS = 600  # for what ends by itself, however busy the machine is


class _Clock:
    """Stands in for launch's `time`: it stands still until there is the file `sign`."""

    sleep = staticmethod(time.sleep)

    def __init__(self, sign):
        self._sign = sign

    def monotonic(self):
        return 1000.0 if self._sign.exists() else 0.0


def _wait_for(condition):
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


def _is_running(number):
    try:
        with open("/proc/%d/stat" % number) as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("what", "status", "words"),
    [("kill", 137, "was killed by SIGKILL"), ("fail", 3, "ended with status 3")],
)
def test_a_rank_that_fails_is_named_and_nothing_of_the_others_stays(
    tmp_path, monkeypatch, capfd, what, status, words
):
    monkeypatch.setattr(launch, "GRACE_SECONDS", 1)
    monkeypatch.setattr(launch, "time", _Clock(tmp_path / "folder" / "asked"))
    (tmp_path / "folder").mkdir()
    logs = [str(tmp_path / ("%d.log" % rank)) for rank in range(2)]
    begin = time.monotonic()
    command = [sys.executable, "-c", PROGRAM, what, str(tmp_path / "folder")]
    assert launch.launch(command, logs) == status
    assert time.monotonic() - begin < 300  # rank 0 would have waited for 600 s
    sentence = "rank 1 %s; see its log %s. The other ranks are stopped: when the cause is mended, "
    sentence = sentence % (words, logs[1]) + "start again; with --continue_train it goes on from "
    assert capfd.readouterr().err == sentence + "the last checkpoint, if there is one\n"
    assert (tmp_path / "folder" / "asked").exists()
    child = int((tmp_path / "folder" / "child").read_text())
    _wait_for(lambda: not _is_running(child))  # it was killed, but may take a moment to be gone


def test_a_program_of_one_rank_that_is_killed_is_told(tmp_path, capfd):
    log = str(tmp_path / "a.log")
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert launch.launch([sys.executable, "-c", code], [log]) == 128 + signal.SIGKILL
    assert capfd.readouterr().err == "rank 0 was killed by SIGKILL; see its log %s\n" % log


def test_bound_ranks_share_the_cores_that_this_process_has(tmp_path):
    if not shutil.which("taskset"):
        pytest.skip("taskset, which binds a program to cores, is not installed")
    code = "import os; print(sorted(os.sched_getaffinity(0)))"
    logs = [str(tmp_path / ("%d.log" % rank)) for rank in range(2)]
    assert launch.launch([sys.executable, "-c", code], logs, bind_core=True) == 0
    shares = []
    for log in logs:
        with open(log) as file:
            shares.append(file.read().strip().splitlines()[-1])
    cores = sorted(os.sched_getaffinity(0))
    half = max(1, len(cores) // 2)
    assert shares == [str(cores[:half]), str(cores[half : 2 * half] or cores[:half])]


def test_when_the_terminal_is_closed_every_rank_saves(tmp_path):
    mine, its = pty.openpty()
    shared = os.path.dirname(os.path.dirname(os.path.abspath(launch.__file__)))
    command = [sys.executable, "-c", IN_A_TERMINAL, str(tmp_path), SAVING, shared]
    process = subprocess.Popen(
        command, stdin=its, stdout=its, stderr=subprocess.DEVNULL, start_new_session=True
    )
    os.close(its)
    printed = b""
    try:
        while not (tmp_path / "ready1").exists() or b"a step" not in printed:
            printed += os.read(mine, 65536)
        os.close(mine)
        process.wait(LIMIT_SECONDS)
    finally:
        process.kill()
    assert (tmp_path / "status").read_text() == "0"
    assert (tmp_path / "saved0").exists()
    assert (tmp_path / "saved1").exists()
    for rank in (0, 1):
        assert "stopping at step 19999\n" in (tmp_path / ("%d.log" % rank)).read_text()


def test_only_several_ranks_are_told_of_a_rank_table(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK_TABLE_FILE", "table.json")
    command = [sys.executable, "-c", "import os; print(os.environ.get('RANK_TABLE_FILE'))"]
    for size, is_started, found in (
        (1, False, "None"),
        (1, True, "table.json"),  # the platform has started it as one of several
        (2, False, "table.json"),
    ):
        logs = [str(tmp_path / ("%d_%s_%d.log" % (size, is_started, rank))) for rank in range(size)]
        assert launch.launch(command, logs, is_started=is_started) == 0
        for log in logs:
            with open(log) as file:
                assert file.read() == found + "\n"
