# SPDX-License-Identifier: Apache-2.0
"""Writes the pictures in DATA_PATH for the inference client: BIFILE_INPUTDIR/NAME.bin."""

from harness.errors import UserError, run_program
from ugatit import reading
from ugatit.pictures import preprocess


def main() -> int:
    """Writes float32 [3, img_size, img_size] in [-1, 1], one file a picture."""
    config, _ = reading.read(description=__doc__, phase="test")
    if config.img_ch != 3:
        raise UserError("--img_ch %d: the inference client takes colour, 3" % config.img_ch)
    return preprocess(config.data_path, config.bifile_inputdir, config.img_size)


if __name__ == "__main__":
    run_program(main)
