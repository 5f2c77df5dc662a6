# SPDX-License-Identifier: Apache-2.0
"""Distances of two sets of pictures in four stages: images, features, statistics, distances.

Reading order: `images` (files -> pixels, by protocol), `inception`, `networks` and `other_networks`
(pixels -> features), `features` (a stream of them), `statistics` (their mean and covariance),
`distances` (FID, KID, precision and recall), `report` (what is asked for, measured), `__main__`.
FID: Heusel et al. 2017, arXiv:1706.08500; KID: Binkowski et al. 2018, arXiv:1801.01401.
"""
