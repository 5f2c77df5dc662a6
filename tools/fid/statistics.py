# SPDX-License-Identifier: Apache-2.0
"""The third stage: features -> mean and covariance, in float64, a batch at a time."""

import hashlib
import os
from typing import Iterable, List, NamedTuple, Optional

import numpy as np

from harness.errors import UserError
from harness.files import atomic_path
from tools.digests import digest_file
from tools.weights import npz

NAMES = ("mu", "sigma", "count", "protocol", "network")  # in a file; the last two as letters
WIDEST = 8192  # numbers that describe a picture, at the most


class Statistics(NamedTuple):
    """What FID needs of a set.

    Attributes:
      mean: float64 [D].
      covariance: float64 [D, D], divided by N - 1.
      count: N; None where a file does not say.
      protocol: how the pictures were resized; "" where a file does not say.
      network: what described them; the same.
    """

    mean: np.ndarray
    covariance: np.ndarray
    count: Optional[int]
    protocol: str = ""
    network: str = ""


def collect(batches: Iterable[np.ndarray]) -> Statistics:
    """Returns the statistics of features that come in batches [n, D].

    Batches are merged by their means and squared deviations (Chan et al. 1979), so that neither
    their size nor their order matters, and nothing large is subtracted from something large.

    Raises:
      UserError: if there are fewer than two rows.
    """
    count, mean, squares = 0, 0.0, 0.0
    for batch in batches:
        rows = np.asarray(batch, np.float64)
        if not len(rows):
            continue
        middle = rows.mean(0)
        rows = rows - middle
        apart, total = middle - mean, count + len(rows)
        rows = np.concatenate([rows, [apart * np.sqrt(count * len(rows) / total)]])
        squares = squares + rows.T @ rows
        mean, count = mean + apart * ((total - count) / total), total
    if count < 2:
        raise UserError("%d pictures: a covariance needs at least 2; give more" % count)
    return Statistics(mean, squares / (count - 1), count)


def write(path: str, statistics: Statistics) -> None:
    """Writes an .npz with mu and sigma, which TTUR and pytorch-fid read, and the rest."""
    arrays = {"mu": statistics.mean, "sigma": statistics.covariance}
    if statistics.count is not None:
        arrays["count"] = np.int64(statistics.count)
    for name in NAMES[3:]:
        arrays[name] = np.frombuffer(getattr(statistics, name).encode(), np.uint8)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)


def read(path: str) -> Statistics:
    """Returns the statistics in an .npz with `mu` [D] and `sigma` [D, D].

    Shapes are read before the arrays, so that a file which claims too much costs no memory.

    Raises:
      UserError: if the file is missing, damaged, or holds something else.
    """
    headers = npz.headers(path, NAMES)
    mean, covariance = (headers[n].shape if n in headers else None for n in NAMES[:2])
    if not mean or not 0 < mean[0] <= WIDEST or covariance != mean * 2 or len(mean) > 1:
        text = "%s has mu %s and sigma %s; statistics have [D] and [D, D], D at most %d"
        raise UserError(text % (path, mean, covariance, WIDEST))
    arrays = npz.read(path, list(headers))
    mean, covariance = (arrays[name].astype(np.float64) for name in NAMES[:2])
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise UserError("%s has values that are not finite; make it again" % path)
    largest = np.abs(covariance).max()
    if np.diag(covariance).min() < 0 or np.abs(covariance - covariance.T).max() > 1e-6 * largest:
        raise UserError("%s: its sigma is no covariance; make it again" % path)
    count = arrays.get("count", np.int64(0))
    if count.shape or count.dtype.kind not in "iu" or ("count" in arrays and count < 2):
        raise UserError("%s: its count is %s, not a number of pictures" % (path, count))
    told = {name: _text(arrays[name]) for name in NAMES[3:] if name in arrays}
    return Statistics(mean, covariance, int(count) or None, **told)


def _text(letters):
    return letters.astype(np.uint8).tobytes().decode("utf-8", "replace")


def digest_files(paths: List[str]) -> str:
    """Returns a SHA-256 of the contents of files, whatever their names and order."""
    return hashlib.sha256("".join(sorted(map(digest_file, paths))).encode()).hexdigest()


def cached_path(folder: str, paths: List[str], *conditions: str) -> str:
    """Returns where `folder` keeps the statistics of these files under these conditions."""
    key = hashlib.sha256("\n".join([digest_files(paths), *conditions]).encode()).hexdigest()
    return os.path.join(folder, "statistics-%s.npz" % key[:32])
