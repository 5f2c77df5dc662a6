#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""--phase frozen_graph: checkpoint -> .pb; --phase test_pb: translates a folder with the .pb."""

import dataclasses
import os

from harness.errors import run_program
from harness.options import option, parse_several
from pix2pix.config import Config


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """Export."""

    phase: str = option("frozen_graph", "what to do", choices=("frozen_graph", "test_pb"))
    input_checkpoint: str = option("", "the checkpoint; default: the newest of the run")
    out_pb_path: str = option("./pb/pix2pix.pb", "the .pb to write or to use")


def main() -> int:
    """Runs the phase that the command line asks for."""
    (export, config), given = parse_several([ExportOptions, Config], description=__doc__)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from pix2pix import evaluation, serving
    from tf_runtime.device import choose
    from tf_runtime.run import surroundings

    device = choose(config)
    if export.phase == "frozen_graph":
        if export.input_checkpoint:
            config = dataclasses.replace(config, checkpoint=export.input_checkpoint)
        checkpoint = serving.find_checkpoint(config)
        config = serving.trained_config(config, set(given[1]), checkpoint)
        serving.export(config, checkpoint, export.out_pb_path)
        print("%s -> %s (nodes input -> output)" % (checkpoint, export.out_pb_path))
    else:
        jobs = evaluation.find_jobs(config)
        with serving.GraphTranslator(export.out_pb_path, device) as translate:
            evaluation.evaluate(config, jobs, translate, surroundings(device))
    return 0


if __name__ == "__main__":
    run_program(main)
