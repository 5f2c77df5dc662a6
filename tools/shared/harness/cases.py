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
  metrics(case)                  {name: value} of the evaluation
  accuracy(case)                 {"metric", "value", "protocol"} of the main one, or None
  LOSS_LISTS                     {file ending: loss name}
"""

import dataclasses
import datetime
import importlib.util
import os
import shutil
import sys
import time
from typing import Any, List, NamedTuple

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
    device = os.environ.get("ASCEND_DEVICE_ID") or "0"
    output = options.output_path or os.path.join(ROOT, "test", "output", device)
    case = Case(
        preset=preset,
        root=ROOT,
        data_path=os.path.abspath(options.data_path) if options.data_path else "",
        output=os.path.abspath(output),
        ranks=options.rank_size or ranks,
        config=dataclasses.replace(config, **settings),
        settings=settings,
        command=["bash", "test/" + prog] + list(argv),
    )
    return case, options


def case_name(case: Case, bind_core: bool = False) -> str:
    """Returns the CaseName, such as Pix2Pix_ID0359_for_TensorFlow_bs1_1p_acc."""
    ending = "acc" if case.preset == "full" else "perf"
    bound = "_bindcore" if bind_core else ""
    return "%s_bs%d_%dp_%s%s" % (
        os.path.basename(case.root),
        case.config.batch_size,
        case.ranks,
        ending,
        bound,
    )


def move_earlier(output: str) -> None:
    """Moves what an earlier case left in `output` to its folder previous/, one generation deep."""
    if read_json(os.path.join(output, "case.json")) is None:
        return
    previous = os.path.join(output, "previous")
    shutil.rmtree(previous, ignore_errors=True)
    os.makedirs(previous)
    for name in os.listdir(output):
        if name != "previous":
            os.replace(os.path.join(output, name), os.path.join(previous, name))


def program(case: Case, words: List[str], conda_name: str) -> List[str]:
    """Returns the command that runs the folder's program `words` with this or a conda Python."""
    command = [os.path.join(case.root, words[0])] + list(words[1:])
    if conda_name:
        return ["conda", "run", "--no-capture-output", "-n", conda_name, "python3"] + command
    return [sys.executable] + command


def main(argv: List[str]) -> int:
    """Runs a case and returns the exit status of the work."""
    preset, ranks, words = argv[0], int(argv[1]), argv[2:]
    module = load_module()
    case, options = read_case(preset, ranks, words, module)
    problem = None if case.data_path else "no --data_path was given"
    if not problem:
        try:
            module.check_data(case)
        except ValueError as error:
            problem = str(error)
    if not problem and options.conda_name and not shutil.which("conda"):
        problem = "--conda_name %s: conda is not on the PATH" % options.conda_name
    if problem:
        print('[Error] para "data_path" must be config\n%s' % problem, flush=True)
        return 1
    return _run(case, options, module)


def _run(case, options, module) -> int:
    start, begin = datetime.datetime.now(datetime.timezone.utc), time.monotonic()
    if not getattr(case.config, "continue_train", False):
        move_earlier(case.output)
    write_json(
        os.path.join(case.output, "case.json"), {"preset": case.preset, "command": case.command}
    )
    device = int(os.environ.get("ASCEND_DEVICE_ID") or "0")
    logs = [
        os.path.join(case.output, "train_%d.log" % (device + rank)) for rank in range(case.ranks)
    ]
    status = launch(
        program(case, module.training(case), options.conda_name), logs, options.bind_core
    )
    seconds = {"training": time.monotonic() - begin}
    training = read_json(os.path.join(module.run_folder(case), "training.json"), {})
    if status == 0 and not training.get("stopped"):
        for words in module.following(case):
            status = status or launch(program(case, words, options.conda_name), logs[:1])
    seconds["case"] = time.monotonic() - begin
    write_results(
        case, case_name(case, options.bind_core), status, seconds, start.isoformat(), module
    )
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
