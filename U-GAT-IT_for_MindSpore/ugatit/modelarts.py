# SPDX-License-Identifier: Apache-2.0
"""ModelArts jobs whose boot file is train.py: data and earlier results in, results out."""

import dataclasses
import os
from typing import Callable

from harness import modelarts
from harness.errors import UserError


def run(config, work: Callable) -> int:
    """Returns `work(config)`; with --enable_modelarts its paths are those of the job.

    --data_url, --checkpoint_url and --train_url are folders, which are used where they are, or
    buckets; see harness.modelarts.run. --resume goes on from --checkpoint_url, else from what
    --train_url holds.

    Raises:
      UserError: if the job's folders are not given or not there, or a bucket cannot be reached.
    """
    if not config.enable_modelarts:
        return work(config)
    for name in ("data_url", "train_url"):
        if not getattr(config, name):
            raise UserError("--enable_modelarts needs --%s, a folder or a bucket" % name)
    inputs = [url for url in (config.data_url, config.checkpoint_url) if url]
    for url in inputs:
        if "://" not in url and not os.path.isdir(url):
            raise UserError("there is no folder %s; give a folder or a bucket (obs://...)" % url)

    def work_in(folders, results):
        local = dict(zip(("data_path", "load_path"), folders), output_path=results)
        return work(dataclasses.replace(config, **local))

    return modelarts.run(modelarts.JobOptions(), inputs, config.train_url, work_in)
