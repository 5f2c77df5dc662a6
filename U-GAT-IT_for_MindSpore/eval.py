# SPDX-License-Identifier: Apache-2.0
"""Translates test pictures, or own ones (--input_dir), with trained weights, and measures them."""

from harness.errors import run_program
from ugatit import device, reading


def main() -> int:
    """Evaluates as the command line asks."""
    config, _ = reading.read(description=__doc__, phase="test")
    device.prepare(config)
    # MindSpore takes seconds to load: only after the command line was found to be right.
    from ugatit.evaluation import evaluate

    return evaluate(config)


if __name__ == "__main__":
    run_program(main)
