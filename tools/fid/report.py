# SPDX-License-Identifier: Apache-2.0
"""What is asked for of two sets, measured, with everything that a number needs to be comparable."""

import os
import sys
from typing import List, NamedTuple, Optional

import numpy as np

from harness.errors import UserError
from tools.fid import distances, statistics
from tools.fid.features import INCEPTION, Network, Stream, store
from tools.fid.images import PROTOCOLS, find_images

METRICS = ("fid", "kid", "precision_recall")
SMALL = 2048  # pictures below which the covariance of Inception's features is singular


class Request(NamedTuple):
    """What is asked for.

    Attributes:
      metrics: of METRICS.
      protocol: of PROTOCOLS.
      subsets: of the KID.
      subset_size: pictures of each, at the most.
      seed: of what is drawn.
      neighbours: of precision and recall.
      bootstrap: draws for the interval of the FID; 0: none.
      batch_size: pictures described together.
      skip_bad: leave unreadable pictures out.
      cache: folder that keeps statistics; "": none.
    """

    metrics: tuple = ("fid",)
    protocol: str = "clean"
    subsets: int = 100
    subset_size: int = 1000
    seed: int = 0
    neighbours: int = 3
    bootstrap: int = 0
    batch_size: int = 32
    skip_bad: bool = False
    cache: str = ""


class Set(NamedTuple):
    """One side of a comparison: its statistics, its features or both.

    Attributes:
      path: the folder or .npz.
      statistics: for the FID; None if not asked for.
      features: float32 [N, D]; None unless something but the FID is asked for.
      skipped: unreadable pictures.
    """

    path: str
    statistics: Optional[statistics.Statistics]
    features: Optional[np.ndarray]
    skipped: List[str]

    @property
    def count(self) -> Optional[int]:
        """Number of pictures, if it is known."""
        return len(self.features) if self.features is not None else self.statistics.count


def needs_features(request: Request) -> bool:
    """Returns whether statistics alone do not suffice."""
    return bool(set(request.metrics) - {"fid"} or request.bootstrap)


def check_path(path: str, request: Request) -> None:
    """Raises UserError unless `path` is a folder of pictures, or an .npz where that suffices."""
    if not path.endswith(".npz"):
        least = request.neighbours + 1 if "precision_recall" in request.metrics else 2
        count = len(find_images(path))
        if count < least:
            text = "%s has %d pictures; %s needs at least %d"
            raise UserError(text % (path, count, " ".join(request.metrics), least))
    elif needs_features(request):
        text = "%s has statistics, which FID can be made of; give the pictures for the rest"
        raise UserError(text % path)
    else:
        statistics.read(path)


def identity(network: Network) -> str:
    """Returns what two sets must have in common besides the protocol."""
    return ", ".join(filter(None, (network.name, network.digest, network.settings)))


def describe(path: str, network: Network, request: Request, features: bool = False) -> Set:
    """Returns one side of a comparison.

    Args:
      path: a folder of pictures, or an .npz of statistics.
      network: describes pictures.
      request: what is asked for.
      features: keep them, whatever is asked for.

    Raises:
      UserError: if pictures are missing or cannot be read.
    """
    if path.endswith(".npz"):
        found = statistics.read(path)
        for ours, theirs in (
            (request.protocol, found.protocol),
            (identity(network), found.network),
        ):
            if theirs not in ("", ours):
                text = "%s was made with %s, this is with %s; numbers of both do not compare"
                raise UserError(text % (path, theirs, ours))
        return Set(path, found, None, [])
    paths, keep = find_images(path), features or needs_features(request)
    cached = ""
    if request.cache and not keep:
        cached = statistics.cached_path(request.cache, paths, request.protocol, identity(network))
        if os.path.isfile(cached):
            return Set(path, statistics.read(cached), None, [])
    with _Progress(path, len(paths)) as progress:
        protocol = PROTOCOLS[request.protocol]
        stream = Stream(network, protocol, request.batch_size, request.skip_bad, progress.show)
        table, batches = None, stream(paths)
        if keep:
            table = store(batches, len(paths))
            batches = (table[i : i + 1024] for i in range(0, len(table), 1024))
        found = None
        if not keep or "fid" in request.metrics:
            found = statistics.collect(batches)
            found = found._replace(protocol=request.protocol, network=identity(network))
    if cached and not stream.bad:
        statistics.write(cached, found)
    return Set(path, found, table, stream.bad)


