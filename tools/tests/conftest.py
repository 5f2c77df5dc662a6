# SPDX-License-Identifier: Apache-2.0
"""The shared code is tested at its source."""

import os
import sys

SHARED = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "shared")
sys.path.insert(0, SHARED)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
