# SPDX-License-Identifier: Apache-2.0
"""The models of the page, their weights on this machine, and how to get some."""

from __future__ import annotations  # see __main__

import os
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from harness.errors import UserError
from harness.files import read_json
from tools.folders import ROOT, find_folder

DEPTH = 8  # of folders that are searched
INDEX = ".index"  # of a TensorFlow checkpoint


class Model(NamedTuple):
    """A model of the page.

    Attributes:
      name: of its worker, and in --weights NAME=PATH.
      title: on the page.
      folder: how the name of its folder begins.
      environment: below .venv, whose Python its worker runs in.
      task: one sentence.
      endings: of the files that can be its weights.
      is_weights: whether a file found in a search is its weights, by path.
      howto: how to get weights.
    """

    name: str
    title: str
    folder: str
    environment: str
    task: str
    endings: tuple[str, ...]
    is_weights: Callable[[str], bool]
    howto: tuple[str, ...]

    @property
    def path(self) -> str:
        """The path of the model's folder."""
        return find_folder(self.folder)


def _is_pix2pix(path) -> bool:
    name = os.path.basename(path)
    is_own = "Pix2Pix_" in path or name.startswith("pix2pix")
    return bool(re.fullmatch(r"pix2pix\.model-\d+\.index", name)) or (
        is_own and name.endswith(".pb")
    )


def _is_stargan(path) -> bool:
    folder, name = os.path.split(path)
    if name.endswith(".pb"):
        return os.path.isfile(path + ".json")
    is_step = re.fullmatch(r"model-\d+\.index", name)
    return bool(is_step) and os.path.isfile(os.path.join(folder, "labels.json"))


def _is_whitebox(path) -> bool:
    folder, name = os.path.split(path)
    if re.fullmatch(r"model-\d+\.index", name):
        return os.path.basename(folder) == "saved_models"
    return ("WhiteBox_" in path or "whitebox" in name) and name.endswith((".npz", ".pb"))


def _is_ugatit(path) -> bool:
    name = os.path.basename(path)
    is_file = name.endswith("_graph.mindir") or (name.endswith(".mindir") and "UGATIT" in name)
    return is_file or bool(re.search(r"_gen(A2B|B2A)_params_latest\.ckpt$", name))


def _is_vgg(path) -> bool:
    return "vgg" in os.path.basename(path).lower()


def _train(folder, options) -> str:
    return "bash %s/test/train_full_1p.sh %s" % (folder, options)


MODELS = (
    Model(
        "pix2pix",
        "Pix2Pix",
        "Pix2Pix",
        "tf2",
        "Translates a picture as the pairs it was trained on: label maps to photographs, for one.",
        (INDEX, ".pb"),
        _is_pix2pix,
        (
            "bash ci/quickstart.sh",
            _train("Pix2Pix_ID0359_for_TensorFlow", "--data_path=PAIRS"),
            "python -m tools.weights pix2pix PUBLISHED --output FOLDER",
        ),
    ),
    Model(
        "style",
        "Neural style",
        "NEURAL-STYLE",
        "tf2",
        "Paints one picture in the style of another, step by step.",
        (".mat", ".npz"),
        _is_vgg,
        (
            "wget https://www.vlfeat.org/matconvnet/models/imagenet-vgg-verydeep-19.mat",
            "bash ci/demo.sh --weights style=imagenet-vgg-verydeep-19.mat",
        ),
    ),
    Model(
        "stargan",
        "StarGAN",
        "StarGAN",
        "tf2",
        "Gives a face the attributes that are switched on, or a picture another class.",
        (INDEX, ".pb"),
        _is_stargan,
        (
            _train("StarGAN_ID1472_for_TensorFlow", "--data_path=CELEBA"),
            "python -m tools.weights stargan 200000-G.ckpt 200000-D.ckpt --output FOLDER",
        ),
    ),
    Model(
        "whitebox",
        "White-box",
        "WhiteBox",
        "tf2",
        "Turns a photo into a cartoon, as much as you like.",
        (INDEX, ".npz", ".pb"),
        _is_whitebox,
        (
            _train("WhiteBox_Cartoonization_for_TensorFlow", "--data_path=DATA"),
            "python -m tools.weights whitebox PUBLISHED/model-33999 --output generator.npz",
        ),
    ),
    Model(
        "ugatit",
        "U-GAT-IT",
        "U-GAT-IT",
        "ms",
        "Translates between two kinds of pictures, either way, and shows what it looked at.",
        (".ckpt", ".mindir"),
        _is_ugatit,
        (
            _train("U-GAT-IT_for_MindSpore", "--data_path=DATA"),
            "python -m tools.weights ugatit PUBLISHED.pt --output FOLDER",
        ),
    ),
)


