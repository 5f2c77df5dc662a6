# SPDX-License-Identifier: Apache-2.0
"""A file that somebody dropped on the page -> a picture that a model can have, or one sentence."""

import os
import shutil
import warnings

import numpy as np
from PIL import Image

from harness.errors import UserError
from harness.images import ImageError, read_image

MOST_BYTES = 25_000_000
MOST_PIXELS = 40_000_000  # that are decoded
LONGEST = 1280  # side of what is translated, pixels
SHORTEST = 16
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
KINDS = "a JPEG, PNG, WebP, BMP, GIF or TIFF"


def read_upload(path: str) -> np.ndarray:
    """Returns the picture in `path` as people see it, uint8 [H, W, 3], no side above LONGEST.

    Transparency is laid over white and 16 bits become 8, as `harness.images` has it.

    Raises:
      UserError: if it is no picture, damaged, animated, too large or too small.
    """
    name = os.path.basename(path)
    check(path, name)
    try:
        image = Image.fromarray(read_image(path))
    except ImageError as error:
        text = str(error).replace(path, name)
        raise UserError("%s; choose another picture" % text) from error
    except MemoryError as error:
        raise UserError("%s needs more memory than there is; make it smaller" % name) from error
    image.thumbnail((LONGEST, LONGEST), Image.LANCZOS)
    if min(image.size) < SHORTEST:
        text = "%s is %d x %d pixels once its longer side fits %d; each side needs %d or more"
        raise UserError(text % (name, *image.size, LONGEST, SHORTEST))
    return np.asarray(image)


def check(path: str, name: str) -> None:
    """Raises UserError unless the head of a file promises a picture that may be decoded.

    Args:
      path: the file.
      name: what messages call it.
    """
    size = os.path.getsize(path)
    if size > MOST_BYTES:
        text = "%s has %.1f MB, at most %d are taken; make it smaller"
        raise UserError(text % (name, size / 1e6, MOST_BYTES // 1_000_000))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                width, height = image.size
                frames = getattr(image, "n_frames", 1)
    except Image.DecompressionBombError as error:
        text = "%s has more than the %d million pixels that are taken; make it smaller"
        raise UserError(text % (name, MOST_PIXELS // 1_000_000)) from error
    except Exception as error:  # a damaged head makes Pillow raise nearly anything
        raise UserError("%s is no picture that can be read; give %s" % (name, KINDS)) from error
    if width * height > MOST_PIXELS:
        text = "%s has %d x %d pixels, at most %d million are taken; make it smaller"
        raise UserError(text % (name, width, height, MOST_PIXELS // 1_000_000))
    if frames > 1:
        text = "%s has %d pictures, an animation or pages; give a file with one"
        raise UserError(text % (name, frames))


def forget(path: str, folder: str) -> None:
    """Removes an upload and the folder that was made for it below `folder`."""
    place = os.path.dirname(os.path.realpath(path))
    root = os.path.realpath(folder)
    if place != root and place.startswith(root + os.sep):
        shutil.rmtree(place, ignore_errors=True)
    elif os.path.isfile(path):
        os.remove(path)
