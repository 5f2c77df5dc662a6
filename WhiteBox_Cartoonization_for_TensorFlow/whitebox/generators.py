# SPDX-License-Identifier: Apache-2.0
"""The generator's weights on disk: 36 arrays in a checkpoint of TensorFlow or in a .npz.

The checkpoint is ours, or the published model-33999, which has the same names.
"""

import glob
import os
import re
import shutil
import tempfile
from typing import Dict

import numpy as np
import tensorflow.compat.v1 as tf

from harness.files import atomic_path
from tf_runtime.checkpoints import checkpoint_steps
from whitebox.networks import GENERATOR
from whitebox.weights import DAMAGE, WeightsError, check_start, damaged, floats, read_arrays

NAME = "model"  # of the checkpoints model-N
_ENDING = re.compile(r"\.(index|meta|data-\d+-of-\d+)$")


_KERNELS = {
    "Conv": (7, 7, 3, 32),
    "Conv_1": (3, 3, 32, 32),
    "Conv_2": (3, 3, 32, 64),
    "Conv_3": (3, 3, 64, 64),
    "Conv_4": (3, 3, 64, 128),
    "Conv_5": (3, 3, 128, 64),
    "Conv_6": (3, 3, 64, 64),
    "Conv_7": (3, 3, 64, 32),
    "Conv_8": (3, 3, 32, 32),
    "Conv_9": (7, 7, 32, 3),
}
_BLOCKS = ["block_%d/conv%d" % (block, index) for block in range(4) for index in (1, 2)]
_KERNELS.update(dict.fromkeys(_BLOCKS, (3, 3, 128, 128)))
GENERATOR_SHAPES = {
    "%s/%s/%s" % (GENERATOR, layer, variable): shape
    for layer in sorted(_KERNELS)
    for variable, shape in (("biases", _KERNELS[layer][3:]), ("weights", _KERNELS[layer]))
}


def newest_generator(folder: str) -> str:
    """Returns the path of the checkpoint model-N of the largest N in `folder`, or ""."""
    steps = checkpoint_steps(folder, NAME)
    return os.path.join(folder, "%s-%d" % (NAME, steps[-1])) if steps else ""


def read_generator(path: str) -> Dict[str, np.ndarray]:
    """Reads the generator's weights.

    Args:
      path: a checkpoint, with or without the ending .index, that may hold other variables too; or
        a .npz with arrays of these names, float16 or wider.

    Returns:
      float32 arrays, with the names and shapes of GENERATOR_SHAPES and in this order.

    Raises:
      WeightsError: if a file is missing, damaged or pickled, or is not such a generator.
    """
    is_npz = path.lower().endswith(".npz")
    return _check(path, _read_npz(path) if is_npz else _read_checkpoint(path))


def write_generator(path: str, arrays: Dict[str, np.ndarray]) -> None:
    """Writes the weights, whole or not at all: a .npz, or a checkpoint if `path` ends otherwise.

    The files are the same, byte by byte, for the same weights.

    Args:
      path: without the ending .index if it is a checkpoint.
      arrays: with the names and shapes of GENERATOR_SHAPES.

    Raises:
      WeightsError: if the arrays are not such, or the files cannot be written.
    """
    arrays = _check(path, arrays)
    try:
        if path.lower().endswith(".npz"):
            with atomic_path(path) as temporary, open(temporary, "wb") as file:
                np.savez(file, **arrays)
        else:
            _write_checkpoint(path, arrays)
    except (OSError, tf.errors.OpError) as error:
        lines = str(getattr(error, "strerror", "") or error).splitlines()
        text = "cannot write %s: %s; free space or choose another place"
        raise WeightsError(text % (path, lines[0])) from error


def _check(path, arrays) -> Dict[str, np.ndarray]:
    """Returns `arrays` as float32 and in order; raises WeightsError if they are no generator."""
    missing = [name for name in GENERATOR_SHAPES if name not in arrays]
    if missing:
        text = "%s has no %s (%d of %d arrays are missing); give a generator of White-box "
        text += "Cartoonization"
        words = (path, ", ".join(missing[:3]), len(missing), len(GENERATOR_SHAPES))
        raise WeightsError(text % words)
    for name, shape in GENERATOR_SHAPES.items():
        if np.shape(arrays[name]) != shape:
            text = "%s of %s has the shape %s; it must be %s, give another generator"
            raise WeightsError(text % (name, path, np.shape(arrays[name]), shape))
    return {name: floats(path, name, arrays[name]) for name in GENERATOR_SHAPES}


def _read_npz(path) -> Dict[str, np.ndarray]:
    try:
        with open(path, "rb") as file:
            check_start(path, file.read(512))
            return read_arrays(path, file, GENERATOR_SHAPES)
    except WeightsError:
        raise
    except FileNotFoundError as error:
        text = "there is no file %s; give a checkpoint, an .npz of the generator or a .pb"
        raise WeightsError(text % path) from error
    except DAMAGE as error:
        raise damaged(path, error) from error


def _read_checkpoint(path) -> Dict[str, np.ndarray]:
    path = _ENDING.sub("", path)
    try:
        _check_files(path)
        reader = tf.train.NewCheckpointReader(path)
        names = reader.get_variable_to_shape_map()
        return {name: reader.get_tensor(name) for name in GENERATOR_SHAPES if name in names}
    except WeightsError:
        raise
    except (tf.errors.OpError,) + DAMAGE as error:
        raise damaged(path, error) from error


def _check_files(path) -> None:
    """Raises WeightsError unless the files of the checkpoint are there and hold something."""
    if not os.path.isfile(path + ".index"):
        newest = os.path.basename(newest_generator(path))
        if newest:
            raise WeightsError("%s is a folder; give a checkpoint in it, as %s" % (path, newest))
        text = "there is no %s.index; give a checkpoint, an .npz of the generator or a .pb"
        raise WeightsError(text % path)
    shards = sorted(glob.glob(glob.escape(path) + ".data-*-of-*"))
    if not shards:
        text = "%s.index has no %s.data-00000-of-00001 beside it; copy both files"
        raise WeightsError(text % (path, os.path.basename(path)))
    for name in [path + ".index"] + shards:
        with open(name, "rb") as file:
            check_start(name, file.read(512))


def _write_checkpoint(path, arrays) -> None:
    """Writes `arrays` in order, beside `path` first; the .index comes last."""
    folder, base = os.path.split(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    hidden = tempfile.mkdtemp(prefix=".saving-", dir=folder)
    try:
        with tf.Graph().as_default(), tf.device("/cpu:0"):
            save = tf.raw_ops.SaveV2(
                prefix=os.path.join(hidden, base),
                tensor_names=list(arrays),
                shape_and_slices=[""] * len(arrays),
                tensors=[tf.constant(array) for array in arrays.values()],
            )
            with tf.Session(config=tf.ConfigProto(device_count={"GPU": 0})) as session:
                session.run(save)
        for name in sorted(os.listdir(hidden), key=lambda name: name.endswith(".index")):
            os.replace(os.path.join(hidden, name), os.path.join(folder, name))
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
