# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/harness/doctor.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""Says what stands in the way of a training on this machine, and how long it would take.

`python -m harness.doctor [MODEL] [options of test/train_full_1p.sh]` in a model's folder, or in the
root of the repository with PYTHONPATH=tools/shared; there without MODEL, of the machine alone. What
would go wrong first comes first, with what mends it. Time, memory and room on the disk are measured
in a training of a few steps. The exit status is 0 where nothing stands in the way, else 1, or 2
for an option that does not exist.
"""

import contextlib
import dataclasses
import glob
import importlib.util
import io
import json
import os
import shutil
import signal
import sys
import tempfile
from typing import List

from harness import environment, machine, settings
from harness.errors import UserError, run_program
from harness.files import read_json
from harness.machine import GIB, NOTE, OK, PROBLEM, UNCHECKED, Finding, finish
from harness.options import option, parse_several, words_for

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # a model's, or tools/shared
START = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); sys.argv[0] = 'doctor'; "
    "from harness import doctor, errors; errors.run_program(doctor.%s)"
)
OWN = ("help", "json", "no_json", "trial", "no_trial", "trial_seconds", "conda_name")
PLACE_SECONDS = 300  # that a framework may take to load
ANOTHER = "another --output_path"
MARKS = {OK: " ", NOTE: "-", UNCHECKED: "?", PROBLEM: "!"}


@dataclasses.dataclass(frozen=True)
class DoctorOptions:
    """The doctor; it takes every option that bash test/train_full_1p.sh --help lists as well."""

    json: bool = option(False, "print JSON")
    trial: bool = option(True, "measure a training of a few steps; --no_trial leaves it out")
    trial_seconds: int = option(1800, "how long that may take", low=1)
    conda_name: str = option("", "conda environment to look at")


def find_model(name: str, here: str = HERE) -> str:
    """Returns the path of the model folder that `name` means: its path, name or how that begins.

    Args:
      name: "" for the folder `here` itself; then "" is returned if that is no model's.
      here: a model folder, or tools/shared.

    Raises:
      UserError: if none or several are meant; names those that there are.
    """

    def is_model(folder):
        return os.path.isfile(os.path.join(folder, "test", "cases.py"))

    if not name:
        return here if is_model(here) else ""
    if is_model(name):
        return os.path.abspath(name)
    top = os.path.dirname(here if is_model(here) else os.path.dirname(here))
    folders = filter(is_model, sorted(glob.glob(os.path.join(glob.escape(top), "*"))))
    names = list(map(os.path.basename, folders))
    start = os.path.basename(os.path.normpath(name)).lower()
    found = [one for one in names if one.lower().startswith(start)]
    if len(found) != 1:
        text = "%s: the model must be one of %s, or how one of them begins"
        raise UserError(text % (name, ", ".join(names)))
    return os.path.join(top, found[0])


def split(words: List[str]):
    """Returns (words of the doctor's own options, words of the case)."""
    own, rest, takes_one = [], [], False
    for word in words:
        name = word[2:].split("=")[0].replace("-", "_") if word.startswith("--") else ""
        (own if takes_one or name in OWN else rest).append(word)
        takes_one = name in OWN[-2:] and "=" not in word
    return own, rest


def main() -> int:
    """Looks, prints, and returns the exit status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the trial is tidied away
    words = sys.argv[1:]
    folder = find_model(words.pop(0) if words and not words[0].startswith("-") else "")
    own, rest = split(words)
    (options,), (given,) = parse_several([DoctorOptions], own, "doctor", __doc__)
    conda = given.pop("conda_name", "")
    if conda and not shutil.which("conda"):
        text = "--conda_name %s: conda is not on the PATH; put it there or leave the option out"
        raise UserError(text % conda)
    if conda or folder not in ("", HERE):
        words = ["conda", "run", "--no-capture-output", "-n", conda, "python3"]
        words = (words if conda else [sys.executable]) + ["-c", START % "main", folder or HERE]
        os.execvp(words[0], words + words_for(given) + rest)  # so that signals reach it
    if rest and not folder:
        text = (
            "%s: only a model takes that; name it first, such as: python -m harness.doctor pix2pix"
        )
        raise UserError(text % rest[0])
    measured = {}
    with contextlib.redirect_stdout(io.StringIO()):  # what the checks of a model tell
        found = examine(folder, rest, options, measured)
    problem = next((one for one in found if one.state == PROBLEM), None)
    name = os.path.basename(folder)
    if options.json:
        values = {"model": name, "ok": not problem, "problem": problem and problem._asdict()}
        values["not_checked"] = [one.topic for one in found if one.state == UNCHECKED]
        values.update(findings=[one._asdict() for one in found], measured=measured)
        print(json.dumps(values, indent=2, ensure_ascii=False))
    else:
        print(show(name or "this machine", found, problem))
    return 1 if problem else 0


def show(name: str, found: List[Finding], problem) -> str:
    """Returns the findings as aligned lines, below the first problem and what mends it.

    Without a problem, what was not checked stands there, and how to have that checked.
    """
    left_out = [one for one in found if one.state == UNCHECKED]
    text = "nothing stands in the way" + (" of what was checked" if left_out else "")
    lines = ["%s: %s" % (name, problem.text if problem else text)]
    lines += ["mend it with: " + problem.remedy] if problem and problem.remedy else []
    if not problem:
        lines += ["%s; to have that checked: %s" % (one.text, one.remedy) for one in left_out]
    return "\n".join(lines + [""] + ["%-8s %s %s" % (f[0], MARKS[f.state], f.text) for f in found])


def examine(folder: str, words: List[str], options: DoctorOptions, measured: dict) -> list:
    """Returns all findings, those that would be met first before others.

    Args:
      folder: the model folder, which is HERE, or "" for the machine alone.
      words: of the case.
      options: the doctor's own.
      measured: takes the numbers of the trial.
    """
    found = [machine.python(folder), machine.packages(folder), machine.processor()]
    found += [machine.free_memory(), machine.gpu(), machine.npu()]
    if not folder:
        text = "no model was named, this machine alone was looked at"
        return found + [Finding("model", text, UNCHECKED, "python -m harness.doctor MODEL")]
    if any(one.state == PROBLEM for one in found):
        left_out = "left out until that is mended: output, data, device, trial"
        return found + [Finding("case", left_out, UNCHECKED)]
    try:
        from harness import cases, trial  # not above: a package that is missing is to be told

        module = cases.load_module(HERE)
        parse_several([cases.CaseOptions, module.Config, DoctorOptions], words, "doctor")
        case, case_options = cases.read_case("full", 1, words, module)
    except ImportError as error:
        text = "test/cases.py cannot be loaded: %s" % error
        return found + [Finding("packages", text, PROBLEM, "install requirements.txt anew")]
    except ValueError as error:
        return found + [Finding("options", str(error), PROBLEM)]
    looks = {
        "output": lambda: cases.check_output(case) or output(case),
        "run": lambda: earlier_run(case, module),
        "data": lambda: data(case, module, cases.data_problem(case, module)),
        "ranks": lambda: ranks(case, case_options),
        "device": lambda: device(case, words),
    }
    for topic, look in looks.items():
        try:
            found.append(look())
        except (ValueError, OSError) as error:
            found.append(Finding(topic, str(error), PROBLEM))
    if any(one.state == PROBLEM for one in found) or not case.data_path:
        return found
    if not options.trial:
        text = "time, memory and room on the disk were not checked"
        return found + [Finding("trial", text, UNCHECKED, "the same without --no_trial")]
    return found + trial.attempt(case, module, options.trial_seconds, measured)


def output(case) -> Finding:
    """Finds whether the output folder can be written, and how much room there is."""
    folder = machine.existing(case.output)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        text = "cannot write into %s: %s" % (folder, error.strerror)
        return Finding("output", text, PROBLEM, ANOTHER)
    free = shutil.disk_usage(folder).free / GIB
    return Finding("output", "%s, %.1f GiB free" % (case.output, free))


def earlier_run(case, module) -> Finding:
    """Finds whether there is a run in the output folder, and what becomes of it."""
    folder = module.run_folder(case)
    before = read_json(os.path.join(folder, "config.json"))
    done = settings.steps_done(folder)
    if getattr(case.config, "continue_train", False) and before:
        changed = settings.differences(before, case.config)
        if changed:
            text = "the run in %s has other settings: %s" % (folder, ", ".join(changed))
            return Finding("run", text, PROBLEM, "those settings, or " + ANOTHER)
        return Finding("run", "goes on after step %d in %s" % (done, folder))
    if os.path.exists(os.path.join(case.output, "case.json")):
        text = "the earlier case in %s moves to previous/, what is there now is deleted; "
        text += "--continue_train goes on with it instead"
        return Finding("run", text % case.output, NOTE)
    if done and not hasattr(case.config, "overwrite"):
        text = "%s holds a run up to step %d" % (folder, done)
        return Finding("run", text, PROBLEM, "--continue_train, or " + ANOTHER)
    return Finding("run", "a new one, in " + folder)


def ranks(case, options) -> Finding:
    """Finds whether the ranks can be started: several NPUs need a rank table."""
    name = case.config.device
    is_npu = name == "npu" or (name == "auto" and importlib.util.find_spec("npu_bridge"))
    if case.ranks > 1 and is_npu and machine.framework(case.root) == "tensorflow":
        environment.check_rank_table(environment.rank_and_size()[0], case.ranks)
    if options.bind_core and not shutil.which("taskset"):
        return Finding("ranks", "--bind_core has no effect: there is no taskset", NOTE)
    return Finding("ranks", str(case.ranks))


def data(case, module, problem: str) -> Finding:
    """Finds what the data are and how many steps that makes."""
    if not case.data_path:
        text = "data, time, memory and room on the disk were not checked"
        return Finding("data", text, UNCHECKED, "--data_path=FOLDER")
    if problem:
        return Finding("data", problem, PROBLEM)
    runs = ["%s %d steps" % (name, steps) for name, _, steps, _ in module.runs(case) if steps]
    return Finding("data", ", ".join([module.contents(case)] + runs))


def device(case, words) -> Finding:
    """Finds the device that the training would take, as it would itself."""
    command = [sys.executable, "-c", START % "place", HERE] + words
    status, lines, errors = finish(command, PLACE_SECONDS)
    if status or not lines:
        said = errors[-1:] or ["it did not answer within %d s" % PLACE_SECONDS]
        return Finding("device", said[0].replace("doctor: error: ", ""), PROBLEM)
    why = {"npu": "npu_bridge is installed", "gpu": "there is no npu_bridge"}
    why["cpu"] = why["gpu"] + " and TensorFlow sees no GPU"
    text = "--device=%s" % case.config.device
    if case.config.device == "auto":
        is_tensorflow = machine.framework(case.root) == "tensorflow"
        reason = why.get(lines[-1], "") if is_tensorflow else "as this MindSpore does"
        text += " takes %s, %s" % (lines[-1], reason)
    return Finding("device", "; ".join([text] + lines[-2:-1]))


def place() -> int:
    """Prints the device that a case of these words takes; what `device` starts."""
    from harness import cases

    module = cases.load_module(HERE)
    print(module.place(cases.read_case("full", 1, sys.argv[1:], module)[0]))
    return 0


if __name__ == "__main__":
    run_program(main)
