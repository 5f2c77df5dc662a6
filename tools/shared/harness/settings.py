# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/harness/settings.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""config.json: with what a run was started, compared before it is resumed."""

import dataclasses
import json
import os
import sys

from harness.errors import UserError
from harness.files import read_json, read_log, write_json
from harness.options import must_agree

MODEL = os.path.basename(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def check(folder: str, steps: list, config, around: dict, last_step: int, resume: bool) -> bool:
    """Compares config.json in `folder` with the options, then writes it anew.

    Args:
      folder: the run's folder.
      steps: those of its checkpoints, ascending.
      config: the options.
      around: what besides the options decides the bits; differences are printed, they are no error.
      last_step: the number of steps asked for.
      resume: whether the run is to go on.

    Returns:
      Whether to load the newest checkpoint: as `resume` says, or because the run is complete.

    Raises:
      UserError: if there is a run that is not to go on, or that had other options.
    """
    path = os.path.join(folder, "config.json")
    before = read_json(path)
    complete = bool(steps) and steps[-1] >= last_step
    if steps and not (resume or complete):
        text = "%s holds a run up to step %d; add --continue_train or choose another folder"
        raise UserError(text % (folder, steps[-1]))
    if steps and before:
        changed = differences(before, config)
        if changed:
            text = "the run in %s has other settings: %s; give those or choose another folder"
            raise UserError(text % (folder, ", ".join(changed)))
        for key in around:
            if before["surroundings"].get(key) != around[key]:
                text = "%s was %s and is %s: going on, but not bit-identical to a run in one go"
                print(text % (key, before["surroundings"].get(key), around[key]), flush=True)
    if complete:
        print("the run in %s is complete: %d steps" % (folder, steps[-1]), flush=True)
    write_json(path, dict(describe(config), surroundings=around))
    return resume or complete


def steps_done(folder: str) -> int:
    """Returns how many steps the run in `folder` has made, as its own records say."""
    ended = read_json(os.path.join(folder, "training.json"), {}).get("steps", 0)
    log = read_log(os.path.join(folder, "log.jsonl"))
    return max([ended] + [record["step"] for record in log[-1:]])


def differences(before: dict, config) -> list:
    """Returns "--name was X and is Y" of what a resumed run may not change and `config` does.

    Args:
      before: the content of the run's config.json.
      config: the options.
    """
    now, then = json.loads(json.dumps(must_agree(config))), before["must_agree"]
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    then = dict(json.loads(json.dumps(defaults)), **then)  # options that came since
    return ["--%s was %s and is %s" % (k, then[k], now[k]) for k in now if now[k] != then[k]]


def describe(config) -> dict:
    """Returns what config.json says of the options, and of how the program was started."""
    return {
        "model": MODEL,
        "must_agree": must_agree(config),
        "options": dataclasses.asdict(config),
        "defaults": {field.name: field.default for field in dataclasses.fields(config)},
        "loss_weights": getattr(config, "loss_weights", {}),  # {name in log.jsonl: weight}
        "losses_are_weighted": getattr(config, "losses_are_weighted", False),  # those in log.jsonl
        "command": ["python3"] + sys.argv,
        "working_directory": os.getcwd(),
        "resume_option": "resume" if hasattr(config, "resume") else "continue_train",
    }
