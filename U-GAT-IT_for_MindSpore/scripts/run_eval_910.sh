#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Evaluates on one NPU, waits for the end and returns its exit status; the log is logs/eval.log.
# Options of eval.py may follow; DEVICE_TARGET in the environment names another kind of device.
folder=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if ! [[ ${1:-} =~ ^[0-9]+$ ]] || [[ $# -gt 1 && $2 != --* ]]; then
    echo "Usage: bash scripts/run_eval_910.sh DEVICE_ID [--option=value ...]" >&2
    exit 1
fi
export ASCEND_DEVICE_ID=$1 PYTHONPATH="$folder${PYTHONPATH:+:$PYTHONPATH}"
exec python3 -m ugatit.launcher logs/eval.log "$folder/eval.py" \
    --device_target="${DEVICE_TARGET:-Ascend}" "${@:2}"
