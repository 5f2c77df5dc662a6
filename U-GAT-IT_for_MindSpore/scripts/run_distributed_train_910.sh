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
RANK_TABLE_FILE=$(realpath "$1") RANK_SIZE=$2 && export RANK_TABLE_FILE RANK_SIZE
pids=() status=0
for ((rank = 0; rank < $2; rank++)); do
    export RANK_ID=$rank DEVICE_ID=$(($3 + rank))
    mkdir -p "device$rank" && env > "device$rank/env.log"
    python3 "$folder/train.py" --device_target=Ascend --distributed=True "${@:4}" \
        > "device$rank/distributed_train.log" 2>&1 & pids+=($!)
done
trap 'kill "${pids[@]}" 2>/dev/null' INT TERM
echo "training on $2 devices; the logs are $PWD/device*/distributed_train.log"
for pid in "${pids[@]}"; do wait "$pid" || { status=$?; kill "${pids[@]}" 2>/dev/null; }; done
[ $status -eq 0 ] || echo "a rank ended with status $status, see device*/distributed_train.log" >&2
exit $status
