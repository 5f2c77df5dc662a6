# SPDX-License-Identifier: Apache-2.0
"""ModelArts jobs whose boot file is train.py: data and earlier results in, results out.

--data_url, --checkpoint_url and --train_url are folders, which are used where they are, or buckets
(obs://...), which are copied with the platform's moxing: the results also when the work fails.
"""

import dataclasses
import os
import tempfile
import time
from typing import Callable

from harness.errors import UserError
from harness.options import environment_number

WAIT_SECONDS = 3600  # how long the other ranks of a server wait for a copy


def run(config, work: Callable) -> int:
    """Returns `work(config)`; with --enable_modelarts its paths are those of the job.

    Raises:
      UserError: if the job's folders are not given, or a bucket cannot be reached.
    """
    if not config.enable_modelarts:
        return work(config)
    for name in ("data_url", "train_url"):
        if not getattr(config, name):
            raise UserError("--enable_modelarts needs --%s, a folder or a bucket" % name)
    with tempfile.TemporaryDirectory() as own:
        # The ranks of one server share what the first of them copies.
        shared = os.path.join(tempfile.gettempdir(), "ugatit-%d" % os.getppid())
        local = {"data_path": fetch(config.data_url, os.path.join(shared, "data"))}
        if config.checkpoint_url:
            place = os.path.join(shared, "checkpoint")
            local["load_path"] = fetch(config.checkpoint_url, place)
        is_bucket = "://" in config.train_url
        local["output_path"] = os.path.join(own, "results") if is_bucket else config.train_url
        try:
            return work(dataclasses.replace(config, **local))
        finally:
            if is_bucket and environment_number("RANK_ID") == 0:
                os.makedirs(local["output_path"], exist_ok=True)
                print("Start to copy output directory", flush=True)
                moxing().copy_parallel(local["output_path"], config.train_url)


def fetch(url: str, place: str) -> str:
    """Returns the folder `url`, or `place` after the bucket `url` was copied there.

    The first rank of a server copies, the others wait for it.
    """
    if "://" not in url:
        if not os.path.isdir(url):
            raise UserError("there is no folder %s; give a folder or a bucket (obs://...)" % url)
        return url
    done = place + ".done"
    if environment_number("DEVICE_ID") % 8 == 0 or environment_number("RANK_SIZE", 1) == 1:
        moxing().copy_parallel(url, place)
        with open(done, "w", encoding="utf-8"):
            print("Dataset downloaded: %s" % place, flush=True)
        return place
    for _ in range(WAIT_SECONDS):
        if os.path.exists(done):
            return place
        time.sleep(1)
    raise UserError("%s was not copied to %s within %d s" % (url, place, WAIT_SECONDS))


def moxing():
    """Returns the platform's module that copies buckets."""
    try:
        import moxing

        return moxing.file
    except ImportError as error:
        text = "buckets (obs://...) need ModelArts' moxing, which is not here: %s; give folders"
        raise UserError(text % error) from error
