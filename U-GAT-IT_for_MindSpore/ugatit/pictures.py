# SPDX-License-Identifier: Apache-2.0
"""Pictures to tensors and back, without MindSpore.

Pictures are uint8 [H, W, C] in 0..255, C = 3 (RGB) or 1 (grey), tensors float32 [C, H, W] in
[-1, 1].
"""

import math
import os
import sys
from typing import List

import numpy as np
from PIL import Image

from harness.errors import UserError
from harness.files import atomic_path
from harness.images import ImageError, list_images, read_image, write_image

RESULT = "_0.bin"  # how the names of the inference client's results end


def to_float(pixels: np.ndarray) -> np.ndarray:
    """Returns the tensor of a picture: float32 [C, H, W], (value - 127.5) / 127.5."""
    values = (pixels.astype(np.float32) - np.float32(127.5)) / np.float32(127.5)
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def to_uint8(values: np.ndarray) -> np.ndarray:
    """Returns the picture of a tensor: uint8 [H, W, C]; beyond [-1, 1] is clipped."""
    levels = np.rint((np.clip(values, -1, 1) + 1) * 127.5)
    return np.ascontiguousarray(levels.astype(np.uint8).transpose(1, 2, 0))


def resize(pixels: np.ndarray, size: int) -> np.ndarray:
    """Returns uint8 [size, size, C]: Pillow's bilinear filter, which averages when it shrinks."""
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    resized = np.asarray(image.resize((size, size), Image.BILINEAR))
    return resized.reshape(size, size, pixels.shape[2])


def preprocess(folder: str, output: str, size: int) -> int:
    """Writes the tensor of every picture in `folder` to `output`/NAME.bin, whole or not at all.

    A picture that cannot be read is reported on stderr and left out.

    Args:
      folder: where the pictures are.
      output: where float32 [3, size, size] go, one file a picture; made when it is missing.
      size: height and width of the tensors in pixels.

    Returns:
      0, or 1 if a picture was left out.

    Raises:
      UserError: if there is no picture, or two would be written to one file.
    """
    paths = list_images(folder)
    _check_stems(paths)
    status = 0
    for path in paths:
        try:
            pixels = read_image(path)
        except ImageError as error:
            print("left out: %s" % error, file=sys.stderr)
            status = 1
            continue
        with atomic_path(os.path.join(output, _stem(path) + ".bin")) as temporary:
            to_float(resize(pixels, size)).tofile(temporary)
    return status


def postprocess(folder: str, output: str, size: int) -> int:
    """Writes every tensor NAME_0.bin in `folder` as the picture `output`/NAME_0.jpg.

    Args:
      folder: where the results of the inference client are.
      output: where the pictures go; made when it is missing.
      size: height and width in pixels; 0 takes them from the length of each file.

    Returns:
      0.

    Raises:
      UserError: if there is no result, a file does not hold float32 [3, size, size] (then nothing
        is written), or it holds values that are not finite.
    """
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    names = [name for name in names if name.endswith(RESULT) and not name.startswith(".")]
    if not names:
        text = "there is no NAME%s in %s; give the folder that the inference client wrote"
        raise UserError(text % (RESULT, folder))
    sides = [_side(os.path.join(folder, name), size) for name in names]
    for name, side in zip(names, sides):
        values = np.fromfile(os.path.join(folder, name), np.float32).reshape(3, side, side)
        if not np.isfinite(values).all():
            raise UserError(
                "%s in %s is not finite; run the inference client again" % (name, folder)
            )
        write_image(os.path.join(output, _stem(name) + ".jpg"), to_uint8(values))
    return 0


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _check_stems(paths: List[str]) -> None:
    seen = {}
    for path in paths:
        first = seen.setdefault(_stem(path), path)
        if first != path:
            text = "%s and %s would both be written to %s.bin; rename one of them"
            raise UserError(text % (first, os.path.basename(path), _stem(path)))


def _side(path: str, size: int) -> int:
    """Returns the side of the square picture in a .bin file in pixels, after checking its size."""
    found = os.path.getsize(path)
    side = size or int(math.sqrt(found // 12) + 0.5)
    expected = 12 * side * side
    if found == expected and found:
        return side
    wanted = "3x%dx%d float32 are %d" % (size, size, expected) if size else "a square has 12*S*S"
    raise UserError("%s has %d bytes, %s; run the inference client again" % (path, found, wanted))
