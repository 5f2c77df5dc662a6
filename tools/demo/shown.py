# SPDX-License-Identifier: Apache-2.0
"""Pictures and sentences as HTML; pictures are in the page itself, none is kept as a file."""

import base64
import html
import io
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

NO_PICTURE = "No picture yet"
EMPTY = "<div class='frame empty'><span>%s</span></div>"


class Shown(NamedTuple):
    """One picture of an answer.

    Attributes:
      title: what it is.
      pixels: uint8 [H, W, 1 or 3], or None where there is none yet.
      file: name to save it under, or "" where it is not offered.
    """

    title: str
    pixels: np.ndarray | None
    file: str = ""


def data_url(pixels: np.ndarray) -> str:
    """Returns uint8 [H, W, 1 or 3] as a PNG in a data: address."""
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=3)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def pictures(shown: Sequence[Shown], waiting: str = "") -> str:
    """Returns figures side by side; without pixels they are frames, the last says `waiting`."""
    texts = [NO_PICTURE] * (len(shown) - 1) + [waiting]
    return "<div class='pictures'>%s</div>" % "".join(map(_figure, shown, texts))


def _figure(one, waiting) -> str:
    title = html.escape(one.title)
    if one.pixels is None:
        frame, size = EMPTY % html.escape(waiting), ""
    else:
        address = data_url(one.pixels)
        size = "%d \u00d7 %d" % (one.pixels.shape[1], one.pixels.shape[0])
        frame = "<div class='frame'><img alt='%s' src='%s'></div>" % (title, address)
        if one.file:
            words = (html.escape(one.file), address)
            size += " <a class='save' download='%s' href='%s'>Download PNG</a>" % words
    return "<figure>%s<figcaption><b>%s</b> %s</figcaption></figure>" % (frame, title, size)


def file_name(stem: str, *words: str) -> str:
    """Returns a name of a PNG made of an upload's name and words, of harmless letters only."""
    parts = [re.sub(r"[^A-Za-z0-9-]+", "_", part).strip("_")[:60] for part in (stem, *words)]
    return "-".join(part for part in parts if part) + ".png"


def problem(sentence: str) -> str:
    """Returns a sentence about what went wrong."""
    sentence = sentence[:1].upper() + sentence[1:]
    return "<p class='note problem' role='alert'>%s</p>" % html.escape(sentence)


def remark(sentence: str) -> str:
    """Returns a sentence about what goes on."""
    return "<p class='note' role='status'>%s</p>" % html.escape(sentence)


def missing(title: str, places: Sequence[str], commands: Sequence[str]) -> str:
    """Returns which weights are missing, where they were looked for, and how to get them."""
    lines = "".join("<pre tabindex='0'>%s</pre>" % html.escape(line) for line in commands)
    text = "<div class='note missing' role='status'><b>No weights of %s were found</b> in %s. Give "
    text += "a path above, or get some, and load this page again:%s</div>"
    return text % (html.escape(title), html.escape(" or ".join(places)), lines)
