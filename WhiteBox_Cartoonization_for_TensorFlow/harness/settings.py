# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/harness/settings.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""config.json: with what a run was started, compared before it is resumed."""

import dataclasses
import json
import os

from harness.errors import UserError
from harness.files import read_json, write_json
from harness.options import must_agree


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
        now, then = json.loads(json.dumps(must_agree(config))), before["must_agree"]
        defaults = {field.name: field.default for field in dataclasses.fields(config)}
        then = dict(json.loads(json.dumps(defaults)), **then)  # options that came since
        changed = [key for key in now if now[key] != then[key]]
        if changed:
            each = ["--%s was %s and is %s" % (key, then[key], now[key]) for key in changed]
            text = "the run in %s has other settings: %s; give those or choose another folder"
            raise UserError(text % (folder, ", ".join(each)))
        for key in around:
            if before["surroundings"].get(key) != around[key]:
                text = "%s was %s and is %s: going on, but not bit-identical to a run in one go"
                print(text % (key, before["surroundings"].get(key), around[key]), flush=True)
    if complete:
        print("the run in %s is complete: %d steps" % (folder, steps[-1]), flush=True)
    values = {"must_agree": must_agree(config), "options": dataclasses.asdict(config)}
    write_json(path, dict(values, surroundings=around))
    return resume or complete
