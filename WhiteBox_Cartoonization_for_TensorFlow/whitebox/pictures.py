# SPDX-License-Identifier: Apache-2.0
"""One picture file in, one out, with what belongs to a picture besides its colours."""

import io
import os
from typing import NamedTuple, Optional, Tuple, Union

import numpy as np
from PIL import Image, ImageOps

from harness.errors import UserError
from harness.files import atomic_path

# What we write: the ending of a name -> Pillow's name of the format and its settings.
FORMATS = {
    ".jpg": ("JPEG", {"quality": 95}),
    ".jpeg": ("JPEG", {"quality": 95}),
    ".png": ("PNG", {}),
    ".webp": ("WEBP", {"quality": 95}),
    ".bmp": ("BMP", {}),
    ".tif": ("TIFF", {}),
    ".tiff": ("TIFF", {}),
}
_WITH_ALPHA = ("PNG", "WEBP", "TIFF")
_WITHOUT_TAGS = ("BMP",)  # has neither EXIF nor a colour profile
_EXIF_BYTES = 65_500  # a JPEG has no room for more
_ORIENTATION = 0x0112
# EXIF of a TIFF says how its pixels are stored, too; those tags do not belong to another file.
_STORAGE = set(range(254, 270)) | {273, 277, 278, 279, 284, 700, 33723, 34377, 34675}
_STORAGE |= set(range(317, 348)) | set(range(512, 533))


class PictureError(UserError):
    """One picture that cannot be read or written, though others may be; the message names it."""


class Picture(NamedTuple):
    """A picture in memory.

    Attributes:
      pixels: uint8 [H, W, 3], RGB, as people see it.
      alpha: uint8 [H, W], 255 where it is opaque, or None.
      exif: its EXIF, with orientation 1, or b"".
      profile: its ICC profile, of RGB, or b"".
    """

    pixels: np.ndarray
    alpha: Optional[np.ndarray] = None
    exif: bytes = b""
    profile: bytes = b""


def read(source: Union[str, bytes], name: str, max_side: int = 0) -> Picture:
    """Reads a picture; the EXIF orientation is applied, all modes become 8-bit RGB.

    Args:
      source: path of the file, or what is in it.
      name: what messages call it.
      max_side: a larger picture is reduced until its shorter side is so many pixels; 0: never.

    Raises:
      PictureError: if it is missing, truncated or no picture.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            image.load()
            profile = image.info.get("icc_profile") or b""
            image, exif = _upright(image)
            image = shrink(_to_rgb(image), max_side)
    except FileNotFoundError:
        raise PictureError("there is no picture %s" % name) from None
    except Exception as error:  # damaged files make Pillow raise nearly anything
        raise PictureError("%s cannot be read as a picture: %s" % (name, error)) from error
    pixels = np.asarray(image)
    alpha = pixels[:, :, 3] if image.mode == "RGBA" else None
    is_rgb = profile[16:20] == b"RGB "  # that of a grey or CMYK picture is wrong for RGB
    return Picture(pixels[:, :, :3], alpha, exif, profile if is_rgb else b"")


def _upright(image) -> Tuple[Image.Image, bytes]:
    """Returns (the image as people see it, its EXIF with orientation 1 or b"")."""
    try:
        exif = image.getexif()
        if exif.get(_ORIENTATION, 1) != 1:
            if image.format != "TIFF":  # Pillow has turned a TIFF when it was loaded
                image = ImageOps.exif_transpose(image)
            exif[_ORIENTATION] = 1
        for tag in _STORAGE & set(exif):
            del exif[tag]
        data = exif.tobytes() if len(exif) else b""
    except Exception:  # EXIF is often damaged, and the picture may still be good
        return image, b""
    return image, data if len(data) <= _EXIF_BYTES else b""


def _to_rgb(image) -> Image.Image:
    """Returns the image as RGB, or as RGBA where parts of it may be transparent."""
    if image.mode == "F":
        raise ValueError("it has floating-point pixels; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        grey = np.clip(np.asarray(image, np.int64) // 257, 0, 255).astype(np.uint8)
        image = Image.fromarray(grey)
    has_alpha = image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info
    return image.convert("RGBA" if has_alpha else "RGB")


def shrink(image: Image.Image, max_side: int) -> Image.Image:
    """Returns `image`, reduced by means over areas if its shorter side exceeds `max_side` > 0."""
    shorter = min(image.size)
    if not 0 < max_side < shorter:
        return image
    width, height = (side * max_side // shorter for side in image.size)
    return image.resize((width, height), Image.BOX)


def encode(picture: Picture, ending: str, name: str) -> bytes:
    """Returns the content of a file with `picture`; where it cannot be transparent, over white.

    Args:
      picture: to write.
      ending: a key of FORMATS.
      name: what messages call the picture.

    Raises:
      PictureError: if the format cannot hold it.
    """
    kind, words = FORMATS[ending]
    words = dict(words)
    if kind not in _WITHOUT_TAGS:
        words.update(exif=picture.exif, icc_profile=picture.profile)
    image = Image.fromarray(np.ascontiguousarray(picture.pixels))
    if picture.alpha is not None:
        alpha = Image.fromarray(np.ascontiguousarray(picture.alpha))
        if kind in _WITH_ALPHA:
            image.putalpha(alpha)
        else:
            image = Image.composite(image, Image.new("RGB", image.size, "white"), alpha)
    file = io.BytesIO()  # Pillow hides why it cannot write to a disk
    try:
        image.save(file, kind, **{key: value for key, value in words.items() if value})
    except Exception as error:  # each format has errors of its own
        text = "%s cannot be written as %s: %s; choose another format"
        raise PictureError(text % (name, kind, error)) from error
    return file.getvalue()


def write(path: str, data: bytes) -> None:
    """Writes `data` under `path`, whole or not at all."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(data)


def ending_for(source: Union[str, bytes], name: str) -> str:
    """Returns the ending for a cartoon of a picture: its own where we write that, else .jpg.

    Args:
      source: path of the picture, which tells; or what is in it.
      name: what messages call it.

    Raises:
      PictureError: if there is no picture in the bytes.
    """
    if isinstance(source, str):
        ending = os.path.splitext(source)[1].lower()
        return ending if ending in FORMATS else ".jpg"
    try:
        with Image.open(io.BytesIO(source)) as image:
            kinds = [ending for ending, (kind, _) in FORMATS.items() if kind == image.format]
    except Exception as error:  # damaged files make Pillow raise nearly anything
        raise PictureError("%s cannot be read as a picture: %s" % (name, error)) from error
    return kinds[0] if kinds else ".jpg"
