# SPDX-License-Identifier: Apache-2.0
"""What "full" and "performance" run for White-box Cartoonization and where its results are."""

import dataclasses
import os

from harness import fid
from harness.files import read_json
from harness.options import words_for
from whitebox import data
from whitebox.config import FID_PROTOCOL, Config, EvaluateConfig
from whitebox.weights import find_vgg, read_vgg

LOSS_LISTS = {"%s_loss.txt": "d_loss_total"}
LAST_LOSSES = 1  # ActualLoss is the last d_loss_total
SMALLER = ("batch_size", "patch_size")  # take less memory when smaller
OUTPUTS = ("train_cartoon", "pretrain", "cartoonized_scenery", "metrics.json", "tested.json")
OUTPUTS += ("overflow_dump", "data_dump", "profiling")

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
    """The accuracy case is the published 100,000 steps; the other takes minutes on an NPU."""
    if preset == "full":
        values = {"total_iter": 100_000}
    else:
        values = {"total_iter": 100, "pretrain_iter": 100, "log_steps": 5}
    if "train_epochs" in given:
        values.pop("total_iter")
    return dict(values, **given)


def _config(case):
    return dataclasses.replace(case.config, data_path=case.data_path)


def check_data(case) -> None:
    """Raises ValueError unless pictures and VGG-19 can be used."""
    config = _config(case)
    if config.save_dir != "train_cartoon":
        text = "--save_dir %s: a case keeps its run in train_cartoon; choose an --output_path"
        raise ValueError(text % config.save_dir)
    domains = data.find_domains(config)
    if config.inception and case.preset == "full":
        fid.check(config.inception, len(domains[-1].photos), len(domains[-1].cartoons))
    data.steps_per_epoch(domains, config, case.ranks)
    read_vgg(config.vgg or find_vgg(data.find_root(config)))
    data.check_pictures(domains)


def _options(case):
    """The options of the programs: case.settings, and every output below case.output."""
    options = {
        "output_path": case.output,
        "over_dump_path": os.path.join(case.output, "overflow_dump"),
        "data_dump_path": os.path.join(case.output, "data_dump"),
        "profiling_dump_path": os.path.join(case.output, "profiling"),
    }
    options.update(case.settings, data_path=case.data_path)
    return options


def training(case):
    """Words of the training program."""
    return ["train_code/train.py"] + words_for(_options(case))


def following(case):
    """Both cartoonize the scenery photos they trained with; the full one measures the result."""
    options, results = _options(case), os.path.join(case.output, "cartoonized_scenery")
    photos = os.path.dirname(data.find_domains(_config(case))[-1].photos[0])
    words = {"input": photos, "output": results, "output_path": case.output}
    words.update((k, v) for k, v in options.items() if k in ("device", "save_dir", "threads"))
    programs = [["test_code/cartoonize.py"] + words_for(words)]
    if case.preset == "full":
        known = {field.name for field in dataclasses.fields(EvaluateConfig)}
        words = {name: value for name, value in options.items() if name in known}
        programs.append(["test_code/evaluate.py"] + words_for(dict(words, results=results)))
    return programs


def run_folder(case):
    """Where training.json and log.jsonl are."""
    return os.path.join(case.output, case.config.save_dir, "checkpoint")


def tested(case):
    """The folder that the evaluation writes to."""
    return [case.output] if case.preset == "full" else []


def place(case):
    """Chooses the device as the training does and returns its name; loads TensorFlow."""
    from tf_runtime import device

    return device.choose(case.config).name


def contents(case):
    """How many pictures each subject has."""
    text = "%s: %d photos, %d cartoons"
    domains = data.find_domains(_config(case))
    return ", ".join(text % (one.subject, len(one.photos), len(one.cartoons)) for one in domains)


def runs(case):
    """The pretraining, which is left out where there is a generator, then the training."""
    config, folder = case.config, os.path.join(case.output, case.config.save_dir)
    steps, kept = config.total_iter, config.keep_checkpoints
    if config.train_epochs:
        domains = data.find_domains(_config(case))
        steps = config.train_epochs * data.steps_per_epoch(domains, config, case.ranks)
    pretraining = os.path.join(case.output, "pretrain", "checkpoint")
    return [
        ("pretraining", pretraining, config.pretrain_iter, kept),
        ("training", run_folder(case), steps, kept),
        ("generators", os.path.join(folder, "saved_models"), 0, config.keep_generators),
    ]


def trial(case):
    """Five steps of each."""
    values = dict.fromkeys(("train_epochs", "log_steps", "save_steps", "image_steps"), 0)
    return dict(values, total_iter=5, pretrain_iter=5, continue_train=False)


def metrics(case):
    """{name: value} of the evaluation; {} where it did not run."""
    return read_json(os.path.join(case.output, "metrics.json"), {})


def accuracy(case):
    """FID to the cartoons where an Inception file is given, else a named surrogate."""
    values = metrics(case)
    count = "%d cartoonized training photos, %d cartoons" % (
        values.get("pictures", 0),
        values.get("cartoons", 0),
    )
    protocols = (
        ("FID to cartoon", "fid_cartoon", "tools/fid, %s; %s" % (FID_PROTOCOL, count)),
        (
            "VGG-19 Frechet distance to cartoon",
            "vgg19_frechet_cartoon",
            "of conv4_4's means over pictures of 256 pixels; a surrogate, no FID; " + count,
        ),
    )
    for metric, key, protocol in protocols:
        if key in values:
            return {"metric": metric, "value": values[key], "protocol": protocol}
    return None
