#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""For an .om on an Ascend 310: pictures to .bin files, and the client's results to pictures."""

import dataclasses
import os

from harness.errors import UserError, run_program
from harness.options import option, parse_several
from stargan import offline
from stargan.config import Config


@dataclasses.dataclass(frozen=True)
class BinOptions:
    """Offline inference."""

    phase: str = option(
        "img_preprocess", "what to do", choices=("img_preprocess", "img_postprocess")
    )
    out_pb_path: str = option(
        "./pb/stargan_model.pb",
        "img_preprocess: the export behind the .om; the .json beside it tells labels and sizes",
    )
    save_dir: str = option("./test_data", "img_preprocess: folder of x_real/ and c_trg/")
    input_images_bin: str = option("./test_data/x_real", "img_postprocess: folder of the pictures")
    input_results_om_bin: str = option(
        "./test_data/outputs_om", "img_postprocess: folder that the client wrote to"
    )
    result_dir: str = option("./results_om", "img_postprocess: folder of its pictures")


def main() -> int:
    """Runs the phase that the command line asks for."""
    (bins, config), given = parse_several([BinOptions, Config], description=__doc__)
    if bins.phase == "img_postprocess":
        words = (bins.input_images_bin, bins.input_results_om_bin, bins.result_dir)
        print("%d pictures written to %s" % (offline.postprocess(*words), bins.result_dir))
        return 0
    if config.classifier:
        raise UserError("--classifier has no effect here; name what is wanted with --target")
    described = bins.out_pb_path + ".json"
    if not os.path.exists(described):
        if "out_pb_path" in given[0]:
            text = "there is no %s; frozen_graph.py writes it beside the export, keep it there"
            raise UserError(text % described)
        print("no %s: labels and sizes are those of the command line" % described, flush=True)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # TensorFlow takes seconds to load: only after the command line was found to be right.
    from stargan import evaluation, serving

    config, sources = serving.load_export(config, set(given[1]), bins.out_pb_path)
    jobs = evaluation.find_jobs(config, sources)
    count = offline.preprocess(config, jobs, sources, bins.save_dir)
    print("%d .bin files in each of %s/x_real and c_trg" % (count, bins.save_dir))
    return 0


if __name__ == "__main__":
    run_program(main)
