#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# For one NPU on an Ascend host whose shell does not know CANN yet: source scripts/npu_set_env_1p.sh
. "$(dirname "${BASH_SOURCE[0]}")/../test/env.sh"
export RANK_SIZE=${RANK_SIZE:-1}
export RANK_ID=${RANK_ID:-0}
export DEVICE_ID=${DEVICE_ID:-$ASCEND_DEVICE_ID}
