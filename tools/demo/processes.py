# SPDX-License-Identifier: Apache-2.0
"""One process per model, in the environment of its folder; page and process talk in lines of JSON.

A request is {"do": "open" or "translate", ...}; the answers to it are lines with "event": any
number of "progress", then "done", or "failed" with a "sentence". {"do": "stop"} asks the work that
is under way to end early. Pictures go through files in a private folder.
"""

import collections
import contextlib
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator

from harness.errors import UserError
from tools.demo.finding import Model
from tools.folders import ROOT

STARTING = 180.0  # seconds that a framework may take to load
ENDING = 5.0  # seconds that a worker may take to end by itself
PYTHONS = {"tf2": "TF2_PYTHON", "ms": "MS_PYTHON"}  # variables that name an environment's Python


class WorkerError(UserError):
    """A worker that cannot be started, has died or did not answer; the message says which."""


def find_python(environment: str) -> str:
    """Returns the Python of "tf2" or "ms": that of TF2_PYTHON or MS_PYTHON, else of .venv.

    Raises:
      WorkerError: if there is none.
    """
    own = os.path.join(ROOT, ".venv", environment, "bin", "python")
    path = os.environ.get(PYTHONS[environment]) or own
    if not os.path.isfile(path):
        text = "there is no %s, which this model runs in; make it: python3 ci/environments.py %s"
        raise WorkerError(text % (path, environment))
    return path


class Worker:
    """A process that has one model open.

    Args:
      title: what messages call it.
      command: words that start it.
      folder: private; its working folder, where its log is.
      silence: seconds without a line after which a request has failed.
    """

    def __init__(self, title: str, command: list[str], folder: str, silence: float):
        self._title, self._silence = title, silence
        self._one_job, self._writing = threading.Lock(), threading.Lock()
        self._lines: queue.Queue = queue.Queue()
        self._is_left = False
        self._log = os.path.join(folder, "worker.log")
        words = {"PYTHONPATH": ROOT, "TMPDIR": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        words.update(TF_CPP_MIN_LOG_LEVEL="3", PYTHONUNBUFFERED="1")
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=folder,
                env=dict(os.environ, **words),
                start_new_session=True,  # Ctrl-C is for the page, which ends its workers
            )
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def ask(self, do: str, silence: float | None = None, **words) -> Iterator[dict]:
        """Sends a request and yields the events that answer it, "done" last; one at a time.

        A caller that leaves before the end, ends the worker.

        Args:
          do: what to do.
          silence: in place of the worker's own.
          **words: the rest of the request.

        Raises:
          UserError: if it could not be done.
          WorkerError: if the worker died or was silent for too long.
        """
        with self._one_job:
            self._send(dict(words, do=do))
            event = {}
            try:
                while event.get("event") != "done":
                    event = self._next(silence or self._silence)
                    yield event
            except GeneratorExit:
                self._kill()
                raise

    def stop(self) -> None:
        """Asks the work under way to end early; without any it does nothing."""
        with contextlib.suppress(WorkerError):
            self._send({"do": "stop"})

    def leave(self) -> None:
        """Lets the process end, whatever it does, and does not wait for that."""
        self._is_left = True
        with contextlib.suppress(OSError):
            self._process.stdin.close()  # it ends when its input does

    def close(self) -> None:
        """Ends the process."""
        self.leave()
        try:
            self._process.wait(ENDING)
        except subprocess.TimeoutExpired:
            self._kill()

    def _send(self, request):
        try:
            with self._writing:
                self._process.stdin.write(json.dumps(request).encode() + b"\n")
                self._process.stdin.flush()
        except (OSError, ValueError) as error:
            raise self._died() from error

    def _read(self):
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(b"")

    def _next(self, silence) -> dict:
        try:
            line = self._lines.get(timeout=silence)
        except queue.Empty:
            self._kill()
            text = "the worker of %s did not answer for %g seconds and was ended; try a smaller "
            text += "picture, or a longer --timeout"
            raise WorkerError(text % (self._title, silence)) from None
        if not line:
            raise self._died()
        try:
            event = json.loads(line)
        except ValueError as error:
            self._kill()
            text = "the worker of %s answered what is no JSON and was ended; try again"
            raise WorkerError(text % self._title) from error
        if event.get("event") == "failed":
            raise UserError(event.get("sentence") or "the worker of %s failed" % self._title)
        return event

    def _died(self) -> WorkerError:
        status = self._process.wait()
        self._lines.put(b"")  # for whoever asks next
        if self._is_left:
            text = (
                "the worker of %s was ended; if this page no longer answers, start the demo again"
            )
            return WorkerError(text % self._title)
        with open(self._log, encoding="utf-8", errors="replace") as log:
            lines = [line.strip() for line in log if line.strip()]
        print("\n".join(lines[-20:]), file=sys.stderr, flush=True)
        how = "was killed by signal %d" % -status if status < 0 else "ended with status %d" % status
        last = ": " + lines[-1][:200] if lines and status >= 0 else ""
        text = "the worker of %s %s%s; try again, a new one is started then"
        return WorkerError(text % (self._title, how, last))

    def _kill(self):
        self._process.kill()
        self._process.wait()


