# SPDX-License-Identifier: Apache-2.0
"""The fourth stage: pure functions of statistics and features, all in float64.

Features are [N, D] and may lie in a memory map: they are taken a block at a time.
"""

from typing import Dict, NamedTuple, Tuple

import numpy as np

from harness.errors import UserError
from tools.fid.statistics import Statistics, collect

ROWS = 2048  # of features in a block
SMALL = 1e-14  # times the largest eigenvalue, below which one is rounding
AUTHOR_BLOCK, AUTHOR_SHARE = 10, 0.98  # of the U-GAT-IT authors' mean KID


class Spread(NamedTuple):
    """A value over several draws.

    Attributes:
      mean: of the draws.
      deviation: of the draws.
      draws: their number.
      size: pictures in each.
    """

    mean: float
    deviation: float
    draws: int
    size: int


def frechet(a: Statistics, b: Statistics) -> float:
    """Returns |m1 - m2|^2 + Tr(C1 + C2 - 2 (C1 C2)^(1/2)), Heusel et al. 2017, equation 6.

    The last trace is that of the square roots of the eigenvalues of the symmetric R' C2 R, where
    R R' = C1: real and stable also for singular covariances, that is few pictures.
    """
    if a.mean.shape != b.mean.shape:
        text = "one set has %d features a picture, the other %d; use one network for both"
        raise UserError(text % (a.mean.size, b.mean.size))
    values, vectors = np.linalg.eigh(a.covariance)
    kept = values > SMALL * max(values[-1], 0)
    root = vectors[:, kept] * np.sqrt(values[kept])
    both = np.linalg.eigvalsh(root.T @ b.covariance @ root)
    shared = 2 * np.sqrt(np.clip(both, 0, None)).sum()
    apart = a.mean - b.mean
    return float(apart @ apart + np.trace(a.covariance) + np.trace(b.covariance) - shared)


def frechet_of_few(a: np.ndarray, b: np.ndarray) -> float:
    """Returns `frechet` of the statistics of features [M, D] and [N, D], fast where M, N < D.

    The eigenvalues' roots are the singular values of the [M, N] products of what both sets deviate
    from their means.
    """
    rows = [np.asarray(x, np.float64) for x in (a, b)]
    means = [x.mean(0) for x in rows]
    rows = [(x - mean) / np.sqrt(len(x) - 1) for x, mean in zip(rows, means)]
    shared = 2 * np.linalg.svd(rows[0] @ rows[1].T, compute_uv=False).sum()
    apart = means[0] - means[1]
    return float(apart @ apart + sum(np.square(x).sum() for x in rows) - shared)


def bootstrap(a: np.ndarray, b: np.ndarray, draws: int, seed: int) -> Tuple[float, float]:
    """Returns the 2.5 and 97.5 percentiles of the Frechet distance of sets drawn with replacement.

    They show how much the distance depends on the choice of pictures; the bias that few pictures
    give is in them too, and grows by the drawing.

    Args:
      a: features [M, D].
      b: features [N, D].
      draws: how often both sets are drawn.
      seed: of the draws.
    """
    rng, values, width = np.random.RandomState(seed), [], a.shape[1]
    for _ in range(draws):
        chosen = [np.sort(rng.randint(0, len(x), len(x))) for x in (a, b)]
        if max(len(a), len(b)) < width:
            values.append(frechet_of_few(a[chosen[0]], b[chosen[1]]))
        else:
            values.append(frechet(*(collect(_drawn(x, i)) for x, i in zip((a, b), chosen))))
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def _drawn(rows, chosen):
    return (rows[chosen[i : i + ROWS]] for i in range(0, len(chosen), ROWS))


def _blocks(rows):
    return (np.asarray(rows[i : i + ROWS], np.float64) for i in range(0, len(rows), ROWS))


def _kernel(x, y):
    return (x @ y.T / x.shape[1] + 1) ** 3


