# SPDX-License-Identifier: Apache-2.0
"""Models broken on purpose, to show that the bars of ci/accuracy.py catch what is wrong.

A variant is a replacement of text in a copy of the model's folder, or other options, or both. Every
old text occurs exactly once in its file: ci/tests/test_broken.py sees to that.
"""

import pathlib
import shutil
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parent.parent
LEFT_OUT = ("__pycache__", ".pytest_cache", "output", "*.pyc")


class Replacement(NamedTuple):
    """`old`, which is once in the folder's `file`, becomes `new`."""

    file: str
    old: str
    new: str


class Variant(NamedTuple):
    """How a copy of a folder differs: text, and options that go after the usual ones."""

    replacements: tuple = ()
    words: tuple = ()


def _change(file: str, old: str, new: str) -> Variant:
    return Variant((Replacement(file, old, new),))


_PIX2PIX, _STARGAN = "pix2pix/training.py", "stargan/training.py"
_UGATIT, _WHITEBOX = "ugatit/steps.py", "whitebox/training.py"

VARIANTS = {
    "Pix2Pix_ID0359_for_TensorFlow": {
        "untrained": Variant(words=("--train_steps=1",)),
        "no adversarial loss": _change(
            _PIX2PIX, "g_loss = g_adversarial + config", "g_loss = 0 * g_adversarial + config"
        ),
        "directions swapped": _change(
            "pix2pix/data.py",
            "return (a, b) if forward else (b, a)",
            "return (b, a) if forward else (a, b)",
        ),
        "generator ascends": _change(
            _PIX2PIX,
            "adversarial_loss(new_logits), l1_loss",
            "-adversarial_loss(new_logits), l1_loss",
        ),
    },
    "StarGAN_ID1472_for_TensorFlow": {
        "untrained": Variant(words=("--training_iterations=1",)),
        "cycle with the target's label": _change(
            _STARGAN, "translate(fakes, labels))", "translate(fakes, targets))"
        ),
        "no classification loss": _change(
            _STARGAN, "+ config.lambda_cls * g_cls", "+ 0 * config.lambda_cls * g_cls"
        ),
        "no cycle": _change(_STARGAN, "config.lambda_rec * g_rec", "0 * config.lambda_rec * g_rec"),
    },
    "U-GAT-IT_for_MindSpore": {
        "untrained": Variant(words=("--iteration=1",)),
        "no adversarial loss": Variant(words=("--adv_weight=0",)),
        "generators swapped in the cycle": _change(
            _UGATIT,
            "losses.distance(b2a(fake_b)[0], a) + losses.distance(a2b(fake_a)[0], b)",
            "losses.distance(a2b(fake_b)[0], a) + losses.distance(b2a(fake_a)[0], b)",
        ),
        "no cycle": Variant(words=("--cycle_weight=0",)),
    },
    "WhiteBox_Cartoonization_for_TensorFlow": {
        "untrained": Variant(words=("--total_iter=1", "--pretrain_iter=1")),
        "no surface loss": _change(
            _WHITEBOX, "config.lambda_surface * g_surface", "0 * config.lambda_surface * g_surface"
        ),
        "no content loss": _change(
            _WHITEBOX, "config.lambda_content * content", "0 * config.lambda_content * content"
        ),
        "BGR swapped": _change(
            "whitebox/data.py",
            "return np.ascontiguousarray(pixels[..., ::-1]).astype",
            "return np.ascontiguousarray(pixels).astype",
        ),
    },
    "NEURAL-STYLE_ID2068_for_TensorFlow": {
        "untrained": Variant(words=("--iterations=1",)),
        "no style loss": Variant(words=("--style_weight=0",)),
        "no content loss": Variant(words=("--content_weight=0",)),
        "channels swapped": _change(
            "stylize/data.py",
            "(pixels.astype(np.float32) - mean",
            "(pixels[..., ::-1].astype(np.float32) - mean",
        ),
        "means swapped": _change(
            "stylize/weights.py",
            'return mean[::-1].copy() if order == "bgr" else mean',
            'return mean if order == "bgr" else mean[::-1].copy()',
        ),
    },
}


def break_copy(folder: pathlib.Path, place: pathlib.Path, variant: Variant) -> pathlib.Path:
    """Copies a model's folder into `place`, makes the variant of it and returns the copy.

    Raises:
      ValueError: if an old text is not exactly once in its file.
    """
    copy = place / folder.name
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
    for change in variant.replacements:
        path = copy / change.file
        text = path.read_text("utf-8")
        if text.count(change.old) != 1:
            found = f"{text.count(change.old)} times in {folder.name}/{change.file}"
            raise ValueError(f"{change.old!r} is {found}, not once; mend ci/broken.py")
        path.write_text(text.replace(change.old, change.new), "utf-8")
    return copy