class Slot:
    """The worker of one model, if there is one, and what it has open.

    Attributes:
      lock: held while a worker is replaced.
      worker: there from its start on.
      version: of the weights that it has open; None while it starts.
      is_stopped: whether the work was asked to end early since it began.
    """

    def __init__(self):
        self.lock = threading.Lock()
        self.worker, self.version, self.is_stopped = None, None, False

    def has_open(self, weights: str) -> bool:
        """Whether the worker lives and has these weights open, as they are now."""
        is_same = self.version is not None and self.version == _version(weights)
        return is_same and self.worker.is_alive


class Workers:
    """The workers of the page: started when they are needed, kept, replaced with their weights.

    One that starts keeps no other from work.

    Args:
      folder: private, for what they write.
      silence: see `Worker`.
    """

    def __init__(self, folder: str, silence: float):
        self._folder, self._silence = folder, silence
        self._slots: dict[str, Slot] = collections.defaultdict(Slot)
        self._lock = threading.Lock()  # held for moments only
        self._is_closed = False

    def ask(self, model: Model, weights: str, **words) -> Iterator[dict]:
        """Opens the model unless it is, and yields the events that answer a translation.

        The first is {"event": "starting"} where the worker has to start.

        Raises:
          UserError: see `Worker.ask`; or the work was stopped before it began.
        """
        slot = self._slot(model)
        slot.is_stopped = False
        if not slot.has_open(weights):
            yield {"event": "starting"}
        worker = self._worker(slot, model, weights)
        if slot.is_stopped:
            raise UserError("stopped before the first step; press the button to begin anew")
        yield from worker.ask("translate", **words)

    def stop(self, model: Model) -> None:
        """Asks what the model's worker does to end early."""
        slot = self._slot(model)
        slot.is_stopped = True
        if slot.worker:
            slot.worker.stop()

    def close(self) -> None:
        """Ends all workers, those that start too; there can be no other afterwards."""
        with self._lock:
            self._is_closed = True
            workers = [slot.worker for slot in self._slots.values() if slot.worker]
        for worker in workers:
            worker.leave()
        for worker in workers:
            worker.close()

    @contextlib.contextmanager
    def job_folder(self) -> Iterator[str]:
        """Yields a folder for the files of one job and removes it."""
        folder = tempfile.mkdtemp(prefix="job-", dir=self._folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _slot(self, model) -> Slot:
        with self._lock:
            return self._slots[model.name]

    def _worker(self, slot, model, weights) -> Worker:
        """Returns the worker of a slot, which has `weights` open."""
        with slot.lock:
            if slot.has_open(weights):
                return slot.worker
            if slot.worker:
                slot.worker.close()
            slot.version, version = None, _version(weights)
            self._start(slot, model)
            try:
                silence = max(STARTING, self._silence)
                list(slot.worker.ask("open", silence=silence, weights=weights))
            except UserError:
                slot.worker.close()
                raise
            slot.version = version
            return slot.worker

    def _start(self, slot, model):
        """Starts a worker; it is in its slot at once, where `close` finds it."""
        python = find_python(model.environment)
        command = [python, "-m", "tools.demo.workers", model.name, model.path]
        folder = os.path.join(self._folder, model.name)
        with self._lock:
            if self._is_closed:
                raise WorkerError("the page has ended; start it again")
            shutil.rmtree(folder, ignore_errors=True)
            os.makedirs(folder)
            slot.worker = Worker(model.title, command, folder, self._silence)


def _version(weights) -> tuple:
    """Returns what changes when other weights are meant, or the file was written anew."""
    for path in (weights + ".index", weights):
        if os.path.exists(path):
            return weights, os.stat(path).st_mtime_ns, os.stat(path).st_size
    return weights, 0, 0
