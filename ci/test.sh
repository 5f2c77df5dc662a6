#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes the environments and runs every check and test. --require-tf1: no Python 3.7 is a failure.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
tf2=$(python3 ci/environments.py tf2)
tf1=$(python3 ci/environments.py tf1) || { [ $? -eq 3 ] && [ "${1:-}" != --require-tf1 ] || exit 1; }

"$tf2" -m ruff check .
"$tf2" -m ruff format --check .
for check in copies contract isolation; do "$tf2" ci/$check.py; done
TF1_PYTHON=$tf1 TF2_PYTHON=$tf2 "$tf2" -m pytest -q ci/tests
for python in "$tf2" ${tf1:+"$tf1"}; do
    echo "== $("$python" -c 'import platform; print("Python", platform.python_version())')"
    "$python" -m pytest -q tools/tests
    for test in *_for_TensorFlow/test/test_reference.py; do "$python" -m pytest -q "$test"; done
    "$tf2" ci/isolation.py --run "$python"
done
[ -n "$tf1" ] || echo "TensorFlow 1.15 was skipped: no Python 3.7 on the PATH, in pyenv or through uv"
