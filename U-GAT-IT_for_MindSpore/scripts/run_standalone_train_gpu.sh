#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Trains on one GPU, waits for the end and returns its exit status; the log is logs/train.log.
# Options of train.py may follow; DEVICE_TARGET in the environment names another kind of device.
folder=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
words=()
while [ $# -gt 0 ] && [[ $1 != --* ]]; do words+=("$1"); shift; done
if [ ${#words[@]} -lt 2 ] || [ ${#words[@]} -gt 6 ] || ! [[ ${words[0]} =~ ^[0-9]+$ ]]; then
    echo "Usage: bash scripts/run_standalone_train_gpu.sh DEVICE_ID DATA_PATH [LR] [LIGHT] [LOSS_SCALE] [USE_GLOBAL_NORM] [--option=value ...]" >&2
    exit 1
fi
export ASCEND_DEVICE_ID=${words[0]} PYTHONPATH="$folder${PYTHONPATH:+:$PYTHONPATH}"
exec python3 -m ugatit.launcher logs/train.log "$folder/train.py" \
    --device_target="${DEVICE_TARGET:-GPU}" --data_path="${words[1]}" --lr="${words[2]:-1e-4}" \
    --light="${words[3]:-True}" --loss_scale="${words[4]:-0}" \
    --use_global_norm="${words[5]:-False}" "$@"
