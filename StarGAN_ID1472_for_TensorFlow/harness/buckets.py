# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/harness/buckets.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""Buckets (obs://..., s3://...) of a ModelArts job, copied in and out by the platform's moxing.

Of moxing it takes exists(url), copy_parallel(folder, folder) and remove(url).
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from typing import Callable, Dict, List, Tuple

from harness.errors import UserError
from harness.files import write_json

SCHEMES = ("obs://", "s3://")
ATTEMPTS = 4  # of a copy that matters
FOLDER, KNOWN, UNSAVED = "files", "known.json", "unsaved-"  # names in the place of a local copy


def say(text: str) -> None:
    """Prints a line of the job."""
    print("[CANN-Modelzoo] %s" % text, flush=True)


def moxing():
    """Returns the platform's module that copies buckets.

    Raises:
      UserError: if it is not here.
    """
    try:
        import moxing

        return moxing.file
    except ImportError as error:
        text = "buckets (obs://...) need ModelArts' moxing, which is not here: %s; give folders"
        raise UserError(text % error) from error


def is_bucket(url: str) -> bool:
    """Returns whether `url` is a bucket, or a folder in one, and not a folder of this machine.

    Raises:
      UserError: if it is neither, or is a bucket and there is no moxing.
    """
    if "://" not in url:
        return False
    if not url.startswith(SCHEMES):
        text = "%s: it must be a folder or a bucket (%s...)"
        raise UserError(text % (url, "..., ".join(SCHEMES)))
    moxing()
    return True


