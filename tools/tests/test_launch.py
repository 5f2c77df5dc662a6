# SPDX-License-Identifier: Apache-2.0
"""The launcher of several ranks: which one failed is told, and nothing of the others stays."""

import os
import shutil
import signal
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
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    with open(os.path.join(folder, "child.tmp"), "w") as file:
        file.write(str(child.pid))
    os.rename(os.path.join(folder, "child.tmp"), os.path.join(folder, "child"))
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.exit(3)
deadline = time.time() + 60
while time.time() < deadline:
    time.sleep(0.01)
"""


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
    (tmp_path / "folder").mkdir()
    logs = [str(tmp_path / ("%d.log" % rank)) for rank in range(2)]
    begin = time.monotonic()
    command = [sys.executable, "-c", PROGRAM, what, str(tmp_path / "folder")]
    assert launch.launch(command, logs) == status
    assert time.monotonic() - begin < 20  # rank 0 would have waited for 60 s
    sentence = "rank 1 %s; see its log %s. The other ranks are stopped: when the cause is mended, "
    sentence = sentence % (words, logs[1]) + "start again with --continue_train to go on from the "
    assert capfd.readouterr().err == sentence + "last checkpoint\n"
    assert (tmp_path / "folder" / "asked").exists()
    child, deadline = int((tmp_path / "folder" / "child").read_text()), time.monotonic() + 5
    while _is_running(child) and time.monotonic() < deadline:
        time.sleep(0.01)  # a process that was killed closes its files before it is gone
    assert not _is_running(child)


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
