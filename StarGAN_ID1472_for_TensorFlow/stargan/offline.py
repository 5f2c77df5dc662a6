# SPDX-License-Identifier: Apache-2.0
"""Pictures and labels as .bin files for an inference client such as msame, its results as pictures.

Picture i and its target j, both counted from 0, are x_real/<i>_<j>.bin and c_trg/<i>_<j>.bin; the
client answers with <i>_<j>_output_0.bin. Axes: S image_size, L labels. Needs no TensorFlow.
"""

import contextlib
import itertools
import math
import os
import re
import shutil
from typing import Dict, Tuple

import numpy as np
from tqdm import tqdm

from harness.errors import UserError
from harness.images import write_image
from stargan import data
from stargan.targets import default_targets, labels_for, parse_targets

IMAGES, LABELS = "x_real", "c_trg"  # folders with the names of the network's inputs
SOURCES, GENERATES = "src_images", "generates"  # folders of strips
INPUT, RESULT = r"(\d+)_(\d+)\.bin", r"(\d+)_(\d+)_output_0\.bin"
STRIP = "%d-images.jpg"


def preprocess(config, jobs, sources, folder: str) -> int:
    """Writes x_real/ float32 [1, S, S, 3] in [-1, 1] and c_trg/ float32 [1, L] into `folder`.

    What an earlier call left in both is replaced once everything is written.

    Args:
      config: the options.
      jobs: from `evaluation.find_jobs`.
      sources: the data sets of the training.
      folder: for both folders.

    Returns:
      How many files each of both folders holds.

    Raises:
      UserError: if a folder holds something else, or a picture cannot be read.
    """
    targets = parse_targets(config.target, sources) or default_targets(sources)
    pictures = [(job, place) for job in jobs for place in range(len(job.paths))]
    folders = [_replaced(os.path.join(folder, name), INPUT) for name in (IMAGES, LABELS)]
    with folders[0] as to_images, folders[1] as to_labels:
        for i, (job, place) in enumerate(tqdm(pictures, unit="picture", disable=None)):
            source = sources[job.number]
            image = data.to_float(data.read_picture(job.paths[place], source.kind, config))
            own = np.zeros([1, len(source.names)], np.float32)  # of own pictures they are not known
            if job.labels is not None:
                own = job.labels[place : place + 1]
            for j, target in enumerate(targets):
                name = "%d_%d.bin" % (i, j)
                image.tofile(os.path.join(to_images, name))
                wanted = labels_for(target, sources, job.number, own)
                wanted.astype(np.float32).tofile(os.path.join(to_labels, name))
    return len(pictures) * len(targets)


def postprocess(pictures: str, results: str, folder: str) -> int:
    """Writes strips: `folder`/src_images/<i>-images.jpg and `folder`/generates/<i>-images.jpg.

    As the test phase does, but counted from 0: the picture once per target, and its translations.

    Args:
      pictures: the folder x_real.
      results: the folder that the client was told to write to; where it made one in it that is
        named by the time, as msame does, the newest counts.
      folder: for both folders; what an earlier call left in them is replaced at the end.

    Returns:
      How many pictures there are.

    Raises:
      UserError: if results are missing, of another size or not finite, or belong to other pictures.
    """
    inputs, outputs = _bins(pictures, INPUT), _newest(results)
    if not inputs:
        text = "there is no <i>_<j>.bin in %s; give the folder x_real of img_preprocess"
        raise UserError(text % pictures)
    alone = sorted(set(inputs) ^ set(outputs))
    if alone:
        text = "%s has %d inputs and %s %d results, %d_%d is in one only; run the client again"
        words = (pictures, len(inputs), results, len(outputs)) + alone[0]
        raise UserError(text % words)
    size = os.path.getsize(inputs[min(inputs)])
    side = int(math.sqrt(size / 12) + 0.5)
    for path in list(inputs.values()) + list(outputs.values()):
        if os.path.getsize(path) != 12 * side * side or not side:
            text = "%s has %d bytes, not those of float32 [%d, %d, 3]; make the .om with "
            text += "--output_type=FP32 and the pictures in its size"
            raise UserError(text % (path, os.path.getsize(path), side, side))
    rows = [(i, list(keys)) for i, keys in itertools.groupby(sorted(inputs), lambda key: key[0])]
    folders = [os.path.join(folder, name) for name in (SOURCES, GENERATES)]
    folders = [_replaced(place, re.escape(STRIP).replace("%d", r"\d+")) for place in folders]
    with folders[0] as to_sources, folders[1] as to_generates:
        for i, keys in tqdm(rows, unit="picture", disable=None):
            for bins, place in ((inputs, to_sources), (outputs, to_generates)):
                strip = [_read(bins[key], side) for key in keys]
                write_image(os.path.join(place, STRIP % i), np.hstack(strip))
    return len(rows)


def _bins(folder, pattern) -> Dict[Tuple[int, int], str]:
    """Returns {(i, j): path} of the files of `folder` whose names match."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    matches = [re.fullmatch(pattern, name) for name in names]
    return {
        (int(match.group(1)), int(match.group(2))): os.path.join(folder, match.group(0))
        for match in matches
        if match
    }


def _newest(folder) -> Dict[Tuple[int, int], str]:
    """Returns the results in `folder`, else those in the folder below it whose name is the last."""
    found = {place: _bins(place, RESULT) for place, _, _ in os.walk(folder)}
    places = sorted((place for place in found if found[place]), key=os.path.basename)
    if not places:
        text = "there is no <i>_<j>_output_0.bin in %s or below; say where the client wrote"
        raise UserError(text % folder)
    place = folder if found[folder] else places[-1]
    print("results in %s" % place, flush=True)
    return found[place]


def _read(path, side) -> np.ndarray:
    values = np.fromfile(path, np.float32).reshape(side, side, 3)
    if not np.isfinite(values).all():
        raise UserError("%s is not finite; run the client again" % path)
    return data.to_uint8(values)


@contextlib.contextmanager
def _replaced(folder, pattern):
    """Yields a new folder, which takes the place of `folder` if the block succeeds.

    Raises:
      UserError: if `folder` holds names that do not match `pattern`, or is a file.
    """
    folder = os.path.realpath(folder)
    names = os.listdir(folder) if os.path.isdir(folder) else []
    others = sorted(name for name in names if not re.fullmatch(pattern, name))
    if others or os.path.isfile(folder):
        what = "holds %s" % others[0] if others else "is a file"
        raise UserError("%s %s, it would be replaced; choose another folder" % (folder, what))
    above, name = os.path.split(folder)
    temporary = os.path.join(above, ".%d-%s" % (os.getpid(), name))
    os.makedirs(temporary)
    try:
        yield temporary
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
