#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checkpoint of a TensorFlow model -> .pb, SavedModel, .onnx, .tflite, each proved to be right.

Every file is loaded by its own runtime and compared with the trained network before it gets its
name; the report is beside it. The options of the model itself are taken too.
"""

import dataclasses
import os
import platform
import shutil
import sys
import time
from typing import List, Sequence, Tuple

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.path.insert(1, os.path.join(sys.path[0], "tools", "shared"))

from harness.errors import run_program
from harness.files import read_json, write_json
from harness.options import option, parse_several
from harness.platform_options import PlatformOptions
from tools.export import atc, models, parity
from tools.folders import enter, find_folder, require

# Times the greatest value, if that is more than 1. Measured with trained weights on both TensorFlow
# versions: 0 for .pb and SavedModel, up to 1e-5 for .onnx and .tflite, 2e-3 with float16 weights.
TOLERANCES = {"pb": 1e-5, "saved_model": 1e-5, "onnx": 1e-4, "tflite": 1e-4}
TOLERANCE_HALF = 5e-3
ENDINGS = {"pb": ".pb", "saved_model": parity.SAVED_MODEL, "onnx": ".onnx", "tflite": ".tflite"}


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """Export."""

    model: str = option("", "the model's folder, or how its name begins, such as stargan")
    ckpt: str = option("", "the checkpoint, such as RUN/model-200000; White-box: or an .npz")
    out: str = option("", "the .pb to write; the other files are named after it")
    formats: Tuple[str, ...] = option(("pb",), "any of " + ", ".join(ENDINGS))
    opset: int = option(15, "of the .onnx", low=13, high=18)
    size: int = option(0, "side of the pictures that the files take; 0: any, if the model can")
    tflite_weights: str = option("float32", "of the .tflite", choices=("float32", "float16"))
    pictures: str = option("", "folder of pictures to compare with; default: random ones")
    count: int = option(8, "of them, how many", low=1)
    tolerance: float = option(0.0, "largest difference allowed; 0: that of the format", low=0)
    soc: str = option("Ascend310", "NPU in the printed command for ATC", choices=atc.SOCS)

    def __post_init__(self):
        """Checks what is given; formats in one text become several."""
        kinds = tuple(dict.fromkeys(" ".join(self.formats).replace(",", " ").split()))
        object.__setattr__(self, "formats", kinds)
        wrong = [kind for kind in kinds if kind not in ENDINGS]
        if wrong or not kinds:
            text = "--formats %s: each must be one of %s"
            raise ValueError(text % (",".join(wrong), ", ".join(ENDINGS)))
        if not os.path.basename(self.out)[:-3] or not self.out.endswith(".pb"):
            raise ValueError("--out %s: it must be a name that ends in .pb" % self.out)
        if self.size < 0:
            raise ValueError("--size %d: it must be the side of pictures, or 0" % self.size)


def main() -> int:
    """Exports, compares, reports; returns 1 and leaves everything as it was if a file is wrong."""
    (options,), _ = parse_several([ExportOptions], description=__doc__, extras=[])
    folder = find_folder(options.model)
    kind = models.find_model(folder)
    require("tensorflow")
    enter(folder)
    classes = [ExportOptions, kind.config_class()]
    (_, config), (_, given) = parse_several(classes, description=__doc__)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # TensorFlow takes seconds to load: only after the command line was found to be right.
    from tf_runtime import device as devices
    from tools.export import formats

    device = devices.choose(PlatformOptions(device="cpu", precision_mode="force_fp32"))
    model = kind(options, config, set(given))
    words = (options.formats, options.opset, options.size, kind is models.StarGan)
    formats.check(*words)
    pictures, origin = models.comparison_pictures(options.pictures, model, options.count)
    place, stem = os.path.split(os.path.abspath(options.out[: -len(".pb")]))
    report = stem + "_parity.json"
    parity.check_targets(place, targets(stem, options.formats, model.has_labels) + [report])
    records = read_json(os.path.join(place, report), {})
    facts = {"model": os.path.basename(folder), "checkpoint": os.path.abspath(model.checkpoint)}
    facts.update(pictures=origin, command=parity.command_line(), date=time.strftime("%Y-%m-%d"))
    facts.update(device="cpu, %d threads, float32" % device.threads, versions=_versions(options))
    with parity.hidden_folder(place) as temporary:
        base = os.path.join(temporary, stem)
        write(model, options, base)
        found = measure(model, options, base, pictures, devices.session_config(device))
        print(parity.table(found), flush=True)
        parity.check(found)
        records.update({name: dict(record, **facts) for name, record in found.items()})
        write_json(os.path.join(temporary, report), records)
        parity.publish(temporary, place)
    print("%s; report: %s" % (origin, os.path.join(place, report)))
    return 0


def targets(stem: str, kinds: Sequence[str], has_labels: bool) -> List[str]:
    """Returns the names of all that `write` writes in some formats."""
    names = [stem + ENDINGS[kind] for kind in kinds]
    labelled = [name for name in names if name.endswith((".pb", ".onnx"))] if has_labels else []
    return names + [name + ".json" for name in labelled]


def write(model, options, base: str) -> None:
    """Writes all files of the formats that are asked for; their names begin with `base`."""
    from tools.export import formats
    from tools.weights.graphs import read_definition

    frozen, nodes = base + ".pb", (model.inputs, model.output)
    model.write_pb(frozen)
    graph = read_definition(frozen)
    if options.size:
        formats.fix_size(graph, model.inputs[0], options.size)
        formats.write_pb(graph, frozen)
    half = options.tflite_weights == "float16"
    for kind in options.formats:
        path = base + ENDINGS[kind]
        if kind == "saved_model":
            formats.write_saved_model(graph, *nodes, path=path)
        elif kind == "onnx":
            formats.write_onnx(graph, *nodes, path=path, opset=options.opset)
            if os.path.exists(frozen + ".json"):  # which names the labels, and is for any format
                shutil.copyfile(frozen + ".json", path + ".json")
        elif kind == "tflite":
            formats.write_tflite(graph, *nodes, path=path, half=half)
    if "pb" not in options.formats:
        for path in filter(os.path.exists, (frozen, frozen + ".json")):
            os.remove(path)


def measure(model, options, base: str, pictures, session_config) -> dict:
    """Returns {file: what is known of it}: how far it is from the network, times, sizes, nodes."""
    from tools.export import runtimes

    feeds = model.feeds(pictures)
    with runtimes.trained(model, session_config) as (run, _):
        expected = [run(feed) for feed in feeds]
        network_time = parity.latency(run, feeds[0])
    found = {}
    for kind in options.formats:
        path = base + ENDINGS[kind]
        words = (path, model.inputs, model.output, session_config)
        with runtimes.OPEN[kind](*words) as (run, nodes):
            differences = parity.compare(expected, [run(feed) for feed in feeds])
            record = {"latency_ms": parity.latency(run, feeds[0])}
        half = kind == "tflite" and options.tflite_weights == "float16"
        tolerance = options.tolerance or (TOLERANCE_HALF if half else TOLERANCES[kind])
        record.update(nodes, **parity.fingerprint(path), network_latency_ms=network_time)
        record.update(differences={"picture": differences}, tolerance=tolerance)
        record["within_tolerance"] = parity.is_within(differences, tolerance)
        if kind == "pb":
            record["atc"] = atc.command(path, model.shapes, [model.output], options.soc)
        elif kind == "onnx":  # whose nodes have other names
            shapes = {name + ":0": shape for name, shape in model.shapes.items()}
            record["atc"] = atc.command(path, shapes, soc=options.soc)
        found[os.path.basename(path)] = record
    return found


def _versions(options) -> dict:
    import numpy as np
    import tensorflow as tf

    versions = {"python": platform.python_version(), "numpy": np.__version__}
    versions["tensorflow"] = tf.__version__
    if "onnx" in options.formats:
        import onnxruntime
        import tf2onnx

        versions.update(onnxruntime=onnxruntime.__version__, tf2onnx=tf2onnx.__version__)
    return versions


if __name__ == "__main__":
    run_program(main)
