# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/harness/modelarts.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""ModelArts training jobs: the job's folders or buckets in, the folder's own case, results out."""

import contextlib
import dataclasses
import os
import re
import signal
import tempfile
from typing import Callable, List

from harness import cases
from harness.buckets import LocalCopy, is_bucket, say
from harness.environment import rank_and_size
from harness.files import read_json
from harness.options import option, parse_several, words_for
from harness.uploads import Uploads

CHECKPOINT = re.compile(r"-\d+\.(index|ckpt)$")


@dataclasses.dataclass(frozen=True)
class JobOptions:
    """The job's folders or buckets (obs://..., s3://...)."""

    data_url: str = option(
        "/home/ma-user/modelarts/inputs/data_url_0", "folder or bucket of the training data"
    )
    train_url: str = option(
        "/home/ma-user/modelarts/outputs/train_url_0/", "folder or bucket of the results"
    )
    cache_path: str = option(
        "", "folder for what buckets hold (default /cache, else the temporary folder)"
    )
    upload_minutes: float = option(
        10.0, "minutes between uploads of the results so far; 0: at the end only", low=0
    )
    upload_pause: float = option(
        10.0, "seconds before a copy that failed is tried again, then twice as many", low=0
    )


def main(preset: str) -> int:
    """Runs the case of test/train_<preset>_1p.sh on the job's folders and returns its exit status.

    Options of the case and of the model are passed on; parameters that only the platform knows are
    named in a warning and left out. A full case goes on from the checkpoints of an earlier one.
    """
    extras, module = [], cases.load_module()
    classes = [JobOptions, cases.CaseOptions, module.Config]
    configs, given = parse_several(classes, description="ModelArts boot file.", extras=extras)
    job, words = configs[0], dict(given[1], **given[2])
    if extras:
        say("left out, not options of this model: %s" % " ".join(extras))
    data, results = words.pop("data_path", job.data_url), words.pop("output_path", job.train_url)

    def work(folders, output):
        more = words_for(dict(words, data_path=folders[0], output_path=output))
        if _has_checkpoint(output) and not _is_decided(module.Config, words):
            if preset == "full" and _preset_of(output) != "performance":
                more.append("--continue_train=True")
                text = "going on from it (--continue_train=False begins anew)"
            else:
                text = "beginning anew, as %s a performance case"
                text %= "that was" if preset == "full" else "this is"
            say("%s has a checkpoint: %s" % (output, text))
        return cases.main([preset, "1"] + more)

    status = run(job, [data], results, work)
    say("train_%s_1p.sh ended with status %d" % (preset, status))
    return status


def _is_decided(config_class, given) -> bool:
    """Returns whether the user gave --continue_train, which may be another name of an option."""
    return any(
        "continue_train" in (field.name,) + field.metadata["aliases"] and field.name in given
        for field in dataclasses.fields(config_class)
    )


def _preset_of(output) -> str:
    return read_json(os.path.join(output, "case.json"), {}).get("preset", "")


def _has_checkpoint(output) -> bool:
    """Returns whether a training has saved its state somewhere in `output`."""
    for _, folders, names in os.walk(output):
        folders[:] = [name for name in folders if name != "previous" and name[0] != "."]
        if any(CHECKPOINT.search(name) and name[0] != "." for name in names):
            return True
    return False


def run(job: JobOptions, inputs: List[str], results: str, work: Callable) -> int:
    """Returns the exit status of `work(folders of the inputs, folder of the results)`.

    Buckets become local folders for it. What a bucket of results holds already is copied in first;
    results are uploaded while it works and at its end, also when it fails or SIGTERM comes. If the
    last upload fails, the status is 1 where it would be 0.

    Args:
      job: says where local folders are and how often results are uploaded.
      inputs: folders or buckets to read.
      results: folder or bucket to write.
      work: what the job does.

    Raises:
      UserError: if there is a bucket and no moxing, or a bucket cannot be copied.
    """
    rank, size = rank_and_size()
    for url in inputs + [results]:
        is_bucket(url)  # whatever is wrong is told before anything is copied
    base = "/cache" if os.access("/cache", os.W_OK) else tempfile.gettempdir()
    cache = job.cache_path or os.path.join(base, "modelarts-%d" % os.getuid())
    with contextlib.ExitStack() as stack:
        stack.enter_context(_ended_by_sigterm())
        folders = list(inputs)
        for number, url in enumerate(inputs):
            if is_bucket(url):
                name = "Preload" if number else "Dataset"
                copy = stack.enter_context(LocalCopy(url, cache, name, job.upload_pause))
                folders[number] = copy.folder
        if not is_bucket(results):
            return work(folders, results)
        copy = LocalCopy(results, cache, "Workspace", job.upload_pause, may_miss=True)
        copy = stack.enter_context(copy)
        uploads = Uploads(copy, results, job.upload_minutes, job.upload_pause, rank, size)
        uploads.start()
        try:
            status = work(folders, copy.folder)
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what is left to do is the upload
            is_uploaded = uploads.finish()
        return status or (0 if is_uploaded else 1)


@contextlib.contextmanager
def _ended_by_sigterm():
    """Lets SIGTERM end the program in order, so that what `finally` promises is done."""

    def end(number, frame):
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
