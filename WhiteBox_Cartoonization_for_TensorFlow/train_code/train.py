#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains White-box Cartoonization; pretrains the generator first where that was not done."""

import importlib.util
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from harness import environment
from harness.errors import UserError, run_program
from harness.options import parse
from whitebox.config import Config


def main() -> int:
    """Runs what there is to do."""
    config, _ = parse(Config, description=__doc__)
    if not importlib.util.find_spec("npu_bridge"):  # on NPUs the log level must stay
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # TensorFlow takes seconds to load: only after the command line was found to be right.
    from tf_runtime import npu
    from whitebox.pretraining import pretrain
    from whitebox.training import check_inputs, needs_pretraining, pretrain_config, train

    if not needs_pretraining(config):
        train(config)
        return 0
    check_inputs(config, environment.rank_and_size()[1])
    if pretrain(pretrain_config(config)):
        if needs_pretraining(config):
            text = "the pretraining in %s left no generator; choose another --output_path"
            raise UserError(text % config.output_path)
        # A process of its own: the ranks meet again, and the memory is free.
        if "npu_bridge" in sys.modules:
            npu.close()
        os.execv(sys.executable, [sys.executable] + sys.argv)
    return 0


if __name__ == "__main__":
    run_program(main)
