#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/test/train_full_1p.sh. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
#
# Full training and evaluation on one device. Needs --data_path=FOLDER; --help lists every option.
folder=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONPATH="$folder${PYTHONPATH:+:$PYTHONPATH}"
unset RANK_ID RANK_SIZE # the ranks are started here
exec python3 -m harness.cases full 1 "$@"
