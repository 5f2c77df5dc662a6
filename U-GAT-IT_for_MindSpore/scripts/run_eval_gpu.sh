#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Evaluates on one GPU and returns the exit status; the log is logs/eval.log. With Inception weights
# it measures KID. DEVICE_TARGET in the environment names another kind of device.
folder=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ $# -lt 4 ] || [ $# -gt 5 ] || ! [[ $1 =~ ^[0-9]+$ ]]; then
    echo "Usage: bash scripts/run_eval_gpu.sh DEVICE_ID DATA_PATH OUTPUT_PATH LIGHT [INCEPTION_CKPT]" >&2
    exit 1
fi
metrics=()
[ $# -eq 5 ] && metrics=(--compute_metrics=True --inception_ckpt_path="$5")
mkdir -p logs && echo "evaluating on device $1; the log is $PWD/logs/eval.log"
python3 "$folder/eval.py" --device_target="${DEVICE_TARGET:-GPU}" --device_id="$1" \
    --data_path="$2" --output_path="$3" --light="$4" "${metrics[@]}" 2>&1 | tee logs/eval.log
exit "${PIPESTATUS[0]}"
