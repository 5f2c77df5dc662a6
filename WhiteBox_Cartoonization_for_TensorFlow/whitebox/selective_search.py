# SPDX-License-Identifier: Apache-2.0
"""Regions of a picture by selective search: small segments, then the most alike are merged.

Felzenszwalb and Huttenlocher, IJCV 2004, for the segments; Uijlings et al., "Selective Search for
Object Recognition", IJCV 2013, section 3, for the merging. Axes: H, W; R regions.
"""

import heapq

import numpy as np
from skimage.color import rgb2lab
from skimage.feature import local_binary_pattern
from skimage.segmentation import felzenszwalb

SCALE, SIGMA, MIN_SIZE = 10, 0.8, 100  # MIN_SIZE in pixels of a picture of 256x256
COLOUR_BINS, TEXTURE_BINS = 25, 10  # of each Lab channel; of uniform patterns of 8 neighbours
LAB_LOW, LAB_HIGH = (0.0, -87.0, -108.0), (100.0, 99.0, 95.0)  # all that sRGB can show


def find_regions(rgb: np.ndarray, count: int) -> np.ndarray:
    """Returns int [H, W]: the region of each pixel, from 0; at most `count` of them.

    Args:
      rgb: float [H, W, 3] in [0, 1].
      count: how many regions are left when the merging stops.
    """
    height, width = rgb.shape[:2]
    min_size = max(1, round(MIN_SIZE * min(1.0, height * width / 256.0**2)))
    labels = felzenszwalb(rgb, SCALE, SIGMA, min_size).astype(np.int64)
    lab = rgb2lab(rgb)
    grey = np.rint(lab[..., 0] * 2.55).astype(np.uint8)
    texture = local_binary_pattern(grey, 8, 1, "uniform").astype(np.int64)  # 0..9
    return merge_regions(labels, lab, texture, count)


def merge_regions(
    labels: np.ndarray, lab: np.ndarray, texture: np.ndarray, count: int
) -> np.ndarray:
    """Returns int [H, W], from 0: `labels` after merging the most similar neighbours.

    Args:
      labels: int [H, W], from 0 without gaps.
      lab: float [H, W, 3], CIELAB.
      texture: int [H, W] in 0..TEXTURE_BINS - 1.
      count: merging stops when so many regions are left.
    """
    first = int(labels.max()) + 1
    regions = _Regions(labels, lab, texture, first)
    neighbours = _neighbours(labels, first)
    pairs = [(i, j) for i in neighbours for j in neighbours[i] if i < j]
    heap = _rated(regions, pairs)
    heapq.heapify(heap)
    root = np.arange(2 * first)  # of the tree of merges
    merges = []
    while len(neighbours) > count:
        _, i, j = heapq.heappop(heap)
        if i not in neighbours or j not in neighbours:
            continue  # one of the two was merged since
        new = first + len(merges)
        merges.append((i, j, new))
        around = (neighbours.pop(i) | neighbours.pop(j)) - {i, j}
        for other in around:
            neighbours[other] = (neighbours[other] - {i, j}) | {new}
        neighbours[new] = around
        regions.merge(i, j, new)
        for rated in _rated(regions, [(other, new) for other in sorted(around)]):
            heapq.heappush(heap, rated)
    for i, j, new in reversed(merges):
        root[i] = root[j] = root[new]
    _, left = np.unique(root[labels], return_inverse=True)
    return left.reshape(labels.shape)


def _neighbours(labels, regions):
    """Returns {region: set of the regions that share an edge of a pixel with it}."""
    beside = labels[:, :-1] * regions + labels[:, 1:]
    below = labels[:-1] * regions + labels[1:]
    neighbours = {region: set() for region in range(regions)}
    for pair in np.unique(np.concatenate([beside.ravel(), below.ravel()])).tolist():
        i, j = divmod(pair, regions)
        if i != j:
            neighbours[i].add(j)
            neighbours[j].add(i)
    return neighbours


def _rated(regions, pairs):
    """Returns [(-similarity, i, j)] of `pairs`; a heap gives the most similar first."""
    if not pairs:
        return []
    i, j = np.array(pairs).T
    return list(zip((-regions.similarity(i, j)).tolist(), i.tolist(), j.tolist()))


class _Regions:
    """What the similarity needs of each region; there is room for every merged one.

    Attributes:
      sizes: float [2 R], pixels.
      histograms: float [2 R, bins]: of the colours, which sum to 1, and of the texture, likewise.
      low, high: int [2 R, 2], the corners of the bounding boxes; `high` is one past the last pixel.
    """

    def __init__(self, labels, lab, texture, count):
        height, width = labels.shape
        self._pixels = float(height * width)
        flat = labels.ravel()
        self.sizes = np.zeros(2 * count)
        self.sizes[:count] = np.bincount(flat, minlength=count)
        low, high = np.array(LAB_LOW), np.array(LAB_HIGH)
        bins = np.floor((lab - low) / (high - low) * COLOUR_BINS).astype(np.int64)
        bins = np.clip(bins, 0, COLOUR_BINS - 1).reshape(-1, 3)
        colours = [_histograms(flat, bins[:, i], count, COLOUR_BINS) / 3.0 for i in range(3)]
        texture = _histograms(flat, texture.ravel(), count, TEXTURE_BINS)
        histograms = np.concatenate(colours + [texture], 1) / self.sizes[:count, None]
        self.histograms = np.concatenate([histograms, np.zeros_like(histograms)])
        self.low = np.full([2 * count, 2], max(height, width))
        self.high = np.zeros([2 * count, 2], np.int64)
        for axis, places in enumerate(np.indices(labels.shape)):
            np.minimum.at(self.low[:, axis], flat, places.ravel())
            np.maximum.at(self.high[:, axis], flat, places.ravel() + 1)

    def similarity(self, i, j):
        """Returns colour + texture + size + fill of the pairs (i, j), equation 6: [pairs]."""
        alike = np.minimum(self.histograms[i], self.histograms[j]).sum(1)  # colour + texture
        sizes = self.sizes[i] + self.sizes[j]
        box = np.maximum(self.high[i], self.high[j]) - np.minimum(self.low[i], self.low[j])
        return alike + (1.0 - sizes / self._pixels) + (1.0 - (box.prod(1) - sizes) / self._pixels)

    def merge(self, i, j, new):
        """Fills in region `new`, which is `i` and `j` together."""
        weights = self.sizes[[i, j]]
        self.sizes[new] = weights.sum()
        self.histograms[new] = weights @ self.histograms[[i, j]] / weights.sum()
        self.low[new] = np.minimum(self.low[i], self.low[j])
        self.high[new] = np.maximum(self.high[i], self.high[j])


def _histograms(labels, bins, count, size):
    """Returns float [count, size]: how many pixels of each region are in each bin."""
    return np.bincount(labels * size + bins, minlength=count * size).reshape(count, size)
