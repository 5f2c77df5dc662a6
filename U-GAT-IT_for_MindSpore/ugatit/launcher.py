# SPDX-License-Identifier: Apache-2.0
"""`python3 -m ugatit.launcher LOG[,LOG...] PROGRAM [words]`: a program as one rank per log.

Waits for all; SIGTERM and Ctrl-C reach the ranks, and when one fails the others are asked to stop.
"""

import os
import sys

from harness.errors import run_program
from harness.launch import launch


def main() -> int:
    """Returns the exit status of the ranks."""
    logs, command = sys.argv[1].split(","), [sys.executable] + sys.argv[2:]
    for log in logs:
        if os.path.exists(log):
            os.remove(log)
    print("the logs are %s" % ", ".join(map(os.path.abspath, logs)), flush=True)
    return launch(command, logs)


if __name__ == "__main__":
    run_program(main)
