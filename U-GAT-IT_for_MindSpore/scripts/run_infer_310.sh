#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Translates a folder of pictures (or of .bin files) with an exported generator: ./infer_output_img.
# IMG_SIZE is the size that the generator was exported for, 256 pixels unless it is set.
if [ $# -lt 2 ] || [ $# -gt 3 ]; then
    echo "Usage: bash run_infer_310.sh MINDIR_PATH DATA_PATH [DEVICE_ID]" >&2
    exit 1
fi
folder=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
client=$folder/ascend310_infer bins=$2
fail() { tail -n 1 "$2" >&2; echo "$1" >&2; exit 1; }
if [ ! -x "$client/out/main" ] || [ -n "$(find "$client"/{CMakeLists.txt,build.sh,inc,src} \
        -newer "$client/out/main")" ]; then
    bash "$client/build.sh" > build.log 2>&1 || fail "compile app code failed" build.log
fi
rm -rf result_Files time_Result infer.log infer_output_img/*_0.jpg
if [ -z "$(find "$2/" -maxdepth 1 -name '*.bin' -print -quit 2> infer.log)" ]; then
    bins=./bifile_in && rm -f bifile_in/*.bin
    python3 "$folder/preprocess.py" --data_path="$2" --bifile_inputdir=$bins \
        --img_size="${IMG_SIZE:-256}" > infer.log 2>&1 || fail " execute inference failed" infer.log
fi
"$client/out/main" --mindir_path="$1" --input0_path="$bins" --device_id="${3:-0}" >> infer.log 2>&1 ||
    fail " execute inference failed" infer.log
python3 "$folder/postprocess.py" --bifile_outputdir=./result_Files \
    --eval_outputdir=./infer_output_img > acc.log 2>&1 || fail "generate images failed" acc.log
