#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""--phase frozen_graph: checkpoint -> .pb or .onnx; --phase test_pb: translates with that file."""

import dataclasses
import os

from harness.errors import UserError, run_program
from harness.options import option, parse_several
from stargan.config import Config


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """Export."""

    phase: str = option("frozen_graph", "what to do", choices=("frozen_graph", "test_pb"))
    input_checkpoint: str = option("", "the checkpoint; default: the newest of the run")
    out_pb_path: str = option(
        "./pb/stargan_model.pb", "the file to write or to use; .onnx: in that format"
    )
    result_dir: str = option("./results_pb", "test_pb: folder of its pictures")


def main() -> int:
    """Runs the phase that the command line asks for."""
    (export, config), given = parse_several([ExportOptions, Config], description=__doc__)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from stargan import evaluation, serving
    from tf_runtime.device import choose

    path, names = export.out_pb_path, set(given[1])
    if not path.endswith((".pb", ".onnx")):
        raise UserError("--out_pb_path %s: it must end in .pb or .onnx" % path)
    if export.phase == "frozen_graph":
        choose(config)
        if export.input_checkpoint:
            config = dataclasses.replace(config, checkpoint=export.input_checkpoint)
        checkpoint = serving.find_checkpoint(config)
        config, sources = serving.load_training(config, names, checkpoint)
        serving.export(config, sources, checkpoint, path)
        nodes = (checkpoint, path, serving.IMAGES, serving.LABELS, serving.OUTPUT)
        print("%s -> %s (nodes %s, %s -> %s)" % nodes)
    else:
        config, sources = serving.load_export(config, names, path)
        is_onnx = path.endswith(".onnx")
        translator = serving.OnnxTranslator if is_onnx else serving.GraphTranslator
        evaluation.test(config, sources, path, translator, export.result_dir)
    return 0


if __name__ == "__main__":
    run_program(main)
