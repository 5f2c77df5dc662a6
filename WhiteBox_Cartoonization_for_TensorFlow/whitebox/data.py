# SPDX-License-Identifier: Apache-2.0
"""The folders of photos and cartoons -> batches: the only module that knows how they lie on disk.

Axes: N pictures of a batch, H, W pixels of a picture, P patch_size, M pictures of a domain.
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
from whitebox.config import SUBJECTS

KINDS = ("photo", "cartoon")
FACES_EVERY = 5  # with both subjects, every so many-th step is faces
FULL_CHECK = 5000  # above so many pictures the check opens the files without decoding them
MOST_SIZES = 5000  # above so many pictures the fingerprint does not ask for their sizes
CHUNK = 256  # pictures that a thread checks before it takes the next ones
CROPS = len(SUBJECTS) * len(KINDS)  # the folders' orders have the random streams below this one


class DataError(UserError):
    """Data that cannot be used; the message says what is wrong with which folder or files."""


class Domain(NamedTuple):
    """One subject ("face" or "scenery"): the paths of its photos and cartoons, in natural order."""

    subject: str
    photos: List[str]
    cartoons: List[str]


def _names(subject, kind) -> Tuple[str, str]:
    """Returns both names that a folder may have."""
    return "%s_%s" % (subject, kind), "%s_%s" % (kind, subject)


def _subjects(config) -> List[str]:
    return [subject for subject in SUBJECTS if subject in config.subjects]


def _content(folder) -> str:
    """Returns what `folder` holds, for a message."""
    if not os.path.isdir(folder):
        return "%s, which is no folder" % folder
    names = sorted(os.listdir(folder))
    rest = ", ..." if len(names) > 5 else ""
    return "%s, which holds %s" % (folder, (", ".join(names[:5]) or "nothing") + rest)


def find_root(config) -> str:
    """Returns the folder of the image folders: REAL_PATH, else data_path or its folder dataset.

    Raises:
      DataError: if it holds none of them; says where it looked and what is there instead.
    """
    roots = [config.REAL_PATH]
    if not config.REAL_PATH:
        roots = [config.data_path, os.path.join(config.data_path, "dataset")]
    names = [_names(subject, kind) for subject in _subjects(config) for kind in KINDS]
    for root in roots:
        if any(os.path.isdir(os.path.join(root, name)) for both in names for name in both):
            return root
    text = "none of the folders %s (or %s) is in %s; give --%s the folder they are in"
    words = [", ".join(some) for some in zip(*names)]
    places = ", nor in ".join(_content(root) for root in roots)
    raise DataError(text % (*words, places, "REAL_PATH" if config.REAL_PATH else "data_path"))


def find_domains(config, photos_only: bool = False) -> List[Domain]:
    """Returns the photos and cartoons of `config.subjects`, faces first.

    Args:
      config: a Config or PretrainConfig.
      photos_only: leave the cartoons out, as pretraining does not need them.

    Raises:
      DataError: if a folder is missing, is there under both names, or has no picture.
    """
    root, domains = find_root(config), []
    for subject in _subjects(config):
        photos = _pictures(_folder(root, subject, "photo", config))
        cartoons = [] if photos_only else _pictures(_folder(root, subject, "cartoon", config))
        domains.append(Domain(subject, photos, cartoons))
    return domains


def _folder(root, subject, kind, config) -> str:
    names = _names(subject, kind)
    present = [name for name in names if os.path.isdir(os.path.join(root, name))]
    if len(present) == 1:
        return os.path.join(root, present[0])
    if present:
        text = "%s has both %s and %s, which are two names of one folder; remove one of them"
        raise DataError(text % ((root,) + names))
    others = [other for other in _subjects(config) if other != subject]
    advice = ", or train without it: --subjects %s" % others[0] if others else ""
    text = "there is neither %s nor %s in %s; add one of them%s"
    raise DataError(text % (*names, _content(root), advice))


def _pictures(folder) -> List[str]:
    try:
        return list_images(folder)
    except ImageError as error:
        raise DataError("%s, but training needs some; add pictures" % error) from error


def check_pictures(domains: List[Domain]) -> None:
    """Opens every picture once, and decodes it unless there are more than FULL_CHECK.

    Raises:
      DataError: naming the first files that cannot be used and why.
    """
    paths = [path for domain in domains for path in domain.photos + domain.cartoons]
    chunks = [paths[first : first + CHUNK] for first in range(0, len(paths), CHUNK)]
    check = functools.partial(_problems, decode=len(paths) <= FULL_CHECK)
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        problems = [problem for found in pool.map(check, chunks) for problem in found]
    if problems:
        rest = "; and %d more" % (len(problems) - 5) if len(problems) > 5 else ""
        text = "%d of %d pictures cannot be used, mend them or remove them: %s%s"
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
        except Exception as error:  # damaged files make Pillow raise nearly anything
            problems.append("%s cannot be read as a picture: %s" % (path, error))
    return problems


def fingerprint(domains: List[Domain]) -> str:
    """Returns a short text that changes with the names and sizes of the pictures that train."""
    paths = [path for domain in domains for path in domain.photos + domain.cartoons]
    words = []
    for domain in domains:
        words += [domain.subject, str(len(domain.photos)), str(len(domain.cartoons))]
    words += [os.path.basename(path) for path in paths]
    if len(paths) <= MOST_SIZES:
        words += [str(os.path.getsize(path)) for path in paths]
    value = zlib.crc32("\n".join(words).encode("utf-8", "surrogateescape"))
    return "%d pictures, %08x" % (len(paths), value)


def to_float(pixels: np.ndarray) -> np.ndarray:
    """Returns float32 BGR [..., 3] in [-1, 1] for uint8 RGB [..., 3]."""
    return np.ascontiguousarray(pixels[..., ::-1]).astype(np.float32) / 127.5 - 1.0


def cut_off(values: np.ndarray) -> np.ndarray:
    """Returns uint8 RGB in 0..255 for BGR in [-1, 1], clipped; fractions of a level are cut off.

    The published code does so, and its cartoons are half a level darker than rounded ones.
    """
    levels = (values[..., ::-1] + 1.0) * 127.5 + 1e-4  # rounding errors must not cost a level
    return np.clip(levels, 0, 255).astype(np.uint8)


def to_uint8(values: np.ndarray) -> np.ndarray:
    """Returns uint8 RGB [..., 3] for float BGR [..., 3] in [-1, 1]; the rest is clipped."""
    pixels = np.clip(np.rint((np.asarray(values) + 1.0) * 127.5), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels[..., ::-1])


def _sides(pixels, config) -> Tuple[int, int]:
    """Returns the shorter side of the picture as it is and as it is to be, in pixels."""
    shorter = min(pixels.shape[:2])
    return shorter, config.load_size or max(shorter, config.patch_size)


def _spare(pixels, config) -> Tuple[int, int]:
    """Returns how many pixels the picture, once scaled, is higher and wider than a patch."""
    height, width = pixels.shape[:2]
    shorter, scaled = _sides(pixels, config)
    return tuple(side * scaled // shorter - config.patch_size for side in (height, width))


def _patch(pixels, top, left, config) -> np.ndarray:
    """Returns the patch of the scaled picture at (top, left), uint8 [P, P, 3].

    Only the patch is scaled, not the whole picture; a picture of the right size is only cut.
    """
    shorter, scaled = _sides(pixels, config)
    bottom, right = top + config.patch_size, left + config.patch_size
    if shorter == scaled:
        return pixels[top:bottom, left:right]
    box = [edge * shorter / scaled for edge in (left, top, right, bottom)]
    size = (config.patch_size, config.patch_size)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.BICUBIC, box))


def sample_photos(domain: Domain, config, count: int = 16) -> np.ndarray:
    """Returns the centres of the first `count` photos, or of all there are: uint8 [N, P, P, 3]."""
    photos = []
    for path in domain.photos[:count]:
        pixels = read_image(path)
        top, left = [spare // 2 for spare in _spare(pixels, config)]
        photos.append(_patch(pixels, top, left, config))
    return np.stack(photos)


def subject_of(step: int, domains: List[Domain]) -> Tuple[Domain, int]:
    """Returns the domain that a step trains, and how many steps before it trained that one.

    Steps count from 1. With two subjects step 1 is faces, and every FACES_EVERYth after it.
    """
    if len(domains) == 1:
        return domains[0], step - 1
    faces, scenery = domains
    earlier = (step - 1 + FACES_EVERY - 1) // FACES_EVERY  # steps with faces before this one
    if (step - 1) % FACES_EVERY == 0:
        return faces, earlier
    return scenery, step - 1 - earlier


def _whole_batches(paths, config, ranks) -> int:
    size = config.batch_size * ranks
    if len(paths) < size:
        text = "%s has %d pictures, but --batch_size %d on %d device(s) takes %d a step; lower it, "
        text += "or add pictures"
        words = (os.path.dirname(paths[0]), len(paths), config.batch_size, ranks, size)
        raise DataError(text % words)
    return len(paths) // size


def steps_per_epoch(domains: List[Domain], config, ranks: int) -> int:
    """Returns the number of whole batches of photos, those of all subjects together.

    Raises:
      DataError: if one batch needs more pictures than a folder has.
    """
    for domain in domains:
        if domain.cartoons:  # pretraining has none
            _whole_batches(domain.cartoons, config, ranks)
    return sum(_whole_batches(domain.photos, config, ranks) for domain in domains)


@functools.lru_cache(maxsize=8)  # four folders, each at the turn of an epoch
def _order(seed, stream, epoch, count):
    return np.random.RandomState([seed, stream, epoch]).permutation(count)


def _batch(domain, kind, config, index, rank, ranks) -> np.ndarray:
    """Returns the share of `rank` in batch number `index` of a folder.

    Differs from the published code: it shuffles the whole folder anew for every batch; here an
    epoch shows each picture once, but for those that do not fill a batch.
    """
    paths = domain.photos if kind == "photo" else domain.cartoons
    stream = SUBJECTS.index(domain.subject) * len(KINDS) + KINDS.index(kind)
    epoch, batch = divmod(index, _whole_batches(paths, config, ranks))
    size = config.batch_size * ranks
    order = _order(config.seed, stream, epoch, len(paths))
    patches = []
    for place in range(rank * config.batch_size, (rank + 1) * config.batch_size):
        pixels = read_image(paths[order[batch * size + place]])
        position = (index * size + place) % 2**32
        rng = np.random.RandomState([config.seed, CROPS + stream, position])
        top, left = [rng.randint(spare + 1) for spare in _spare(pixels, config)]
        patches.append(_patch(pixels, top, left, config))
    return to_float(np.stack(patches))


def photo_batch(domains: List[Domain], config, step: int, rank: int, ranks: int) -> np.ndarray:
    """Returns the photos of a step, a function of (seed, step, rank).

    The ranks' batches together are what one rank with `ranks` times the batch size would get.

    Returns:
      Random crops, float32 [N, P, P, 3], BGR in [-1, 1].
    """
    domain, index = subject_of(step, domains)
    return _batch(domain, "photo", config, index, rank, ranks)


def cartoon_batch(domains: List[Domain], config, step: int, rank: int, ranks: int) -> np.ndarray:
    """Returns the cartoons of a step, of the subject that its photos have; as `photo_batch`."""
    domain, index = subject_of(step, domains)
    return _batch(domain, "cartoon", config, index, rank, ranks)
