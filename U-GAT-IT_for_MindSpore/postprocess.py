# SPDX-License-Identifier: Apache-2.0
"""Writes the results of the inference client as pictures: EVAL_OUTPUTDIR/NAME_0.jpg."""

from harness.errors import UserError, run_program
from ugatit import reading
from ugatit.pictures import postprocess


def main() -> int:
    """Takes the size from the length of each file unless --img_size is given."""
    config, given = reading.read(description=__doc__, phase="test")
    if config.img_ch != 3:
        raise UserError("--img_ch %d: the inference client takes colour, 3" % config.img_ch)
    size = config.img_size if "img_size" in given else 0
    return postprocess(config.bifile_outputdir, config.eval_outputdir, size)


if __name__ == "__main__":
    run_program(main)
