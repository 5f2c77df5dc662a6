# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/tf_runtime/device.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""Which device trains, in which precision, and what its session and optimisers need.

What only an NPU needs is in `npu`, which alone imports npu_bridge.
"""

import os
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from harness.errors import UserError
from harness.platform_options import FULL_PRECISION, PlatformOptions, switches_given
from tf_runtime import npu

_OFF, _ON = 2, 1  # RewriterConfig.Toggle


class Device(NamedTuple):
    """What `choose` decided.

    Attributes:
      name: "npu", "gpu" or "cpu".
      mixed: "" for full float32, "npu", "amp" (float16 on a GPU) or "bfloat16" (CPU).
      options: those it was chosen from, less what the installed npu_bridge does not have.
      threads: threads of one CPU operation.
    """

    name: str
    mixed: str
    options: PlatformOptions
    threads: int


def choose(options: PlatformOptions) -> Device:
    """Picks the device and precision, prints which, and turns TensorFlow's graph mode on.

    Raises:
      UserError: if the device that was asked for is not there, or an option is wrong.
    """
    npu.check(options)
    tf.logging.set_verbosity(tf.logging.ERROR)
    tf.disable_v2_behavior()
    name = options.device
    has_gpu = name in ("auto", "gpu") and bool(tf.config.experimental.list_physical_devices("GPU"))
    if name == "auto":
        name = "npu" if npu.is_installed() else "gpu" if has_gpu else "cpu"
    if name == "npu" and not npu.is_installed():
        raise UserError(
            "--device npu: npu_bridge is not installed; install it or use --device auto"
        )
    if name == "npu":
        options = npu.load(options)
    if name == "gpu" and not has_gpu:
        raise UserError(
            "--device gpu: TensorFlow sees no GPU; check the driver or use --device auto"
        )
    mixed, note = _precision(name, options)
    threads = options.threads or len(os.sched_getaffinity(0))
    print("device: %s, %s" % (name, note), flush=True)
    switches = switches_given(options)
    if switches and name != "npu":
        text = "%s: no effect on a %s, only on an NPU"
        print(text % (", ".join(switches), name), flush=True)
    return Device(name, mixed, options, threads)


def _precision(name: str, options: PlatformOptions):
    """Returns (Device.mixed, a phrase that says so)."""
    if name == "npu":
        mode = options.precision_mode_v2 or options.precision_mode
        return ("", "float32") if npu.is_full_precision(options) else ("npu", mode)
    if options.precision_mode in FULL_PRECISION:
        return "", "float32"
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


def session_config(device: Device) -> tf.ConfigProto:
    """Returns the session configuration for `device`."""
    # One operation at a time: the sums of a gradient then have one order, and it costs nothing.
    config = tf.ConfigProto(
        allow_soft_placement=True,
        intra_op_parallelism_threads=device.threads,
        inter_op_parallelism_threads=1,
    )
    rewrite = config.graph_options.rewrite_options
    rewrite.remapping = _OFF  # it gains nothing
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
        npu.configure(config, device.options)
    return config


def _wrap(optimizer, device: Device, ranks: int):
    """Adds loss scaling where the precision asks for it."""
    scale = device.options.loss_scale
    if device.name == "npu" and npu.needs_loss_scale(device.options):
        optimizer = npu.scale_loss(optimizer, scale, ranks)
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
