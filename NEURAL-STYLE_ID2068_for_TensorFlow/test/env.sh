# SPDX-License-Identifier: Apache-2.0
# For an Ascend host whose shell does not know CANN yet: source test/env.sh
install_path=${install_path:-/usr/local/Ascend}
if [ -f "$install_path/ascend-toolkit/set_env.sh" ]; then
    . "$install_path/ascend-toolkit/set_env.sh"
else
    kit=$install_path/fwkacllib
    export PATH="$kit/ccec_compiler/bin:$kit/bin:$PATH"
    export LD_LIBRARY_PATH="$install_path/driver/lib64:$install_path/driver/lib64/common:$kit/lib64:$LD_LIBRARY_PATH"
    export PYTHONPATH="$install_path/tfplugin/python/site-packages:$kit/python/site-packages:$PYTHONPATH"
    export ASCEND_OPP_PATH="$install_path/opp"
    export ASCEND_AICPU_PATH="$install_path"
fi
export JOB_ID=${JOB_ID:-10087}
export ASCEND_DEVICE_ID=${ASCEND_DEVICE_ID:-0}
export ASCEND_GLOBAL_LOG_LEVEL=${ASCEND_GLOBAL_LOG_LEVEL:-3}
