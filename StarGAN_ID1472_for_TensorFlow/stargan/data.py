# SPDX-License-Identifier: Apache-2.0
"""Pictures -> batches. Axes: N pictures of a batch, S image_size, L labels of the source."""

import concurrent.futures
import functools
import os
from typing import List, Tuple

import numpy as np
from PIL import Image

from harness.errors import UserError
from harness.images import read_image
from stargan.labels import DataError, Source

FULL_CHECK = 5000  # above so many pictures the check opens the files without decoding them
CELEBA_WIDTH, CELEBA_HEIGHT = 178, 218  # of the aligned pictures, which crop_size refers to
CHUNK = 256  # pictures that a thread checks before it takes the next ones


def centre_square(width: int, height: int, kind: str, config) -> Tuple[int, int, int]:
    """Returns (left, top, side) of the part of a picture that is used, in pixels.

    CelebA: crop_size of a picture of 178x218, in proportion for others. Classes, or crop_size 0:
    the largest square. The centre is rounded as torchvision's CenterCrop does.
    """
    side = min(width, height)
    if kind == "celeba" and config.crop_size:
        scale = min(width / CELEBA_WIDTH, height / CELEBA_HEIGHT)
        side = min(side, max(1, round(config.crop_size * scale)))
    return round((width - side) / 2.0), round((height - side) / 2.0), side


def prepare(pixels: np.ndarray, kind: str, config) -> np.ndarray:
    """Returns uint8 [S, S, 3]: the centre of uint8 [H, W, 3], resized bilinearly by PIL."""
    left, top, side = centre_square(pixels.shape[1], pixels.shape[0], kind, config)
    square = np.ascontiguousarray(pixels[top : top + side, left : left + side])
    size = (config.image_size, config.image_size)
    return np.asarray(Image.fromarray(square).resize(size, Image.BILINEAR))


def read_picture(path: str, kind: str, config) -> np.ndarray:
    """Returns the picture in `path` as the networks see it, uint8 [S, S, 3].

    Raises:
      ImageError: if the file is missing, truncated or no picture.
    """
    return prepare(read_image(path), kind, config)


def to_float(pixels: np.ndarray) -> np.ndarray:
    """Returns float32 in [-1, 1] for uint8 in 0..255."""
    return pixels.astype(np.float32) / 127.5 - 1.0


def to_uint8(values: np.ndarray) -> np.ndarray:
    """Returns uint8 in 0..255 for float in [-1, 1]; what lies outside is clipped."""
    return np.clip(np.rint((np.asarray(values) + 1.0) * 127.5), 0, 255).astype(np.uint8)


def check_pictures(paths: List[str]) -> None:
    """Opens every picture once, and decodes it unless there are more than FULL_CHECK.

    Raises:
      DataError: naming the first files that cannot be used and why.
    """
    chunks = [paths[first : first + CHUNK] for first in range(0, len(paths), CHUNK)]
    check = functools.partial(_problems, decode=len(paths) <= FULL_CHECK)
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        problems = [problem for found in pool.map(check, chunks) for problem in found]
    if problems:
        rest = "; and %d more" % (len(problems) - 5) if len(problems) > 5 else ""
        text = "%d of %d pictures cannot be used, mend them or remove them (and their rows): %s%s"
        raise DataError(text % (len(problems), len(paths), "; ".join(problems[:5]), rest))


def _problems(paths, decode) -> List[str]:
    problems = []
    for path in paths:
        try:
            if decode:
                read_image(path)
            else:
                with Image.open(path):
                    pass
        except UserError as error:
            problems.append(str(error))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            problems.append("%s cannot be read as a picture: %s" % (path, error))
    return problems


@functools.lru_cache(maxsize=4)  # two sources, each at the turn of an epoch
def _order(seed, epoch, count):
    return np.random.RandomState([seed, epoch]).permutation(count)


def _whole_batches(source, config, ranks) -> int:
    count = len(source.train.paths)
    batches = count // (config.batch_size * ranks)
    if not batches:
        text = "--batch_size %d on %d device(s) needs more than the %d training pictures; lower it"
        raise DataError(text % (config.batch_size, ranks, count))
    return batches


def steps_per_epoch(sources: List[Source], config, ranks: int) -> int:
    """Returns the number of whole batches in an epoch of the first source.

    Raises:
      DataError: if one batch needs more pictures than a source has for training.
    """
    batches = [_whole_batches(source, config, ranks) for source in sources]
    return batches[0]


def training_batch(source: Source, config, step: int, rank: int, ranks: int):
    """Returns the batch of a step: (images, labels, targets), a function of (seed, step, rank).

    float32 [N, S, S, 3] in [-1, 1]; what they show and what to make of them, float32 [N, L]. The
    targets are the labels of the step in another order, over all ranks. The ranks' batches
    together are the batch that one rank with `ranks` times the batch size would get.
    """
    epoch, batch = divmod(step - 1, _whole_batches(source, config, ranks))
    size = config.batch_size * ranks
    order = _order(config.seed, epoch, len(source.train.paths))
    indices = order[batch * size : (batch + 1) * size]
    labels = source.train.labels[indices]
    targets = labels[np.random.RandomState([config.seed, 2, step]).permutation(size)]
    share = range(rank * config.batch_size, (rank + 1) * config.batch_size)
    images = []
    for place in share:
        picture = read_picture(source.train.paths[indices[place]], source.kind, config)
        position = (step - 1) * size + place
        rng = np.random.RandomState([config.seed, 1, position % 2**32])
        mirror = -1 if config.flip and rng.randint(2) else 1
        images.append(to_float(picture[:, ::mirror]))
    mine = slice(share.start, share.stop)
    return np.stack(images), labels[mine], targets[mine]
