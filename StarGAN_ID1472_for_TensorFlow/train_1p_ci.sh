#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# 2,000 iterations of scripts/train_1p.sh, printed and in ./train_output.log; --ckpt_path is a
# checkpoint to start from: bash train_1p_ci.sh --data_path=FOLDER [--ckpt_path=CHECKPOINT]
set -o pipefail
folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bash "$folder/scripts/train_1p.sh" --training_iterations=2000 --lr_update_step=10 \
    --num_step_decay=1000 --summary_steps=10 "$@" 2>&1 | tee train_output.log
