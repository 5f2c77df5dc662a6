# SPDX-License-Identifier: Apache-2.0
"""The first stage: files -> what a network sees, by a named protocol.

How pictures are resized is part of the metric (Parmar et al. 2022, arXiv:2104.11222): the same
pictures have another FID with another resize.
"""

import os
from typing import Callable, Dict, List, NamedTuple

import numpy as np
from PIL import Image

from harness.images import EXTENSIONS, ImageError, is_image, natural_key, read_image

BICUBIC = getattr(Image, "Resampling", Image).BICUBIC


class Protocol(NamedTuple):
    """How pixels become a network's input.

    Attributes:
      words: a description for people.
      resize: (uint8 [H, W, 3], side) -> float32 [side, side, 3] in 0..255.
      normalise: that -> about [-1, 1].
    """

    words: str
    resize: Callable[[np.ndarray, int], np.ndarray]
    normalise: Callable[[np.ndarray], np.ndarray]


def find_images(folder: str) -> List[str]:
    """Returns the paths of all pictures in `folder` and the folders in it, naturally sorted.

    Links are followed, but no folder is entered twice.

    Raises:
      ImageError: if there is no such folder or no picture in it.
    """
    if not os.path.isdir(folder):
        raise ImageError("there is no folder %s; give one of pictures" % folder)
    found, entered = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        if os.path.realpath(place) in entered:
            folders[:] = []
            continue
        entered.add(os.path.realpath(place))
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [os.path.join(place, name) for name in names if is_image(name)]
    if not found:
        raise ImageError("the folder %s holds no picture (%s)" % (folder, " ".join(EXTENSIONS)))
    return sorted(sorted(found), key=lambda path: natural_key(os.path.relpath(path, folder)))


def resize_bicubic(pixels: np.ndarray, side: int) -> np.ndarray:
    """Returns float32 [side, side, 3] in 0..255: bicubic, antialiased, not rounded to levels."""
    channels = [Image.fromarray(pixels[:, :, i].astype(np.float32)) for i in range(3)]
    resized = [np.asarray(one.resize((side, side), BICUBIC)) for one in channels]
    return np.clip(np.stack(resized, 2), 0, 255)


def resize_pytorch(pixels: np.ndarray, side: int) -> np.ndarray:
    """Returns float32 [side, side, 3] in 0..255: bilinear, centres of pixels, no antialiasing."""
    lines = [np.maximum((np.arange(side) + 0.5) * n / side - 0.5, 0) for n in pixels.shape[:2]]
    return _bilinear(pixels, *lines)


def resize_tensorflow(pixels: np.ndarray, side: int) -> np.ndarray:
    """Returns float32 [side, side, 3] in 0..255: bilinear, corners of pixels, no antialiasing.

    It is what TensorFlow 1 and the graph of 2015 do.
    """
    every = np.arange(side, dtype=np.float32)
    lines = [every * np.float32(n / side) for n in pixels.shape[:2]]
    return _bilinear(pixels, *lines)


def _bilinear(pixels, rows, columns):
    """Returns float32 [len(rows), len(columns), 3], read from [H, W, 3] between the pixels."""
    values = pixels
    for axis, places in enumerate((rows, columns)):
        size = pixels.shape[axis]
        before = np.minimum(np.floor(places).astype(np.int64), size - 1)
        share = np.expand_dims((places - before).astype(np.float32), (1, 0)[axis])[..., np.newaxis]
        first = values.take(before, axis).astype(np.float32)
        second = values.take(np.minimum(before + 1, size - 1), axis)
        values = first + (second - first) * share
    return values


def _to_unit_by_255(pixels):
    return pixels * np.float32(2 / 255) - 1


def _to_unit_by_128(pixels):
    return (pixels - 128) * np.float32(1 / 128)


# The names are clean-fid's; so is what belongs together.
PROTOCOLS: Dict[str, Protocol] = {
    "clean": Protocol("bicubic, antialiased, as clean-fid", resize_bicubic, _to_unit_by_128),
    "legacy_pytorch": Protocol("bilinear, as pytorch-fid", resize_pytorch, _to_unit_by_255),
    "legacy_tensorflow": Protocol("bilinear, as TTUR", resize_tensorflow, _to_unit_by_128),
}


def load(path: str, protocol: Protocol, side: int) -> np.ndarray:
    """Returns a picture as a network sees it, float32 [side, side, 3], about [-1, 1].

    Raises:
      ImageError: if the file cannot be read as a picture.
    """
    pixels = read_image(path)
    if pixels.shape[:2] == (side, side):
        return protocol.normalise(pixels.astype(np.float32))
    return protocol.normalise(protocol.resize(pixels, side))
