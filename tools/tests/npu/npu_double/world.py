# SPDX-License-Identifier: Apache-2.0
"""The ranks as the environment describes them."""

import json
import os

from npu_double import ContractError, table


def rank_and_size() -> tuple:
    """Returns (number of this rank, how many there are).

    Raises:
      ValueError: if two variables of the environment say how many.
    """
    size = os.environ.get("RANK_SIZE")
    workers = os.environ.get("CM_WORKER_SIZE") if table.release() == "master" else None
    if size and workers:
        raise ValueError("RANK_SIZE and CM_WORKER_SIZE are both in the environment")
    return int(os.environ.get("RANK_ID") or 0), int(size or workers or 1)


def check() -> None:
    """Checks the rank table, if there is one, and takes this process's device for it alone.

    Raises:
      ContractError: if there must be a table, or it has other ranks, or two share a device.
    """
    rank, size = rank_and_size()
    path = os.environ.get("RANK_TABLE_FILE")
    if path:
        _check_table(path, rank, size)
    elif size > 1 and not os.environ.get("CM_CHIEF_IP"):
        raise ContractError("RANK_SIZE %d needs RANK_TABLE_FILE" % size)
    if os.environ.get("NPU_BRIDGE_EXCHANGE"):
        _take_device(os.environ["NPU_BRIDGE_EXCHANGE"])


def _check_table(path, rank, size):
    with open(path, encoding="utf-8") as file:
        words = json.load(file)
    if words.get("status") != "completed":
        raise ContractError("%s is not completed" % path)
    pairs = [(one["server_id"], two) for one in words["server_list"] for two in one["device"]]
    ranks = sorted(int(device["rank_id"]) for _, device in pairs)
    if ranks != list(range(size)):
        raise ContractError("%s has the ranks %s, but RANK_SIZE is %d" % (path, ranks, size))
    places = [(server, device["device_id"]) for server, device in pairs]
    twice = sorted({place for place in places if places.count(place) > 1})
    if twice:
        text = "%s has device %s of server %s for two ranks"
        raise ContractError(text % (path, twice[0][1], twice[0][0]))


def _take_device(folder):
    """Raises ContractError if another process that meets in `folder` has the same device."""
    device = os.environ.get("ASCEND_DEVICE_ID") or os.environ.get("DEVICE_ID") or "0"
    path, mine = os.path.join(folder, "device_%s" % device), str(os.getpid())
    hidden = os.path.join(folder, "process_" + mine)
    with open(hidden, "w", encoding="utf-8") as file:
        file.write(mine)
    try:
        os.link(hidden, path)  # whole or not at all
    except FileExistsError:
        with open(path, encoding="utf-8") as file:
            owner = file.read()
        if owner != mine:
            text = "device %s is taken by process %s; this is process %s"
            raise ContractError(text % (device, owner, mine)) from None
    finally:
        os.remove(hidden)
