# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/harness/platform_options.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""The options about device, precision and NPU: of every model, and of those in TensorFlow."""

import dataclasses

from harness.options import option

FULL_PRECISION = ("force_fp32", "must_keep_origin_dtype")
OLDER_PRECISIONS = FULL_PRECISION + ("allow_mix_precision", "allow_fp32_to_fp16", "force_fp16")
PRECISIONS = OLDER_PRECISIONS + (
    "cube_fp16in_fp32out",
    "allow_mix_precision_fp16",
    "allow_mix_precision_bf16",
    "allow_fp32_to_bf16",
)
PRECISIONS_V2 = ("fp16", "origin", "cube_fp16in_fp32out", "mixed_float16", "mixed_bfloat16")


@dataclasses.dataclass(frozen=True)
class CommonOptions:
    """Device, precision and the switches of the Ascend test scripts."""

    device: str = option(
        "auto",
        "npu where npu_bridge imports, else gpu, else cpu",
        choices=("auto", "npu", "gpu", "cpu"),
        may_change=True,
    )
    precision_mode: str = option(
        "allow_mix_precision",
        "full float32 (force_fp32, must_keep_origin_dtype) or the device's own mixed precision",
        choices=PRECISIONS,
    )
    report: bool = option(
        True, "write report.html after a training or a test phase", may_change=True
    )
    loss_scale: float = option(0.0, "fixed loss scale on NPU and GPU; 0 adapts it", low=0)
    gpu_fraction: float = option(
        0.0, "largest share of a GPU's memory; 0: what is needed", low=0, high=1, may_change=True
    )
    threads: int = option(0, "threads of one operation on the CPU; 0 takes every core", low=0)
    deterministic: bool = option(False, "take the NPU's deterministic operators")
    autotune: bool = option(False, "let the NPU search for faster kernels", may_change=True)
    over_dump: bool = option(False, "record overflows on the NPU", may_change=True)
    over_dump_path: str = option("./overdump", "folder of the overflow records", may_change=True)
    data_dump_flag: bool = option(
        False, "dump the NPU's operator inputs and outputs", may_change=True
    )
    data_dump_step: str = option("10", "steps to dump, such as 0|5|10-20", may_change=True)
    data_dump_path: str = option("./datadump", "folder of the dumps", may_change=True)
    profiling: bool = option(False, "profile the NPU", may_change=True)
    profiling_dump_path: str = option("./profiling", "folder of the profile", may_change=True)


@dataclasses.dataclass(frozen=True)
class PlatformOptions(CommonOptions):
    """What npu_bridge, the NPU's adapter for TensorFlow, has besides."""

    precision_mode_v2: str = option(
        "", "newer name of an NPU's precision, in place of the other", choices=PRECISIONS_V2
    )
    session_device_id: int = option(
        -1, "number of the NPU; -1 takes ASCEND_DEVICE_ID or DEVICE_ID", low=-1, may_change=True
    )
    use_mixlist: bool = option(
        True, "keep the operators of --mixlist_file out of the NPU's mixed precision"
    )
    mixlist_file: str = option("", "JSON (default: ops_info.json of this model)", may_change=True)
    customize_dtypes: str = option(
        "", "file with the types of single operators on the NPU", may_change=True
    )
    fusion_off_flag: bool = option(False, "switch the NPU's operator fusion off", may_change=True)
    fusion_off_file: str = option(
        "", "JSON of the fusions to switch off (default: all)", may_change=True
    )
    dynamic_input: bool = option(
        False, "let the NPU compile anew when shapes change (lazy_recompile)", may_change=True
    )
    aoe_mode: str = option(
        "2",
        "with --autotune: 1 tunes subgraphs, 2 operators, 4 the splitting of gradients",
        choices=("1", "2", "4"),
        may_change=True,
    )
    autotune_path: str = option("./autotune_dump", "folder of what was tuned", may_change=True)


def switches_given(options) -> list:
    """Returns the flags among `options` that only have an effect on an NPU."""
    names = (
        "precision_mode_v2",
        "mixlist_file",
        "customize_dtypes",
        "fusion_off_flag",
        "fusion_off_file",
        "dynamic_input",
        "deterministic",
        "autotune",
        "over_dump",
        "data_dump_flag",
        "profiling",
    )
    given = ["--" + name for name in names if getattr(options, name)]
    return given + (["--session_device_id"] if options.session_device_id >= 0 else [])
