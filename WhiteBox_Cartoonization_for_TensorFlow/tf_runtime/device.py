# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/tf_runtime/device.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""Which device trains, in which precision, and what its session and optimisers need.

This is the only module that imports npu_bridge, and it does so inside the functions that need it.
"""

import importlib.util
import json
import os
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from harness.errors import UserError
from harness.options import PlatformOptions

FULL_PRECISION = ("force_fp32", "must_keep_origin_dtype")
_OFF, _ON = 2, 1  # RewriterConfig.Toggle


class Device(NamedTuple):
    """What `choose` decided.

    Attributes:
      name: "npu", "gpu" or "cpu".
      mixed: "" for full float32, "npu", "amp" (float16 on a GPU) or "bfloat16" (CPU).
      options: the options it was chosen from.
      threads: threads of one CPU operation.
    """

    name: str
    mixed: str
    options: PlatformOptions
    threads: int


def choose(options: PlatformOptions) -> Device:
    """Picks the device and precision, prints which, and turns TensorFlow's graph mode on.

    Raises:
      UserError: if the device that was asked for is not there.
    """
    tf.logging.set_verbosity(tf.logging.ERROR)
    tf.disable_v2_behavior()
    name = options.device
    has_npu = importlib.util.find_spec("npu_bridge") is not None
    has_gpu = name in ("auto", "gpu") and bool(tf.config.experimental.list_physical_devices("GPU"))
    if name == "auto":
        name = "npu" if has_npu else "gpu" if has_gpu else "cpu"
    if name == "npu" and not has_npu:
        raise UserError(
            "--device npu: npu_bridge is not installed; install it or use --device auto"
        )
    if name == "npu":
        _load_npu_bridge()
    if name == "gpu" and not has_gpu:
        raise UserError(
            "--device gpu: TensorFlow sees no GPU; check the driver or use --device auto"
        )
    mixed, note = _precision(name, options.precision_mode)
    threads = options.threads or len(os.sched_getaffinity(0))
    print("device: %s, %s" % (name, note), flush=True)
    if name != "npu":
        _say_without_effect(options, name)
    return Device(name, mixed, options, threads)


def _load_npu_bridge():
    """Makes the NPU known to TensorFlow; without this it would compute on the host."""
    try:
        from npu_bridge import npu_init  # noqa: F401
    except ImportError as error:
        text = "--device npu: npu_bridge cannot be loaded (%s); check the CANN environment"
        raise UserError(text % error) from error


def _precision(name: str, mode: str):
    """Returns (Device.mixed, a phrase that says so)."""
    if mode in FULL_PRECISION:
        return "", "float32"
    if name == "npu":
        return "npu", mode
    if name == "gpu":
        return "amp", "mixed float16 with loss scaling"
    if cpu_has_bfloat16():
        return "bfloat16", "mixed bfloat16"
    if tf.__version__.startswith("1."):
        return "", "float32: TensorFlow %s has no bfloat16 for CPUs" % tf.__version__
    return "", "float32: this CPU has no bfloat16"


def cpu_has_bfloat16() -> bool:
    """Returns whether this CPU and this TensorFlow both have bfloat16."""
    rewrite = tf.ConfigProto().graph_options.rewrite_options
    if not hasattr(rewrite, "auto_mixed_precision_onednn_bfloat16"):
        return False
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            text = file.read()
    except OSError:
        return False
    return "avx512_bf16" in text or "amx_bf16" in text


def _say_without_effect(options, name):
    switches = [
        s for s in ("autotune", "over_dump", "data_dump_flag", "profiling") if getattr(options, s)
    ]
    if switches:
        flags = ", ".join("--" + switch for switch in switches)
        print("%s: no effect on a %s, only on an NPU" % (flags, name), flush=True)


def session_config(device: Device, mixlist_file: str = "") -> tf.ConfigProto:
    """Returns the session configuration for `device`.

    Args:
      device: from `choose`.
      mixlist_file: ops_info.json that keeps operators out of mixed precision on an NPU, or "".
    """
    # One operation at a time: the sums of a gradient then have one order, and it costs nothing.
    config = tf.ConfigProto(
        allow_soft_placement=True,
        intra_op_parallelism_threads=device.threads,
        inter_op_parallelism_threads=1,
    )
    rewrite = config.graph_options.rewrite_options
    rewrite.remapping = _OFF  # NPUs must not see fused operators, and it gains nothing elsewhere
    config.gpu_options.allow_growth = True
    config.gpu_options.per_process_gpu_memory_fraction = device.options.gpu_fraction
    if device.mixed:
        # It moves casts in front of reads: a network would then be judged with old weights.
        rewrite.arithmetic_optimization = _OFF
    if device.mixed == "bfloat16":
        rewrite.auto_mixed_precision_onednn_bfloat16 = _ON
    elif device.mixed == "amp":
        rewrite.auto_mixed_precision = _ON
    elif device.name == "npu":
        rewrite.memory_optimization = _OFF
        _npu_parameters(rewrite.custom_optimizers.add(), device.options, mixlist_file)
    return config


def _npu_parameters(optimizer, options, mixlist_file):
    optimizer.name = "NpuOptimizer"
    if options.data_dump_flag and options.over_dump:
        raise UserError("--data_dump_flag and --over_dump share one dump on the NPU; choose one")
    values = {"use_off_line": True, "precision_mode": options.precision_mode}
    if mixlist_file and options.precision_mode == "allow_mix_precision":
        values["modify_mixlist"] = mixlist_file
    if options.data_dump_flag:
        values.update(enable_dump=True, dump_path=options.data_dump_path)
        values.update(dump_step=options.data_dump_step, dump_mode="all")
    if options.over_dump:
        values.update(
            enable_dump_debug=True, dump_debug_mode="all", dump_path=options.over_dump_path
        )
    if options.profiling:
        folder = os.path.abspath(options.profiling_dump_path)
        os.makedirs(folder, exist_ok=True)
        what = {"output": folder, "training_trace": "on", "task_trace": "on"}
        what.update(aicpu="on", fp_point="", bp_point="")
        values.update(profiling_mode=True, profiling_options=json.dumps(what))
    if options.autotune:
        values["aoe_mode"] = "2"
    for key, value in values.items():
        if key.endswith("_path"):
            os.makedirs(value, exist_ok=True)
            value = os.path.abspath(value)
        parameter = optimizer.parameter_map[key]
        if isinstance(value, bool):
            parameter.b = value
        else:
            parameter.s = tf.compat.as_bytes(value)


def _wrap(optimizer, device: Device, ranks: int):
    """Adds loss scaling where the precision asks for it, and on NPUs the mean over the ranks."""
    scale = device.options.loss_scale
    if device.name == "npu":
        from npu_bridge.estimator.npu.npu_loss_scale_manager import (
            ExponentialUpdateLossScaleManager,
            FixedLossScaleManager,
        )
        from npu_bridge.estimator.npu.npu_loss_scale_optimizer import NPULossScaleOptimizer
        from npu_bridge.estimator.npu.npu_optimizer import NPUDistributedOptimizer

        optimizer = NPUDistributedOptimizer(optimizer)
        if device.mixed:
            if scale:
                manager = FixedLossScaleManager(scale)
            else:
                manager = ExponentialUpdateLossScaleManager(2**32, 1000, 2, 2, 0.5)
            optimizer = NPULossScaleOptimizer(optimizer, manager, is_distributed=ranks > 1)
    elif device.mixed == "amp":
        experimental = tf.train.experimental
        keeper = experimental.FixedLossScale(scale) if scale else experimental.DynamicLossScale()
        optimizer = experimental.MixedPrecisionLossScaleOptimizer(optimizer, keeper)
    return optimizer


def minimize(optimizer, loss, variables, device: Device, group, name: str) -> tf.Operation:
    """Returns the operation of one step down `loss`, averaged over all ranks.

    Args:
      optimizer: a tf.train optimizer.
      loss: float32 scalar, this rank's mean loss.
      variables: the variables it may change.
      device: from `choose`.
      group: from `ranks.connect`.
      name: scope of the optimiser's own variables.
    """
    with tf.variable_scope(name):
        optimizer = _wrap(optimizer, device, group.size)
        gradients = optimizer.compute_gradients(loss, var_list=variables)
        gradients = [
            (gradient, variable) for gradient, variable in gradients if gradient is not None
        ]
        gradients = group.average_gradients(gradients, name)
        # A variable changes in place, so not before all that needs its old value has been computed.
        ready = tf.tuple([gradient for gradient, _ in gradients], control_inputs=[loss])
        pairs = [(gradient, variable) for gradient, (_, variable) in zip(ready, gradients)]
        return group.guard(optimizer.apply_gradients(pairs))


def loss_scales() -> dict:
    """Returns {name: scalar variable} of every loss scale in the graph: one for each `minimize`."""
    ending = "loss_scale"  # of NPUs; of GPUs it is current_loss_scale
    return {v.op.name: v for v in tf.global_variables() if v.op.name.endswith(ending)}
