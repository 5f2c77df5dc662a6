#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes photos for an .om on an Ascend 310: SAVE_FOLDER/NAME.bin, 1x256x256x3 BGR in [-1, 1]."""

import dataclasses
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from harness.errors import run_program
from harness.options import option, parse
from whitebox import offline


@dataclasses.dataclass(frozen=True)
class PreprocessOptions:
    """Preprocessing."""

    data_path: str = option("./dataset/scenery_photo", "folder of the photos")
    save_folder: str = option("./input_bin", "folder of the .bin files")
    patch_size: int = option(
        256, "the .om's side, pixels: photos are reduced to it and their centre is cut out", low=4
    )


def main() -> int:
    """Writes the files that the command line asks for."""
    config, _ = parse(PreprocessOptions, description=__doc__)
    return offline.preprocess(config.data_path, config.save_folder, config.patch_size)


if __name__ == "__main__":
    run_program(main)
