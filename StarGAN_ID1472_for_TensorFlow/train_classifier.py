#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains the classifier that measures attribute accuracy, as python3 -m stargan.classifier."""

import importlib.util
import os

from harness.errors import run_program


def main() -> int:
    """Starts it with TensorFlow's notes turned off; they are read when it is imported."""
    if not importlib.util.find_spec("npu_bridge"):  # on NPUs the log level must stay
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from stargan import classifier

    return classifier.main()


if __name__ == "__main__":
    run_program(main)
