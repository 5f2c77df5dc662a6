#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pix2Pix: --phase=train trains on pairs, --phase=test translates pictures with what was learnt."""

import importlib.util
import os

from harness.errors import run_program
from harness.options import parse
from pix2pix.config import Config


def main() -> int:
    """Runs the phase that the command line asks for."""
    config, given = parse(Config, description=__doc__)
    if not importlib.util.find_spec("npu_bridge"):  # on NPUs the log level must stay
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # TensorFlow takes seconds to load: only after the command line was found to be right.
    if config.phase == "train":
        from pix2pix.training import train

        train(config)
    else:
        from pix2pix import evaluation, serving
        from tf_runtime.device import choose
        from tf_runtime.run import surroundings

        checkpoint = serving.find_checkpoint(config)
        config = serving.trained_config(config, given, checkpoint)
        jobs = evaluation.find_jobs(config)
        print("%d pictures, checkpoint %s" % (len(jobs), checkpoint), flush=True)
        device = choose(config)
        with serving.CheckpointTranslator(config, checkpoint, device) as translate:
            evaluation.evaluate(config, jobs, translate, surroundings(device))
    return 0


if __name__ == "__main__":
    run_program(main)
