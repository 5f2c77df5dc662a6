#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Trains on RANK_SIZE NPUs from DEVICE_START on, waits for all and fails if one of them does; their
# logs are device<i>/distributed_train.log. Options of train.py may follow.
folder=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if ! [[ ${2:-} =~ ^[1-9][0-9]*$ && ${3:-} =~ ^[0-9]+$ ]] || [[ $# -gt 3 && $4 != --* ]]; then
    echo "Usage: bash scripts/run_distributed_train_910.sh RANK_TABLE RANK_SIZE DEVICE_START [--option=value ...]" >&2
    exit 1
fi
[ -f "$1" ] || { echo "RANK_TABLE $1: there is no such file" >&2; exit 1; }
RANK_TABLE_FILE=$(realpath "$1") && export RANK_TABLE_FILE ASCEND_DEVICE_ID=$3
export PYTHONPATH="$folder${PYTHONPATH:+:$PYTHONPATH}"
logs=()
for ((rank = 0; rank < $2; rank++)); do
    mkdir -p "device$rank" && env > "device$rank/env.log"
    logs+=("device$rank/distributed_train.log")
done
exec python3 -m ugatit.launcher "$(IFS=, && echo "${logs[*]}")" "$folder/train.py" \
    --device_target="${DEVICE_TARGET:-Ascend}" --distributed=True "${@:4}"
