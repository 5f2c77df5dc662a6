# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/harness/environment.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""What a process learns from its environment about its rank and its device: read here only.

RANK_ID, RANK_SIZE   this process among those that train together; 0 of 1 where they are not set
ASCEND_DEVICE_ID     the number of its NPU; else DEVICE_ID, else 0
RANK_TABLE_FILE      which NPUs the ranks are on, for HCCL
RANK_ADDRESSES       "host:port,..." of all ranks, for several devices without NPUs
"""

import os
import re
from typing import Tuple

from harness.errors import UserError
from harness.files import read_json


def number(name: str, default: int = 0) -> int:
    """Returns the whole number >= 0 in an environment variable, or `default` where it is not set.

    Raises:
      UserError: if there is something else in it.
    """
    text = os.environ.get(name) or str(default)
    if not re.fullmatch("[0-9]+", text):
        raise UserError("the environment has %s=%s; it must be a whole number" % (name, text))
    return int(text)


def device_id() -> int:
    """Returns the number of this process's device."""
    return number("ASCEND_DEVICE_ID", number("DEVICE_ID"))


def rank_and_size() -> Tuple[int, int]:
    """Returns (number of this rank, how many train together).

    Raises:
      UserError: if the first is not below the second.
    """
    size, rank = number("RANK_SIZE", 1), number("RANK_ID")
    if rank >= size:
        text = "RANK_ID %d with RANK_SIZE %d: it must be 0 to RANK_SIZE - 1; mend or unset them"
        raise UserError(text % (rank, size))
    return rank, size


def addresses(size: int) -> Tuple[str, ...]:
    """Returns the RANK_ADDRESSES of `size` ranks.

    Raises:
      UserError: if there are not as many, or one cannot be.
    """
    found = tuple(a for a in os.environ.get("RANK_ADDRESSES", "").split(",") if a)
    if len(found) != size:
        text = "RANK_SIZE %d needs the RANK_ADDRESSES (host:port,...) of as many ranks, not of %d; "
        raise UserError((text + "the test scripts with --rank_size set them") % (size, len(found)))
    for address in found:
        port = re.fullmatch(r".+:([0-9]{1,5})", address)
        if not port or int(port.group(1)) > 65535 or found.count(address) > 1:
            text = "RANK_ADDRESSES has %s; each must be host:port with a port of its own"
            raise UserError(text % address)
    return found


def communication(device_name: str) -> str:
    """Returns how ranks without NPUs average: "nccl" on GPUs if not told otherwise, else "ring".

    Raises:
      UserError: if RANK_COMMUNICATION is neither.
    """
    name = os.environ.get("RANK_COMMUNICATION", "nccl")
    if name not in ("nccl", "ring"):
        raise UserError("RANK_COMMUNICATION=%s: it must be nccl or ring" % name)
    return name if device_name == "gpu" else "ring"


def check_rank_table(rank: int, size: int) -> None:
    """Checks that RANK_TABLE_FILE lists the ranks, so that NPUs can find each other.

    Raises:
      UserError: if the file is not there, is damaged or not complete, or lists other ranks.
    """
    path = os.environ.get("RANK_TABLE_FILE", "")
    if not os.path.isfile(path):
        text = "%d NPUs need RANK_TABLE_FILE, the HCCL rank table, but it is %s; write one with "
        raise UserError((text + "python -m tools.rank_table") % (size, path or "not set"))
    table = read_json(path)
    if not isinstance(table, dict) or table.get("status") != "completed":
        raise UserError("%s is no completed rank table; write one or wait for it" % path)
    if "server_list" not in table:  # the older form
        return
    devices = [device for server in table["server_list"] for device in server.get("device", [])]
    ranks = {str(device.get("rank_id")): str(device.get("device_id")) for device in devices}
    if len(ranks) != size or str(rank) not in ranks:
        text = "%s lists the ranks %s; RANK_SIZE is %d and this is rank %d; give their own table"
        raise UserError(text % (path, ", ".join(ranks), size, rank))
    if ranks[str(rank)] != str(device_id()):  # right in a container that numbers anew
        text = "rank %d takes device %d (ASCEND_DEVICE_ID) where %s has %s"
        print(text % (rank, device_id(), path, ranks[str(rank)]), flush=True)


def leave_group() -> None:
    """Makes this process one of its own, for software that reads the environment itself."""
    for name in ("RANK_ID", "RANK_SIZE", "RANK_TABLE_FILE"):
        os.environ.pop(name, None)
