# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/harness/uploads.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""The results of a ModelArts job on their way to a bucket."""

import os
import shutil
import tempfile
import threading

from harness.buckets import KNOWN, UNSAVED, insist, line_of, moxing, say, scan
from harness.errors import UserError
from harness.files import read_json, write_text

LAST_SECONDS = 600  # an upload on its way may take so long at the end before another begins


class Uploads:
    """Keeps a bucket equal to the results in a local copy: every so often, and at the end.

    Only what is new since the last time goes out, as it was at one moment, and what the job has
    removed (old checkpoints) leaves the bucket when the new is there. A failure ends nothing: the
    next upload does it all.

    Args:
      copy: the local copy.
      url: the folder in a bucket; it need not be there.
      minutes: between uploads; 0 uploads at the end only.
      pause: seconds before a last upload that failed is tried again.
      rank, size: this process among those that the platform has started: rank 0 uploads all but
        the folders rank_N of the others, who upload their own.
    """

    def __init__(self, copy, url: str, minutes: float, pause: float, rank: int = 0, size: int = 1):
        self._place, self._folder, self._url = copy.place, copy.folder, url.rstrip("/")
        self._minutes, self._pause, self._rank, self._size = minutes, pause, rank, size
        self._unsaved = os.path.join(copy.place, "%s%d" % (UNSAVED, rank))
        known = read_json(os.path.join(copy.place, KNOWN), {})
        self._known = {k: v for k, v in known.items() if self._is_mine(k.split(os.sep)[0])}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._repeat, daemon=True)

    def _is_mine(self, top: str) -> bool:
        if self._rank:
            return top == "rank_%d" % self._rank
        return self._size == 1 or not top.startswith("rank_")

    def start(self) -> None:
        """Begins the uploads; until `finish` has succeeded the local copy is not removed."""
        write_text(self._unsaved, "")
        if self._minutes:
            self._thread.start()

    def _repeat(self):
        while not self._end.wait(60 * self._minutes):
            try:
                count = self.upload()
                if count:
                    say("uploaded %d new files to %s" % (count, self._url))
            except Exception as error:  # moxing raises whatever its network does
                text = "the upload to %s failed: %s; the next one is in %g minutes"
                say(text % (self._url, line_of(error), self._minutes))

    def upload(self) -> int:
        """Uploads once; returns how many files were new."""
        if not os.path.isdir(self._folder):
            raise UserError("the results in %s are gone" % self._folder)
        now = scan(self._folder, self._is_mine)
        new = [name for name in now if self._known.get(name) != now[name]]
        with tempfile.TemporaryDirectory(dir=self._place) as staged:
            new = [name for name in new if _stage(self._folder, staged, name)]
            if new:
                moxing().copy_parallel(staged, self._url)
        self._known.update((name, now[name]) for name in new)
        for name in [name for name in self._known if name not in now]:
            url = "%s/%s" % (self._url, name.replace(os.sep, "/"))
            if moxing().exists(url):
                moxing().remove(url)
            del self._known[name]
        return len(new)

    def finish(self) -> bool:
        """Ends the uploads with a last one; returns whether it succeeded."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(LAST_SECONDS)
        say("Start to copy output directory %s to %s" % (self._folder, self._url))
        try:
            insist("the upload to %s" % self._url, self._pause, self.upload)
        except UserError:
            say("the results are not in %s; they stay in %s" % (self._url, self._folder))
            return False
        os.remove(self._unsaved)
        return True


def _stage(source, target, name) -> bool:
    """Puts a file of the folder `source` into `target` too; returns False if it has gone."""
    path = os.path.join(target, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    grows = name.endswith((".log", ".jsonl")) or "tfevents" in name
    try:
        if grows or not _link(os.path.join(source, name), path):
            shutil.copyfile(os.path.join(source, name), path)
        return True
    except FileNotFoundError:
        return False


def _link(source, target) -> bool:
    try:
        os.link(source, target)
        return True
    except FileNotFoundError:
        raise
    except OSError:  # not every file system has links
        return False
