# SPDX-License-Identifier: Apache-2.0
"""Makes the Python environments of the checks below .venv/ and prints the Python of one.

`python3 ci/environments.py NAME` makes .venv/NAME from the folders' and tools' requirement files:

  tf2   Python 3.11, current TensorFlow: *_for_TensorFlow/requirements.txt, tools/requirements.txt
  tf1   Python 3.7, TensorFlow 1.15.5: the same files
  ms    Python 3.11, current MindSpore: *_for_MindSpore/requirements.txt and
        tools/requirements_mindspore.txt
  lite  Python 3.7, MindSpore and MindSpore Lite 2.0.0: *_for_MindSpore/requirements_lite.txt
  demo  Python 3.11, Gradio: tools/demo/requirements.txt

An environment is made anew when a requirement or the Python's version changed, or when its making
was interrupted; whoever wants the same one meanwhile waits. The path of its Python goes to stdout,
all else to stderr. Exit status 3: there is no Python of the version that is needed.
"""

import argparse
import contextlib
import errno
import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
VERSIONS = {"tf2": "3.11", "tf1": "3.7", "ms": "3.11", "lite": "3.7", "demo": "3.11"}
REQUIREMENTS = {  # beside ci/requirements.txt, which goes into each
    "tf2": ("*_for_TensorFlow/requirements.txt", "tools/requirements.txt"),
    "tf1": ("*_for_TensorFlow/requirements.txt", "tools/requirements.txt"),
    "ms": ("*_for_MindSpore/requirements.txt", "tools/requirements_mindspore.txt"),
    "lite": ("*_for_MindSpore/requirements_lite.txt",),
    "demo": ("tools/demo/requirements.txt",),
}
NO_PYTHON = 3


def find_python(version: str) -> str:
    """Returns the path of a working Python of `version`, or "" where there is none.

    It is looked for on the PATH, among pyenv's versions, and with uv.
    """
    folders = os.environ.get("PATH", "").split(os.pathsep)
    names = ("python" + version, "python3")
    candidates = [shutil.which(name, path=folder) for name in names for folder in folders]
    candidates.append(sys.executable)
    candidates += sorted(pathlib.Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    # One of our own environments on the PATH must not become the base of what replaces it.
    candidates = [path for path in candidates if path and not _is_ours(path)]
    uv = shutil.which("uv")
    if uv and not any(_is_version(path, version) for path in candidates):
        subprocess.run([uv, "python", "install", version], stdout=sys.stderr, check=False)
        found = subprocess.run([uv, "python", "find", version], capture_output=True, text=True)
        candidates.append(found.stdout.strip())
    return next((str(path) for path in candidates if path and _is_version(path, version)), "")


def _is_ours(path) -> bool:
    return (ROOT / ".venv").resolve() in pathlib.Path(path).parent.resolve().parents


def _is_version(path, version) -> bool:
    code = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([str(path), "-c", code], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return done.stdout.strip() == version


def requirement_files(name: str) -> list:
    """Returns the requirement files of environment `name`.

    Raises:
      OSError: if there are none of a kind.
    """
    found = []
    for pattern in (*REQUIREMENTS[name], "ci/requirements.txt"):
        paths = sorted(ROOT.glob(pattern))
        if not paths:
            raise FileNotFoundError(errno.ENOENT, "there is none", str(ROOT / pattern))
        found += paths
    return found


@contextlib.contextmanager
def locked(path: pathlib.Path):
    """Holds the lock file `path`, made where there is none; yields the number to pass to children.

    With that a child that outlives this process keeps the lock.
    """
    path.parent.mkdir(exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process to end that has {path}", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def make(name: str, python: str) -> pathlib.Path:
    """Makes .venv/<name> unless it is up to date; returns the path of its Python.

    Raises:
      OSError: if a file or `python` is not there, or something cannot be written.
      subprocess.CalledProcessError: if the environment or what it needs could not be installed.
    """
    folder, files = ROOT / ".venv" / name, requirement_files(name)
    digest = hashlib.sha256(VERSIONS[name].encode())  # not its path: that changes with the PATH
    for file in files:
        digest.update(file.read_bytes())
    stamp, own = folder / "made-from.txt", folder / "bin" / "python"

    def is_made():
        return own.exists() and stamp.exists() and stamp.read_text() == digest.hexdigest()

    if is_made():
        return own
    with locked(folder.with_suffix(".lock")) as lock:
        if is_made():  # by whoever had the lock
            return own
        print(f"making {folder} with {python}", file=sys.stderr)
        if stamp.exists():
            stamp.unlink()  # first: without it the rest counts as unfinished
        if folder.exists():
            shutil.rmtree(folder)
        words = [own, "-m", "pip", "install", "--quiet", "--prefer-binary"]
        words += ["--disable-pip-version-check"]
        for file in files:
            words += ["-r", file]
        for command in ([python, "-m", "venv", folder], words):
            subprocess.run(command, stdout=sys.stderr, check=True, pass_fds=[lock])
        stamp.write_text(digest.hexdigest())
    return own


def main() -> int:
    """Makes the environment named on the command line and prints its Python."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=sorted(VERSIONS))
    name = parser.parse_args().name
    python = find_python(VERSIONS[name])
    if not python:
        print(f"no Python {VERSIONS[name]} on the PATH, in pyenv or through uv", file=sys.stderr)
        return NO_PYTHON
    try:
        print(make(name, python))
    except subprocess.CalledProcessError as error:
        print(f"cannot make .venv/{name}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        text = f"cannot make .venv/{name}: {error.filename}: {error.strerror}"
        print(text + "; mend that and start again", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted; .venv/{name} is made anew the next time", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