class _Progress:
    """A line on stderr that counts pictures; on a terminal in place, else at the end only."""

    def __init__(self, path, total):
        self._path, self._total, self._live = path, total, sys.stderr.isatty()

    def __enter__(self):
        return self

    def show(self, done):
        if self._live or done == self._total:
            begin, end = ("\r", "") if self._live else ("", "\n")
            text = "%s%s: %d of %d pictures" % (begin, self._path, done, self._total)
            print(text, end=end, file=sys.stderr, flush=True)

    def __exit__(self, *exception):
        if self._live:
            print(file=sys.stderr)


def key_names(network: Network) -> dict:
    """Returns {metric: key}; only Inception's are called FID and KID."""
    if network.name == INCEPTION:
        return {"fid": "fid", "kid": "kid", "precision": "precision", "recall": "recall"}
    long = {"fid": "frechet_distance", "kid": "kernel_distance"}
    names = ("fid", "kid", "precision", "recall")
    return {name: "%s_%s" % (long.get(name, name), network.name) for name in names}


def describe_set(one: Set) -> dict:
    """Returns what JSON tells of a set."""
    return {"path": one.path, "images": one.count, "skipped": one.skipped}


def measure(real: Set, fake: Set, network: Network, request: Request) -> dict:
    """Returns the metrics that are asked for and what they were measured with, fit for JSON."""
    keys, result, warnings = key_names(network), {}, []
    if "fid" in request.metrics:
        result[keys["fid"]] = distances.frechet(real.statistics, fake.statistics)
        counts = [one.count for one in (real, fake) if one.count is not None]
        if min(counts, default=SMALL) < SMALL:
            text = "only %d pictures: below %d the value has a large bias; compare it only with "
            text += "values of as many pictures, or take the KID"
            warnings.append(text % (min(counts), SMALL))
    for one in (real, fake):
        if one.statistics is not None and not one.statistics.protocol:
            warnings.append("%s does not say its protocol; it must be this one" % one.path)
    if network.note:
        warnings.append(network.note)
    if request.bootstrap:
        result[keys["fid"] + "_bootstrap"] = _interval(real, fake, request)
    if "kid" in request.metrics:
        result.update(_kid(real, fake, keys["kid"], request))
    if "precision_recall" in request.metrics:
        values = distances.precision_recall(real.features, fake.features, request.neighbours)
        result.update({keys[name]: value for name, value in values.items()})
        result["neighbours"] = request.neighbours
    result.update(
        protocol="%s, %s" % (network.name, request.protocol),
        resize=PROTOCOLS[request.protocol].words,
        network={
            "name": network.name,
            "sha256": network.digest or None,
            "side": network.side,
            "settings": network.settings,
        },
        real=describe_set(real),
        fake=describe_set(fake),
        warnings=warnings,
    )
    return result


def _interval(real, fake, request):
    draws, seed = request.bootstrap, request.seed
    low, high = distances.bootstrap(real.features, fake.features, draws, seed)
    return {"low": low, "high": high, "share": 0.95, "draws": draws, "seed": seed}


def _kid(real, fake, key, request):
    sizes = (request.subsets, request.subset_size, request.seed)
    spread = distances.kernel_subsets(real.features, fake.features, *sizes)
    return {
        key: distances.kernel_distance(real.features, fake.features),
        key + "_subset_mean": spread.mean,
        key + "_subset_std": spread.deviation,
        key + "_subsets": spread.draws,
        key + "_subset_size": spread.size,
        key + "_seed": request.seed,
    }
