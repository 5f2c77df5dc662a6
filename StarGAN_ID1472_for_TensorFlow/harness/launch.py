# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/harness/launch.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""Starts a program as one or several ranks and keeps a log of each."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import List

from harness.environment import device_id, rank_and_size

GRACE_SECONDS = 30  # how long the other ranks may take to end after one has failed


def launch(
    command: List[str], logs: List[str], bind_core=False, is_started=False, caught=None
) -> int:
    """Runs `command` once per log file and returns the exit status of the first rank that failed.

    Rank 0 is also seen on the terminal. Each rank finds RANK_ID, RANK_SIZE, RANK_ADDRESSES,
    DEVICE_ID, ASCEND_DEVICE_ID and JOB_ID in its environment. SIGTERM and Ctrl-C are passed on; a
    terminal that is closed counts as SIGTERM.
    When a rank fails it is named, the others are asked to stop, and killed after GRACE_SECONDS.
    What a rank started itself and left behind is killed too.

    Args:
      command: program and arguments.
      logs: one path per rank; missing folders are made.
      bind_core: give each rank its own share of the processor's cores.
      is_started: this process itself was started as a rank; its environment is kept as it is.
      caught: a list that takes the signals that came, or None.
    """
    environments = _environments(len(logs)) if not is_started else [dict(os.environ)]
    files = [_open(log) for log in logs]
    processes, readers, asked = [], [], []
    stops = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # not under nohup
        stops.append(signal.SIGHUP)

    def catch(number, frame):
        asked.append(number)
        if caught is not None:
            caught.append(number)

    handlers = {number: signal.signal(number, catch) for number in stops}
    places = [(n, len(logs)) for n in range(len(logs))] if not is_started else [rank_and_size()]
    try:
        for rank, (file, environment) in enumerate(zip(files, environments)):
            process = subprocess.Popen(
                _bound(command, *places[rank]) if bind_core else command,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # what it starts can then be killed with it
            )
            reader = threading.Thread(target=_copy, args=(process.stdout, file, rank == 0))
            reader.start()
            processes.append(process)
            readers.append(reader)
        status = _wait(processes, logs, asked)
        for process, reader in zip(processes, readers):
            reader.join(GRACE_SECONDS)  # for what the rank started
            _kill(process)
            reader.join()
        return status
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _environments(size):
    environments = [_environment(rank, size) for rank in range(size)]
    if size > 1:
        addresses = ",".join("127.0.0.1:%d" % port for port in _free_ports(size))
        shown = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        gpus = shown.split(",") if shown else [str(rank) for rank in range(size)]
        for rank, environment in enumerate(environments):
            environment["RANK_ADDRESSES"] = addresses
            environment["CUDA_VISIBLE_DEVICES"] = gpus[rank % len(gpus)]
    return environments


def _environment(rank, size):
    environment = dict(os.environ, RANK_ID=str(rank), RANK_SIZE=str(size))
    environment.setdefault("JOB_ID", "10087")
    if size == 1:
        environment.pop("RANK_TABLE_FILE", None)  # npu_bridge would wait for those in it
    device = device_id()
    environment["DEVICE_ID"] = environment["ASCEND_DEVICE_ID"] = str(device + rank)
    if sys.stdout.isatty():
        environment["PROGRESS_BAR"] = "1"
    return environment


def _free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _bound(command, rank, size):
    if not shutil.which("taskset"):
        print("--bind_core: taskset is not installed, so cores are not bound", flush=True)
        return command
    cores = sorted(os.sched_getaffinity(0))
    share = max(1, len(cores) // size)
    first = rank * share % len(cores)
    mine = cores[first : first + share]
    return ["taskset", "-c", ",".join(map(str, mine))] + command


def _open(log):
    os.makedirs(os.path.dirname(os.path.abspath(log)), exist_ok=True)
    return open(log, "ab", buffering=0)


def _copy(stream, file, show):
    """Copies a rank's output to its log, without progress bars, and to the terminal if `show`.

    Whatever cannot be written is dropped: a rank must never wait for its reader.
    """
    rest, chunk = b"", b"-"
    with file:
        while chunk:
            chunk = os.read(stream.fileno(), 65536)
            lines = (rest + chunk).split(b"\n")
            rest = lines.pop()
            text = b"".join(line.split(b"\r")[-1] + b"\n" for line in lines)
            try:
                file.write(text if chunk else rest.split(b"\r")[-1])
            except OSError as error:
                print("the log cannot be written: %s" % error, file=sys.stderr)
            if show:
                try:
                    sys.stdout.buffer.write(chunk)
                    sys.stdout.buffer.flush()
                except OSError:  # nobody reads any more, or the terminal was closed
                    show = False


def _wait(processes, logs, asked) -> int:
    """Waits for all ranks; the first failure, or a signal to us, makes the others stop too."""
    status, deadline, was_asked = 0, None, False
    while [process for process in processes if process.poll() is None]:  # polls every one
        while asked:
            was_asked = True
            _signal(processes, asked.pop(0))
        status = status or _failure(processes, logs, was_asked)
        if status and deadline is None:
            deadline = time.monotonic() + GRACE_SECONDS
            _signal(processes, signal.SIGTERM)
        elif status and time.monotonic() > deadline:
            for process in processes:
                _kill(process)
        time.sleep(0.05)
    status = status or _failure(processes, logs, was_asked)
    return 128 - status if status < 0 else status


def _failure(processes, logs, was_asked) -> int:
    """Returns the status of a rank that has failed, or 0; says which unless they were to stop."""
    failed = [(p.returncode, rank) for rank, p in enumerate(processes) if p.returncode]
    if not failed:
        return 0
    status, rank = min(failed)  # one that was killed before one that missed it
    how = "ended with status %d" % status
    if status < 0:
        how = "was killed by %s" % signal.Signals(-status).name
        _kill(processes[rank])
    text = "rank %d %s; see its log %s" % (rank, how, logs[rank])
    if len(processes) > 1:
        text += ". The other ranks are stopped: when the cause is mended, start again; with "
        text += "--continue_train it goes on from the last checkpoint, if there is one"
    if not was_asked and (len(processes) > 1 or status < 0):
        print(text, file=sys.stderr, flush=True)
    return status


def _signal(processes, number) -> None:
    """Passes a signal on; Ctrl-C also to what the ranks started, as the terminal would."""
    number = signal.SIGTERM if number == signal.SIGHUP else number  # the terminal was closed: save
    for process in processes:
        if process.poll() is None and number == signal.SIGINT:
            os.killpg(process.pid, number)
        elif process.poll() is None:
            process.send_signal(number)


def _kill(process) -> None:
    """Kills a rank and whatever it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
