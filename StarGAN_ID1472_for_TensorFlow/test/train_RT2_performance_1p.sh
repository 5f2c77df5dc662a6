#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The performance case on one device with CANN's second runtime, which takes shapes that change.
# Needs --data_path=FOLDER; --help lists every option.
folder=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONPATH="$folder${PYTHONPATH:+:$PYTHONPATH}" ENABLE_RUNTIME_V2=1
unset RANK_ID RANK_SIZE # the rank is started here
exec python3 -m harness.cases performance 1 --dynamic_input "$@"
