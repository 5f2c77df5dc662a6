# SPDX-License-Identifier: Apache-2.0
"""The structure representation: pictures as segments of one colour (Wang and Yu, section 3.2).

Pictures are float32 [H, W, 3] BGR in [-1, 1]; the generator's go beyond that. This module is also
the program of the processes that work beside the training, so it must not load TensorFlow.
"""

import concurrent.futures
import os
import pickle
import queue
import signal
import subprocess
import sys
import traceback

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.color import rgb2lab
from skimage.segmentation import slic

from harness.errors import UserError
from whitebox.selective_search import find_regions

COMPACTNESS, SMOOTHING = 10.0, 1.0  # of SLIC; pixels
LOW_DEVIATION, HIGH_DEVIATION = 20.0, 40.0  # gamma 1 and 2 of equation 4, of values in 0..255
BRIGHTENING = 1.2  # the power of the adaptive colours
_GRACE_SECONDS = 10  # for a worker to end after its last picture


def flatten_slic(picture: np.ndarray, count: int = 200, legacy: bool = False) -> np.ndarray:
    """Returns float32 [H, W, 3]: every segment of SLIC in its mean colour.

    Args:
      picture: float32 [H, W, 3] BGR in [-1, 1]; values beyond count in the means.
      count: about how many segments.
      legacy: SLIC sees BGR in [-1, 1], as the released weights were trained; else RGB in [0, 1].

    Raises:
      UserError: if `picture` has values that are not finite.
    """
    _check_finite(picture)
    return mean_colours(picture, _slic(picture if legacy else _to_rgb(picture), count))


def flatten_adaptive(picture: np.ndarray, count: int = 200) -> np.ndarray:
    """Returns float32 [H, W, 3] in [-1, 1]: regions of selective search in adaptive colours.

    The colours in [0, 1] are then raised to the power 1.2 and divided by the largest.

    Args:
      picture: float32 [H, W, 3] BGR in [-1, 1]; values beyond count in the colours.
      count: how many regions at most.

    Raises:
      UserError: if `picture` has values that are not finite.
    """
    _check_finite(picture)
    coloured = adaptive_colours(picture, find_regions(_to_rgb(picture), count))
    brightened = np.clip((coloured.astype(np.float64) + 1.0) / 2.0, 0.0, 1.0) ** BRIGHTENING
    brightest = brightened.max() or 1.0  # nothing to divide where all is black
    return (brightened / brightest * 2.0 - 1.0).astype(np.float32)


