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

from harness.environment import device_id

GRACE_SECONDS = 60  # how long the other ranks may take to end after one has failed


def launch(command: List[str], logs: List[str], bind_core=False, is_started=False) -> int:
    """Runs `command` once per log file and returns the exit status of the first rank that failed.

    Rank 0 is also seen on the terminal. Each rank finds RANK_ID, RANK_SIZE, RANK_ADDRESSES,
    DEVICE_ID, ASCEND_DEVICE_ID and JOB_ID in its environment. SIGTERM is passed on; when a rank
    fails the others are asked to stop, and killed after GRACE_SECONDS.

    Args:
      command: program and arguments.
      logs: one path per rank; missing folders are made.
      bind_core: give each rank its own share of the processor's cores.
      is_started: this process itself was started as a rank; its environment is kept as it is.
    """
    environments = [_environment(rank, len(logs)) for rank in range(len(logs))]
    if is_started:
        environments = [dict(os.environ)]
    if len(logs) > 1:
        addresses = ",".join("127.0.0.1:%d" % port for port in _free_ports(len(logs)))
        shown = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        gpus = shown.split(",") if shown else [str(rank) for rank in range(len(logs))]
        for rank, environment in enumerate(environments):
            environment["RANK_ADDRESSES"] = addresses
            environment["CUDA_VISIBLE_DEVICES"] = gpus[rank % len(gpus)]
    files = [_open(log) for log in logs]
    processes, readers, asked = [], [], []
    before = signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    ignored = signal.signal(
        signal.SIGINT, lambda number, frame: None
    )  # the terminal told the ranks
    try:
        for rank, (file, environment) in enumerate(zip(files, environments)):
            process = subprocess.Popen(
                _bound(command, rank, len(logs)) if bind_core else command,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            reader = threading.Thread(target=_copy, args=(process.stdout, file, rank == 0))
            reader.start()
            processes.append(process)
            readers.append(reader)
        status = _wait(processes, asked)
        for reader in readers:
            reader.join()
        return status
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, ignored)


def _environment(rank, size):
    environment = dict(os.environ, RANK_ID=str(rank), RANK_SIZE=str(size))
    environment.setdefault("JOB_ID", "10087")
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
    share = max(1, (os.cpu_count() or 1) // size)
    first = rank * share % (os.cpu_count() or 1)
    return ["taskset", "-c", "%d-%d" % (first, first + share - 1)] + command


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
                except BrokenPipeError:
                    show = False


def _wait(processes, asked) -> int:
    """Waits for all ranks; the first failure, or a SIGTERM to us, makes the others stop too."""
    failure, deadline, passed_on = None, None, False
    while any(process.poll() is None for process in processes):
        failed = [process.returncode for process in processes if process.returncode]
        if failed and deadline is None:
            failure, deadline = failed[0], time.monotonic() + GRACE_SECONDS
        if (failed or asked) and not passed_on:
            passed_on = True
            for process in processes:
                if process.poll() is None:
                    process.terminate()
        if deadline and time.monotonic() > deadline:
            for process in processes:
                process.kill()
        time.sleep(0.05)
    failed = [process.returncode for process in processes if process.returncode]
    status = failure or (failed[0] if failed else 0)
    return 128 - status if status < 0 else status
