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
from typing import Tuple

from harness.errors import UserError
from harness.files import read_json


def number(name: str, default: int = 0) -> int:
    """Returns the whole number >= 0 in an environment variable, or `default` where it is not set.

    Raises:
      UserError: if there is something else in it.
    """
    text = os.environ.get(name) or str(default)
    if not text.isdigit():
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
      UserError: if there are not as many.
    """
    found = tuple(a for a in os.environ.get("RANK_ADDRESSES", "").split(",") if a)
    if len(found) != size:
        text = "RANK_SIZE %d needs as many RANK_ADDRESSES (host:port,...), but there are %d"
        raise UserError(text % (size, len(found)))
    return found


def check_rank_table(rank: int, size: int) -> None:
    """Checks that NPUs can find each other: RANK_TABLE_FILE lists the ranks, or CM_CHIEF_IP is set.

    Raises:
      UserError: if the file is not there, is damaged, or lists other ranks.
    """
    if os.environ.get("CM_CHIEF_IP"):  # later releases of CANN do without the file
        return
    path = os.environ.get("RANK_TABLE_FILE", "")
    if not os.path.isfile(path):
        text = "%d NPUs need RANK_TABLE_FILE, the HCCL rank table, but it is %s; write one with "
        raise UserError((text + "python -m tools.rank_table") % (size, path or "not set"))
    servers = (read_json(path) or {}).get("server_list")
    if servers is None:  # the older form
        return
    ranks = [device["rank_id"] for server in servers for device in server["device"]]
    if len(ranks) != size or str(rank) not in ranks:
        text = "%s lists the ranks %s; RANK_SIZE is %d and this is rank %d; give their own table"
        raise UserError(text % (path, ", ".join(ranks), size, rank))
