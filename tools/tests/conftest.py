# SPDX-License-Identifier: Apache-2.0
"""The shared code is tested at its source; tools for a model, with that model's folder."""

import importlib.util
import os
import sys

TOOLS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TOOLS, "shared"))
sys.path.append(os.path.dirname(TOOLS))
sys.path.append(TOOLS)
for _folder in (
    "StarGAN_ID1472_for_TensorFlow",
    "U-GAT-IT_for_MindSpore",
    "WhiteBox_Cartoonization_for_TensorFlow",
):
    sys.path.append(os.path.join(os.path.dirname(TOOLS), _folder))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

NEED_TENSORFLOW = ["test_filtering.py", "test_runtime.py", "test_weights_stargan.py"]
NEED_TENSORFLOW += ["test_weights_whitebox.py", "test_fid_command.py", "test_fid_networks.py"]
collect_ignore = [] if importlib.util.find_spec("tensorflow") else NEED_TENSORFLOW


def pytest_report_header(config):
    if collect_ignore:
        return "left out, as there is no TensorFlow: " + " ".join(collect_ignore)
    return None
