#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Translates the test pictures with the newest checkpoint of a run; options are those of main.py:
# bash scripts/test_1p.sh --image_root=FOLDER --metadata_path=FILE --output_dir=FOLDER
folder=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
exec python3 "$folder/main.py" --phase=test "$@"
