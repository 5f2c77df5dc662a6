#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes .venv/demo, tf2 and ms and starts the demo page on this machine: bash ci/demo.sh --help
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
demo=$root/tools/demo/__main__.py # not -m, which looks in this folder first
export TF2_PYTHON MS_PYTHON PYTHONPATH=$root
for word; do
    case $word in -h | --help) exec python3 "$demo" --help ;; esac
done
python3 "$demo" --check "$@" # a mistake is told before the environments are made
TF2_PYTHON=$(python3 "$root/ci/environments.py" tf2)
MS_PYTHON=$(python3 "$root/ci/environments.py" ms)
python=$(python3 "$root/ci/environments.py" demo)
exec "$python" "$demo" "$@"
