# SPDX-License-Identifier: Apache-2.0
"""The kernel Inception distance (KID) of pictures, and a named surrogate without Inception.

Protocol of the metric that the paper's table was made with: blocks of at most 10 pictures in the
order of the files, nothing random; the deviation is that of the mean of the blocks; times 100. Real
pictures are measured as the networks see them, resized to --img_size.
"""

import os
from typing import List, NamedTuple, Optional

import numpy as np

from harness import fid
from harness.images import read_image
from ugatit.pictures import resize, to_float

BLOCK = 10  # pictures in a block, at the most
SOURCE_SHARE = 0.98  # of the distance to the source in the author's mean
SEED, SIDE, WIDTHS = 1234, 64, (3, 32, 64, 128)  # of the surrogate's random network
SURROGATE = "surrogate_kid_random_features"  # how its keys begin
INCEPTION_PROTOCOL = "clean"  # of tools/fid: antialiased


class Distance(NamedTuple):
    """A distance of two sets of features, times 100.

    Attributes:
      mean: of the blocks.
      deviation: of that mean: their deviation over the root of their number; None for one block.
      blocks: their number.
    """

    mean: float
    deviation: Optional[float]
    blocks: int


def kid(real: np.ndarray, fake: np.ndarray, block: int = BLOCK) -> Distance:
    """Returns the unbiased MMD^2 with the kernel (x.y / D + 1)^3, times 100.

    Binkowski et al. 2018 (arXiv:1801.01401), section 4. The larger set is cut into blocks of at
    most `block`, the other into as many, but never so many that a block has fewer than 2.

    Args:
      real: float [M, D], M >= 2.
      fake: float [N, D], N >= 2.
      block: pictures in a block, at the most.
    """
    counts = (len(real), len(fake))
    blocks = min(-(-max(counts) // block), min(counts) // 2)
    parts = zip(_cut(real.astype(np.float64), blocks), _cut(fake.astype(np.float64), blocks))
    values = 100 * np.array([_squared_mmd(x, y) for x, y in parts])
    deviation = float(values.std(ddof=1) / np.sqrt(blocks)) if blocks > 1 else None
    return Distance(float(values.mean()), deviation, blocks)


def _cut(rows, blocks):
    """Returns the rows in blocks, the longer ones last."""
    size, longer = divmod(len(rows), blocks)
    sizes = [size] * (blocks - longer) + [size + 1] * longer
    return np.split(rows, np.cumsum(sizes)[:-1])


def _squared_mmd(x, y):
    own = [_kernel(z, z) for z in (x, y)]
    count = [len(z) * (len(z) - 1) for z in (x, y)]
    same = [(k.sum() - np.trace(k)) / n for k, n in zip(own, count)]
    return sum(same) - 2 * _kernel(x, y).mean()


def _kernel(x, y):
    return (x @ y.T / x.shape[1] + 1) ** 3


def distances(source: np.ndarray, target: np.ndarray, fake: np.ndarray, inception: bool) -> dict:
    """Returns the distances of translations, under names that say what they are.

    Args:
      source: features [M, D] of the pictures translated.
      target: features [N, D] of the real pictures of the other domain.
      fake: features [M, D] of the translations.
      inception: whether the features are Inception's.

    Returns:
      {"kid", "kid_std"}: to the target. {"kid_author_mean", "kid_author_mean_std"}: the author's
      mean of the distances to source and target, which the paper's table shows. And their blocks.
      Without Inception the names begin with "surrogate_kid_random_features".
    """
    name = "kid" if inception else SURROGATE
    near, far = kid(target, fake), kid(source, fake)
    both = near.deviation is not None and far.deviation is not None
    return {
        name: near.mean,
        name + "_std": near.deviation,
        name + "_author_mean": _author_mean(far.mean, near.mean),
        name + "_author_mean_std": _author_mean(far.deviation, near.deviation) if both else None,
        name + "_blocks": near.blocks,
        name + "_author_mean_source_blocks": far.blocks,
    }


def _author_mean(of_source, of_target):
    return (SOURCE_SHARE * of_source + (1 - SOURCE_SHARE) * of_target) / 2


def protocol(inception: str) -> dict:
    """Returns what must agree before two distances may be compared."""
    features = "random convolutions, seed %d, pictures %dx%d" % (SEED, SIDE, SIDE)
    of_inception = "tools/fid, %s, %s" % (INCEPTION_PROTOCOL, os.path.basename(inception))
    return {
        "features": of_inception if inception else features,
        "kernel": "(x.y / D + 1)^3",
        "block": BLOCK,
        "order": "of the files, not shuffled",
        "std": "of the mean of the blocks",
        "scale": 100,
    }


def features(paths: List[str], inception: str = "") -> np.ndarray:
    """Returns float32 [N, D], one row a picture, in the order of `paths`.

    Args:
      paths: pictures.
      inception: Inception weights for tools/fid; "": a random network, the same everywhere.

    Raises:
      UserError: if tools/fid fails.
    """
    if inception:
        return fid.features(paths, inception, INCEPTION_PROTOCOL)
    kernels = _kernels()
    pixels = (resize(read_image(path), SIDE) for path in paths)
    return np.stack([_random_features(to_float(picture), kernels) for picture in pixels])


def _kernels():
    """Returns the weights [9 inputs, outputs] of three convolutions, from a fixed seed."""
    rng = np.random.RandomState(SEED)
    shapes = [(9 * i, o) for i, o in zip(WIDTHS, WIDTHS[1:])]
    return [(rng.standard_normal(s) * np.sqrt(2 / s[0])).astype(np.float32) for s in shapes]


def _random_features(picture, kernels):
    """Returns means and maxima of the last maps, float32 [256], of a picture [3, 64, 64]."""
    x = picture.transpose(1, 2, 0)  # [H, W, C]
    for kernel in kernels:
        rows, columns = ((side - 3) // 2 + 1 for side in x.shape[:2])
        views = [
            x[i : i + 2 * rows : 2, j : j + 2 * columns : 2] for i in range(3) for j in range(3)
        ]
        x = np.maximum(np.concatenate(views, 2) @ kernel, 0)
    return np.concatenate([x.mean((0, 1)), x.max((0, 1))])
