# SPDX-License-Identifier: Apache-2.0
"""Starts programs of the model folders: which folder and Python are meant, and how they end.

Runs on any Python 3, as it also finds the one that the checks themselves need.
"""

import importlib.util
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import traceback
from typing import NamedTuple

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "tools" / "shared"))
sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))

from harness.errors import UserError
from tools import folders

ROOT = pathlib.Path(__file__).resolve().parent.parent
NEEDS = ("tabulate", "junitparser", "jinja2", "numpy", "tqdm", "PIL")  # of the checks themselves
MARK = "made_by_ci.txt"  # in folders whose content may be removed
GRACE = 45  # seconds that a program has to end; more than it gives its own ranks


class Environment(NamedTuple):
    """One of ci/environments.py: its name, its Python, and "tensorflow" or "mindspore"."""

    name: str
    python: pathlib.Path
    framework: str


def enter() -> None:
    """Starts this program anew with .venv/tf2 where this Python lacks what the checks need."""
    if sys.version_info >= (3, 11) and all(map(importlib.util.find_spec, NEEDS)):
        return
    own, program = ROOT / ".venv" / "tf2", os.path.basename(sys.argv[0])
    if not own.exists() or os.path.realpath(str(own)) == os.path.realpath(sys.prefix):
        sys.exit(program + ": error: python3 ci/environments.py tf2 makes what it runs in")
    python = str(own / "bin" / "python")
    os.execv(python, [python] + sys.argv)


def find_model(parser, name: str) -> str:
    """Returns the name of the model folder that begins so; ends the program where there is none."""
    try:
        return os.path.basename(folders.find_folder(name))
    except UserError as error:
        return parser.error(str(error).replace("--model", "MODEL", 1))


def environment_of(model: str, tf1: bool) -> Environment:
    """Returns the environment that runs the folder named `model`; its Python may be missing."""
    is_mindspore = model.endswith("_for_MindSpore")
    name = "ms" if is_mindspore else "tf1" if tf1 else "tf2"
    python = ROOT / ".venv" / name / "bin" / "python"
    return Environment(name, python, "mindspore" if is_mindspore else "tensorflow")


def problem_of(environment: Environment) -> str:
    """Returns "" or, where the environment is missing, that and what makes it."""
    if environment.python.exists():
        return ""
    text = "there is no .venv/%s; python3 ci/environments.py %s makes it"
    return text % (environment.name, environment.name)


def attempt(function, *words) -> tuple:
    """Returns (what the function returns, ""), or (None, why it failed).

    One measurement that fails, however it does, must not take the others with it. What is not told
    in a sentence leaves its traceback on stderr.
    """
    try:
        return function(*words), ""
    except (UserError, RuntimeError) as error:
        return None, str(error)
    except Exception as error:
        traceback.print_exc()
        return None, "%s: %s" % (type(error).__name__, error)


def finish(words, timeout=None, **more) -> tuple:
    """Runs a program like subprocess.run; what it started ends with it, whatever happens.

    Args:
      words: the command.
      timeout: seconds it may take; None: as long as it needs.
      **more: of subprocess.Popen.

    Returns:
      (exit status, stdout, stderr).

    Raises:
      RuntimeError: if it takes longer.
    """
    process = subprocess.Popen(list(map(str, words)), start_new_session=True, **more)
    try:
        out, err = process.communicate(timeout=timeout)
        return process.returncode, out, err
    except subprocess.TimeoutExpired:
        raise RuntimeError("%s took more than %g s" % (shown(words), timeout)) from None
    finally:
        _end(process)


def _end(process) -> None:
    """Ends a program and its process group; the ranks of a case are told by the case."""
    try:
        if process.poll() is None:
            process.terminate()
            process.wait(GRACE)
    except subprocess.TimeoutExpired:
        pass
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


def shown(words) -> str:
    """Returns a command as a shell takes it."""
    return " ".join(shlex.quote(str(word)) for word in words)


def run_logged(words, python: pathlib.Path, log: pathlib.Path, timeout=None) -> None:
    """Runs a command for which python3 is `python`, and logs what it says.

    Raises:
      RuntimeError: if it fails or takes more than `timeout` seconds; names the log.
    """
    path = os.pathsep.join((str(pathlib.Path(python).parent), os.environ["PATH"]))
    environment = dict(os.environ, PATH=path, PYTHONDONTWRITEBYTECODE="1", TF_CPP_MIN_LOG_LEVEL="3")
    environment.pop("PYTHONPATH", None)
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(str(log), "wb") as file:
        status, _, _ = finish(
            words, timeout, stdout=file, stderr=subprocess.STDOUT, env=environment
        )
    if status:
        said = log.read_text("utf-8", "replace").strip()[-300:].splitlines()
        script = pathlib.Path(words[1]).name
        last = said[-1] if said else "nothing"
        text = "%s ended with status %d, see %s; it said last: %s"
        raise RuntimeError(text % (script, status, log, last))


def run_case(folder: pathlib.Path, kind: str, data, output, words, python, timeout=None) -> None:
    """Runs test/train_<kind>_1p.sh of a model folder, with a log beside `output`.

    Args:
      folder: the model's, or a copy of it.
      kind: "full" or "performance".
      data: for --data_path.
      output: for --output_path.
      words: options besides.
      python: of the environment to train with.
      timeout: seconds it may take.

    Raises:
      RuntimeError: if it fails or takes longer.
    """
    command = ["bash", folder / "test" / ("train_%s_1p.sh" % kind), "--data_path=%s" % data]
    command += ["--output_path=%s" % output] + list(words)
    run_logged(command, python, output.parent / (output.name + ".log"), timeout)


def claim(folder: pathlib.Path) -> pathlib.Path:
    """Makes a folder whose content the checks may remove later, and marks it as such.

    Raises:
      UserError: if there is one with content but without the mark.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).is_file():
        text = "%s holds what this program did not make; choose another --output, or remove it"
        raise UserError(text % folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).write_text("The next run of the checks removes what is in this folder.\n")
    return folder


def emptied(folder: pathlib.Path) -> pathlib.Path:
    """Returns `folder`, empty; it must lie in one that was claimed."""
    if not any((parent / MARK).is_file() for parent in folder.parents):
        raise ValueError("%s lies in no folder with %s" % (folder, MARK))
    if folder.exists():
        shutil.rmtree(str(folder))
    folder.mkdir(parents=True)
    return folder
