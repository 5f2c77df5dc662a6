# SPDX-License-Identifier: Apache-2.0
"""What "full" runs for the model that is none."""

import os

from options_of_fake import Config

from harness.errors import UserError
from harness.options import words_for

SMALLER = ("batch_size",)
__all__ = ["Config"]


def settings(preset, given):
    """The full case takes the command line as it is."""
    return dict(given)


def check_data(case):
    """Raises ValueError unless there are data."""
    print("looking at the data")
    if not os.listdir(case.data_path):
        raise ValueError("there is no picture in %s; put some there" % case.data_path)


def training(case):
    """Words of the training program."""
    words = dict(case.settings, data_path=case.data_path, output_path=case.output)
    return ["train.py"] + words_for(words)


def run_folder(case):
    """Where the states are."""
    return os.path.join(case.output, "checkpoint")


def place(case):
    """There is a processor alone."""
    if case.config.device == "npu":
        raise UserError("--device npu: there is none; use --device auto")
    print("device: cpu, by hand")
    return "cpu"


def contents(case):
    """How many files there are."""
    return "%d files" % len(os.listdir(case.data_path))


def runs(case):
    """A pretraining that the trial does not do, the training, and a folder that takes room."""
    folder = run_folder(case)
    return [
        ("pretraining", os.path.join(case.output, "before"), 500, 1),
        ("training", folder, case.config.steps, case.config.keep),
        ("weights", folder, 0, 1),
    ]


def trial(case):
    """Three steps."""
    return {"steps": 3, "continue_train": False, "rate": None}
