# SPDX-License-Identifier: Apache-2.0
"""What "full" and "performance" run for Pix2Pix and where its results are."""

import dataclasses
import os

from harness import fid
from harness.files import read_json
from harness.options import words_for
from pix2pix import data
from pix2pix.config import FID_PROTOCOL, Config

LOSS_LISTS = {"%s_dloss.log": "d_loss", "%s_gloss.log": "g_loss"}
LAST_LOSSES = 10  # ActualLoss is the mean of so many
SMALLER = ("batch_size", "fine_size", "ngf", "ndf")  # take less memory when smaller
OUTPUTS = ("ckpt", "sample", "test", "logs", "overflow_dump", "data_dump", "profiling")

__all__ = [
    "LAST_LOSSES",
    "LOSS_LISTS",
    "OUTPUTS",
    "Config",
    "accuracy",
    "check_data",
    "following",
    "metrics",
    "run_folder",
]
__all__ += ["settings", "tested", "training"]
__all__ += ["SMALLER", "contents", "place", "runs", "trial"]


def settings(preset, given):
    """The accuracy case is the paper's 200 epochs; the performance case takes minutes anywhere."""
    values = {"epoch": 200} if preset == "full" else {"train_steps": 100, "print_freq": 1}
    if "epoch" in given:
        values.pop("train_steps", None)
    return dict(values, **given)


def check_data(case) -> None:
    """Raises ValueError unless the pairs, and Inception weights if given, can be used."""
    pairs = data.find_pairs(case.data_path, "train")[: case.config.train_size]
    data.steps_per_epoch(pairs, case.config, case.ranks)
    others = [data.find_pairs(case.data_path, split) for split in _tested(case)]
    if case.config.inception and others:
        fid.check(case.config.inception, len(others[0]))
    data.check_pairs(pairs)
    for more in others:
        data.check_pairs(more)


def _tested(case):
    """The folders of pairs that the test phase may take; it takes the first one."""
    return [split for split in ("val", "test") if data.has_split(case.data_path, split)]


def _options(case):
    """The options of main.py: case.settings, and every output below case.output."""
    options = {
        "checkpoint_dir": os.path.join(case.output, "ckpt"),
        "sample_dir": os.path.join(case.output, "sample"),
        "test_dir": os.path.join(case.output, "test"),
        "log_dir": os.path.join(case.output, "logs"),
        "over_dump_path": os.path.join(case.output, "overflow_dump"),
        "data_dump_path": os.path.join(case.output, "data_dump"),
        "profiling_dump_path": os.path.join(case.output, "profiling"),
    }
    options.update(case.settings, data_path=case.data_path)
    return options


def training(case):
    """Words of the training program."""
    return ["main.py", "--phase=train"] + words_for(_options(case))


def following(case):
    """Evaluation on val/ or test/, at the size of training, where there is one of them."""
    if not _tested(case):
        print("no val/ or test/ in %s: the accuracy is not measured" % case.data_path, flush=True)
        return []
    options = _options(case)
    options.pop("phase", None)
    return [["main.py", "--phase=test"] + words_for(options)]


def run_folder(case):
    """Where training.json and log.jsonl are."""
    return dataclasses.replace(
        case.config, checkpoint_dir=_options(case)["checkpoint_dir"]
    ).run_folder


def tested(case):
    """The folder of the test phase."""
    return [_options(case)["test_dir"]] if _tested(case) else []


def place(case):
    """Chooses the device as the training does and returns its name; loads TensorFlow."""
    from tf_runtime import device

    return device.choose(case.config).name


def _pairs(case):
    return data.find_pairs(case.data_path, "train")[: case.config.train_size]


def contents(case):
    """How many pairs there are."""
    return "%d training pairs" % len(_pairs(case))


def runs(case):
    """One training; besides the newest checkpoints some stay for good."""
    config = case.config
    per_epoch = data.steps_per_epoch(_pairs(case), config, case.ranks)
    steps, kept = config.train_steps or config.epoch * per_epoch, config.keep_checkpoints
    if config.save_epoch_freq:
        kept += steps // (config.save_epoch_freq * per_epoch)
    return [("training", run_folder(case), steps, kept)]


def trial(case):
    """Five steps in folders of its own."""
    periods = ("print_freq", "save_latest_freq", "save_epoch_freq", "sample_freq")
    folders = ("checkpoint_dir", "sample_dir", "test_dir", "log_dir")
    values = dict(dict.fromkeys(periods, 0), **dict.fromkeys(folders))
    return dict(values, train_steps=5, continue_train=False)


def metrics(case):
    """{name: mean over the pictures} of the test phase; {} where it did not run."""
    values = read_json(os.path.join(_options(case)["test_dir"], "metrics.json"), {})
    return values.get("mean", {})


def accuracy(case):
    """FID to the targets where an Inception file is given, else the mean L1; lower is better."""
    mean, size = metrics(case), case.config.test_size or case.config.fine_size
    protocols = (
        ("FID", "fid", "tools/fid, %s; outputs against targets" % FID_PROTOCOL),
        ("L1", "l1", "mean |output - target| in [-1, 1]"),
    )
    for metric, key, protocol in protocols:
        if key in mean:
            protocol += " over %d pictures at %d pixels, dropout " % (mean["pictures"], size)
            protocol += "on" if case.config.stochastic else "off"
            return {"metric": metric, "value": mean[key], "protocol": protocol}
    return None
