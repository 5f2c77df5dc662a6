# SPDX-License-Identifier: Apache-2.0
"""What "full" and "performance" run for U-GAT-IT and where its results are."""

import dataclasses
import os

from harness import fid
from harness.files import read_json
from harness.options import words_for
from ugatit import data
from ugatit.measures import SURROGATE
from ugatit.reading import Words as Config
from ugatit.reading import combine

LOSS_LISTS = {"train_%s_loss.txt": "g_loss", "train_%s_dloss.txt": "d_loss"}
LAST_LOSSES = 1  # ActualLoss is the last g_loss
SMALLER = ("batch_size", "img_size", "ch")  # take less memory when smaller
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
__all__ += ["settings", "tested", "training"]
__all__ += ["SMALLER", "contents", "place", "runs", "trial"]


def settings(preset, given):
    """The accuracy case is the paper's 100 epochs; the other takes minutes anywhere.

    The command line goes before --config_path, that before the preset, that before
    default_config.yaml.

    Raises:
      UserError: if a file is wrong, or options do not go together.
    """
    values = {} if preset == "full" else {"iteration": 20, "log_freq": 5}
    if "epoch" in given:
        values.pop("iteration", None)
    config, _ = combine(given, preset=values)
    fields = {field.name: field.default for field in dataclasses.fields(config)}
    return {
        name: getattr(config, name)
        for name, default in fields.items()
        if name in given or getattr(config, name) != default
    }


def check_data(case) -> None:
    """Raises ValueError unless the data, and Inception weights if given, can be used."""
    domains = _domains(case)
    data.check_pictures([path for paths in domains for path in paths])
    if case.preset == "full" and case.config.inception:
        fid.check(case.config.inception)


def _domains(case):
    return data.find_domains(dataclasses.replace(case.config, data_path=case.data_path))


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
    domains = _domains(case)
    if min(len(domains.test_a), len(domains.test_b)) < data.LEAST:
        print("fewer than 2 pictures in testA or testB: the accuracy is not measured", flush=True)
        return []
    return [["eval.py"] + words_for(dict(_options(case), compute_metrics=True))]


def run_folder(case):
    """Where training.json and log.jsonl are."""
    return os.path.join(_results(case), case.config.dataset, "checkpoint")


def _test_folder(case):
    return os.path.join(_results(case), case.config.dataset, "test")


def tested(case):
    """The folder of the evaluation."""
    return [_test_folder(case)] if case.preset == "full" else []


def _measured(case):
    """metrics.json of the evaluation; {} where it did not run."""
    return read_json(os.path.join(_test_folder(case), "metrics.json"), {})


def place(case):
    """Chooses the device as the training does and returns its name; loads MindSpore."""
    from ugatit import device

    device.prepare(case.config)
    return device.connect(case.config).target.lower()


def contents(case):
    """How many pictures each domain has."""
    domains = _domains(case)
    counts = (domains.train_a, domains.train_b, domains.test_a, domains.test_b)
    return "trainA %d, trainB %d, testA %d, testB %d pictures" % tuple(map(len, counts))


def runs(case):
    """One training; the weights that stay for good have a folder of their own."""
    config = case.config
    per_epoch = data.steps_per_epoch(_domains(case), config, case.ranks)
    steps = config.iteration or config.epoch * per_epoch
    weights = os.path.join(_results(case), config.dataset, "model")
    return [
        ("training", run_folder(case), steps, config.keep_checkpoints),
        ("weights", weights, 0, 1 + steps // config.periods(per_epoch)[1]),
    ]


def trial(case):
    """Five steps that go on from nothing and copy nothing; weights that stay after the last."""
    values = dict.fromkeys(("resume", "enable_modelarts", "save_graphs", "distributed"), False)
    values.update(freq_unit="iteration", print_freq=0, save_freq=5)
    return dict(values, iteration=5, log_freq=0, load_path="")


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
    """KID of A2B where an Inception file is given, else the surrogate, else the cycle loss.

    With --direction=B2A it is that of B2A.
    """
    name = "B2A" if case.config.direction == "B2A" else "A2B"
    found, values = _measured(case), _measured(case).get(name, {})
    protocol = ", ".join("%s %s" % item for item in found.get("protocol", {}).items())
    texts = (
        ("KID x 100 (%s)" % name, "kid", protocol),
        ("random-feature distance x 100 (%s)" % name, SURROGATE, protocol),
        ("cycle L1 (%s)" % name, "cycle_l1", "mean |x - cycle(x)| in [-1, 1]"),
    )
    for metric, key, text in texts:
        if values.get(key) is not None:
            text += "; %d test pictures at %d pixels" % (values["pictures"], case.config.img_size)
            return {"metric": metric, "value": values[key], "protocol": text}
    return None
