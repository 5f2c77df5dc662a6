# SPDX-License-Identifier: Apache-2.0
"""Photos as .bin files for an inference client such as msame, and its results as cartoons.

NAME, with its ending, becomes NAME.bin; the client answers with NAME_output_0.bin, or .txt.
Needs no TensorFlow.
"""

import math
import os
import sys
from typing import List

import numpy as np
from PIL import Image

from harness.errors import UserError
from harness.files import atomic_path
from harness.images import ImageError, list_images, read_image
from whitebox import pictures
from whitebox.data import cut_off, to_float
from whitebox.pictures import Picture

RESULTS = ("_output_0.bin", "_output_0.txt")  # how the names of the client's results end


def fit(pixels: np.ndarray, size: int) -> np.ndarray:
    """Returns uint8 [size, size, 3]: the centre of a picture whose shorter side becomes `size`."""
    image = pictures.shrink(Image.fromarray(pixels), size)
    if min(image.size) < size:
        width, height = (side * size // min(image.size) for side in image.size)
        image = image.resize((width, height), Image.BILINEAR)
    left, top = ((side - size) // 2 for side in image.size)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def preprocess(folder: str, output: str, size: int) -> int:
    """Writes every picture in `folder` as `output`/NAME.bin; returns the exit status.

    A picture that cannot be read is reported on stderr and left out; the status is then 1.

    Args:
      folder: of the photos.
      output: takes float32 [1, size, size, 3], BGR in [-1, 1], each file whole or not at all.
      size: the side of the network's pictures, in pixels.

    Raises:
      UserError: if there is no picture.
    """
    status = 0
    for path in list_images(folder):
        try:
            pixels = fit(read_image(path), size)
        except ImageError as error:
            print("left out: %s" % error, file=sys.stderr)
            status = 1
            continue
        with atomic_path(os.path.join(output, os.path.basename(path) + ".bin")) as temporary:
            to_float(pixels).tofile(temporary)
    return status


def postprocess(folder: str, output: str) -> int:
    """Writes every result in `folder` as the cartoon `output`/NAME; returns how many there are.

    Args:
      folder: that the client was told to write to; where it made one in it that is named by the
        time, as msame does, the newest counts.
      output: of the cartoons; NAME gets the ending .jpg where we do not write its own.

    Raises:
      UserError: if there are no results, or one is no float32 [1, S, S, 3] or not finite.
    """
    paths = _newest(folder)
    targets = {}
    for path in paths:
        target = os.path.join(output, _name(path))
        if target in targets:
            text = "%s and %s would both become %s; remove one of them"
            raise UserError(text % (targets[target], path, target))
        targets[target] = path
        if path.endswith(".bin"):
            _side(path, os.path.getsize(path) / 4)
    for target, path in targets.items():
        picture, name = Picture(cut_off(_read(path))), os.path.basename(target)
        pictures.write(target, pictures.encode(picture, pictures.ending_for(name, name), name))
    return len(paths)


def _newest(folder) -> List[str]:
    """Returns the results in `folder`, else those in the folder below it whose name is the last."""
    found = {}
    for place, _, names in os.walk(folder):
        results = sorted(name for name in names if name.endswith(RESULTS) and name[0] != ".")
        if results:
            found[place] = [os.path.join(place, name) for name in results]
    if not found:
        text = "there is no NAME%s or .txt in %s or below; say where the client wrote"
        raise UserError(text % (RESULTS[0], folder))
    place = folder if folder in found else max(found, key=os.path.basename)
    print("results in %s" % place, flush=True)
    return found[place]


def _name(path) -> str:
    """Returns the name of the cartoon of a result."""
    name = os.path.basename(path)[: -len(RESULTS[0])]
    stem, before = os.path.splitext(name)
    ending = pictures.ending_for(name, name)
    return stem + (before if before.lower() == ending else ending)


def _side(path, count) -> int:
    """Returns the side of a square picture of `count` values, after checking that it is one."""
    side = int(math.sqrt(count / 3) + 0.5)
    if 3 * side * side != count or not side:
        text = "%s holds %g values of float32, which are no square picture; make the .om with "
        text += "--output_type=FP32 and one picture a call"
        raise UserError(text % (path, count))
    return side


def _read(path) -> np.ndarray:
    """Returns float32 [S, S, 3] from a .bin or a .txt file."""
    if path.endswith(".txt"):
        try:
            with open(path, encoding="utf-8") as file:
                values = np.array(file.read().split(), np.float32)
        except ValueError as error:
            raise UserError("%s is damaged: %s; run the client again" % (path, error)) from error
    else:
        values = np.fromfile(path, np.float32)
    side = _side(path, values.size)
    if not np.isfinite(values).all():
        raise UserError("%s is not finite; run the client again" % path)
    return values.reshape(side, side, 3)
