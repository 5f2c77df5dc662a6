# SPDX-License-Identifier: Apache-2.0
"""The shared code is tested at its source; tools for a model, with that model's folder."""

import importlib.util
import os
import sys

TOOLS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TOOLS, "shared"))
sys.path.append(os.path.dirname(TOOLS))
for _folder in (
    "Pix2Pix_ID0359_for_TensorFlow",
    "StarGAN_ID1472_for_TensorFlow",
    "U-GAT-IT_for_MindSpore",
    "WhiteBox_Cartoonization_for_TensorFlow",
):
    sys.path.append(os.path.join(os.path.dirname(TOOLS), _folder))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_NEED_TENSORFLOW = "export fid_command fid_networks filtering runtime "
_NEED_TENSORFLOW += "weights_pix2pix weights_stargan weights_whitebox"
NEED_TENSORFLOW = ["test_%s.py" % name for name in _NEED_TENSORFLOW.split()]
collect_ignore = [] if importlib.util.find_spec("tensorflow") else NEED_TENSORFLOW


def pytest_report_header(config):
    if collect_ignore:
        return "left out, as there is no TensorFlow: " + " ".join(collect_ignore)
    return None
