#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Trains on one device with the published settings; options are those of main.py:
# bash scripts/train_1p.sh --image_root=FOLDER --metadata_path=FILE --output_dir=FOLDER
folder=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
exec python3 "$folder/main.py" --phase=train --batch_size=16 --training_iterations=200000 \
    --lr_update_step=1000 --num_step_decay=100000 --checkpoint_steps=1000 "$@"
