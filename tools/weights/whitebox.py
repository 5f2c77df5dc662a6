# SPDX-License-Identifier: Apache-2.0
"""The published White-box generator: its TensorFlow bundle or an .npz -> arrays by name, and back.

Our names and axes are those of the bundle, so both directions change the format only. A bundle can
be read without TensorFlow: its data file holds the 36 float32 tensors one after the other, sorted
by name, and nothing else. What stood at the --output is replaced.
"""

import importlib.util
import os
from typing import Dict, List, Tuple

import numpy as np

from harness.errors import UserError
from harness.files import atomic_path
from tools.weights import audit, files
from tools.weights.graphs import without_ending

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


def from_bundle(path: str) -> audit.Arrays:
    """Returns the float32 arrays of the bundle's data file; the name before its ending also does.

    Raises:
      UserError: if the file has another size, or values that are not finite.
    """
    path = without_ending(path) + ENDING
    if not os.path.isfile(path):
        raise UserError("there is no %s; give the checkpoint with its data file" % path)
    count = sum(int(np.prod(shape)) for shape in shapes().values())
    if os.path.getsize(path) != 4 * count:
        text = "%s has %d bytes; the published generator has %d"
        raise UserError(text % (path, os.path.getsize(path), 4 * count))
    values = np.fromfile(path, "<f4")
    arrays, first = {}, 0
    for name, shape in shapes().items():
        size = int(np.prod(shape))
        arrays[name] = values[first : first + size].reshape(shape)
        first += size
    return audit.check(path, arrays, shapes(), {})


def read(path: str) -> Tuple[audit.Arrays, List[str]]:
    """Returns (the 36 float32 arrays, names of what else is there) of a bundle, an .npz and so on.

    A bundle's index and checksums count where there is TensorFlow; else its data file is read by
    itself.

    Raises:
      UserError: if the file is missing or damaged, lacks a tensor, or has one of another shape or
        with values that are not finite.
    """
    prefix = without_ending(path)
    has_index = os.path.isfile(prefix + ".index") and importlib.util.find_spec("tensorflow")
    if os.path.isfile(prefix + ENDING) and not has_index:
        return from_bundle(path), []
    everything = files.read(path)
    arrays = {name: everything[name] for name in shapes() if name in everything}
    left_out = [name for name in everything if name not in arrays]
    return audit.check(path, arrays, shapes(), {}), left_out


def add_arguments(parser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("published", help="model-33999 or a file of it, or an .npz")
    parser.add_argument(
        "--output", required=True, help="cartoonize.py --weights: NAME.npz, or a checkpoint's name"
    )
    parser.add_argument("--to_published", action="store_true", help="write a checkpoint only")


def run(arguments) -> int:
    """Converts what the command line names.

    Raises:
      UserError: if the file holds no such generator or the output cannot be written.
    """
    as_npz = arguments.output.endswith(".npz")
    if as_npz and arguments.to_published:
        text = "--output %s: what was published is a checkpoint; name it, such as model-33999"
        raise UserError(text % arguments.output)
    if not as_npz and not importlib.util.find_spec("tensorflow"):
        text = "--output %s: a checkpoint is written with TensorFlow, which is not installed here; "
        raise UserError((text + "name an .npz") % arguments.output)
    arrays, left_out = read(arguments.published)
    if as_npz:
        with atomic_path(arguments.output) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)
    else:
        from whitebox.generators import write_generator  # needs TensorFlow

        write_generator(arguments.output, arrays)
    notes = ["no switch: cartoonize.py computes as the authors' code does, --max_side included"]
    notes.append("--preset=published only to train as they did, which the weights do not depend on")
    audit.print_report({arguments.output: arrays}, left_out, "", notes)
    return 0