def find_model(name: str) -> Model:
    """Returns the model called `name`.

    Raises:
      UserError: if there is none; names them all.
    """
    for model in MODELS:
        if model.name == name.lower():
            return model
    names = ", ".join(model.name for model in MODELS)
    raise UserError("--weights %s=...: there is no such model; choose one of %s" % (name, names))


def parse_given(words: list[str]) -> dict[str, str]:
    """Returns {name of a model: path} of the words of --weights.

    Raises:
      UserError: if a word is not MODEL=PATH, or the path cannot be that model's weights.
    """
    given = {}
    for word in words:
        name, equals, path = word.partition("=")
        if not equals:
            text = "--weights %s: give a model and a path, such as --weights whitebox=generator.npz"
            raise UserError(text % word)
        model = find_model(name)
        given[model.name] = resolve(model, path)
    return given


def find(model: Model, given: str = "", root: str = ROOT) -> list[str]:
    """Returns the weights of `model` on this machine: `given`, then the newest first.

    They are looked for in quickstart/ and in test/output/ of the model's folder; neural style's
    network in that folder too.
    """
    folder = os.path.join(root, os.path.basename(model.path))
    places = [os.path.join(root, "quickstart"), os.path.join(folder, "test", "output")]
    found = [path for place in places for path in search(model, place)]
    if model.name == "style" and os.path.isdir(folder):
        names = [name for name in os.listdir(folder) if name.endswith(model.endings)]
        found += [os.path.join(folder, name) for name in sorted(names) if _is_vgg(name)]
    return list(dict.fromkeys([given] * bool(given) + found))


def search(model: Model, place: str) -> list[str]:
    """Returns the weights of `model` below a folder, newest first, one for each of its folders."""
    found: dict[str, tuple[float, str]] = {}
    for path in _files(place):
        if path.endswith(model.endings) and model.is_weights(path):
            key, shown = path, path
            if path.endswith((INDEX, ".ckpt")):
                key = os.path.dirname(path)
                shown = path[: -len(INDEX)] if path.endswith(INDEX) else key
            newest = (os.path.getmtime(path), shown)
            found[key] = max(found.get(key, newest), newest)
    return [path for _, path in sorted(found.values(), reverse=True)]


def _files(place) -> Iterator[str]:
    for folder, folders, names in os.walk(place):
        if folder[len(place) :].count(os.sep) >= DEPTH:
            folders.clear()
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (os.path.join(folder, name) for name in names)


def resolve(model: Model, path: str) -> str:
    """Returns the weights that `path` means: a file, a checkpoint without .index, or a folder.

    Raises:
      UserError: if nothing is there, or not what this model can load.
    """
    kinds = " or ".join(one.replace(INDEX, "checkpoint (.index)") for one in model.endings)
    path = os.path.abspath(os.path.expanduser(path.strip())) if path.strip() else ""
    if not path:
        raise UserError("no weights are chosen for %s; give a path" % model.title)
    if path.endswith(INDEX):
        path = path[: -len(INDEX)]
    if INDEX in model.endings and os.path.isfile(path + INDEX):
        return path
    if os.path.isdir(path):
        found = search(model._replace(is_weights=_any_of(model)), path)
        if not found:
            text = "%s holds no weights of %s; give a folder with a %s, or the file itself"
            raise UserError(text % (path, model.title, kinds))
        return found[0]
    if not os.path.isfile(path):
        raise UserError("there is no %s; give a %s on this machine" % (path, kinds))
    if not path.endswith(model.endings):
        text = "%s cannot be weights of %s; give a %s"
        raise UserError(text % (path, model.title, kinds))
    return path


def _any_of(model) -> Callable[[str], bool]:
    """Returns what tells the weights in a folder that the user named."""
    loose = {"whitebox": r"model-\d+\.index|.*\.(npz|pb)", "style": r".*\.(mat|npz)"}
    loose.update(pix2pix=r"pix2pix\.model-\d+\.index|.*\.pb", stargan=r"model-\d+\.index|.*\.pb")
    pattern = re.compile(loose.get(model.name, r".*_gen(A2B|B2A)_params_latest\.ckpt|.*\.mindir"))
    return lambda path: bool(pattern.fullmatch(os.path.basename(path)))


def stargan_labels(path: str) -> list[dict]:
    """Returns [{"kind": "celeba" or "classes", "names": [...]}] of a StarGAN's weights.

    Without a file beside them, as published ones have none, the result is [].
    """
    if path.endswith(".pb"):
        return (read_json(path + ".json") or {}).get("labels") or []
    return read_json(os.path.join(os.path.dirname(path), "labels.json")) or []
