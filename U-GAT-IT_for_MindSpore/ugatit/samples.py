# SPDX-License-Identifier: Apache-2.0
"""What the generators make of a picture, as rows of pictures with their heat maps."""

import os
from typing import List

import numpy as np
from mindspore import Tensor
from PIL import Image

from harness.images import write_image
from ugatit.data import read_test
from ugatit.pictures import to_uint8

COLUMNS = 5  # pictures on a sheet, at the most
GAP = 2  # white pixels between pictures


def heat_map(heat: np.ndarray, size: int) -> np.ndarray:
    """Returns a heat map in colours from blue (low) to red (high).

    Scaled as published: less its minimum, divided by what is then its maximum; a flat map is all
    low.

    Args:
      heat: float [1, h, w], any range.
      size: side of the result in pixels.

    Returns:
      uint8 [size, size, 3].
    """
    values = heat[0] - heat[0].min()
    values = (values / (values.max() or 1)).astype(np.float32)
    return jet(np.asarray(Image.fromarray(values).resize((size, size), Image.BILINEAR)))


def jet(values: np.ndarray) -> np.ndarray:
    """Returns the colours of `values` in [0, 1] on the "jet" scale, uint8 [..., 3]."""
    centres = np.array([0.75, 0.5, 0.25], np.float32)  # of red, green, blue
    levels = np.clip(1.5 - 4 * np.abs(values[..., np.newaxis] - centres), 0, 1)
    return np.rint(255 * levels).astype(np.uint8)


def strip(networks, picture: np.ndarray, to_b: bool) -> List[np.ndarray]:
    """Returns what becomes of a picture of domain A (`to_b`) or B.

    Args:
      networks: {name: network}, genA2B and genB2A among them.
      picture: float32 [C, S, S] in [-1, 1].
      to_b: translate to B; else to A.

    Returns:
      7 pictures, uint8 [S, S, C] or, heat maps, [S, S, 3]: the input; heat map and picture of the
      identity (the generator to its own domain), of the translation, of the cycle (back again).
    """
    there, back = networks["genA2B"], networks["genB2A"]
    if not to_b:
        there, back = back, there
    x = Tensor(picture[np.newaxis])
    translated = there(x)
    pictures = [to_uint8(picture)]
    for made, _, heat in (back(x), translated, back(translated[0])):
        pictures.append(heat_map(heat.asnumpy()[0], picture.shape[1]))
        pictures.append(to_uint8(made.asnumpy()[0]))
    return pictures


def sheet(networks, pictures: List[np.ndarray], to_b: bool) -> np.ndarray:
    """Returns the strips of several pictures side by side, each from top to bottom.

    Returns:
      uint8 [7 S + 12, n S + 2 (n - 1), 3] for n pictures of side S.
    """
    columns = [strip(networks, picture, to_b) for picture in pictures]
    step = pictures[0].shape[1] + GAP
    shape = (len(columns[0]) * step - GAP, len(columns) * step - GAP, 3)
    result = np.full(shape, 255, np.uint8)
    for i, column in enumerate(columns):
        for j, tile in enumerate(column):
            height, width = tile.shape[:2]
            result[j * step : j * step + height, i * step : i * step + width] = tile
    return result


def write_sheets(networks, config, domains, step: int) -> List[str]:
    """Writes FOLDER/img/A2B_<step>.png and B2A_<step>.png, of up to 5 pictures of each domain.

    They are test pictures, or training pictures of a domain without those.

    Returns:
      the paths written.
    """
    written = []
    for name, paths in (
        ("A2B", domains.test_a or domains.train_a),
        ("B2A", domains.test_b or domains.train_b),
    ):
        pictures = [read_test(path, config) for path in paths[:COLUMNS]]
        path = os.path.join(config.folder, "img", "%s_%07d.png" % (name, step))
        write_image(path, sheet(networks, pictures, name == "A2B"))
        written.append(path)
    return written
