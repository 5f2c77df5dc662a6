#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes .venv/demo, tf2 and ms and starts the demo page on this machine: bash ci/demo.sh --help
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export TF2_PYTHON MS_PYTHON
TF2_PYTHON=$(python3 ci/environments.py tf2)
MS_PYTHON=$(python3 ci/environments.py ms)
python=$(python3 ci/environments.py demo)
exec "$python" -m tools.demo "$@"
