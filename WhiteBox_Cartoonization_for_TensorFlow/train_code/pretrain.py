#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pretrains the generator: it learns to reproduce photos."""

import importlib.util
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from harness.errors import run_program
from harness.options import parse
from whitebox.config import PretrainConfig


def main() -> int:
    """Runs the pretraining."""
    config, _ = parse(PretrainConfig, description=__doc__)
    if not importlib.util.find_spec("npu_bridge"):  # on NPUs the log level must stay
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # TensorFlow takes seconds to load: only after the command line was found to be right.
    from whitebox.pretraining import pretrain

    pretrain(config)
    return 0


if __name__ == "__main__":
    run_program(main)
