# SPDX-License-Identifier: Apache-2.0
"""Exports the trained generators: weights -> MINDIR_OUTDIR/UGATIT_AtoB and UGATIT_BtoA."""

from harness.errors import run_program
from ugatit import device, reading


def main() -> int:
    """Exports what --direction and --export_file_format say."""
    config, _ = reading.read(description=__doc__, phase="test")
    device.prepare(config)
    place = device.connect(config)
    # MindSpore must be loaded by `connect`, which says what is wrong with its environment.
    from ugatit.exporting import export

    export(config, place.target)
    return 0


if __name__ == "__main__":
    run_program(main)
