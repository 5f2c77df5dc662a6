# SPDX-License-Identifier: Apache-2.0
"""Pairs on disk -> training batches. The only module that knows how a data set lies on disk.

Side by side in one picture, A left and B right (train/1.jpg), or in two folders with equal file
names (trainA trainB, train/A train/B, or A/train B/train). Axes: N pairs, H, W, C channels.
"""

import concurrent.futures
import functools
import os
import zlib
from typing import List, NamedTuple, Tuple

import numpy as np
from PIL import Image

from harness.errors import UserError
from harness.images import ImageError, list_images, read_image

FULL_CHECK = 5000  # above so many pairs the check opens the files without decoding them


class DataError(UserError):
    """A data set that cannot be used; the message says what is wrong with which files."""


class Pair(NamedTuple):
    """One pair: `b` is "" where `a` is a picture with both, side by side."""

    a: str
    b: str


def find_pairs(data_path: str, split: str) -> List[Pair]:
    """Returns the pairs of a split ("train", "val" or "test"), sorted by file name.

    Raises:
      DataError: if there are none, or if two folders do not hold the same names.
    """
    if not os.path.isdir(data_path):
        raise DataError("there is no folder %s; it must hold %s/ with pairs" % (data_path, split))
    for a, b in (
        (split + "A", split + "B"),
        (split + "/A", split + "/B"),
        ("A/" + split, "B/" + split),
    ):
        a, b = os.path.join(data_path, a), os.path.join(data_path, b)
        if os.path.isdir(a) or os.path.isdir(b):
            return _match(a, b)
    try:
        return [Pair(path, "") for path in list_images(os.path.join(data_path, split))]
    except ImageError as error:
        raise DataError("%s: %s" % (data_path, error)) from error


def has_split(data_path: str, split: str) -> bool:
    """Returns whether the data set has a folder for this split."""
    names = (split, split + "A", os.path.join("A", split))
    return any(os.path.isdir(os.path.join(data_path, name)) for name in names)


def _match(folder_a, folder_b) -> List[Pair]:
    stems = []
    for folder in (folder_a, folder_b):
        stems.append({})
        for path in list_images(folder):
            stem = os.path.splitext(os.path.basename(path))[0]
            if stem in stems[-1]:
                text = "%s and %s have one name; a pair has equal names, so rename one"
                raise DataError(text % (stems[-1][stem], path))
            stems[-1][stem] = path
    alone = [name for name in stems[0] if name not in stems[1]] + [
        n for n in stems[1] if n not in stems[0]
    ]
    if alone:
        text = "%s has %d pictures and %s has %d; without a partner: %s"
        counts = (folder_a, len(stems[0]), folder_b, len(stems[1]))
        raise DataError(
            text % (counts + (", ".join(alone[:5]) + (" ..." if len(alone) > 5 else ""),))
        )
    return [Pair(path, stems[1][stem]) for stem, path in stems[0].items()]


def check_pairs(pairs: List[Pair]) -> None:
    """Opens every pair once, and decodes it unless there are more than FULL_CHECK.

    Raises:
      DataError: naming the first files that cannot be used and why.
    """
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        check = functools.partial(_problem, decode=len(pairs) <= FULL_CHECK)
        problems = [problem for problem in pool.map(check, pairs) if problem]
    if problems:
        rest = "; and %d more" % (len(problems) - 5) if len(problems) > 5 else ""
        text = "%d of %d pairs in %s cannot be used, mend or remove them: %s%s"
        folder = os.path.dirname(pairs[0].a)
        names = "; ".join(problems[:5])
        raise DataError(text % (len(problems), len(pairs), folder, names, rest))


def _problem(pair, decode):
    try:
        shapes = []
        for path in filter(None, pair):
            if decode:
                shapes.append(read_image(path).shape[:2])
            else:
                with Image.open(path) as image:
                    turned = image.getexif().get(0x0112, 1) >= 5  # EXIF orientation
                    shapes.append(image.size if turned else image.size[::-1])
    except (UserError, OSError) as error:
        return str(error)
    height, width = shapes[0]
    if pair.b:
        if shapes[0] != shapes[1]:
            return "%s is %dx%d but its partner is %dx%d" % (
                (pair.a, width, height) + shapes[1][::-1]
            )
    elif width < height:
        return "%s is %dx%d, higher than wide; A and B must lie side by side" % (
            pair.a,
            width,
            height,
        )
    elif width % 2:
        return "%s is %dx%d; a pair's width must be even to be halved" % (pair.a, width, height)
    return ""


