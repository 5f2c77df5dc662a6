#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""StarGAN: --phase=train learns to change attributes, --phase=test changes those of pictures."""

import contextlib
import importlib.util
import os

from harness.errors import run_program
from harness.options import parse
from stargan.config import Config


def test(config, given) -> None:
    """Translates the test pictures, or those of --input_dir, with the newest checkpoint."""
    from stargan import evaluation, serving
    from stargan.classifier import Classifier
    from tf_runtime.device import choose

    checkpoint = serving.find_checkpoint(config)
    config, sources = serving.load_training(config, given, checkpoint)
    jobs = evaluation.find_jobs(config, sources)
    print("checkpoint %s" % checkpoint, flush=True)
    device = choose(config)
    with contextlib.ExitStack() as stack:
        judge = None
        if config.classifier:
            judge = stack.enter_context(Classifier(config.classifier, device.threads))
        translator = serving.CheckpointTranslator(config, sources, checkpoint, device)
        translate = stack.enter_context(translator)
        folder = os.path.join(config.output_dir, "results")
        evaluation.evaluate(config, jobs, sources, translate, folder, judge)


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
        test(config, given)
    return 0


if __name__ == "__main__":
    run_program(main)
