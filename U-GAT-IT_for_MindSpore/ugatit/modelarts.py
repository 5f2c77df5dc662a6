# SPDX-License-Identifier: Apache-2.0
"""ModelArts jobs whose boot file is train.py: data and earlier results in, results out.

--data_url, --checkpoint_url and --train_url are folders, which are used where they are, or buckets
(obs://...), which every rank copies for itself with the platform's moxing. Rank 0 copies the
results out, also when the work fails.
"""

import dataclasses
import os
import tempfile
from typing import Callable

from harness.errors import UserError
from harness.options import environment_number


def run(config, work: Callable) -> int:
    """Returns `work(config)`; with --enable_modelarts its paths are those of the job.

    With --resume and no --checkpoint_url, it goes on from the results in a bucket --train_url.

    Raises:
      UserError: if the job's folders are not given, or a bucket cannot be reached.
    """
    if not config.enable_modelarts:
        return work(config)
    for name in ("data_url", "train_url"):
        if not getattr(config, name):
            raise UserError("--enable_modelarts needs --%s, a folder or a bucket" % name)
    is_bucket = "://" in config.train_url
    with tempfile.TemporaryDirectory() as own:
        local = {"data_path": fetch(config.data_url, os.path.join(own, "data"), "Dataset")}
        earlier = config.checkpoint_url or (config.train_url if is_bucket and config.resume else "")
        if earlier:
            local["load_path"] = fetch(earlier, os.path.join(own, "earlier"), "Preload")
        local["output_path"] = os.path.join(own, "results") if is_bucket else config.train_url
        try:
            return work(dataclasses.replace(config, **local))
        finally:
            if is_bucket and environment_number("RANK_ID") == 0:
                os.makedirs(local["output_path"], exist_ok=True)
                print("Start to copy output directory", flush=True)
                moxing().copy_parallel(local["output_path"], config.train_url)


def fetch(url: str, place: str, what: str) -> str:
    """Returns the folder `url`, or `place` after the bucket `url` was copied there."""
    if "://" not in url:
        if not os.path.isdir(url):
            raise UserError("there is no folder %s; give a folder or a bucket (obs://...)" % url)
        return url
    moxing().copy_parallel(url, place)
    print("%s downloaded: %s" % (what, place), flush=True)
    return place


def moxing():
    """Returns the platform's module that copies buckets."""
    try:
        import moxing

        return moxing.file
    except ImportError as error:
        text = "buckets (obs://...) need ModelArts' moxing, which is not here: %s; give folders"
        raise UserError(text % error) from error
