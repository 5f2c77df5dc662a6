# SPDX-License-Identifier: Apache-2.0
"""Device, precision, mode and ranks of a program; MindSpore is loaded in here, not before."""

import atexit
import os
import subprocess
import sys
from typing import NamedTuple

from harness import environment
from harness.errors import UserError
from harness.platform_options import FULL_PRECISION
from ugatit import dumps

ENDING_SECONDS = 10  # how long the scheduler may take
SCHEDULER = "from mindspore.communication import init; init()"

_SCHEDULERS = []  # processes started by rank 0


class Place(NamedTuple):
    """Where and how a program runs.

    Attributes:
      target: "Ascend", "GPU" or "CPU".
      graph: whether a training step is compiled as a whole.
      half: whether convolutions and dense layers compute in float16.
      rank, ranks: number of this process, and how many train together.
      threads: of one operation on the CPU; 0 is every core.
    """

    target: str
    graph: bool
    half: bool
    rank: int
    ranks: int
    threads: int


def prepare(config) -> None:
    """Sets what MindSpore reads from the environment when it is loaded; call it before that.

    On a CPU with AVX-512, MindSpore 2.10's oneDNN takes its reference convolution, a hundred times
    as slow as the one for AVX2.
    """
    os.environ.setdefault("GLOG_v", "3")
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
    atexit.register(_end_schedulers, _SCHEDULERS)  # before MindSpore's, so that it runs after them
    if dumps.is_wanted(config):
        dumps.request(config)
    if config.threads:
        os.environ["OMP_NUM_THREADS"] = str(config.threads)


def connect(config, train: bool = False) -> Place:
    """Loads MindSpore, chooses the device and joins the other ranks; prints what was chosen.

    Raises:
      UserError: if the device, or this numpy, cannot be used.
    """
    import numpy as np

    if int(np.__version__.split(".")[0]) > 1:
        text = (
            "numpy %s: MindSpore needs numpy 1; install requirements.txt into its own environment"
        )
        raise UserError(text % np.__version__)
    import mindspore as ms

    target = config.target if config.target != "auto" else ms.get_context("device_target")
    try:
        ms.set_context(device_target=target, mode=ms.PYNATIVE_MODE)
        if target != "CPU":
            ms.set_context(device_id=_device_id(config, target))
        if target == "Ascend" and config.deterministic:
            ms.set_context(deterministic="ON")
    except (ValueError, RuntimeError) as error:
        text = "--device_target %s: this MindSpore cannot use it (%s); choose another device"
        raise UserError(text % (target, first_line(error))) from error
    if config.save_graphs:
        ms.set_context(save_graphs=True, save_graphs_path=config.graph_path)
    if target == "CPU":
        if hasattr(ms, "runtime"):
            ms.runtime.launch_blocking()  # queueing operations costs more than they do
        if config.threads:
            ms.set_context(runtime_num_threads=config.threads)
    rank, ranks = _join(config, target) if train else (0, 1)
    graph = config.mode == "graph" or (config.mode == "auto" and target != "CPU")
    graph = graph or dumps.is_wanted(config)
    level = config.amp_level
    if level == "auto":
        mixed = config.precision_mode not in FULL_PRECISION
        level = "O2" if mixed and target != "CPU" else "O0"
    place = Place(target, graph, level == "O2", rank, ranks, config.threads)
    if rank == 0:
        print(describe(place), flush=True)
        _say_unused(config, target)
    return place


def first_line(error: Exception) -> str:
    """Returns what one of MindSpore's errors says first; pages of its inside follow."""
    return (str(error).strip() or type(error).__name__).split("\n")[0]


def describe(place: Place) -> str:
    """Returns one line about a place."""
    import mindspore as ms

    words = (
        ms.__version__,
        place.target,
        "float16 convolutions" if place.half else "float32",
        "whole-step graph" if place.graph else "PyNative",
        place.ranks,
    )
    return "MindSpore %s, device %s, %s, %s, %d rank(s)" % words


def _device_id(config, target) -> int:
    """Returns the number of the device: of several ranks each its own, else as --device_id says."""
    if target == "GPU" and os.environ.get("RANK_ADDRESSES"):
        return 0  # the test scripts show each rank one GPU
    if environment.number("RANK_SIZE", 1) > 1:
        return environment.device_id()
    return config.device_id if config.device_id >= 0 else environment.device_id()


def _say_unused(config, target) -> None:
    """Names the switches of the TensorFlow folders' NPU that were given and do nothing here."""
    names = ["autotune", "gpu_fraction"]
    names += ["over_dump", "deterministic"] if target != "Ascend" else []
    for name in names:
        if getattr(config, name):
            print(
                "--%s has no effect: MindSpore has no such switch on a %s" % (name, target),
                flush=True,
            )


def _join(config, target):
    """Returns (rank, number of ranks) after meeting the others."""
    size = max(
        environment.number("RANK_SIZE", 1),
        environment.number("MS_WORKER_NUM", 1),
        environment.number("OMPI_COMM_WORLD_SIZE", 1),
    )
    if size == 1:
        if config.distributed:
            print("--distributed: this is the only rank (RANK_SIZE and the like say 1)", flush=True)
        return 0, 1
    from mindspore import communication

    launched = "MS_ROLE" in os.environ or "OMPI_COMM_WORLD_SIZE" in os.environ
    if not launched and not os.environ.get("RANK_TABLE_FILE"):
        _start_scheduler(size)
    try:
        communication.init()
    except (RuntimeError, ValueError, TypeError) as error:
        text = "cannot join the %d ranks on %s: %s; start them with msrun or the test scripts"
        raise UserError(text % (size, target, first_line(error))) from error
    return communication.get_rank(), communication.get_group_size()


def _end_schedulers(schedulers) -> None:
    """Waits for the scheduler, which ends by itself when all ranks have left."""
    for scheduler in schedulers:
        try:
            scheduler.wait(ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            scheduler.terminate()


def _start_scheduler(size) -> None:
    """Gives this process its role; rank 0 also starts the scheduler that all ranks meet at."""
    rank = environment.number("RANK_ID")
    addresses = os.environ.get("RANK_ADDRESSES", "")
    if not addresses:
        raise UserError(
            "RANK_SIZE is %d but there is no RANK_TABLE_FILE; start the ranks with msrun or the "
            "test scripts" % size
        )
    host, port = addresses.split(",")[0].rsplit(":", 1)
    os.environ.update(MS_WORKER_NUM=str(size), MS_SCHED_HOST=host, MS_SCHED_PORT=port)
    if rank == 0:
        words = dict(os.environ, MS_ROLE="MS_SCHED")
        scheduler = subprocess.Popen([sys.executable, "-c", SCHEDULER], env=words)
        _SCHEDULERS.append(scheduler)
    os.environ.update(MS_ROLE="MS_WORKER", MS_NODE_ID=str(rank))
