#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes the environments and runs every check and test. --require-tf1: no Python 3.7 is a failure.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
make() { python3 ci/environments.py "$1" || { [ $? -eq 3 ] && [ "$2" != --require-tf1 ] || exit 1; }; }
tf2=$(python3 ci/environments.py tf2) ms=$(python3 ci/environments.py ms)
tf1=$(make tf1 "${1:-}") lite=$(make lite "${1:-}") demo=$(python3 ci/environments.py demo)

"$tf2" -m ruff check . && "$tf2" -m ruff format --check .
for check in copies contract isolation; do "$tf2" ci/$check.py; done
TF1_PYTHON=$tf1 TF2_PYTHON=$tf2 "$tf2" -m pytest -q ci/tests
for python in "$tf2" ${tf1:+"$tf1"} "$ms"; do
    echo "== $("$python" -c 'import platform, sys; print("Python", platform.python_version(), sys.prefix)')"
    "$python" -m pytest -q tools/tests
    kind=TensorFlow && [ "$python" != "$ms" ] || kind=MindSpore
    for test in *_for_$kind/test/test_reference.py; do [ ! -f "$test" ] || "$python" -m pytest -q "$test"; done
    "$tf2" ci/isolation.py --run "$python" *_for_$kind
done
TF2_PYTHON=$tf2 MS_PYTHON=$ms "$demo" -m pytest -q tools/demo/tests # in a browser, where there is one
cd U-GAT-IT_for_MindSpore # what MindSpore Lite needs: export from MindSpore 2.0, the C++ client
[ -z "$lite" ] || "$lite" -m pytest -q test/test_client.py test/test_export.py test/test_infer310.py
[ -n "$tf1" ] || echo "TensorFlow 1.15 and MindSpore Lite were skipped: no Python 3.7 on the PATH, in pyenv or through uv"
