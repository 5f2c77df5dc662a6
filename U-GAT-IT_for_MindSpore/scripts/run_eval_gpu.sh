#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Evaluates on one GPU and returns the exit status; the log is logs/eval.log. With Inception weights
# it measures KID. Options of eval.py may follow; DEVICE_TARGET names another kind of device.
folder=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
words=() metrics=()
while [ $# -gt 0 ] && [[ $1 != --* ]]; do words+=("$1"); shift; done
if [ ${#words[@]} -lt 4 ] || [ ${#words[@]} -gt 5 ] || ! [[ ${words[0]} =~ ^[0-9]+$ ]]; then
    echo "Usage: bash scripts/run_eval_gpu.sh DEVICE_ID DATA_PATH OUTPUT_PATH LIGHT [INCEPTION_CKPT] [--option=value ...]" >&2
    exit 1
fi
[ ${#words[@]} -eq 5 ] && metrics=(--compute_metrics=True --inception_ckpt_path="${words[4]}")
export ASCEND_DEVICE_ID=${words[0]} PYTHONPATH="$folder${PYTHONPATH:+:$PYTHONPATH}"
exec python3 -m ugatit.launcher logs/eval.log "$folder/eval.py" \
    --device_target="${DEVICE_TARGET:-GPU}" --data_path="${words[1]}" \
    --output_path="${words[2]}" --light="${words[3]}" "${metrics[@]}" "$@"
