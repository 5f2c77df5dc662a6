#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Starts main.py on several devices: run_model.py --rank_size 8 and the options of main.py."""

import dataclasses
import os
import sys

from harness.errors import run_program
from harness.launch import launch
from harness.options import option, parse_several, words_for
from pix2pix.config import Config


@dataclasses.dataclass(frozen=True)
class LaunchOptions:
    """Launcher."""

    rank_size: int = option(8, "number of devices, one process each", low=1)
    rank_log_dir: str = option("./rank_logs", "folder of the ranks' logs, rank_0.log and so on")
    bind_core: bool = option(False, "give each rank its own processor cores")


def main() -> int:
    """Starts the ranks and returns the first exit status that is not 0."""
    (options, _), (_, given) = parse_several([LaunchOptions, Config], description=__doc__)
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "main.py")
    logs = [
        os.path.join(options.rank_log_dir, "rank_%d.log" % rank)
        for rank in range(options.rank_size)
    ]
    return launch([sys.executable, program] + words_for(given), logs, options.bind_core)


if __name__ == "__main__":
    run_program(main)
