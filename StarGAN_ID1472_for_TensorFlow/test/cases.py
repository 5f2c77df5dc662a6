# SPDX-License-Identifier: Apache-2.0
"""What "full" and "performance" run for StarGAN and where its results are."""

import dataclasses
import os

from harness import fid
from harness.files import read_json
from harness.options import words_for
from stargan import data
from stargan.config import FID_PROTOCOL, Config
from stargan.labels import find_sources

LOSS_LISTS = {"train_%s_loss.txt": "G/loss_rec"}
LAST_LOSSES = 1  # ActualLoss is the last G/loss_rec
SMALLER = ("batch_size", "image_size")  # take less memory when smaller
OUTPUTS = ("checkpoint", "sample", "summary", "results", "StarGAN.log", "classifier.npz")
OUTPUTS += ("overflow_dump", "data_dump", "profiling")

__all__ = [
    "LAST_LOSSES",
    "LOSS_LISTS",
    "OUTPUTS",
    "Config",
    "accuracy",
    "case_suffix",
    "check_data",
    "following",
    "metrics",
    "run_folder",
]
__all__ += ["settings", "tested", "training"]
__all__ += ["SMALLER", "contents", "place", "runs", "trial"]


def settings(preset, given):
    """The accuracy case is the paper's 200,000 iterations; the other takes minutes anywhere."""
    if preset == "full":
        values = {"training_iterations": 200_000}
    else:
        values = {"training_iterations": 50, "summary_steps": 5}
    if "train_epochs" in given:
        values.pop("training_iterations")
    return dict(values, **given)


def check_data(case) -> None:
    """Raises ValueError unless data, and classifier and Inception if given, can be used."""
    config = dataclasses.replace(case.config, data_path=case.data_path)
    if config.classifier and not os.path.isfile(config.classifier):
        raise ValueError("--classifier %s: there is no such file" % config.classifier)
    if os.path.realpath(config.classifier) == os.path.realpath(_own_classifier(case)):
        text = "--classifier %s would move to previous/ with the earlier case; copy it elsewhere"
        raise ValueError(text % config.classifier)
    if config.inception and config.num_test:
        fid.check(config.inception)
    sources = find_sources(config)
    data.steps_per_epoch(sources, config, case.ranks)
    for source in sources:
        data.check_pictures(source.train.paths + source.test.paths)


def _own_classifier(case):
    return os.path.join(case.output, "classifier.npz")


def _options(case):
    """The options of main.py: case.settings, and every output below case.output."""
    options = {
        "output_dir": case.output,
        "over_dump_path": os.path.join(case.output, "overflow_dump"),
        "data_dump_path": os.path.join(case.output, "data_dump"),
        "profiling_dump_path": os.path.join(case.output, "profiling"),
    }
    options.update(case.settings, data_path=case.data_path)
    return options


def case_suffix(case) -> str:
    """Returns what the CaseName has after 1p: "_RT2" for test/train_RT2_performance_1p.sh."""
    return "_RT2" if os.environ.get("ENABLE_RUNTIME_V2") == "1" else ""


def training(case):
    """Words of the training program."""
    return ["main.py", "--phase=train"] + words_for(_options(case))


def following(case):
    """The full case trains a classifier to measure with; both end with the test phase."""
    if case.config.num_test == 0:
        print("--num_test 0: the accuracy is not measured", flush=True)
        return []
    options, programs = _options(case), []
    for name in ("phase", "ckpt_path"):  # the training started from that, the rest has its result
        options.pop(name, None)
    if case.preset == "full" and case.config.dataset != "both" and not case.config.classifier:
        options["classifier"] = _own_classifier(case)
        words = {k: v for k, v in options.items() if k not in ("classifier", "output_dir")}
        program = ["train_classifier.py", "--output=" + options["classifier"]]
        programs.append(program + words_for(words))
    return programs + [["main.py", "--phase=test"] + words_for(options)]


def run_folder(case):
    """Where training.json and log.jsonl are."""
    return os.path.join(case.output, "checkpoint")


def tested(case):
    """The folder of the test phase."""
    return [os.path.join(case.output, "results")] if case.config.num_test else []


def place(case):
    """Chooses the device as the training does and returns its name; loads TensorFlow."""
    from tf_runtime import device

    return device.choose(case.config).name


def _sources(case):
    return find_sources(dataclasses.replace(case.config, data_path=case.data_path))


def contents(case):
    """How many pictures there are, of each data set."""
    text = "%d pictures to train with and %d to test with"
    counts = [(len(one.train.paths), len(one.test.paths)) for one in _sources(case)]
    return ", ".join(text % each for each in counts)


def runs(case):
    """One training."""
    config = case.config
    steps = config.training_iterations
    if config.train_epochs:
        steps = config.train_epochs * data.steps_per_epoch(_sources(case), config, case.ranks)
    return [("training", run_folder(case), steps, config.keep_checkpoints)]


def trial(case):
    """As many steps as it takes until the generator has learnt twice."""
    values = dict.fromkeys(("train_epochs", "summary_steps", "checkpoint_steps", "save_steps"), 0)
    steps = 2 * case.config.d_train_repeat
    return dict(values, training_iterations=steps, continue_train=False, output_dir=None)


def metrics(case):
    """{name: mean over targets} of the test phase; {} where it did not run."""
    values = read_json(os.path.join(case.output, "results", "metrics.json"), {})
    return values.get("mean", {})


def accuracy(case):
    """FID where an Inception file is given, else the classifier's view, else reconstruction."""
    mean, count = metrics(case), int(metrics(case).get("pictures", 0))
    protocols = (
        (
            "FID",
            "fid",
            "tools/fid, %s; mean over the targets, translated against real" % FID_PROTOCOL,
        ),
        (
            "attribute accuracy",
            "attribute_accuracy",
            "share of translations in which our classifier sees the wanted label, mean over the "
            "targets, pictures that did not have it",
        ),
        ("reconstruction L1", "reconstruction_l1", "mean |x - G(G(x, c'), c)| in [-1, 1]"),
    )
    for metric, key, protocol in protocols:
        if key in mean:
            protocol += "; %d test pictures at %d pixels" % (count, case.config.image_size)
            return {"metric": metric, "value": mean[key], "protocol": protocol}
    return None
