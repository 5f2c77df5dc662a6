# SPDX-License-Identifier: Apache-2.0
"""Pictures: read, brought to the size of a run, made into network input, and their colours kept.

Pictures are uint8 [H, W, 3], RGB. The network sees float32 [1, H, W, 3]: RGB in 0..255 minus the
mean pixel of its training data.
"""

from typing import List, NamedTuple, Optional, Tuple

import numpy as np
from PIL import Image

from harness.images import ImageError, read_image

SMALLEST = 16  # pixels; below, the deep layers see nothing
NOISE = 0.256  # standard deviation of the noise a run may start from, grey levels


class Pictures(NamedTuple):
    """What one run works with.

    Attributes:
      content: uint8 [H, W, 3].
      styles: uint8 [H_i, W_i, 3] of each style.
      masks: float32 [H, W] in 0..1 of each style, or [].
      initial: uint8 [H, W, 3] to start from, or None.
    """

    content: np.ndarray
    styles: List[np.ndarray]
    masks: List[np.ndarray]
    initial: Optional[np.ndarray]


def read_picture(path: str) -> np.ndarray:
    """Returns the picture in `path` as uint8 [H, W, 3].

    Raises:
      ImageError: if it cannot be read or has a side below 16 pixels.
    """
    pixels = read_image(path)
    check_size(pixels, path)
    return pixels


def check_size(pixels: np.ndarray, name: str) -> None:
    """Raises ImageError if a side of `pixels` is below 16 pixels."""
    _check_sides(pixels.shape[:2], name)


def _check_sides(size, name):
    if min(size) < SMALLEST:
        text = "%s is %d x %d pixels; each side needs %d or more"
        raise ImageError(text % (name, size[1], size[0], SMALLEST))


def read_mask(path: str) -> np.ndarray:
    """Returns the grey picture in `path` as float32 [H, W] in 0..1.

    Raises:
      ImageError: if it cannot be read or is black throughout.
    """
    mask = read_image(path, channels=1)[:, :, 0]
    if not mask.any():
        raise ImageError("the mask %s is black: its style would go nowhere; leave it out" % path)
    return mask.astype(np.float32) / 255


def read_pictures(config) -> Pictures:
    """Returns all that the options name but the content, which is None.

    Raises:
      ImageError: if one cannot be read, or no style is given.
    """
    if not config.styles:
        raise ImageError("no --styles: name a picture or more whose style is taken")
    return Pictures(
        content=None,
        styles=[read_picture(path) for path in config.styles],
        masks=[read_mask(path) for path in config.style_masks],
        initial=read_picture(config.initial) if config.initial else None,
    )


def resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns uint8 [height, width, 3], bicubic."""
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.BICUBIC))


def resize_mask(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns float32 [height, width]: the mean of `mask` over what each element covers."""
    if mask.shape == (height, width):
        return mask
    return np.asarray(Image.fromarray(mask).resize((width, height), Image.BOX), np.float32)


def height_for(pixels: np.ndarray, width: int) -> int:
    """Returns the height that keeps the proportions of `pixels` at `width`, rounded down."""
    return max(1, pixels.shape[0] * width // pixels.shape[1])


def sizes_at(pictures: Pictures, width: int, style_scales: Tuple[float, ...]):
    """Returns ((height, width) of the content, [(height, width) of each style]) of a run.

    Args:
      pictures: as they are on disk.
      width: of the content, pixels; 0 leaves it as it is.
      style_scales: width of each style over that of the content; () is 1 for each.

    Raises:
      ImageError: if one becomes too small to work with.
    """
    width = width or pictures.content.shape[1]
    content = (height_for(pictures.content, width), width)
    _check_sides(content, "the content at its --width")
    styles = []
    for style, scale in zip(pictures.styles, style_scales or (1.0,) * len(pictures.styles)):
        style_width = max(1, int(width * scale + 1e-6))
        styles.append((height_for(style, style_width), style_width))
        _check_sides(styles[-1], "a style, scaled to the content's width,")
    return content, styles


def at_width(pictures: Pictures, width: int, style_scales: Tuple[float, ...]) -> Pictures:
    """Returns `pictures` at the size of a run; masks and start take that of the content.

    See `sizes_at`.
    """
    (height, width), sizes = sizes_at(pictures, width, style_scales)
    styles = [resize(style, *size) for style, size in zip(pictures.styles, sizes)]
    masks = [resize_mask(mask, height, width) for mask in pictures.masks]
    initial = pictures.initial
    if initial is not None:
        initial = resize(initial, height, width)
    return Pictures(resize(pictures.content, height, width), styles, masks, initial)


def to_input(pixels: np.ndarray, mean_pixel: np.ndarray) -> np.ndarray:
    """Returns network input, float32 [1, H, W, 3], of pixels [H, W, 3] in 0..255."""
    return (pixels.astype(np.float32) - mean_pixel.astype(np.float32))[None]


def to_uint8(images: np.ndarray, mean_pixel: np.ndarray) -> np.ndarray:
    """Returns uint8 [H, W, 3] of network input [1, H, W, 3], rounded and clipped to 0..255.

    Differs from the reference code: rounded, not cut off, which would darken by half a level.
    """
    return np.clip(np.rint(images[0] + mean_pixel), 0, 255).astype(np.uint8)


def starting_image(pictures: Pictures, noiseblend: float, seed: int, mean_pixel) -> np.ndarray:
    """Returns the network input that the optimisation starts from, float32 [1, H, W, 3].

    Args:
      pictures: at the size of the run.
      noiseblend: share of noise; -1 is 0 where there is an initial picture and 1 where not. With
        less than 1 and no initial picture, the content takes its place.
      seed: of the noise.
      mean_pixel: of the network, [3].
    """
    if noiseblend < 0:
        noiseblend = 1.0 if pictures.initial is None else 0.0
    picture = pictures.content if pictures.initial is None else pictures.initial
    noise = np.random.RandomState(seed).normal(0, NOISE, (1,) + pictures.content.shape)
    return ((1 - noiseblend) * to_input(picture, mean_pixel) + noiseblend * noise).astype("f")


def keep_colors(result: np.ndarray, content: np.ndarray) -> np.ndarray:
    """Returns uint8 [H, W, 3] with the luminance of `result` and the colours of `content`.

    In YCbCr (ITU-R BT.601, as JPEG), see Gatys et al., "Preserving Color in Neural Artistic Style
    Transfer", 2016 (luminance-only transfer).
    """
    luminance = Image.fromarray(result).convert("YCbCr").split()[0]
    _, blue, red = Image.fromarray(content).convert("YCbCr").split()
    return np.asarray(Image.merge("YCbCr", (luminance, blue, red)).convert("RGB"))
