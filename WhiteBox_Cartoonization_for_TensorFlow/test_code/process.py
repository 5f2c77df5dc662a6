#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the results of the inference client on an Ascend 310 as cartoons: OUTPUT/NAME."""

import dataclasses
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from harness.errors import run_program
from harness.options import option, parse
from whitebox import offline


@dataclasses.dataclass(frozen=True)
class ProcessOptions:
    """Processing."""

    input: str = option("./output_final", "folder that the client wrote NAME_output_0.bin/.txt to")
    output: str = option("./cartoonized", "folder of the cartoons")


def main() -> int:
    """Writes the cartoons that the command line asks for."""
    config, _ = parse(ProcessOptions, description=__doc__)
    count = offline.postprocess(config.input, config.output)
    print("%d cartoons written to %s" % (count, config.output))
    return 0


if __name__ == "__main__":
    run_program(main)
