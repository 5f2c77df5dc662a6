# SPDX-License-Identifier: Apache-2.0
"""Measures how fast the model folders train and translate, and compares with ci/baselines.

`python ci/performance.py [FOLDER or MODEL ...]`, with any Python: TensorFlow folders are measured
with .venv/tf2 (--tf1: .venv/tf1), U-GAT-IT with .venv/ms. Of each model

  cases   its test/train_performance_1p.sh on a few drawn pictures (--full: the script's own
          settings and --data_path): seconds a step, first step, memory, share of waiting for data
  steps   its test/speed.py, training and inference, float32 and mixed: seconds a step, first step,
          peak memory, FLOPs; repeats of all models take turns
  growth  time and memory against batch and picture size: their exponents

Times are compared as costs (ci/calibration.py says why), so that the baselines hold on another
machine. Exit status 0: nothing is worse; 1: something is worse or failed; 2: the command is wrong.
What came out goes to --output: report.html, report.md, junit.xml, results.json.

--versus 'NAME=COMMAND' takes turns too; it prints a JSON object with "sec_per_step" as its last
line. --ranks 1 2 measures instead how training scales over processes (ci/rank_scaling.py).
"""

import importlib.util
import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
NEEDS = ("tabulate", "junitparser", "jinja2", "numpy", "tqdm", "PIL")


def enter_environment() -> None:
    """Starts the program anew with .venv/tf2 where this Python lacks what it needs."""
    is_old = sys.version_info < (3, 11)
    if not is_old and all(importlib.util.find_spec(name) for name in NEEDS):
        return
    own = ROOT / ".venv" / "tf2"
    if not own.exists() or os.path.realpath(str(own)) == os.path.realpath(sys.prefix):
        sys.exit("performance.py: error: python3 ci/environments.py tf2 makes what it runs in")
    python = str(own / "bin" / "python")
    os.execv(python, [python] + sys.argv)


def main() -> None:
    """Runs the program in an environment that has what it needs."""
    enter_environment()
    import performance_run

    from harness.errors import run_program

    run_program(lambda: performance_run.main(__doc__))


if __name__ == "__main__":
    main()
