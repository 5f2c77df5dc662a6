# SPDX-License-Identifier: Apache-2.0
"""The second stage: a stream of features, decoded ahead; memory does not grow with the pictures."""

import os
import tempfile
from typing import Callable, Iterator, List, NamedTuple

import numpy as np

from harness.ahead import Ahead
from harness.errors import UserError
from harness.images import ImageError
from tools.fid.images import Protocol, load

INCEPTION = "inception-2015-12-05"  # the one network whose distances are FID and KID
LISTED = 20  # unreadable pictures that a message names


class Network(NamedTuple):
    """A network that describes pictures.

    Attributes:
      name: INCEPTION, or another that a metric's key can carry.
      digest: SHA-256 of its file; "" where it has none.
      side: height and width of the pictures that it takes, pixels.
      run: float32 [N, side, side, 3] in [-1, 1] -> float32 [N, D].
      settings: how its file is used, where there is a choice.
      note: what must be known about its numbers.
    """

    name: str
    digest: str
    side: int
    run: Callable[[np.ndarray], np.ndarray]
    settings: str = ""
    note: str = ""


class Stream:
    """Describes pictures in batches while threads read the next ones.

    Args:
      network: describes them.
      protocol: how their pixels become its input.
      batch_size: pictures that are described together.
      skip_bad: leave unreadable pictures out instead of failing.
      progress: called with the number of pictures done after each batch.

    Attributes:
      bad: what is wrong with the pictures that could not be read.
    """

    def __init__(
        self,
        network: Network,
        protocol: Protocol,
        batch_size: int = 32,
        skip_bad: bool = False,
        progress: Callable[[int], None] = lambda _: None,
    ):
        self._network, self._protocol, self._batch_size = network, protocol, batch_size
        self._skip_bad, self._progress = skip_bad, progress
        self.bad: List[str] = []

    def __call__(self, paths: List[str]) -> Iterator[np.ndarray]:
        """Yields features float32 [n, D] of the pictures, in their order.

        Raises:
          UserError: after all pictures were looked at, if some cannot be read; names them. Or if
            features are not finite.
        """
        bad: List[str] = []
        batches = [paths[i : i + self._batch_size] for i in range(0, len(paths), self._batch_size)]
        with Ahead(lambda number: self._load(batches[number]), len(batches) - 1) as ahead:
            done = 0
            for number, batch in enumerate(batches):
                pixels, problems = ahead(number)
                bad += problems
                if pixels and (self._skip_bad or not bad):
                    yield self._described(batch, np.stack(pixels))
                done += len(batch)
                self._progress(done)
        self.bad += bad
        if bad and not self._skip_bad:
            text = "%d of %d pictures cannot be read; mend them or give --skip_bad: %s%s"
            more = ", ..." if len(bad) > LISTED else ""
            raise UserError(text % (len(bad), len(paths), ", ".join(bad[:LISTED]), more))

    def _described(self, paths, pixels):
        features = self._network.run(pixels)
        if not np.isfinite(features).all():
            text = "the network %s gives features that are not finite for %s to %s; use another"
            raise UserError(text % (self._network.name, paths[0], paths[-1]))
        return features

    def _load(self, paths):
        pixels, problems = [], []
        for path in paths:
            try:
                pixels.append(load(path, self._protocol, self._network.side))
            except ImageError as error:
                problems.append(str(error))
        return pixels, problems


def store(batches: Iterator[np.ndarray], rows: int) -> np.ndarray:
    """Returns all features, float32 [N, D], as a memory map without a name: they lie on the disk.

    Args:
      batches: features [n, D].
      rows: N, or more.

    Raises:
      UserError: if there is no room for them, or fewer than two.
    """
    table, count = None, 0
    for batch in batches:
        if table is None:
            table = _room(rows, batch.shape[1])
        table[count : count + len(batch)] = batch
        count += len(batch)
    if count < 2:
        raise UserError("%d pictures: a distance needs at least 2; give more" % count)
    return table[:count]


def _room(rows, width):
    with tempfile.TemporaryFile() as file:
        size = 4 * rows * width
        try:  # a map of a file that the disk has no room for would end the process
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            text = "no room for %d bytes of features in %s (%s); set TMPDIR to a larger place"
            raise UserError(text % (size, tempfile.gettempdir(), error.strerror)) from error
        return np.memmap(file, np.float32, "r+", shape=(rows, width))
