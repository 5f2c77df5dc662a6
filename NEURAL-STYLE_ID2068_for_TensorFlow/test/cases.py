# SPDX-License-Identifier: Apache-2.0
"""What "full" and "performance" run for neural style and where its results are."""

import dataclasses
import os

from harness.files import read_json
from harness.images import EXTENSIONS, list_images, natural_key
from harness.options import words_for
from stylize import data, weights
from stylize.config import Config
from stylize.outputs import names_for, stage_folders

NETWORK = "imagenet-vgg-verydeep-19.mat"
SWITCH = "switch_config.txt"  # the NPU's types of single operators, if it lies beside them
LOSS_LISTS = {"%s_loss.txt": "total"}
LAST_LOSSES = 1  # ActualLoss is the last total loss
SMALLER = ("width",)  # take less memory when smaller
OUTPUTS = ("11.jpg", "11.jpg.run", "progress.txt", "progress.png")
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
    """The accuracy case is 1,000 iterations; the other takes minutes anywhere."""
    values = {"iterations": (1000 if preset == "full" else 50,), "print_iterations": 1}
    values.update(progress_write=True, progress_plot=True)
    return dict(values, **given)


def _inputs(case):
    """Returns (contents, styles, network) that the options name, or that lie in the data."""
    folder, config, given = case.data_path, case.config, []
    for path in config.content:
        given += list_images(path) if os.path.isdir(path) else [path]
    names = sorted(os.listdir(folder), key=natural_key) if os.path.isdir(folder) else []
    pictures = [name for name in names if name.lower().endswith(EXTENSIONS)]
    found = [
        tuple(os.path.join(folder, name) for name in pictures if name.startswith(start))
        for start in ("1-content.", "1-style")
    ]
    network = os.path.join(folder, NETWORK)
    if "network" in case.settings:
        network = config.network
    elif not os.path.exists(network):  # the only other file that could be one
        others = [name for name in names if name.endswith((".mat", ".npz"))]
        network = os.path.join(folder, others[0]) if len(others) == 1 else network
    return given or found[0], config.styles or found[1], network


def check_data(case) -> None:
    """Raises ValueError unless pictures and network are there and can be used."""
    content, styles, network = _inputs(case)
    for kind, paths in (("content", content), ("style", styles)):
        if not paths:
            raise ValueError("there is no 1-%s.jpg in %s" % (kind, case.data_path))
        for path in paths:
            data.read_picture(path)
    if case.ranks > len(content):
        text = "%d devices and %d picture: one cannot be divided; name more with --content"
        raise ValueError(text % (case.ranks, len(content)))
    config = dataclasses.replace(case.config, styles=styles)
    words = (config.legacy_transposed_kernels, config.channel_order, config.allow_pickle)
    weights.read_network(network, *words)


def training(case):
    """Words of the training program; an output that is there is replaced."""
    content, styles, network = _inputs(case)
    options = {
        "overwrite": True,
        "over_dump_path": os.path.join(case.output, "overflow_dump"),
        "data_dump_path": os.path.join(case.output, "data_dump"),
        "profiling_dump_path": os.path.join(case.output, "profiling"),
    }
    if os.path.isfile(os.path.join(case.data_path, SWITCH)):
        options["customize_dtypes"] = os.path.join(case.data_path, SWITCH)
    options.update(case.settings, content=tuple(content), styles=tuple(styles), network=network)
    options["output"] = case.output if len(content) > 1 else os.path.join(case.output, "11.jpg")
    return ["neural_style.py"] + words_for(options)


def following(case):
    """The training measures its own result."""
    return []


def _folder(case):
    """Where the state of the picture is; of several pictures, of the first."""
    content = _inputs(case)[0]
    stem = names_for(content)[0] if len(content) > 1 else "11"
    return os.path.join(case.output, stem + ".jpg.run")


def run_folder(case):
    """Where training.json and log.jsonl are; of several scales, of the last."""
    return stage_folders(case.config, _folder(case))[-1]


def tested(case):
    """Where the list of the picture is, before and after; of several, of the first."""
    return [run_folder(case)]


def place(case):
    """Chooses the device as the training does and returns its name; loads TensorFlow."""
    from tf_runtime import device

    return device.choose(case.config).name


def contents(case):
    """How many pictures there are."""
    content, styles, _ = _inputs(case)
    return "%d content and %d style pictures" % (len(content), len(styles))


def runs(case):
    """One at each scale; a rank has its share of the pictures, one after the other."""
    config, share = case.config, -(-len(_inputs(case)[0]) // case.ranks)
    folders = stage_folders(config, _folder(case))
    names = ["scale %d" % n for n in range(1, len(folders) + 1)] if folders[1:] else ["picture"]
    values = zip(names, folders, config.steps)
    return [(name, folder, steps * share, 1) for name, folder, steps in values]


def trial(case):
    """Five steps at each scale, of the first picture."""
    names = ("continue_train", "progress_write", "progress_plot", "video")
    values = dict.fromkeys(names, False)
    periods = ("print_iterations", "save_iterations", "checkpoint_iterations")
    values.update(dict.fromkeys(periods, 0), checkpoint_output="", iterations=(5,))
    return dict(values, content=tuple(_inputs(case)[0][:1]), output=None)


def metrics(case):
    """{name: value} of the picture that was written."""
    return read_json(os.path.join(_folder(case), "metrics.json"), {})


def accuracy(case):
    """The final total loss, which is no accuracy but the number that the scripts have printed."""
    values = metrics(case)
    if "total" not in values:
        return None
    protocol = "content, style and total variation loss of the picture written, with their weights"
    return {"metric": "final total loss", "value": values["total"], "protocol": protocol}