def insist(what: str, pause: float, work: Callable):
    """Returns `work()`, which is tried ATTEMPTS times; each pause is twice the one before.

    Raises:
      UserError: if every attempt failed.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return work()
        except Exception as error:  # moxing raises whatever its network does
            text = "%s failed (attempt %d of %d): %s" % (what, attempt, ATTEMPTS, line_of(error))
        say(text)
        if attempt < ATTEMPTS:
            time.sleep(pause * 2 ** (attempt - 1))
    raise UserError(text)


def line_of(error: Exception) -> str:
    """Returns what an error says as one line."""
    return " ".join(str(error).split()) or type(error).__name__


class LocalCopy:
    """A folder with what a bucket holds, one for all processes of a job on this machine.

    A context manager. The first process copies and the others wait; all share the lock of a small
    file while they use the folder. The kernel takes a lock back when its process ends, however that
    may be: then the next one copies. The last to leave removes the folder, unless it holds results
    that were not uploaded. What is found there without a user is of an ended job and never taken.

    Args:
      url: the folder in a bucket.
      cache: takes the copies and the lock; it is made.
      what: name of the copy in messages and among those of one url.
      pause: seconds before a copy that failed is tried again.
      may_miss: whether the bucket may have no such folder yet; then the copy is empty.

    Attributes:
      place: the folder of this copy, where other files about it may be.
      folder: what the bucket holds.
    """

    def __init__(self, url: str, cache: str, what: str, pause: float, may_miss: bool = False):
        self._url, self._cache, self._what = url.rstrip("/"), os.path.abspath(cache), what
        self._pause, self._may_miss = pause, may_miss
        job = [os.environ.get(name, "") for name in ("JOB_ID", "MA_VJ_NAME")]
        key = hashlib.sha256("\n".join([self._url, what] + job).encode()).hexdigest()
        self._lock_path = os.path.join(self._cache, "%s.lock" % key[:16])
        self.place, self._is_waiting = "", False

    @property
    def folder(self) -> str:
        """See above."""
        return os.path.join(self.place, FOLDER)

    def __enter__(self):
        os.makedirs(self._cache, mode=0o700, exist_ok=True)
        self._lock = open(self._lock_path, "a+", encoding="utf-8")
        try:
            while not self._settle():
                pass
        except BaseException:
            self._lock.close()
            raise
        say("%s downloaded: %s" % (self._what, self.folder))
        return self

    def __exit__(self, *exception):
        with self._lock:
            fcntl.lockf(
                self._lock, fcntl.LOCK_UN
            )  # else two that leave at once keep each other out
            if self._lock_alone():
                kept = self._remove_unused()
                if kept:
                    self._write(kept + "\n")  # the next job will name it

    def _lock_alone(self) -> bool:
        """Tries to become the only one that has the lock; returns whether that worked."""
        try:
            # lockf and not flock: children that moxing forks must not inherit the lock.
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except (BlockingIOError, PermissionError):
            return False

    def _settle(self) -> bool:
        """Copies, or waits for the process that does; returns whether the copy is complete."""
        if self._lock_alone():
            self._fetch()
        elif not self._is_waiting:
            self._is_waiting = True
            say("%s: another process of the job copies %s" % (self._what, self._url))
        fcntl.lockf(self._lock, fcntl.LOCK_SH)
        self.place, is_complete = self._read()
        if not is_complete:  # that process has failed
            fcntl.lockf(self._lock, fcntl.LOCK_UN)
        return is_complete

    def _read(self) -> Tuple[str, bool]:
        self._lock.seek(0)
        lines = self._lock.read().split("\n")
        return lines[0], lines[1:2] == ["complete"]

    def _fetch(self):
        kept = self._remove_unused()
        if kept:
            kept = os.path.join(kept, FOLDER)
            say("results of an ended job that were not uploaded stay in %s" % kept)
        self.place = self._new_place()
        self._write(self.place + "\n")
        try:
            os.mkdir(self.folder)
            what = "the copy of %s" % self._url
            if insist(what, self._pause, lambda: moxing().exists(self._url)):
                copy = moxing().copy_parallel
                insist(what, self._pause, lambda: copy(self._url, self.folder))
            elif not self._may_miss:
                raise UserError("there is no %s; give the folder that holds the data" % self._url)
            if self._may_miss:  # results, which will be compared with what was here
                write_json(os.path.join(self.place, KNOWN), scan(self.folder))
        except BaseException:
            self._remove_unused()
            raise
        self._write("complete\n")

    def _new_place(self) -> str:
        """Makes a folder, the same for every job if it can: a run may compare its data's paths."""
        number = hashlib.sha256(self._url.encode()).hexdigest()[:8]
        name = "%s-%s" % (self._what.lower(), number)
        try:
            os.mkdir(os.path.join(self._cache, name))
            return os.path.join(self._cache, name)
        except FileExistsError:
            return tempfile.mkdtemp(prefix=name + "-", dir=self._cache)

    def _write(self, text):
        self._lock.write(text)
        self._lock.flush()

    def _remove_unused(self) -> str:
        """Removes the copy that the lock's file names; returns the place of one that must stay."""
        place = self._read()[0]
        self._lock.truncate(0)  # first: another job may make a folder of this name
        names = os.listdir(place) if os.path.isdir(place) else []
        if any(name.startswith(UNSAVED) for name in names):
            return place
        shutil.rmtree(place, ignore_errors=True)
        return ""


def scan(folder: str, is_wanted: Callable[[str], bool] = lambda top: True) -> Dict[str, List[int]]:
    """Returns {path relative to `folder`: [size, time of change]} of its files.

    Hidden ones are left out: those are being written. `is_wanted` decides by the first part of the
    path.
    """
    found = {}
    for where, folders, names in os.walk(folder):
        is_top = where == folder
        folders[:] = [n for n in folders if n[0] != "." and (not is_top or is_wanted(n))]
        for name in names:
            if name[0] != "." and (not is_top or is_wanted(name)):
                path = os.path.join(where, name)
                try:
                    state = os.stat(path)
                except FileNotFoundError:  # removed just now
                    continue
                found[os.path.relpath(path, folder)] = [state.st_size, state.st_mtime_ns]
    return found
