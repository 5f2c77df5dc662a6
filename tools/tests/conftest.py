# SPDX-License-Identifier: Apache-2.0
"""The shared code is tested at its source; tools for a model, with that model's folder."""

import os
import sys

TOOLS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TOOLS, "shared"))
sys.path.append(TOOLS)
for _folder in (
    "StarGAN_ID1472_for_TensorFlow",
    "U-GAT-IT_for_MindSpore",
    "WhiteBox_Cartoonization_for_TensorFlow",
):
    sys.path.append(os.path.join(os.path.dirname(TOOLS), _folder))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