def _own_sum(x):
    """Returns the sum of the kernel over all pairs of different rows."""
    total = sum(_kernel(block, other).sum() for block in _blocks(x) for other in _blocks(x))
    return total - sum(((np.square(b).sum(1) / b.shape[1] + 1) ** 3).sum() for b in _blocks(x))


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the unbiased squared MMD with the kernel (x.y / D + 1)^3 of all rows.

    Binkowski et al. 2018, section 4 (from Gretton et al. 2012, lemma 6). It can be negative.

    Args:
      a: features [M, D], M >= 2.
      b: features [N, D], N >= 2.
    """
    own = sum(_own_sum(x) / (len(x) * (len(x) - 1.0)) for x in (a, b))
    between = sum(_kernel(x, y).sum() for x in _blocks(a) for y in _blocks(b))
    return float(own - 2 * between / (float(len(a)) * len(b)))


def kernel_subsets(a: np.ndarray, b: np.ndarray, draws: int, size: int, seed: int) -> Spread:
    """Returns the kernel distance of random subsets, as clean-fid draws them, b before a.

    Args:
      a: features [M, D].
      b: features [N, D].
      draws: number of subsets.
      size: rows of a subset; at the most as many as the smaller set has.
      seed: of the draws.
    """
    rng, values = np.random.RandomState(seed), []
    size = min(size, len(a), len(b))
    for _ in range(draws):
        y = b[rng.choice(len(b), size, replace=False)]
        x = a[rng.choice(len(a), size, replace=False)]
        values.append(kernel_distance(x, y))
    return Spread(float(np.mean(values)), float(np.std(values)), draws, size)


def kernel_in_order(real: np.ndarray, fake: np.ndarray, block: int = AUTHOR_BLOCK) -> float:
    """Returns the mean kernel distance of blocks of at most `block` rows in the given order.

    The larger set is cut into such blocks and the other into as many, none with fewer than 2 rows.
    It is what the U-GAT-IT authors' metric does.
    """
    count = min(-(-max(len(real), len(fake)) // block), min(len(real), len(fake)) // 2)
    cuts = []
    for rows in (real, fake):
        size, longer = divmod(len(rows), count)
        sizes = [size] * (count - longer) + [size + 1] * longer
        cuts.append(np.split(rows, np.cumsum(sizes)[:-1]))
    return float(np.mean([kernel_distance(x, y) for x, y in zip(*cuts)]))


def author_mean(source: np.ndarray, target: np.ndarray, fake: np.ndarray) -> float:
    """Returns the U-GAT-IT authors' mean KID, times 100 as in their table; not a KID.

    It is the mean of the distances of the translations to source and target with the weights 0.98
    and 0.02, so that it says little about the target.
    """
    far, near = kernel_in_order(source, fake), kernel_in_order(target, fake)
    return 100 * (AUTHOR_SHARE * far + (1 - AUTHOR_SHARE) * near) / 2


def precision_recall(real: np.ndarray, fake: np.ndarray, neighbours: int = 3) -> Dict[str, float]:
    """Returns {"precision", "recall"} of Kynkaanniemi et al. 2019 (arXiv:1904.06991), equation 2.

    A picture is covered by a set if it is nearer to one of the set than the k-th nearest neighbour
    of that one in its own set. Precision: the share of fakes that the real set covers; recall: the
    other way round.

    Args:
      real: features [M, D].
      fake: features [N, D].
      neighbours: k, at least 1.

    Raises:
      UserError: if a set has no k-th neighbour.
    """
    if min(len(real), len(fake)) <= neighbours:
        text = "precision and recall with %d neighbours need more pictures than that, not %d"
        raise UserError(text % (neighbours, min(len(real), len(fake))))
    return {
        "precision": _covered(real, fake, neighbours),
        "recall": _covered(fake, real, neighbours),
    }


def _covered(of_set, others, neighbours):
    covered = np.zeros(len(others), bool)
    for block in _blocks(of_set):
        nearest = np.full((len(block), neighbours + 1), np.inf)  # the first is itself
        for other in _blocks(of_set):
            nearest = np.concatenate([nearest, _squared(block, other)], 1)
            nearest = np.partition(nearest, neighbours, 1)[:, : neighbours + 1]
        radius, first = nearest[:, neighbours:], 0
        for other in _blocks(others):
            covered[first : first + len(other)] |= (_squared(block, other) <= radius).any(0)
            first += len(other)
    return float(covered.mean())


def _squared(x, y):
    return np.square(x).sum(1)[:, np.newaxis] - 2 * x @ y.T + np.square(y).sum(1)
