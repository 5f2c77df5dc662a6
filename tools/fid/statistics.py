# SPDX-License-Identifier: Apache-2.0
"""The third stage: features -> mean and covariance, in float64, a batch at a time."""

import hashlib
import os
import zipfile
import zlib
from typing import Iterable, List, NamedTuple, Optional

import numpy as np

from harness.errors import UserError
from harness.files import atomic_path
from tools.digests import digest_file

WIDEST = 8192  # numbers that describe a picture, at the most


class Statistics(NamedTuple):
    """What FID needs of a set.

    Attributes:
      mean: float64 [D].
      covariance: float64 [D, D], divided by N - 1.
      count: N; None where a file does not say.
    """

    mean: np.ndarray
    covariance: np.ndarray
    count: Optional[int]


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


def write(path: str, statistics: Statistics, **more) -> None:
    """Writes an .npz with mu, sigma and count, as TTUR and pytorch-fid read it; `more` too."""
    arrays = {"mu": statistics.mean, "sigma": statistics.covariance}
    if statistics.count is not None:
        arrays["count"] = np.int64(statistics.count)
    arrays.update({name: np.str_(value) for name, value in more.items()})
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)


def read(path: str) -> Statistics:
    """Returns the statistics in an .npz with `mu` [D] and `sigma` [D, D].

    Shapes are read before the arrays, so that a file which claims too much costs no memory.

    Raises:
      UserError: if the file is missing, damaged, or holds something else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            shapes = {name: _shape(archive, name) for name in ("mu", "sigma")}
            width = shapes["mu"][0] if len(shapes["mu"]) == 1 else 0
            if not 0 < width <= WIDEST or shapes["sigma"] != (width, width):
                text = "%s has mu %s and sigma %s; statistics have [D] and [D, D], D at most %d"
                raise UserError(text % (path, shapes["mu"], shapes["sigma"], WIDEST))
        with np.load(path, allow_pickle=False) as arrays:
            mean, covariance = (arrays[n].astype(np.float64) for n in ("mu", "sigma"))
            count = int(arrays["count"]) if "count" in arrays.files else None
    except FileNotFoundError:
        raise UserError("there is no %s; give a folder of pictures or an .npz" % path) from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        text = "%s is no .npz of statistics (mu, sigma): %s"
        raise UserError(text % (path, str(error).split("\n")[0])) from error
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise UserError("%s has values that are not finite; make it again" % path)
    return Statistics(mean, covariance, count)


def _shape(archive, name):
    """Returns the shape that an array's header tells, if the archive really holds as much."""
    info = archive.getinfo(name + ".npy")
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        head = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
        if version[0] not in head:
            raise ValueError("%s has a header of version %s" % (name, version))
        shape, _, kind = head[version[0]](file)
    if kind.kind != "f" or len(shape) > 2:
        raise ValueError("%s is %s of shape %s, not numbers" % (name, kind, shape))
    rows, columns = (shape + (1, 1))[:2]
    if info.file_size < rows * columns * kind.itemsize:
        raise ValueError("%s is shorter than its shape %s says" % (name, shape))
    return shape


def digest_files(paths: List[str]) -> str:
    """Returns a SHA-256 of the contents of files, whatever their names and order."""
    return hashlib.sha256("".join(sorted(map(digest_file, paths))).encode()).hexdigest()


def cached_path(folder: str, paths: List[str], *conditions: str) -> str:
    """Returns where `folder` keeps the statistics of these files under these conditions."""
    key = hashlib.sha256("\n".join([digest_files(paths), *conditions]).encode()).hexdigest()
    return os.path.join(folder, "statistics-%s.npz" % key[:32])
