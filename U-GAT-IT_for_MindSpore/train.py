# SPDX-License-Identifier: Apache-2.0
"""Trains U-GAT-IT on the pictures in DATA_PATH/DATASET/{trainA,trainB}."""

from harness.errors import run_program
from ugatit import device, modelarts, reading


def main() -> int:
    """Trains, or evaluates with --phase=test; the boot file of ModelArts jobs too."""
    config, _ = reading.read(description=__doc__)
    device.prepare(config)
    return modelarts.run(config, work)


def work(config) -> int:
    """Does what --phase says."""
    # MindSpore takes seconds to load: only after the command line was found to be right.
    if config.phase == "test":
        from ugatit.evaluation import evaluate

        return evaluate(config)
    from ugatit.training import train

    train(config)
    return 0


if __name__ == "__main__":
    run_program(main)
