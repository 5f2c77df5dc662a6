#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Exports a generator with its guided filter as .pb, .onnx or .tflite."""

import dataclasses
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from harness.errors import run_program
from harness.options import option, parse
from harness.platform_options import PlatformOptions


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """Export."""

    weights: str = option(
        "",
        "the generator: a checkpoint's path or an .npz; default: the newest of the training",
        aliases=("ckpt_path",),
    )
    patch_size: int = option(
        256, "side of the pictures that it takes, a multiple of 4; 0: any multiples of 4", low=0
    )
    smooth: float = option(5e-3, "epsilon of the guided filter; 0 leaves the filter out", low=0)
    output: str = option("./wbcnet.pb", "the file to write; ends in .pb, .onnx or .tflite")
    output_path: str = option("./output", "where the training saved")
    save_dir: str = option("train_cartoon", "name of the training's folder in OUTPUT_PATH")

    def __post_init__(self):
        """Checks the size."""
        if self.patch_size % 4:
            raise ValueError("--patch_size %d: it must be a multiple of 4" % self.patch_size)


def main() -> int:
    """Writes the file that the command line asks for."""
    config, _ = parse(ExportOptions, description=__doc__)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # TensorFlow takes seconds to load: only after the command line was found to be right.
    from tf_runtime.device import choose
    from whitebox import exporting, serving

    choose(PlatformOptions(device="cpu", precision_mode="force_fp32"))
    weights = serving.find_weights(config)
    exporting.export(weights, config.output, config.patch_size, config.smooth)
    nodes = (weights, config.output, serving.INPUT, serving.OUTPUT)
    print("%s -> %s (nodes %s -> %s)" % nodes)
    return 0


if __name__ == "__main__":
    run_program(main)
