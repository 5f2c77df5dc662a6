# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/harness/images.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""Pictures: reading real files right, writing them whole, and labelled grids.

Arrays are uint8 [H, W, C] in 0..255, C = 3 (RGB) or 1 (grey).
"""

import os
import re
from typing import List, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from harness.errors import UserError
from harness.files import atomic_path

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".tif", ".tiff", ".webp")


class ImageError(UserError):
    """A file that should be a picture and cannot be read as one; the message names it."""


def natural_key(name: str) -> list:
    """Sorts picture names as people do: 2.jpg before 10.jpg."""
    return [int(part) if part.isdecimal() else part.lower() for part in re.split(r"(\d+)", name)]


def is_image(name: str) -> bool:
    """Returns whether a file of this name is taken for a picture: by its ending, not hidden."""
    return name.lower().endswith(EXTENSIONS) and not name.startswith(".")


def list_images(folder: str) -> List[str]:
    """Returns the paths of the pictures directly in `folder`, naturally sorted.

    Raises:
      ImageError: if there is no such folder or no picture in it.
    """
    if not os.path.isdir(folder):
        raise ImageError("there is no folder %s; give a folder of pictures" % folder)
    names = [name for name in os.listdir(folder) if is_image(name)]
    if not names:
        raise ImageError("the folder %s holds no picture (%s)" % (folder, " ".join(EXTENSIONS)))
    return [os.path.join(folder, name) for name in sorted(sorted(names), key=natural_key)]


def read_image(path: str, channels: int = 3) -> np.ndarray:
    """Returns the picture in `path` as a person sees it, uint8 [H, W, channels].

    The EXIF orientation is applied, transparency is laid over white, 16-bit values are scaled to
    8 bits, and palette, grey, CMYK and other modes are converted.

    Raises:
      ImageError: if the file is missing, truncated or no picture; the message names it.
    """
    try:
        with Image.open(path) as image:
            image.load()
            if image.format != "TIFF":  # Pillow turns a TIFF when it loads it
                image = ImageOps.exif_transpose(image)
            if image.mode == "F":
                raise ImageError("%s has floating-point pixels; save it with 8 or 16 bits" % path)
            if image.mode.startswith("I"):
                grey = np.clip(np.asarray(image, np.int64) // 257, 0, 255).astype(np.uint8)
                image = Image.fromarray(grey)
            if image.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in image.info:
                image = image.convert("RGBA")
                white = Image.new("RGBA", image.size, (255, 255, 255, 255))
                image = Image.alpha_composite(white, image)
            pixels = np.asarray(image.convert("RGB" if channels == 3 else "L"))
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError("there is no picture %s" % path) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError("%s cannot be read as a picture: %s" % (path, error)) from error
    return pixels.reshape(pixels.shape[0], pixels.shape[1], channels)


def write_image(path: str, pixels: np.ndarray) -> None:
    """Writes uint8 [H, W, 1 or 3] under `path`, whole or not at all, in the ending's format."""
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    with atomic_path(path) as temporary:
        if path.lower().endswith((".jpg", ".jpeg")):
            image.save(temporary, quality=95)
        else:
            image.save(temporary)


def grid(rows: Sequence[Sequence[np.ndarray]], labels: Sequence[str]) -> np.ndarray:
    """Lays pictures out as a table with a label above each column.

    Args:
      rows: rows of uint8 [H, W, 1 or 3], all of one height and width.
      labels: one text per column.

    Returns:
      uint8 [20 + rows * (H + 2), columns * (W + 2), 3].
    """
    height, width = rows[0][0].shape[:2]
    sheet = Image.new("RGB", (len(labels) * (width + 2), 20 + len(rows) * (height + 2)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    for column, label in enumerate(labels):
        draw.text((column * (width + 2) + 4, 4), label, fill="black", font=font)
        for row, pictures in enumerate(rows):
            pixels = np.broadcast_to(pictures[column], (height, width, 3))
            sheet.paste(
                Image.fromarray(np.ascontiguousarray(pixels)),
                (column * (width + 2) + 1, 20 + row * (height + 2)),
            )
    return np.asarray(sheet)
