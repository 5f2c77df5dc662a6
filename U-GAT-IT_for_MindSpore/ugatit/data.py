# SPDX-License-Identifier: Apache-2.0
"""Two domains of pictures on disk -> batches. Knows how a data set lies on disk; no MindSpore.

Axes: N pictures of a batch, C img_ch, S img_size. Tensors are float32 in [-1, 1], RGB or grey.
"""

import concurrent.futures
import functools
import os
import zlib
from typing import List, NamedTuple, Tuple

import numpy as np

from harness import images
from harness.errors import UserError
from ugatit.pictures import resize, to_float

FOLDERS = ("trainA", "trainB", "testA", "testB")
EXTENSIONS = images.EXTENSIONS + (".pgm",)
LEAST = 2  # pictures that a domain needs to train
ORDER, AUGMENTATION = 0, 1  # what a random stream is for


class Domains(NamedTuple):
    """The paths of the pictures of both domains; those for testing may be missing."""

    train_a: List[str]
    train_b: List[str]
    test_a: List[str]
    test_b: List[str]


def find_root(config) -> str:
    """Returns the folder of trainA, trainB, testA and testB; some of them may be missing.

    It is the first that has one of them: DATA_PATH/DATASET, DATA_PATH/dataset/DATASET, DATA_PATH.

    Raises:
      UserError: naming the folders looked at, if none of them has any.
    """
    places = [
        os.path.join(config.data_path, config.dataset),
        os.path.join(config.data_path, "dataset", config.dataset),
        config.data_path,
    ]
    for place in places:
        if any(os.path.isdir(os.path.join(place, folder)) for folder in FOLDERS):
            return place
    text = "none of %s in %s; give --data_path and --dataset so that the first place has them"
    raise UserError(text % (", ".join(FOLDERS), ", ".join(places)))


def find_domains(config, train: bool = True) -> Domains:
    """Returns the pictures of the data set, also those in folders below, naturally sorted.

    Args:
      config: the options.
      train: whether trainA and trainB are needed.

    Raises:
      UserError: if a domain that is needed is missing or has fewer than 2 pictures.
    """
    root = find_root(config)
    domains = Domains(*[_pictures(os.path.join(root, name)) for name in FOLDERS])
    for name, paths in zip(FOLDERS, domains[:2] if train else ()):
        folder = os.path.join(root, name)
        if not os.path.isdir(folder):
            text = "there is no folder %s; training takes trainA and trainB, so add the pictures"
            raise UserError(text % folder)
        if len(paths) < LEAST:
            text = "the number of pictures in %s is %d and must be at least %d; add some (%s)"
            raise UserError(text % (folder, len(paths), LEAST, " ".join(EXTENSIONS)))
    return domains


def _pictures(folder) -> List[str]:
    """Returns the paths of the pictures below `folder`; none if there is no such folder."""
    found = []
    for place, folders, names in os.walk(folder, onerror=_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [os.path.join(place, name) for name in names if not name.startswith(".")]
        found += [path for path in paths if path.lower().endswith(EXTENSIONS)]
    return sorted(sorted(found), key=images.natural_key)


def _unreadable(error):
    if not isinstance(error, FileNotFoundError):
        text = "the folder %s cannot be read: %s; mend that or remove it"
        raise UserError(text % (error.filename, error.strerror)) from error


def check_pictures(paths: List[str]) -> None:
    """Reads every picture once, in threads.

    Raises:
      UserError: saying how many cannot be used, and why for the first three.
    """
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        problems = [text for text in pool.map(problem, paths) if text]
    if problems:
        text = "%d of %d pictures cannot be used, mend or remove them: %s"
        some = "; ".join(problems[:3]) + ("; ..." if len(problems) > 3 else "")
        raise UserError(text % (len(problems), len(paths), some))


def problem(path: str) -> str:
    """Returns why a file cannot be read as a picture, or ""."""
    try:
        images.read_image(path)
    except UserError as error:
        return str(error)
    except Exception as error:  # a decoder may raise any for a damaged file
        return "%s cannot be read as a picture: %r" % (path, error)
    return ""


def fingerprint(domains: Domains) -> str:
    """Returns a short text that changes with the names and sizes of the training pictures."""
    paths = domains.train_a + domains.train_b
    listing = ["%s %d" % (os.path.basename(path), os.path.getsize(path)) for path in paths]
    counts = (len(domains.train_a), len(domains.train_b))
    return "%d and %d pictures, %08x" % (counts + (zlib.crc32("\n".join(listing).encode()),))


def steps_per_epoch(domains: Domains, config, ranks: int = 1) -> int:
    """Returns how many steps show the larger domain `config.repeats` times, at least 1."""
    pictures = config.repeats * max(len(domains.train_a), len(domains.train_b))
    return max(1, pictures // (config.batch_size * ranks))


@functools.lru_cache(maxsize=4)  # two domains, each at the turn of a permutation
def _order(seed, domain, number, count):
    return np.random.RandomState([seed, ORDER, domain, number]).permutation(count)


def augment(pixels: np.ndarray, size: int, rng: np.random.RandomState) -> np.ndarray:
    """Mirrors half of the time, resizes both sides to 286/256 of `size`, crops at random.

    As Kim et al. 2020 for 286 and 256 pixels. Takes uint8 [H, W, C], returns uint8 [size, size, C].
    """
    side = round(size * 286 / 256)
    mirror = -1 if rng.randint(2) else 1
    top, left = rng.randint(0, side - size + 1, 2)
    return resize(pixels[:, ::mirror], side)[top : top + size, left : left + size]


def _training_picture(paths, config, domain, position) -> np.ndarray:
    number, place = divmod(position, len(paths))
    path = paths[_order(config.seed, domain, number, len(paths))[place]]
    rng = np.random.RandomState([config.seed, AUGMENTATION, domain, position % 2**32])
    return to_float(augment(images.read_image(path, config.img_ch), config.img_size, rng))


def read_batch(
    domains: Domains, config, step: int, rank: int = 0, ranks: int = 1
) -> Tuple[np.ndarray, np.ndarray]:
    """Returns the training batch of a step: (a, b), both float32 [N, C, S, S] in [-1, 1].

    A function of (seed, step, rank) alone; steps count from 1. Each domain is shown in its own
    random order, every picture once before any comes again. The ranks' batches together are the
    batch that one rank with `ranks` times the batch size would get.
    """
    first = ((step - 1) * ranks + rank) * config.batch_size
    positions = range(first, first + config.batch_size)
    a, b = (
        np.stack([_training_picture(paths, config, domain, position) for position in positions])
        for domain, paths in enumerate((domains.train_a, domains.train_b))
    )
    return a, b


def read_test(path: str, config) -> np.ndarray:
    """Returns the picture in `path`, resized and not cropped: float32 [C, S, S] in [-1, 1].

    Raises:
      ImageError: if the file is missing, truncated or no picture.
    """
    return to_float(resize(images.read_image(path, config.img_ch), config.img_size))
