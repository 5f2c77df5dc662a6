#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Trains on RANK_SIZE GPUs with msrun, waits for all and fails if one does; logs/worker_<i>.log.
# Options of train.py may follow; DEVICE_TARGET in the environment names another kind of device,
# MASTER_PORT another port.
folder=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
words=()
while [ $# -gt 0 ] && [[ $1 != --* ]]; do words+=("$1"); shift; done
if [ ${#words[@]} -lt 2 ] || [ ${#words[@]} -gt 6 ] || ! [[ ${words[0]} =~ ^[1-9][0-9]*$ ]]; then
    echo "Usage: bash scripts/run_distributed_train_gpu.sh RANK_SIZE DATA_PATH [LR] [LIGHT] [LOSS_SCALE] [USE_GLOBAL_NORM] [--option=value ...]" >&2
    exit 1
fi
command -v msrun > /dev/null || { echo "msrun, which comes with MindSpore, is not on the PATH" >&2; exit 1; }
mkdir -p logs && echo "training on ${words[0]} devices; the logs are $PWD/logs/worker_*.log"
exec msrun --worker_num="${words[0]}" --local_worker_num="${words[0]}" \
    --master_port="${MASTER_PORT:-8118}" --log_dir=logs --join=True "$folder/train.py" \
    --device_target="${DEVICE_TARGET:-GPU}" --distributed=True --data_path="${words[1]}" \
    --lr="${words[2]:-2.5e-5}" --light="${words[3]:-True}" --loss_scale="${words[4]:-0}" \
    --use_global_norm="${words[5]:-False}" "$@"