def mean_colours(picture: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns `picture`, each segment of `labels` (int [H, W], from 0) in its mean colour."""
    flat = labels.ravel()
    return _means(_channels(picture), flat).T[flat].reshape(picture.shape).astype(np.float32)


def adaptive_colours(picture: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns `picture`, each region of `labels` (int [H, W], from 0) in mean or median colour.

    Equation 4: the mean where the region deviates little from it, the median where much, and half
    of each between; see `median_share`.
    """
    flat = labels.ravel()
    channels = _channels(picture)
    means = _means(channels, flat)  # [3, R]
    variances = _means((channels - means[:, flat]) ** 2, flat)
    deviations = 127.5 * np.sqrt(variances.mean(0))  # [-1, 1] -> 0..255
    medians = np.stack([_medians(channel, flat) for channel in channels])
    share = median_share(deviations)
    colours = (1.0 - share) * means + share * medians
    return colours.T[flat].reshape(picture.shape).astype(np.float32)


def median_share(deviations: np.ndarray) -> np.ndarray:
    """Returns 0 below a deviation of 20, 1 above 40, 0.5 from one to the other."""
    share = np.where(deviations < LOW_DEVIATION, 0.0, 0.5)
    return np.where(deviations > HIGH_DEVIATION, 1.0, share)


def _check_finite(picture):
    if not np.isfinite(picture).all():
        text = "the generator made values that are not finite, of which there are no superpixels; "
        raise UserError(text + "train with a lower --adv_train_lr, or with force_fp32")


def _to_rgb(picture):
    """Returns RGB float64 in [0, 1]."""
    return np.clip((picture[..., ::-1].astype(np.float64) + 1.0) / 2.0, 0.0, 1.0)


def _channels(picture):
    return picture.reshape(-1, 3).T.astype(np.float64)  # [3, H W]


def _means(channels, flat):
    """Returns the mean of each channel [3, H W] in each segment: [3, R]."""
    sizes = np.maximum(np.bincount(flat), 1)
    return np.stack([np.bincount(flat, channel) for channel in channels]) / sizes


def _medians(values, flat):
    """Returns the median of `values` [H W] in each segment: [R]."""
    ordered = values[np.lexsort((values, flat))]
    sizes = np.bincount(flat)
    begins = np.cumsum(sizes) - sizes
    lower, upper = begins + (sizes - 1) // 2, begins + sizes // 2
    return (ordered[np.maximum(lower, 0)] + ordered[np.minimum(upper, len(values) - 1)]) / 2.0


def _slic(colours, count):
    """Returns SLIC's segments of `colours` [H, W, 3]: int [H, W], from 0.

    Smoothed, then CIELAB, and no stretching of the contrast: what scikit-image did when the
    weights were trained. Its later versions stretch, which the compactness makes up for here.
    """
    smooth = gaussian_filter(colours.astype(np.float64), (SMOOTHING, SMOOTHING, 0))
    lab = rgb2lab(smooth)
    compactness = COMPACTNESS / (float(np.ptp(lab)) or 1.0)
    labels = slic(lab, n_segments=count, compactness=compactness, convert2lab=False, start_label=0)
    return labels.astype(np.int64)


class Flattener:
    """Makes superpixels in processes of its own; a context manager.

    A process starts when there is a picture for it and stays until `close`. It ends when this
    process does, however that ends, and only then: signals to stop do not reach it.

    Args:
      count: segments of a picture.
      use_enhance: selective search and adaptive colours instead of SLIC and mean colours.
      legacy: of `flatten_slic`.
      workers: how many processes at most; 0 is one per core.
    """

    def __init__(
        self, count: int = 200, use_enhance: bool = False, legacy: bool = False, workers: int = 0
    ):
        self._words = (count, use_enhance, legacy)
        self._limit = workers or len(os.sched_getaffinity(0))
        self._threads = concurrent.futures.ThreadPoolExecutor(self._limit)  # each feeds a process
        self._idle, self._workers, self._futures = queue.LifoQueue(), [], []

    def submit(self, pictures: np.ndarray) -> "Flattening":
        """Begins with `pictures`, float32 [N, H, W, 3]; returns what `result()` is asked of."""
        futures = [self._threads.submit(self._flatten, picture) for picture in pictures]
        self._futures = [future for future in self._futures if not future.done()] + futures
        return Flattening(futures)

    def _flatten(self, picture):
        """Returns `picture` flattened by a process that has nothing to do, or a new one."""
        try:
            worker = self._idle.get_nowait()
        except queue.Empty:
            worker = _start_worker()
            self._workers.append(worker)
        try:
            pickle.dump((picture,) + self._words, worker.stdin, protocol=4)
            worker.stdin.flush()
            result, error = pickle.load(worker.stdout)
        except (OSError, EOFError, pickle.UnpicklingError) as problem:
            text = "a process that makes superpixels has ended (status %s), perhaps for lack of "
            text += "memory; give --superpixel_workers less than %d"
            if self._limit == 1:
                text = "the process that makes superpixels has ended (status %s), perhaps for "
                text += "lack of memory; lower --batch_size (--superpixel_workers is %d)"
            raise UserError(text % (_end(worker), self._limit)) from problem
        self._idle.put(worker)
        if error is not None:
            raise error
        return result

    def close(self) -> None:
        """Ends the processes after the picture each is at; drops pictures that nobody began."""
        for future in self._futures:
            future.cancel()
        self._threads.shutdown()
        for worker in self._workers:
            _end(worker)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


class Flattening:
    """Pictures that are being flattened."""

    def __init__(self, futures):
        self._futures = futures

    def result(self) -> np.ndarray:
        """Waits; returns float32 [N, H, W, 3] in the order of the pictures.

        Raises:
          UserError: if a process ended before its time, or a picture has values not finite.
        """
        return np.stack([future.result() for future in self._futures])


def _start_worker():
    """Starts this module as a program; its end of the pipe closes when this process ends."""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    path = os.pathsep.join([folder] + [os.path.abspath(entry) for entry in sys.path])
    one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "whitebox.superpixels"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=folder,
        env=dict(os.environ, PYTHONPATH=path, **one),
        start_new_session=True,  # Ctrl-C in the terminal is not for it
    )


def _end(worker) -> int:
    """Waits until a worker without work ends; returns its exit status, or minus the signal."""
    for pipe in (worker.stdin, worker.stdout):
        try:
            pipe.close()
        except OSError:  # what it did not take any more cannot be flushed
            pass
    try:
        return worker.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        worker.kill()
        return worker.wait()


def _serve() -> None:
    """Answers (picture, count, use_enhance, legacy) with (flattened, None) or (None, error)."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # whatever is printed is no answer
    try:
        while True:
            picture, count, use_enhance, legacy = pickle.load(requests)
            try:
                if use_enhance:
                    answer = flatten_adaptive(picture, count), None
                else:
                    answer = flatten_slic(picture, count, legacy), None
            except Exception as error:  # the process that asked raises it
                answer = None, error
                if not isinstance(error, UserError):
                    traceback.print_exc()
            pickle.dump(answer, answers, protocol=4)
            answers.flush()
    except (EOFError, BrokenPipeError, pickle.UnpicklingError):
        os._exit(0)  # nobody asks any more; nothing is left to flush


if __name__ == "__main__":
    _serve()
