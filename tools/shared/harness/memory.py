# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/harness/memory.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""How much memory a process has, and how much it may take on this machine."""

import resource
from typing import Optional


def available() -> Optional[float]:
    """Returns the bytes that this process may have in all; None where the system does not say."""
    own = peak()
    try:
        free = 1024 * _number("/proc/meminfo", "MemAvailable:")
    except (OSError, ValueError):
        return None
    group = "/sys/fs/cgroup/memory."
    try:  # what a container may take; files that were read count as taken and can be let go
        taken = _number(group + "current") - _number(group + "stat", "inactive_file")
        return own + min(free, _number(group + "max") - taken)
    except (OSError, ValueError):  # no such file, or "max" for no limit
        return own + free


def resident() -> int:
    """Returns the bytes of memory that this process has now, or where that is unknown, at most."""
    try:
        return 1024 * _number("/proc/self/status", "VmRSS:")
    except (OSError, ValueError):
        return peak()


def peak() -> int:
    """Returns the most bytes of memory that this process has had so far."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _number(path, key="") -> int:
    """Returns the number in a file of the system, of the line that begins with `key`."""
    with open(path, encoding="ascii") as file:
        for line in file:
            words = line.split()
            if not key or words[0] == key:
                return int(words[bool(key)])
    raise ValueError("%s has no %s" % (path, key))
