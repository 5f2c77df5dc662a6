# SPDX-License-Identifier: Apache-2.0
"""Puts the check scripts on the import path of their tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
