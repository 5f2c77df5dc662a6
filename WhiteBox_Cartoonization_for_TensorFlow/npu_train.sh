#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Trains as a ModelArts job: bash npu_train.sh CODE_DIR WORK_DIR DATASET_PATH OUTPUT_PATH [options]
# Options after the four are those of train_code/train.py. WORK_DIR is copied to OUTPUT_PATH.
if [ $# -lt 4 ]; then
    echo "npu_train.sh: give CODE_DIR WORK_DIR DATASET_PATH OUTPUT_PATH; there are $# words" >&2
    exit 2
fi
code=$1 work=$2 data=$3 output=$4
shift 4
mkdir -p "$output" || exit 1
env > "$output/my_env.log"
python3 "$code/train_code/train.py" --total_iter=100000 --data_path="$data" \
    --output_path="$output" "$@"
status=$?
if [ $status -eq 0 ]; then
    echo "[CANN-ZhongZhi] train return success"
else
    echo "[CANN-ZhongZhi] train return failed"
fi
case "$(realpath "$output")/" in
"$(realpath "$work")"/*) ;; # the output lies in it: there it is already
*) [ ! -d "$work" ] || cp -r "$work" "$output" || status=1 ;;
esac
exit $status
