# SPDX-License-Identifier: Apache-2.0
"""Measures how fast the model folders train and translate, and compares with ci/baselines.

`python ci/performance.py [FOLDER or MODEL ...]`, with any Python: TensorFlow folders are measured
with .venv/tf2 (--tf1: .venv/tf1), U-GAT-IT with .venv/ms. Of each model

  cases   its test/train_performance_1p.sh on a few drawn pictures (--full: with the script's own
          settings and device on --data_path): seconds a step, first step, memory, share of waiting
          for data
  steps   its test/speed.py, training and inference, float32 and mixed: seconds a step, first step,
          peak memory, FLOPs
  growth  time and memory against batch and picture size: their exponents

The repeats of cases and steps take turns over all models. One that fails does not end the others.

Times are compared as costs (ci/calibration.py says why), so that the baselines hold on another
machine, those of --full as seconds, which do not. Exit status 0: nothing is worse; 1: something is
worse, failed, was not measured or has no baseline (--update stores one); 2: the command is wrong.
What came out goes to --output: report.html, report.md, junit.xml, results.json.

--versus 'NAME=COMMAND' takes turns too; it prints a JSON object with "sec_per_step" as its last
line. --ranks 1 2 measures instead how training scales over processes (ci/rank_scaling.py).
"""

import signal

import scripts


def main() -> None:
    """Runs the program in an environment that has what it needs."""
    scripts.enter()
    import performance_run

    from harness.errors import run_program

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run_program(lambda: performance_run.main(__doc__))


if __name__ == "__main__":
    main()
