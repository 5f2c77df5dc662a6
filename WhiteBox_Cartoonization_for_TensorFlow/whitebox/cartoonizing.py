# SPDX-License-Identifier: Apache-2.0
"""Pictures, folders and videos through the network: read ahead, and written in the background."""

import collections
import concurrent.futures
import contextlib
import errno
import os
import sys
import time
from typing import Callable, Iterator, List, Tuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from harness import video
from harness.ahead import Ahead
from harness.errors import UserError
from whitebox import pictures
from whitebox.jobs import Job, Plan, make_plan
from whitebox.pictures import Picture, PictureError

BATCH_PIXELS = 2**20  # of pictures that are done together; larger ones gain nothing by it
WRITERS, WAITING = 2, 8  # threads that write, and cartoons that may wait for them
# After these no other picture can be written either.
_NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EPIPE)


def load_network(config):
    """Returns the `serving.Cartoonizer` that the options ask for."""
    # TensorFlow takes seconds to load: only after what was asked for is found to be right.
    from tf_runtime import device as devices
    from whitebox import serving

    words = (config.smooth, config.strength, config.tile, config.batch_size)
    return serving.Cartoonizer(serving.find_weights(config), devices.choose(config), *words)


def cartoonize(config, load: Callable = load_network) -> int:
    """Cartoonizes what the options ask for; returns the exit status, 1 where pictures failed.

    Args:
      config: a CartoonizeConfig.
      load: load(config) is a context manager whose value turns uint8 [N, H, W, 3] into the same.

    Raises:
      UserError: if there is nothing that can be done; also if the disk is full.
    """
    if config.output != "-":
        return _run(config, load, pictures.write)
    stdout = sys.stdout

    def write(_, data):
        stdout.buffer.write(data)
        stdout.buffer.flush()

    with contextlib.redirect_stdout(sys.stderr):
        return _run(config, load, write)


class _Tally:
    """Counts what is done, on a bar where there is a terminal, and keeps what went wrong."""

    def __init__(self, bar):
        self._bar, self.failures = bar, []

    def done(self) -> None:
        self._bar.update()

    def fail(self, job, error) -> None:
        tqdm.write("cartoonize %s failed" % job.name, file=sys.stdout)
        self.failures.append(str(error))
        self._bar.update()


def _run(config, load, write) -> int:
    plan = make_plan(config)
    jobs = _missing(plan) if not config.overwrite else plan.jobs
    if not jobs:
        return 0
    with load(config) as network, tqdm(total=len(jobs), unit="picture", disable=None) as bar:
        begin, tally = time.perf_counter(), _Tally(bar)
        with _reader(plan, jobs, config) as read:
            batches = _batches(jobs, read, config.batch_size, tally)
            cartoons = _cartoons(batches, network)
            if plan.to_video:
                frames = _frames(cartoons, tally)
                video.encode(plan.to_video, frames, plan.frames.rate, sound=config.input)
            else:
                _write_all(cartoons, write, tally)
        seconds = time.perf_counter() - begin
    failures = tally.failures
    done = len(jobs) - len(failures)
    words = (done, "" if done == 1 else "s", seconds, done / seconds, plan.place)
    print("%d picture%s in %.1f s (%.2f per second), written to %s" % words, flush=True)
    if failures:
        print("%d of %d pictures could not be cartoonized:" % (len(failures), len(jobs)))
        print("\n".join(failures), flush=True)
    return 1 if failures else 0


def _missing(plan: Plan) -> List[Job]:
    """Returns the jobs whose output is not there yet; says how many are."""
    jobs = [job for job in plan.jobs if not os.path.exists(plan.to_video or job.target)]
    skipped = len(plan.jobs) - len(jobs)
    if skipped:
        text = "%d of %d pictures are there already and are skipped"
        print(text % (skipped, len(plan.jobs)), flush=True)
    return jobs


@contextlib.contextmanager
def _reader(plan, jobs, config) -> Iterator[Callable[[int], Picture]]:
    """Yields read(i), which returns the picture of job i or raises PictureError; i goes up by 1."""
    if plan.frames:  # ffmpeg decodes ahead, in a process of its own

        def read_frame(i):
            frame = Image.fromarray(plan.frames.read(jobs[i].source))
            return Picture(np.asarray(pictures.shrink(frame, config.max_side)))

        yield read_frame
        return

    def read(i):
        return pictures.read(jobs[i].source, jobs[i].name, config.max_side)

    depth = config.batch_size if config.max_side else 1  # bounds the memory
    with Ahead(read, len(jobs) - 1, depth) as ahead:
        yield ahead


def _batches(jobs, read, most, tally) -> Iterator[List[Tuple[Job, Picture]]]:
    """Yields up to `most` pictures of one size that follow each other."""
    batch = []
    for i, job in enumerate(jobs):
        try:
            picture = read(i)
        except PictureError as error:
            tally.fail(job, error)
            continue
        if batch:
            pixels = picture.pixels
            is_full = len(batch) == most or pixels[..., 0].size * (len(batch) + 1) > BATCH_PIXELS
            if is_full or pixels.shape != batch[0][1].pixels.shape:
                yield batch
                batch = []
        batch.append((job, picture))
    if batch:
        yield batch


def _cartoons(batches, network) -> Iterator[Tuple[Job, Picture]]:
    """Yields each job with its cartoon."""
    for batch in batches:
        results = network(np.stack([picture.pixels for _, picture in batch]))
        for (job, picture), pixels in zip(batch, results):
            yield job, picture._replace(pixels=pixels)


def _frames(cartoons, tally) -> Iterator[np.ndarray]:
    for _, cartoon in cartoons:
        yield cartoon.pixels
        tally.done()


def _write_all(cartoons, write, tally) -> None:
    """Writes cartoons in the background while the next ones are made."""
    waiting = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(WRITERS) as pool:
        try:
            for job, cartoon in cartoons:
                waiting.append((job, pool.submit(_write, job, cartoon, write)))
                while waiting and (len(waiting) > WAITING or waiting[0][1].done()):
                    _finish(*waiting.popleft(), tally)
            while waiting:
                _finish(*waiting.popleft(), tally)
        finally:
            for _, future in waiting:
                future.cancel()


def _finish(job, future, tally) -> None:
    try:
        future.result()
    except PictureError as error:
        tally.fail(job, error)
    else:
        tally.done()


def _write(job, cartoon, write) -> None:
    """Writes one cartoon; raises PictureError if others could be written all the same."""
    data = pictures.encode(cartoon, job.ending, job.name)
    try:
        write(job.target, data)
    except OSError as error:
        target = "to stdout" if job.target == "-" else job.target
        what = "%s, the cartoon of %s" % (target, job.name)
        if error.errno in _NO_PLACE:
            text = "cannot write %s: %s; make room for it, or choose another --output"
            raise UserError(text % (what, error.strerror)) from error
        raise PictureError("cannot write %s: %s" % (what, error.strerror or error)) from error
