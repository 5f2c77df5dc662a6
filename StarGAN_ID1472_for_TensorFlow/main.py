#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""StarGAN: --phase=train learns to change attributes, --phase=test changes those of pictures."""

import importlib.util
import os

from harness.errors import run_program
from harness.options import parse
from stargan.config import Config


def main() -> int:
    """Runs the phase that the command line asks for."""
    config, given = parse(Config, description=__doc__)
    if not importlib.util.find_spec("npu_bridge"):  # on NPUs the log level must stay
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # TensorFlow takes seconds to load: only after the command line was found to be right.
    if config.phase == "train":
        from stargan.training import train

        train(config)
    else:
        from stargan import evaluation, serving

        checkpoint = serving.find_checkpoint(config)
        config, sources = serving.load_training(config, given, checkpoint)
        folder = os.path.join(config.output_dir, "results")
        evaluation.test(config, sources, checkpoint, serving.CheckpointTranslator, folder)
    return 0


if __name__ == "__main__":
    run_program(main)
