# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/harness/machine.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""What there is on this machine, for harness.doctor: needs the standard library alone."""

import contextlib
import glob
import importlib.util
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
from typing import Dict, List, NamedTuple

from harness import memory
from harness.errors import UserError

OK, NOTE, UNCHECKED, PROBLEM = "ok", "note", "not checked", "problem"
GIB = 2**30
# The package that a model trains with -> the Pythons that is tested on.
FRAMEWORKS = {"tensorflow": ("3.7", "3.11"), "mindspore": ("3.11",)}
FLAVOURS = ("", "-cpu", "-gpu", "-ascend")  # what else the name of that package may end in
PIN = re.compile(r"([\w.-]+)(?:\[.*\])?==([^\s;]+)\s*(?:;\s*python_version\s*(<|>=)\s*\W([\d.]+))?")
INFO = re.compile(r"([^-]+)-(\d[^-]*)(-.*)?\.(dist|egg)-info")
HALF = ("avx512_bf16", "amx_bf16")  # what a processor calls its bfloat16
# Where Ascend software says its version; "latest" and "cann" are links to the one in use.
HOMES = ("ascend-toolkit/latest", "nnae/latest", "cann", "driver")
VERSIONS = ("*-linux/ascend_*_install.info", "ascend_*_install.info", "version.info")
OF_A_GROUP = ("RANK_ID", "RANK_SIZE", "RANK_TABLE_FILE")
SMI = "nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader"


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes:
      topic: one word.
      text: what was found; of a problem one sentence.
      state: OK, NOTE (nothing stands in the way), UNCHECKED or PROBLEM.
      remedy: the command or option that mends a problem, or has the unchecked checked; "" where
        the text says it.
    """

    topic: str
    text: str
    state: str = OK
    remedy: str = ""


def framework(folder: str) -> str:
    """Returns the name of the package that a model folder trains with, by its requirements."""
    found = [name for name in FRAMEWORKS if name in pins(folder)]
    if not found:
        text = "%s pins neither %s; copy the file from the repository again"
        path = os.path.join(folder, "requirements.txt")
        raise UserError(text % (path, " nor ".join(FRAMEWORKS)))
    return found[0]


def installed() -> Dict[str, str]:
    """Returns {name in lower case with "-": version} of the packages that this Python finds."""
    found: Dict[str, str] = {}
    for folder in sys.path:
        for path in glob.glob(os.path.join(glob.escape(folder or os.curdir), "*-info")):
            match = INFO.fullmatch(os.path.basename(path))
            if match:
                found.setdefault(re.sub("[_.]+", "-", match.group(1)).lower(), match.group(2))
    return found


def pins(folder: str) -> Dict[str, str]:
    """Returns {name: version} that requirements.txt in `folder` asks of this Python."""
    wanted, path = {}, os.path.join(folder, "requirements.txt")
    try:
        with open(path, encoding="utf-8") as file:
            lines = list(file)
    except OSError as error:
        text = "cannot read %s: %s; copy the whole model folder again"
        raise UserError(text % (path, error.strerror)) from error
    for match in filter(None, map(PIN.match, lines)):
        name, version, sign, limit = match.groups()
        is_older = not limit or sys.version_info < tuple(map(int, limit.split(".")))
        if not sign or is_older == (sign == "<"):
            wanted[name.lower().replace("_", "-")] = version
    return wanted


def python(folder: str) -> Finding:
    """Finds whether the model in `folder` runs on this Python."""
    version, own = platform.python_version(), "%d.%d" % sys.version_info[:2]
    text = "%s, %s" % (version, sys.executable)
    name = framework(folder) if folder else ""
    tested = FRAMEWORKS.get(name, (own,))
    if own in tested:
        return Finding("python", text)
    text += "; this model is tested on Python %s" % " and ".join(tested)
    if any(name + flavour in installed() for flavour in FLAVOURS):
        return Finding("python", text, NOTE)
    make = "python%s -m venv .venv && .venv/bin/python -m pip install -r %s"
    file = shlex.quote(os.path.join(folder, "requirements.txt"))
    return Finding("python", text, PROBLEM, make % (tested[-1], file))


def packages(folder: str) -> Finding:
    """Compares what is installed with requirements.txt; without a folder, names the frameworks."""
    there, names = installed(), list(FRAMEWORKS)
    for name in names:  # the same package by another name
        same = [name + flavour for flavour in FLAVOURS if name + flavour in there]
        there.update((name, there[other]) for other in same[:1])
    if not folder:
        texts = ["%s %s" % (name, there[name]) for name in names if name in there]
        return Finding("packages", ", ".join(texts) or "neither TensorFlow nor MindSpore")
    wanted = pins(folder)
    missing = ["%s==%s" % pin for pin in wanted.items() if pin[0] not in there]
    others = [name for name in wanted if there.get(name, wanted[name]) != wanted[name]]
    if missing:
        text = "not installed: " + ", ".join(missing)
        if framework(folder) not in there:  # the others have to fit it
            missing = ["-r", os.path.join(folder, "requirements.txt")]
        words = [sys.executable, "-m", "pip", "install"] + missing
        return Finding("packages", text, PROBLEM, " ".join(map(shlex.quote, words)))
    main = [name for name in names + ["numpy"] if name in wanted and name not in others]
    texts = ["%s %s" % (name, there[name]) for name in main]
    texts += ["%s %s, pinned is %s" % (name, there[name], wanted[name]) for name in others]
    texts += [] if others else ["all as pinned"]
    return Finding("packages", ", ".join(texts), NOTE if others else OK)


def existing(path: str) -> str:
    """Returns `path`, absolute, or the nearest above it that there is."""
    path = os.path.abspath(path)
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return path


def finish(command: List[str], seconds: float):
    """Returns (status, lines of stdout, of stderr) of a program; None, [], [] if it takes longer.

    It is alone, whatever ranks the environment tells of, and what it started ends with it.
    """
    alone = {name: value for name, value in os.environ.items() if name not in OF_A_GROUP}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, env=alone, start_new_session=True, **pipes)
    try:
        texts = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        return None, [], []
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    lines = [text.decode(errors="replace").strip().splitlines() for text in texts]
    return process.returncode, lines[0], lines[1]


def processor() -> Finding:
    """Finds the processor's name, how many cores this process may use, and what they can do."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        text = ""
    name = re.search(r"model name\s*: (.*)", text)
    able = [flag for flag in ("avx2", "avx512f") + HALF if re.search(r"\b%s\b" % flag, text)]
    able += [] if set(able) & set(HALF) else ["no bfloat16"]
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    words = [name.group(1) if name else platform.machine(), "%d cores" % cores] + able
    if load > cores / 2:
        words.append("busy (load %.1f): what is measured takes longer than it would alone" % load)
    return Finding("cpu", ", ".join(words), NOTE if load > cores / 2 else OK)