def read_pair(pair: Pair, config) -> Tuple[np.ndarray, np.ndarray]:
    """Returns (condition, target), uint8 [H, W, input_nc] and [H, W, output_nc]."""
    forward = config.which_direction == "AtoB"
    channels_a, channels_b = config.input_nc, config.output_nc
    if not forward:
        channels_a, channels_b = channels_b, channels_a
    a = read_image(pair.a, channels_a)
    b = a
    if pair.b or channels_b != channels_a:
        b = read_image(pair.b or pair.a, channels_b)
    if not pair.b:
        half = a.shape[1] // 2
        a, b = a[:, :half], b[:, half:]
    return (a, b) if forward else (b, a)


@functools.lru_cache(maxsize=16)
def _area_weights(old: int, new: int) -> np.ndarray:
    """Returns float32 [new, old]: which share of each new pixel each old pixel covers."""
    edges = np.arange(new + 1)[:, np.newaxis] * old / new
    starts = np.arange(old)[np.newaxis]
    shares = np.clip(np.minimum(edges[1:], starts + 1) - np.maximum(edges[:-1], starts), 0, None)
    return (shares * new / old).astype(np.float32)


def resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns uint8 [height, width, C], by area averaging as the reference code does."""
    old_height, old_width, channels = pixels.shape
    if (old_height, old_width) == (height, width):
        return pixels
    rows = _area_weights(old_height, height) @ pixels.reshape(old_height, -1).astype(np.float32)
    columns = _area_weights(old_width, width) @ rows.reshape(height, old_width, channels)
    return np.rint(columns).astype(np.uint8)


def to_float(pixels: np.ndarray) -> np.ndarray:
    """Returns float32 in [-1, 1] for uint8 in 0..255."""
    return pixels.astype(np.float32) / 127.5 - 1.0


def to_uint8(values: np.ndarray) -> np.ndarray:
    """Returns uint8 in 0..255 for float in [-1, 1]; what lies outside is clipped."""
    return np.clip(np.rint((np.asarray(values) + 1.0) * 127.5), 0, 255).astype(np.uint8)


def jitter(condition: np.ndarray, target: np.ndarray, config, rng) -> Tuple[np.ndarray, np.ndarray]:
    """Resizes to load_size, crops fine_size, mirrors half of the time; the same for both pictures.

    Isola et al. 2017, section 6.2 ("random jitter"). Takes and returns uint8 [H, W, C].
    """
    load, fine = config.load_size, config.fine_size
    top, left = rng.randint(0, load - fine + 1, 2)
    step = -1 if config.flip and rng.randint(2) else 1
    return tuple(
        resize(pixels, load, load)[top : top + fine, left : left + fine][:, ::step]
        for pixels in (condition, target)
    )


@functools.lru_cache(maxsize=2)
def _order(seed, epoch, count):
    return np.random.RandomState([seed, epoch]).permutation(count)


def fingerprint(pairs: List[Pair]) -> str:
    """Returns a short text that changes with the number, names and sizes of the files."""
    files = [path for pair in pairs for path in pair if path]
    listing = ["%s %d" % (os.path.basename(path), os.path.getsize(path)) for path in files]
    return "%d pairs, %08x" % (len(pairs), zlib.crc32("\n".join(listing).encode()))


def steps_per_epoch(pairs: List[Pair], config, ranks: int) -> int:
    """Returns the number of whole batches in an epoch.

    Raises:
      DataError: if one batch needs more pairs than there are.
    """
    steps = len(pairs) // (config.batch_size * ranks)
    if not steps:
        text = "--batch_size %d on %d device(s) needs more than the %d training pairs; lower it"
        raise DataError(text % (config.batch_size, ranks, len(pairs)))
    return steps


def training_batch(pairs: List[Pair], config, step: int, rank: int, ranks: int):
    """Returns the batch of a step: (conditions, targets), float32 [N, S, S, C] in [-1, 1].

    S is fine_size. A function of (seed, step, rank) alone. The ranks' batches together are the
    batch that one rank with `ranks` times the batch size would get.
    """
    per_epoch = steps_per_epoch(pairs, config, ranks) * config.batch_size * ranks
    first = ((step - 1) * ranks + rank) * config.batch_size
    conditions, targets = [], []
    for position in range(first, first + config.batch_size):
        epoch, index = divmod(position, per_epoch)
        if config.serial_batches:
            index = (index + config.serial_batch_iter - 1) % len(pairs)
        else:
            index = _order(config.seed, epoch, len(pairs))[index]
        rng = np.random.RandomState([config.seed, 1, position % 2**32])
        condition, target = jitter(*read_pair(pairs[index], config), config=config, rng=rng)
        conditions.append(to_float(condition))
        targets.append(to_float(target))
    return np.stack(conditions), np.stack(targets)
