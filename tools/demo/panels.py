# SPDX-License-Identifier: Apache-2.0
"""The part of the page that each model has: its own controls, and what it shows of an answer.

A panel is `Panel` or a class made from it. `controls` adds components; their values come to
`request`, which makes the request of the model's worker.
"""

from collections.abc import Sequence
from typing import NamedTuple

import gradio as gr
import numpy as np
from PIL import Image

from harness.errors import UserError
from tools.demo import finding
from tools.demo.shown import Shown, file_name

# Those of stargan/targets.py: a face has one of them.
HAIR_COLOURS = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair")


class Photo(NamedTuple):
    """A picture that was dropped: uint8 [H, W, 3], and the name of its file without ending."""

    pixels: np.ndarray
    stem: str


class Panel:
    """What all models have; as it is, that of a model without own controls.

    Args:
      model: which.

    Attributes:
      drops: the labels of the pictures that it takes.
      action: what its button says.
    """

    drops: Sequence[str] = ("Picture",)
    action = "Translate"

    def __init__(self, model: finding.Model):
        self.model = model

    def controls(self) -> list:
        """Adds the controls to the page and returns them."""
        return []

    def chosen(self, weights: str) -> list:
        """Returns an update of each control for other weights, "" where there are none."""
        return [gr.skip() for _ in range(self.count)]

    count = 0  # of the controls

    def request(self, *values) -> dict:
        """Returns the words of a request for the values of the controls."""
        return {}

    def shown(self, photos: Sequence[Photo], answer: dict, *values) -> list[Shown]:
        """Returns what to show of an answer, {name: pixels}; of "preview" only that is known."""
        before = answer.get("before", photos[0].pixels)
        name = file_name(photos[0].stem, self.model.name)
        return [Shown("Before", before), Shown("After", answer.get("after"), name)]

    def words(self, event: dict) -> str:
        """Returns a sentence about an answer, or ""."""
        return ""


class Pix2Pix(Panel):
    """Pix2Pix: the size that is translated."""

    count = 1

    def controls(self) -> list:
        """See Panel."""
        choices = [("Square, as in training", False), ("As it is", True)]
        info = "A network knows the scale it was trained at."
        return [gr.Radio(choices, value=False, label="Size", info=info)]

    def request(self, own_size=False) -> dict:
        """See Panel."""
        return {"own_size": bool(own_size)}


class StarGan(Panel):
    """StarGAN: a switch for each attribute of its labels.json, or a choice of its classes."""

    count = 2

    def controls(self) -> list:
        """See Panel."""
        info = "What the face shall have; all others are switched off. It has one hair colour."
        switches = gr.CheckboxGroup([], label="Attributes", info=info, elem_classes="switches")
        classes = gr.Radio([], label="Class", visible=False)
        last = gr.State([])
        switches.input(
            one_hair_colour,
            [switches, last],
            [switches, last],
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )
        return [switches, classes]

    def chosen(self, weights: str) -> list:
        """See Panel."""
        labels = finding.stargan_labels(weights) if weights else []
        labels = labels or [{"kind": "celeba", "names": [*HAIR_COLOURS[:3], "Male", "Young"]}]
        attributes = [name for one in labels if one["kind"] != "classes" for name in one["names"]]
        classes = [name for one in labels if one["kind"] == "classes" for name in one["names"]]
        none = [("none, the attributes", "")] if attributes and classes else []
        pairs = none + [(name, name) for name in classes]
        first = pairs[0][1] if pairs else None
        usual = [name for name in attributes if name in ("Blond_Hair", "Young")] or attributes[:1]
        names = [(name.replace("_", " "), name) for name in attributes]
        return [
            gr.update(choices=names, value=usual, visible=bool(attributes)),
            gr.update(choices=pairs, value=first, visible=bool(pairs)),
        ]

    def request(self, switches=(), chosen="") -> dict:
        """See Panel."""
        return {"labels": [chosen] if chosen else list(switches)}

    def shown(self, photos, answer, switches=(), chosen="") -> list[Shown]:
        """See Panel."""
        labels = [chosen] if chosen else list(switches)
        name = file_name(photos[0].stem, self.model.name, *labels)
        title = ", ".join(labels).replace("_", " ") or "Nothing switched on"
        title = title if "after" in answer else "After"
        before = answer.get("before", photos[0].pixels)
        return [Shown("Before", before), Shown(title, answer.get("after"), name)]


def one_hair_colour(names: list[str], before: list[str]) -> tuple[list[str], list[str]]:
    """Returns the switches that are on, twice; a hair colour put on puts the others off."""
    new = [name for name in names if name in HAIR_COLOURS and name not in before]
    if new:
        names = [name for name in names if name not in HAIR_COLOURS or name == new[-1]]
    return names, names


