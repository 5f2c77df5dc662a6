#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""White-box Cartoonization: turns pictures and videos into cartoons."""

import importlib.util
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from harness.errors import run_program
from harness.options import parse
from whitebox.cartoonizing import cartoonize
from whitebox.config import CartoonizeConfig


def main() -> int:
    """Cartoonizes what the command line asks for; the exit status says whether all went well."""
    config, _ = parse(CartoonizeConfig, description=__doc__)
    if not importlib.util.find_spec("npu_bridge"):  # on NPUs the log level must stay
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    return cartoonize(config)


if __name__ == "__main__":
    run_program(main)
