# SPDX-License-Identifier: Apache-2.0
"""What "full" and "performance" run for U-GAT-IT and where its results are."""

import dataclasses
import os

from harness.files import read_json
from harness.options import words_for
from ugatit import data
from ugatit.config import Config
from ugatit.measures import SURROGATE
from ugatit.reading import read_yaml

LOSS_LISTS = {"train_%s_loss.txt": "g_loss", "train_%s_dloss.txt": "d_loss"}
LAST_LOSSES = 1  # ActualLoss is the last g_loss
OUTPUTS = ("results", "profiling", "overflow_dump", "data_dump")

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
__all__ += ["settings", "training"]


def settings(preset, given):
    """What the command line gives, before what --config_path says, before the preset's own.

    The accuracy case is the paper's 100 epochs; the other takes minutes anywhere.
    """
    values = {} if preset == "full" else {"iteration": 20, "log_freq": 5}
    if given.get("config_path"):
        values.update(read_yaml(given["config_path"]))
    if "epoch" in given:
        values.pop("iteration", None)
    values.update(given)
    return values


def check_data(case) -> None:
    """Raises ValueError unless the data can be used."""
    config = dataclasses.replace(case.config, data_path=case.data_path)
    domains = data.find_domains(config)
    data.check_pictures([path for paths in domains for path in paths])


def _options(case):
    """The options of the programs: case.settings, and every output below case.output."""
    options = {
        "over_dump_path": os.path.join(case.output, "overflow_dump"),
        "data_dump_path": os.path.join(case.output, "data_dump"),
        "profiling_dump_path": os.path.join(case.output, "profiling"),
    }
    options.update(case.settings, data_path=case.data_path, output_path=_results(case))
    options.pop("phase", None)
    return options


def _results(case):
    return os.path.join(case.output, "results")


def training(case):
    """Words of the training program."""
    return ["train.py"] + words_for(_options(case))


def following(case):
    """The full case ends with the evaluation of the test pictures, where there are any."""
    if case.preset != "full":
        return []
    domains = data.find_domains(dataclasses.replace(case.config, data_path=case.data_path))
    if not (domains.test_a and domains.test_b):
        print("no pictures in testA and testB: the accuracy is not measured", flush=True)
        return []
    return [["eval.py"] + words_for(dict(_options(case), compute_metrics=True))]


def run_folder(case):
    """Where training.json and log.jsonl are."""
    return os.path.join(_results(case), case.config.dataset, "checkpoint")


def _measured(case):
    """metrics.json of the evaluation; {} where it did not run."""
    path = os.path.join(_results(case), case.config.dataset, "test", "metrics.json")
    return read_json(path, {})


def metrics(case):
    """{direction and name: value} of the evaluation."""
    return {
        "%s_%s" % (direction, name): float(value)
        for direction, values in _measured(case).items()
        if direction in ("A2B", "B2A")
        for name, value in values.items()
        if value is not None
    }


def accuracy(case):
    """KID of A2B where an Inception file is given, else the surrogate, else the cycle loss."""
    found, a2b = _measured(case), _measured(case).get("A2B", {})
    protocol = ", ".join("%s %s" % item for item in found.get("protocol", {}).items())
    texts = (
        ("KID x 100 (A2B)", "kid", protocol),
        ("random-feature distance x 100 (A2B)", SURROGATE, protocol),
        ("cycle L1 (A2B)", "cycle_l1", "mean |a - B2A(A2B(a))| in [-1, 1] over the test pictures"),
    )
    for metric, key, text in texts:
        if a2b.get(key) is not None:
            text += "; %d test pictures at %d pixels" % (a2b["pictures"], case.config.img_size)
            return {"metric": metric, "value": a2b[key], "protocol": text}
    return None
