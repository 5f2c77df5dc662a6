# SPDX-License-Identifier: Apache-2.0
"""What "full" and "performance" run for the training in numpy."""

import os

from options_of_model import Config

from harness.options import words_for

LOSS_LISTS, LAST_LOSSES, OUTPUTS = {"%s_loss.txt": "loss"}, 1, ("checkpoint",)
__all__ = ["Config"]


def settings(preset, given):
    """Both cases take the command line as it is."""
    return dict(given)


def check_data(case):
    """Raises ValueError unless there are data."""
    if not os.path.isdir(case.data_path):
        raise ValueError("there is no folder %s" % case.data_path)


def training(case):
    """Words of the training program."""
    words = dict(case.settings, data_path=case.data_path, output_path=case.output)
    return ["train.py"] + words_for(words)


def following(case):
    """Nothing follows."""
    return []


def run_folder(case):
    """Where the states are."""
    return os.path.join(case.output, "checkpoint")


def tested(case):
    """There is no test phase."""
    return []


def metrics(case):
    """{name: value}."""
    return {}


def accuracy(case):
    """There is none."""
    return None
