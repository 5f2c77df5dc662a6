#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Trains on one GPU, waits for the end and returns its exit status; the log is logs/train.log.
# DEVICE_TARGET in the environment names another kind of device.
folder=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ $# -lt 2 ] || [ $# -gt 6 ] || ! [[ $1 =~ ^[0-9]+$ ]]; then
    echo "Usage: bash scripts/run_standalone_train_gpu.sh DEVICE_ID DATA_PATH [LR] [LIGHT] [LOSS_SCALE] [USE_GLOBAL_NORM]" >&2
    exit 1
fi
mkdir -p logs && echo "training on device $1; the log is $PWD/logs/train.log"
python3 "$folder/train.py" --device_target="${DEVICE_TARGET:-GPU}" --device_id="$1" \
    --data_path="$2" --lr="${3:-1e-4}" --light="${4:-True}" --loss_scale="${5:-1.0}" \
    --use_global_norm="${6:-False}" 2>&1 | tee logs/train.log
exit "${PIPESTATUS[0]}"
