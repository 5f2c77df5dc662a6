# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/harness/results.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""What a case leaves behind: result.json, the `Key = value` log, the loss lists, the last lines."""

import os
import platform
from typing import Dict, Optional

from harness import report
from harness.environment import device_id
from harness.files import read_json, read_log, write_json, write_text

# What npu_bridge logs from r1.7 on when a graph went to the NPU, and what is then said.
_ON_NPU = b"The model has been compiled on the Ascend AI processor"
_INFO = ("INFO", " START", "your task have used Ascend NPU, please check your result.")
_ERROR = ("ERROR", " START ", "your task haven't used Ascend NPU, please check your npu Migration.")


def write_results(
    case, name: str, status: int, seconds: Dict[str, float], start: str, module, evaluated: bool
) -> None:
    """Writes and prints the results of a case, as far as they are known.

    Args:
      case: harness.cases.Case.
      name: the CaseName.
      status: exit status of the work.
      seconds: {"training": .., "case": ..}.
      start: ISO 8601 time of the start.
      module: the folder's test/cases.py.
      evaluated: whether the evaluation ran, so that its metrics are of this case.
    """
    folder = module.run_folder(case)
    paths = [os.path.join(folder, file) for file in ("training.json", "log.jsonl")]
    training = {} if status and _is_earlier(paths[0], case) else read_json(paths[0], {})
    log = [] if status and _is_earlier(paths[1], case) else read_log(paths[1])
    accuracy = module.accuracy(case) if evaluated else None
    for pattern, loss in module.LOSS_LISTS.items():
        lines = ["%.8f\n" % record[loss] for record in log if loss in record]
        write_text(os.path.join(case.output, pattern % name), "".join(lines))
    device = training.get("surroundings", {}).get("device", "none")
    values = {"case": name, "model": os.path.basename(case.root), "preset": case.preset}
    values.update(device=device, ranks=case.ranks, batch=case.config.batch_size)
    values.update(steps=training.get("steps", 0))
    speed = ("images_per_second", "seconds_per_step", "first_step_seconds")
    values.update({key: training.get(key) for key in speed}, losses=training.get("losses", {}))
    values.update(accuracy=accuracy, metrics=module.metrics(case) if evaluated else {})
    values.update(seed=case.config.seed, versions=_versions(training), start=start)
    values.update(duration_seconds=round(seconds["case"], 3), exit_status=status)
    values.update(stopped=status == 0 and not evaluated, command=case.command)
    write_json(os.path.join(case.output, "result.json"), values)
    lines = _case_lines(case, name, training, log, accuracy, module)
    lines["E2ETrainingTime"] = "%d" % round(seconds["training"])
    text = "".join("%s = %s\n" % item for item in lines.items())
    write_text(os.path.join(case.output, name + ".log"), text)
    report.write(case.output, case.config)
    if status == 0 and not evaluated:
        print("stopped: not evaluated; --continue_train goes on")
    _print_last_lines(case, training, lines)


def _print_last_lines(case, training, lines) -> None:
    if training.get("surroundings", {}).get("device") == "npu":
        print(_npu_notice(os.path.join(case.output, "train_%d.log" % device_id())))
    print("------------------ Final result ------------------")
    print("Final Performance images/sec : %s" % lines["ActualFPS"])
    print("Final Performance sec/step : %s" % _number(training.get("seconds_per_step"), "%.4f"))
    print("Final Train Accuracy : %s" % lines["TrainAccuracy"])
    print("E2E Training Duration sec : %s" % lines["E2ETrainingTime"], flush=True)


def _npu_notice(log: str) -> str:
    """Returns the documented notice: whether `log` shows that the NPU was used."""
    with open(log, "rb") as file:
        kind, start, text = _INFO if any(_ON_NPU in line for line in file) else _ERROR
    line = "------------------ %s NOTICE%s------------------"
    return "\n".join([line % (kind, start), "%s, %s" % (kind, text), line % (kind, " END")])


def _is_earlier(path, case) -> bool:
    """Returns whether an earlier case left `path`, and this one, which failed, did not write it."""
    began = os.path.getmtime(os.path.join(case.output, "case.json"))
    return os.path.exists(path) and os.path.getmtime(path) < began


def _case_lines(case, name, training, log, accuracy, module):
    """Returns {key: value} of the case's log, in its documented order."""
    step_seconds = training.get("seconds_per_step")
    lines = {
        "Network": os.path.basename(case.root),
        "RankSize": case.ranks,
        "BatchSize": case.config.batch_size,
        "DeviceType": platform.machine(),
        "CaseName": name,
        "ActualFPS": _number(training.get("images_per_second"), "%.2f"),
        "TrainingTime": _number(step_seconds and 1000 * step_seconds, "%.2f"),
    }
    for key, loss in zip(("ActualLoss", "ActualLoss1"), module.LOSS_LISTS.values()):
        last = [record[loss] for record in log if loss in record][-module.LAST_LOSSES :]
        lines[key] = _number(sum(last) / len(last) if last else None, "%.4f")
    lines["TrainAccuracy"] = _number(accuracy and accuracy["value"], "%.4f")
    return lines


def _number(value: Optional[float], form: str) -> str:
    return "None" if value is None else form % value


def _versions(training):
    around, others = training.get("surroundings", {}), ("device", "threads", "ranks", "data")
    return {key: str(value) for key, value in around.items() if key not in others}
