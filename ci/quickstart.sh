#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Draws pairs of label maps and facades, trains Pix2Pix on them for a few minutes, evaluates it,
# exports a .pb and translates a folder of pictures with that. Everything is left in quickstart/;
# quickstart/result/report.html shows it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=$(python3 ci/environments.py tf2)
export PATH="$PWD/$(dirname "${python#"$PWD"/}"):$PATH"
model=Pix2Pix_ID0359_for_TensorFlow
here=$PWD/quickstart

python3 ci/draw_facades.py "$here/facades"
bash $model/test/train_full_1p.sh --data_path="$here/facades" --output_path="$here/result" \
    --ngf=32 --ndf=32 --train_steps=800 --sample_freq=200
python3 $model/frozen_graph.py --checkpoint_dir="$here/result/ckpt" --out_pb_path="$here/pix2pix.pb"
python3 $model/frozen_graph.py --phase=test_pb --out_pb_path="$here/pix2pix.pb" \
    --input_dir="$here/result/test/inputs" --test_dir="$here/translated"

echo "frozen graph:  $here/pix2pix.pb (its translations: $here/translated/report.html)"
echo "results:       $here/result/result.json"
echo "report, for a browser:  file://$here/result/report.html"
