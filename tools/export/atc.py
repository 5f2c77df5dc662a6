# SPDX-License-Identifier: Apache-2.0
"""The command line of ATC, CANN's compiler, that makes an .om for an Ascend NPU of an export.

ATC takes a frozen .pb, an .onnx of opset 11 to 15 (newer releases: 18) or an .air; it does not take
a .mindir, which MindSpore loads on the NPU as it is.
"""

import os
import shlex
from typing import Dict, Sequence

SOCS = ("Ascend310", "Ascend310P3", "Ascend910", "Ascend910A", "Ascend910B", "Ascend910B3")
FRAMEWORKS = {".air": 1, ".pb": 3, ".onnx": 5}


def command(
    path: str,
    shapes: Dict[str, Sequence[int]],
    outputs: Sequence[str] = (),
    soc: str = SOCS[0],
    layout: str = "NHWC",
) -> str:
    """Returns the command for one file, to be run in its folder; "" if ATC does not take it.

    Args:
      path: the file; its ending says what it is.
      shapes: {input: its whole shape}; an .om has one.
      outputs: names of the output nodes, for a .pb.
      soc: the NPU, such as one of SOCS.
      layout: "NHWC" or "NCHW"; ATC knows no NHWC of an .onnx, so "ND", any, is written there.
    """
    stem, ending = os.path.splitext(os.path.basename(path))
    if ending not in FRAMEWORKS:
        return ""
    if ending == ".onnx" and layout == "NHWC":
        layout = "ND"
    words = ["atc", "--framework=%d" % FRAMEWORKS[ending]]
    words += ["--model=%s" % (stem + ending), "--output=%s" % stem, "--soc_version=%s" % soc]
    words += ["--input_format=%s" % layout]
    if ending != ".air":  # which has its shapes and outputs inside
        sizes = [(name, ",".join(map(str, shape))) for name, shape in shapes.items()]
        words.append("--input_shape=%s" % ";".join("%s:%s" % pair for pair in sizes))
    if outputs:
        words.append("--out_nodes=%s" % ";".join("%s:0" % name for name in outputs))
    words.append("--output_type=FP32")
    return " ".join(map(shlex.quote, words))