class WhiteBox(Panel):
    """White-box: the strength, which mixes cartoon and photo on the page, at once."""

    count = 1
    action = "Make a cartoon"

    def controls(self) -> list:
        """See Panel."""
        info = "1 is the cartoon, 0 the photo. It takes effect at once."
        return [gr.Slider(0, 1, value=1, step=0.05, label="Strength", info=info)]

    def shown(self, photos, answer, strength=1) -> list[Shown]:
        """See Panel."""
        after = answer.get("after")
        if after is not None:
            after = mix(photos[0].pixels, after, strength)
        name = file_name(photos[0].stem, self.model.name, "%g" % (100 * strength))
        return [Shown("Before", photos[0].pixels), Shown("After", after, name)]


def mix(photo: np.ndarray, cartoon: np.ndarray, strength: float) -> np.ndarray:
    """Returns uint8 [H, W, 3]: `strength` of the cartoon and the rest of the photo."""
    mixed = strength * cartoon.astype(np.float32) + (1 - strength) * photo.astype(np.float32)
    return np.rint(mixed).astype(np.uint8)


class Ugatit(Panel):
    """U-GAT-IT: the direction, and the attention."""

    count = 1

    def controls(self) -> list:
        """See Panel."""
        choices = [("A to B", "A2B"), ("B to A", "B2A")]
        info = "A and B are the two kinds of pictures of the training."
        return [gr.Radio(choices, value="A2B", label="Direction", info=info)]

    def request(self, direction="A2B") -> dict:
        """See Panel."""
        return {"direction": direction}

    def shown(self, photos, answer, direction="A2B") -> list[Shown]:
        """See Panel."""
        stem, name = photos[0].stem, self.model.name
        shown = [Shown("Before", answer.get("before", photos[0].pixels))]
        shown.append(Shown("After", answer.get("after"), file_name(stem, name, direction)))
        if "attention" in answer:
            file = file_name(stem, name, direction, "attention")
            shown.append(Shown("Attention", answer["attention"], file))
        return shown


class Style(Panel):
    """Neural style: two pictures, how long and how large, and pictures on the way."""

    drops = ("Content", "Style")
    count = 6
    action = "Paint"

    def controls(self) -> list:
        """See Panel."""
        steps = gr.Slider(5, 1000, value=100, step=5, label="Iterations")
        width = gr.Slider(64, 768, value=256, step=32, label="Width, pixels")
        every = gr.Slider(1, 50, value=5, step=1, label="Iterations between previews")
        start = gr.Radio([("Content", False), ("Noise", True)], value=False, label="Start from")
        with gr.Row():
            info = "500 and 100 suit the published VGG-19."
            style = gr.Number(500, label="Style weight", info=info, minimum=0)
            info = "One whose layers were normalised needs 5000000 and 1."
            smooth = gr.Number(100, label="Smoothness weight", info=info, minimum=0)
        return [steps, width, every, start, style, smooth]

    def request(self, steps, width, every, from_noise, style, smooth) -> dict:
        """See Panel."""
        for name, weight in (("style", style), ("smoothness", smooth)):
            if weight is None or not 0 <= weight <= 1e12:
                text = "the %s weight is %s; it must be 0 to 1e12"
                raise UserError(text % (name, "empty" if weight is None else weight))
        words = {"iterations": int(steps), "width": int(width), "every": int(every)}
        words.update(style_weight=float(style), tv_weight=float(smooth))
        return dict(words, from_noise=bool(from_noise))

    def shown(self, photos, answer, *values) -> list[Shown]:
        """See Panel."""
        before = answer.get("before", photos[0].pixels)
        shown = [Shown("Content", before)]
        if len(photos) > 1:
            shown.append(Shown("Style", fitted(photos[1].pixels, before)))
        after, file = answer.get("after"), file_name(photos[0].stem, self.model.name)
        if after is None:
            after, file = answer.get("preview"), ""
        return [*shown, Shown("Painted", after, file)]

    def words(self, event: dict) -> str:
        """See Panel."""
        if event["event"] == "progress":
            return "After %d iterations" % event["step"]
        if event["stopped"]:
            return "Stopped: this is the best so far"
        return ""


def fitted(pixels: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Returns a picture no larger than another, for showing it beside that one."""
    image = Image.fromarray(pixels)
    image.thumbnail((max(other.shape[:2]),) * 2, Image.LANCZOS)
    return np.asarray(image)


PANELS = {"pix2pix": Pix2Pix, "style": Style, "stargan": StarGan, "whitebox": WhiteBox}
PANELS["ugatit"] = Ugatit


def check_photos(panel: Panel, photos: Sequence[Photo | None]) -> None:
    """Raises UserError unless all pictures that the model takes are there."""
    for label, photo in zip(panel.drops, photos, strict=True):
        if photo is None:
            raise UserError("there is no picture yet: drop one into %s" % label)
