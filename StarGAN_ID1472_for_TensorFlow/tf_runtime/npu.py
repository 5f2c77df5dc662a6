# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/tf_runtime/npu.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""All that talks to npu_bridge, release r1.5 to master; nothing else imports it.

It is imported inside the functions, as loading it changes every tf.Session of the process.
"""

import dataclasses
import importlib.util
import inspect
import json
import os
import re

import tensorflow.compat.v1 as tf

from harness import environment
from harness.errors import UserError
from harness.platform_options import FULL_PRECISION, OLDER_PRECISIONS

FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MIXED = ("allow_mix_precision", "allow_mix_precision_fp16", "allow_mix_precision_bf16")
MIXED_V2 = ("mixed_float16", "mixed_bfloat16")
# Options that not every release has -> what they are then.
NEWER = {"precision_mode_v2": "", "deterministic": False, "customize_dtypes": ""}
MOST_DUMP_STEPS = 100
SCALE = (2**32, 1000, 2, 2, 0.5)  # first scale, steps to a rise, overflows to a fall, factors
_OFF = 2  # RewriterConfig.Toggle


def is_installed() -> bool:
    """Returns whether there is an npu_bridge to import."""
    return importlib.util.find_spec("npu_bridge") is not None


def load(options):
    """Makes the NPU known to TensorFlow; without this it would compute on the host.

    Args:
      options: harness.platform_options.PlatformOptions.

    Returns:
      The options without those that the installed release does not have; each is named.

    Raises:
      UserError: if npu_bridge cannot be loaded, or an option is wrong.
    """
    try:
        from npu_bridge import npu_init  # noqa: F401
        from npu_bridge.estimator.npu.npu_config import NPURunConfig
    except ImportError as error:
        text = "--device npu: npu_bridge cannot be loaded (%s); check the CANN environment"
        raise UserError(text % error) from error
    known, newer = inspect.signature(NPURunConfig.__init__).parameters, dict(NEWER)
    if "precision_mode_v2" not in known and options.precision_mode not in OLDER_PRECISIONS:
        newer["precision_mode"] = "allow_mix_precision"
        known = set(known) - {"precision_mode"}
    changes = {
        name: value
        for name, value in newer.items()
        if getattr(options, name) != value and name not in known
    }
    for name, value in changes.items():
        text = "--%s=%s: the installed npu_bridge does not have it; it is %s"
        print(text % (name, getattr(options, name), value or "left out"), flush=True)
    if 0 < options.loss_scale < 1:
        text = "--loss_scale %s: on an NPU it must be at least 1, or 0 to adapt it"
        raise UserError(text % options.loss_scale)
    return dataclasses.replace(options, **changes)


def close() -> None:
    """Lets the NPU go, as npu_bridge does at exit; for a program that replaces itself."""
    from npu_bridge.estimator.npu.npu_plugin import npu_close

    npu_close()


def check(options) -> None:
    """Raises UserError for what npu_bridge would only refuse, or ignore, when it compiles."""
    if options.data_dump_flag and options.over_dump:
        raise UserError("--data_dump_flag and --over_dump share one dump on the NPU; choose one")
    parts = options.data_dump_step.split("|")
    pairs = [re.fullmatch(r"(\d+)(?:-(\d+))?", part) for part in parts]
    good = all(p and (p.group(2) is None or int(p.group(1)) < int(p.group(2))) for p in pairs)
    if not good or len(parts) > MOST_DUMP_STEPS:
        text = "--data_dump_step %s: it must be at most %d steps or ranges such as 0|5|10-20"
        raise UserError(text % (options.data_dump_step, MOST_DUMP_STEPS))
    if options.session_device_id >= 0 and environment.rank_and_size()[1] > 1:
        text = "--session_device_id %d would be the NPU of every rank; leave it out"
        raise UserError(text % options.session_device_id)
    for name in ("mixlist_file", "fusion_off_file", "customize_dtypes"):
        path = getattr(options, name)
        if path and not os.path.isfile(path):
            raise UserError("--%s %s: there is no such file" % (name, path))
    for path in (mixlist(options), options.fusion_off_file):
        try:
            with open(path or os.devnull, encoding="utf-8") as file:
                json.loads(file.read() or "{}")
        except ValueError as error:
            raise UserError("%s is no JSON: %s; mend it" % (path, error)) from error


def mixlist(options) -> str:
    """Returns the path of the mix list that the options ask for, or ""."""
    name = options.precision_mode_v2
    mixed = name in MIXED_V2 if name else options.precision_mode in MIXED
    if not (mixed and options.use_mixlist):
        return ""
    path = os.path.abspath(options.mixlist_file or os.path.join(FOLDER, "ops_info.json"))
    return path if os.path.exists(path) else ""


def is_full_precision(options) -> bool:
    """Returns whether everything is computed in float32."""
    return (options.precision_mode_v2 or options.precision_mode) in FULL_PRECISION + ("origin",)


def needs_loss_scale(options) -> bool:
    """Returns whether some gradients are float16, which has no room for small ones."""
    name = options.precision_mode_v2 or options.precision_mode
    return not is_full_precision(options) and not name.endswith(("bf16", "bfloat16"))


def configure(config: tf.ConfigProto, options) -> None:
    """Adds the NPU's session options to `config`; makes the folders that it writes to.

    Args:
      config: has no NpuOptimizer yet.
      options: from `load`.
    """
    rewrite = config.graph_options.rewrite_options
    rewrite.remapping = rewrite.memory_optimization = _OFF  # NPUs must not see fused operators
    optimizer = rewrite.custom_optimizers.add()
    optimizer.name = "NpuOptimizer"
    for key, value in _session_options(options).items():
        parameter = optimizer.parameter_map[key]
        if isinstance(value, bool):
            parameter.b = value
        elif isinstance(value, int):
            parameter.i = value
        else:
            parameter.s = tf.compat.as_bytes(value)


def _session_options(options) -> dict:
    """Returns {key: value} of the NpuOptimizer's parameters; their types are those of the key."""
    values = {"use_off_line": True}
    if options.precision_mode_v2:
        values["precision_mode_v2"] = options.precision_mode_v2
    else:
        values["precision_mode"] = options.precision_mode
    if mixlist(options):
        values["modify_mixlist"] = mixlist(options)
    if options.customize_dtypes:
        values["customize_dtypes"] = os.path.abspath(options.customize_dtypes)
    if options.session_device_id >= 0:
        values["session_device_id"] = options.session_device_id
    if options.deterministic:
        values["deterministic"] = 1
    if options.dynamic_input:
        values.update(dynamic_input=True, dynamic_graph_execute_mode="lazy_recompile")
    if options.fusion_off_flag or options.fusion_off_file:
        default = os.path.join(FOLDER, "tf_runtime", "fusion_switch.cfg")
        values["fusion_switch_file"] = os.path.abspath(options.fusion_off_file or default)
    if options.autotune:
        values.update(aoe_mode=options.aoe_mode, work_path=_own_folder(options.autotune_path))
    if options.data_dump_flag:
        values.update(enable_dump=True, dump_path=_own_folder(options.data_dump_path))
        values.update(dump_step=options.data_dump_step, dump_mode="all")
    if options.over_dump:
        values.update(enable_dump_debug=True, dump_path=_own_folder(options.over_dump_path))
        values["dump_debug_mode"] = "all"
    if options.profiling:
        what = {"output": _own_folder(options.profiling_dump_path), "training_trace": "on"}
        what.update(task_trace="on", aicpu="on", fp_point="", bp_point="")
        values.update(profiling_mode=True, profiling_options=json.dumps(what))
    return values


