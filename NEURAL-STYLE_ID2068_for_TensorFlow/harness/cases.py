# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/harness/cases.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""The cases behind test/*.sh: train, evaluate, and leave the documented results.

`python3 -m harness.cases full|performance RANKS --data_path=...`. What a case runs is written in
the folder's test/cases.py, which provides

  Config                         the model's options
  settings(preset, given)        {option: value} that differ from its defaults; `given` by the user
  check_data(case)               raises ValueError that says what is wrong with case.data_path
  training(case)                 words of the training program
  following(case)                lists of words of the programs after it
  run_folder(case)               where log.jsonl and training.json are
  tested(case)                   the folders that get a tested.json, see harness.gallery
  metrics(case)                  {name: value} of the evaluation
  accuracy(case)                 {"metric", "value", "protocol"} of the main one, or None
  LOSS_LISTS                     {file name with %s for the CaseName: loss name}
  LAST_LOSSES                    how many of the last losses ActualLoss is the mean of
  OUTPUTS                        names of what its programs leave in case.output
  case_suffix(case)              optional: what the CaseName has after the ranks, such as "_RT2"

and for harness.doctor

  place(case)                    chooses the device as the training does and returns its name
  contents(case)                 what the data are, in a few words
  runs(case)                     [(name, folder, steps, checkpoints kept)] of the training program,
                                 in order; 0 steps: a folder that only takes room
  trial(case)                    {option: value} of a training of a few steps that leaves little
                                 besides training.json and a checkpoint; None: as a case sets it
  SMALLER                        options that need less memory when they are smaller
