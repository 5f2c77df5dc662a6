# SPDX-License-Identifier: Apache-2.0
"""How many values a shape has, and the type that NumPy alone does not have."""

from typing import Iterable

import numpy as np


def count(shape: Iterable[int]) -> int:
    """Returns how many values an array of this shape has, however great."""
    total = 1
    for size in shape:
        total *= int(size)
    return total


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """Returns as float32 what the unsigned two-byte integers `bits` are as bfloat16."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