def _own_folder(path: str) -> str:
    """Makes and returns the absolute folder `path`; of several ranks each has one in it."""
    rank, size = environment.rank_and_size()
    path = os.path.abspath(os.path.join(path, "rank_%d" % rank if size > 1 else ""))
    os.makedirs(path, exist_ok=True)
    return path


def scale_loss(optimizer, fixed: float, ranks: int):
    """Returns `optimizer` with a loss scale of its own; an overflow on any rank skips the step.

    Args:
      optimizer: a tf.train optimizer.
      fixed: the loss scale; 0 adapts it.
      ranks: how many train together.
    """
    from npu_bridge.estimator.npu.npu_loss_scale_manager import (
        ExponentialUpdateLossScaleManager,
        FixedLossScaleManager,
    )
    from npu_bridge.estimator.npu.npu_loss_scale_optimizer import NPULossScaleOptimizer

    adaptive = ExponentialUpdateLossScaleManager
    with tf.control_dependencies(None):  # else its variables would be made after a step before it
        manager = FixedLossScaleManager(fixed) if fixed else adaptive(*SCALE)
    return NPULossScaleOptimizer(optimizer, manager, is_distributed=ranks > 1)


def broadcast(variables) -> tf.Operation:
    """Returns the operation that gives every rank the variables of rank 0, trainable or not."""
    from npu_bridge.hccl import hccl_ops

    done = []
    for variable in variables:
        value = variable.value()
        if value.dtype == tf.int64:  # counters; HCCL has no int64 in every release
            value = tf.cast(value, tf.int32)
        value = hccl_ops.broadcast([value], 0)[0]
        done.append(tf.assign(variable, tf.cast(value, variable.dtype.base_dtype)))
    return tf.group(*done)


def sum_over_ranks(tensor: tf.Tensor, fusion_id: int = 0) -> tf.Tensor:
    """Returns the sum of `tensor` over all ranks.

    Args:
      tensor: of the same shape on every rank.
      fusion_id: HCCL may send tensors of one number > 0 together, and 0 alone. Tensors of which one
        depends on another, such as the gradients of two optimisers in a step, need different ones.
    """
    from npu_bridge.hccl import hccl_ops

    words = {"fusion": 2, "fusion_id": fusion_id} if fusion_id else {"fusion": 0}
    return hccl_ops.allreduce(tensor, "sum", **words)
