# SPDX-License-Identifier: Apache-2.0
"""Dumps of what operators read and write: MindSpore takes its wishes from a JSON file."""

import os

from harness.errors import UserError
from harness.files import write_json

EVERYTHING, OVERFLOWS = 0, 3  # op_debug_mode
MOST_DEVICES = 8


def is_wanted(config) -> bool:
    """Returns whether the options ask for a dump."""
    return config.data_dump_flag or config.over_dump


def request(config) -> None:
    """Writes the wishes to dump.json in the folder of the dumps and names it in the environment.

    MindSpore reads it when it is loaded. Only graphs can be dumped, and overflows only on an NPU.

    Raises:
      UserError: if the options contradict each other.
    """
    if config.data_dump_flag and config.over_dump:
        raise UserError("--data_dump_flag and --over_dump share one dump; choose one")
    if config.mode == "pynative":
        raise UserError("--mode pynative: only graphs can be dumped; leave --mode out")
    folder = os.path.abspath(config.over_dump_path if config.over_dump else config.data_dump_path)
    common = {
        "op_debug_mode": OVERFLOWS if config.over_dump else EVERYTHING,
        "dump_mode": 0,  # every operator
        "path": folder,
        "net_name": "ugatit",
        "iteration": "all" if config.over_dump else config.data_dump_step,
        "saved_data": "tensor",
        "input_output": 0,  # both
        "kernels": [],
        "support_device": list(range(MOST_DEVICES)),
    }
    path = os.path.join(folder, "dump.json")
    wishes = {"common_dump_settings": common}
    wishes["e2e_dump_settings"] = {"enable": True, "trans_flag": True}
    write_json(path, wishes)
    os.environ["MINDSPORE_DUMP_CONFIG"] = path
