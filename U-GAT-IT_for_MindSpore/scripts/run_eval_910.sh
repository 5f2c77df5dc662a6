#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Evaluates on one NPU and returns the exit status; the log is logs/eval.log.
# Options of eval.py may follow; DEVICE_TARGET in the environment names another kind of device.
folder=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if ! [[ ${1:-} =~ ^[0-9]+$ ]] || [[ $# -gt 1 && $2 != --* ]]; then
    echo "Usage: bash scripts/run_eval_910.sh DEVICE_ID [--option=value ...]" >&2
    exit 1
fi
mkdir -p logs && echo "evaluating on device $1; the log is $PWD/logs/eval.log"
python3 "$folder/eval.py" --device_target="${DEVICE_TARGET:-Ascend}" --device_id="$1" "${@:2}" 2>&1 |
    tee logs/eval.log
exit "${PIPESTATUS[0]}"