def free_memory() -> Finding:
    """Finds how much memory a process may take."""
    there = memory.available()
    return Finding("memory", "unknown" if there is None else "%.1f GiB free" % (there / GIB))


def gpu() -> Finding:
    """Finds what nvidia-smi says."""
    if not shutil.which("nvidia-smi"):
        return Finding("gpu", "none: there is no nvidia-smi")
    return Finding("gpu", "; ".join(finish(SMI.split(), 30)[1]) or "nvidia-smi finds none")


def npu() -> Finding:
    """Finds npu_bridge, NPUs, the versions of CANN and driver, and what the environment says."""
    bridge, there = importlib.util.find_spec("npu_bridge"), installed()
    words = ["npu_bridge %s" % there.get("npu-bridge", "") if bridge else "no npu_bridge"]
    words.append("%d NPUs" % len(glob.glob("/dev/davinci[0-9]*")))
    top = os.environ.get("ASCEND_TOOLKIT_HOME") or os.environ.get("ASCEND_HOME_PATH")
    homes = [top] if top else []
    homes += [os.path.join("/usr/local/Ascend", home) for home in HOMES]
    for path in [p for h in homes for v in VERSIONS for p in glob.glob(os.path.join(h, v))]:
        with open(path, encoding="utf-8", errors="replace") as file:
            found = re.search(r"(?im)^version=(\S+)", file.read())
        words += ["%s in %s" % (found.group(1), path)] if found else []
    words += [] if len(words) > 2 else ["no CANN in %s or /usr/local/Ascend" % (top or "$ASCEND_*")]
    names = sorted(n for n in os.environ if n.startswith(("ASCEND_", "RANK_")) or n == "DEVICE_ID")
    return Finding("npu", ", ".join(words + ["%s=%s" % (n, os.environ[n]) for n in names]))
