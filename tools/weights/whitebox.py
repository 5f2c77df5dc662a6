# SPDX-License-Identifier: Apache-2.0
"""The published White-box generator: its TensorFlow 1 bundle or an .npz -> arrays by name.

`python tools/weights/whitebox.py SOURCE TARGET.npz` converts; SOURCE is the bundle's
model-33999.data-00000-of-00001, or an .npz. Needs NumPy only: the bundle holds the 36 float32
tensors one after the other, sorted by name, and nothing else.
"""

import argparse
import os
import sys
import zipfile
from typing import Dict, Tuple

import numpy as np

ENDING = ".data-00000-of-00001"
# name, size of the kernel, channels in and out
_CONVOLUTIONS = [
    ("Conv", 7, 3, 32),
    ("Conv_1", 3, 32, 32),
    ("Conv_2", 3, 32, 64),
    ("Conv_3", 3, 64, 64),
    ("Conv_4", 3, 64, 128),
    ("Conv_5", 3, 128, 64),
    ("Conv_6", 3, 64, 64),
    ("Conv_7", 3, 64, 32),
    ("Conv_8", 3, 32, 32),
    ("Conv_9", 7, 32, 3),
]
_CONVOLUTIONS += [("block_%d/conv%d" % (i, j), 3, 128, 128) for i in range(4) for j in (1, 2)]


def shapes() -> Dict[str, Tuple[int, ...]]:
    """Returns {name: shape} of the 36 tensors in the order of the bundle; kernels are HWIO."""
    table = {}
    for name, size, channels, filters in _CONVOLUTIONS:
        table["generator/%s/weights" % name] = (size, size, channels, filters)
        table["generator/%s/biases" % name] = (filters,)
    return {name: table[name] for name in sorted(table)}


def from_bundle(path: str) -> Dict[str, np.ndarray]:
    """Returns the float32 arrays of the bundle's data file; the name before its ending also does.

    Raises:
      ValueError: if the file has another size, or values that are not finite.
    """
    path = path if path.endswith(ENDING) else path + ENDING
    count = sum(int(np.prod(shape)) for shape in shapes().values())
    if os.path.getsize(path) != 4 * count:
        text = "%s has %d bytes; the published generator has %d"
        raise ValueError(text % (path, os.path.getsize(path), 4 * count))
    values = np.fromfile(path, "<f4")
    arrays, first = {}, 0
    for name, shape in shapes().items():
        size = int(np.prod(shape))
        arrays[name] = values[first : first + size].reshape(shape).astype(np.float32)
        first += size
    return _checked(path, arrays)


def from_npz(path: str) -> Dict[str, np.ndarray]:
    """Returns the arrays of an .npz as float32.

    Raises:
      ValueError: if one is missing, has another shape, or values that are not finite.
    """
    with np.load(path) as archive:
        missing = [name for name in shapes() if name not in archive.files]
        if missing:
            raise ValueError("%s has no %s; it is no White-box generator" % (path, missing[0]))
        arrays = {name: archive[name].astype(np.float32) for name in shapes()}
    return _checked(path, arrays)


def _checked(path, arrays):
    for name, shape in shapes().items():
        if arrays[name].shape != shape:
            text = "%s in %s has the shape %s; it must be %s"
            raise ValueError(text % (name, path, arrays[name].shape, shape))
        if not np.isfinite(arrays[name]).all():
            raise ValueError("%s in %s has values that are not finite" % (name, path))
    return arrays


def main() -> int:
    """Converts SOURCE to TARGET."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source")
    parser.add_argument("target", help="an .npz, which cartoonize.py --weights takes")
    options = parser.parse_args()
    if not options.target.endswith(".npz"):
        parser.error("%s: the target must end in .npz" % options.target)
    read = from_npz if options.source.endswith(".npz") else from_bundle
    temporary = options.target[: -len(".npz")] + ".part.npz"
    try:
        arrays = read(options.source)
        np.savez(temporary, **arrays)
        os.replace(temporary, options.target)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        parser.exit(1, "%s: %s\n" % (options.source, error))
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)
    print("%s: 36 tensors, %d values" % (options.target, sum(a.size for a in arrays.values())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