"""

import dataclasses
import datetime
import fnmatch
import importlib.util
import os
import shutil
import sys
import time
from typing import Any, List, NamedTuple

from harness import environment, report
from harness.errors import UserError, run_program
from harness.files import read_json, write_json
from harness.launch import launch
from harness.options import option, parse_several
from harness.results import write_results

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@dataclasses.dataclass(frozen=True)
class CaseOptions:
    """The case: data, output and ranks."""

    data_path: str = option("", "the training data (required)", may_change=True)
    output_path: str = option(
        "", "folder of every output (default test/output/$ASCEND_DEVICE_ID)", may_change=True
    )
    rank_size: int = option(0, "number of ranks; 0 takes the script's own", low=0)
    bind_core: bool = option(False, "give each rank its own processor cores")
    conda_name: str = option("", "conda environment to run in", may_change=True)


class Case(NamedTuple):
    """One case, ready to run.

    Attributes:
      preset: "full" or "performance".
      root: the model folder.
      data_path: absolute path of the data.
      output: absolute path of the output folder.
      ranks: number of ranks.
      config: the model's Config with preset and command line applied.
      settings: {option: value} of the model options that differ from the defaults.
      command: the words this case was started with.
    """

    preset: str
    root: str
    data_path: str
    output: str
    ranks: int
    config: Any
    settings: dict
    command: List[str]


def load_module(root: str = ROOT):
    """Returns the model folder's test/cases.py as a module."""
    spec = importlib.util.spec_from_file_location(
        "folder_cases", os.path.join(root, "test", "cases.py")
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_case(preset: str, ranks: int, argv: List[str], module):
    """Returns (Case, CaseOptions) for the words of a test script; a mistake ends the program."""
    prog = "train_%s_%dp.sh" % (preset, ranks)
    classes = [CaseOptions, module.Config]
    text = "%s: the %s case on %d device(s)." % (os.path.basename(ROOT), preset, ranks)
    (options, config), (_, given) = parse_several(classes, argv, prog, text)
    settings = module.settings(preset, given)
    device, size = str(environment.device_id()), environment.rank_and_size()[1]
    output = options.output_path or os.path.join(ROOT, "test", "output", device)
    case = Case(
        preset=preset,
        root=ROOT,
        data_path=os.path.abspath(options.data_path) if options.data_path else "",
        output=os.path.abspath(output),
        ranks=size if size > 1 else options.rank_size or ranks,
        config=dataclasses.replace(config, **settings),
        settings=settings,
        command=["bash", "test/" + prog] + list(argv),
    )
    return case, options


def case_name(case: Case, bind_core: bool = False, suffix: str = "") -> str:
    """Returns the CaseName, such as Pix2Pix_ID0359_for_TensorFlow_bs1_1p_acc."""
    ending = "acc" if case.preset == "full" else "perf"
    bound = "_bindcore" if bind_core else ""
    words = (os.path.basename(case.root), case.config.batch_size, case.ranks, suffix, ending)
    return "%s_bs%d_%dp%s_%s%s" % (*words, bound)


def move_earlier(output: str, names) -> None:
    """Moves what an earlier case left in `output` to its folder previous/, one generation deep.

    Args:
      output: the case's output folder; what a case does not write stays where it is.
      names: patterns of the names that a case writes.
    """
    if read_json(os.path.join(output, "case.json")) is None:
        return
    previous = os.path.join(output, "previous")
    shutil.rmtree(previous, ignore_errors=True)
    os.makedirs(previous)
    for name in os.listdir(output):
        if any(fnmatch.fnmatch(name, pattern) for pattern in names):
            os.replace(os.path.join(output, name), os.path.join(previous, name))


def program(case: Case, words: List[str], conda_name: str) -> List[str]:
    """Returns the command that runs the folder's program `words` with this or a conda Python."""
    conda = ["conda", "run", "--no-capture-output", "-n", conda_name, "python3"]
    python = conda if conda_name else [sys.executable]
    path = os.path.join(case.root, words[0])
    return ["env", report.IN_A_CASE + "=1"] + python + [path] + list(words[1:])


def main(argv: List[str]) -> int:
    """Runs a case and returns the exit status of the work."""
    preset, ranks, words = argv[0], int(argv[1]), argv[2:]
    module = load_module()
    case, options = read_case(preset, ranks, words, module)
    if options.conda_name and not shutil.which("conda"):
        raise UserError("--conda_name %s: conda is not on the PATH" % options.conda_name)
    check_output(case)
    problem = data_problem(case, module)
    if problem:
        print('[Error] para "data_path" must be config\n%s' % problem, flush=True)
        return 1
    return _run(case, options, module)


def check_output(case: Case) -> None:
    """Raises UserError if the output folder holds the results of another model."""
    other = read_json(os.path.join(case.output, "case.json"), {}).get("model", "")
    if other not in ("", os.path.basename(ROOT)):
        text = "%s holds the results of %s; choose another output folder"
        raise UserError(text % (case.output, other))


def data_problem(case: Case, module) -> str:
    """Returns what is wrong with the data of a case, or ""."""
    if not case.data_path:
        return "no --data_path was given"
    if (case.data_path + os.sep).startswith(case.output + os.sep):
        return "the data in %s would lie in the output folder %s" % (case.data_path, case.output)
    try:
        module.check_data(case)
    except ValueError as error:
        return str(error)
    return ""


def _run(case, options, module) -> int:
    start, begin = datetime.datetime.now(datetime.timezone.utc), time.monotonic()
    rank, size = environment.rank_and_size()
    is_started = size > 1  # by a platform: this process is one of the ranks
    command = program(case, module.training(case), options.conda_name)
    logs = [_log(case, one) for one in ([rank] if is_started else range(case.ranks))]
    if rank:
        return launch(command, logs, options.bind_core, is_started)
    if not getattr(case.config, "continue_train", False):
        network = os.path.basename(case.root)
        names = ["case.json", "result.json", "report.html", "train_*.log", network + "_bs*"]
        names += [] if is_started else ["rank_*"]  # others may be writing there
        move_earlier(case.output, names + list(module.OUTPUTS))
    run_folder = os.path.relpath(module.run_folder(case), case.output)
    tested = [os.path.relpath(path, case.output) for path in module.tested(case)]
    script = os.path.join(case.root, case.command[1])
    started = {"model": os.path.basename(ROOT), "preset": case.preset, "run_folder": run_folder}
    started.update(tested=tested, command=["bash", script] + case.command[2:])
    started.update(working_directory=os.getcwd())
    write_json(os.path.join(case.output, "case.json"), started)
    caught = []
    status = launch(command, logs, options.bind_core, is_started, caught)
    seconds = {"training": time.monotonic() - begin}
    training = read_json(os.path.join(module.run_folder(case), "training.json"), {})
    # A training.json that is not there: it did not begin. A signal may come in the last step.
    evaluated = status == 0 and training.get("stopped") is False and not caught
    if evaluated:
        for words in module.following(case):
            command = program(case, words, options.conda_name)
            status = status or launch(command, logs[:1])
    seconds["case"] = time.monotonic() - begin
    suffix = module.case_suffix(case) if hasattr(module, "case_suffix") else ""
    name = case_name(case, options.bind_core, suffix)
    write_results(case, name, status, seconds, start.isoformat(), module, evaluated)
    return status


def _log(case, rank: int) -> str:
    """Returns the path of a rank's log: of rank 0 in the output folder, of others in rank_N."""
    first = environment.device_id() - environment.rank_and_size()[0]
    folder = os.path.join(case.output, "rank_%d" % rank if rank else "")
    return os.path.join(folder, "train_%d.log" % max(first + rank, 0))


if __name__ == "__main__":
    run_program(lambda: main(sys.argv[1:]))
