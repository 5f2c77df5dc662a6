#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Weights of U-GAT-IT -> MINDIR, ONNX, AIR of one or both directions, each proved to be right.

Every file is loaded by its own runtime and compared with the trained network before it gets its
name; the report is beside it. U-GAT-IT's own options are taken too; what shaped the network is read
from the training's folder where the weights are still in it. The pictures to compare with are test
pictures of its data set (--dataset, --data_path), or random ones where that is missing.
"""

import contextlib
import dataclasses
import importlib.util
import io
import os
import sys
import time
from typing import List, Sequence, Tuple

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.path.insert(1, os.path.join(sys.path[0], "tools", "shared"))

from harness.errors import UserError, run_program
from harness.files import read_json, write_json
from harness.options import option, parse_several
from tools.export import atc, parity
from tools.folders import enter, find_folder, require

KINDS = ("MINDIR", "ONNX", "AIR")
SHAPING = ("variant", "light", "ch", "n_res", "img_size", "img_ch")  # the network
DATA = ("dataset", "data_path")


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """Export."""

    ckpt: str = option("", "weights of one generator, or the folder of a training, OUTPUT/DATASET")
    out: str = option("./mindir_result", "folder of the files")
    formats: Tuple[str, ...] = option(("MINDIR",), "any of " + ", ".join(KINDS))
    soc: str = option("Ascend310", "NPU in the printed command for ATC", choices=atc.SOCS)

    def __post_init__(self):
        """Checks what is given; formats in one text become several."""
        kinds = tuple(dict.fromkeys(" ".join(self.formats).upper().replace(",", " ").split()))
        object.__setattr__(self, "formats", kinds)
        wrong = [kind for kind in kinds if kind not in KINDS]
        if wrong or not kinds:
            text = "--formats %s: each must be one of %s"
            raise ValueError(text % (",".join(wrong), ", ".join(KINDS)))


def main() -> int:
    """Exports, compares, reports; a file that is wrong leaves everything as it was."""
    enter(find_folder("u-gat-it"))
    require("mindspore", "yaml")
    from ugatit import device
    from ugatit.reading import Words

    (options, _), (_, given) = parse_several([ExportOptions, Words], description=__doc__)
    config = read_config(options, given)
    if "ONNX" in options.formats and importlib.util.find_spec("onnxruntime") is None:
        text = "--formats ONNX needs onnxruntime to compare the file; install it, or leave it out"
        raise UserError(text)
    device.prepare(config)
    place = device.connect(config)
    if "AIR" in options.formats and place.target != "Ascend":
        text = "--formats AIR needs an Ascend NPU, this is a %s; choose MINDIR or ONNX"
        raise UserError(text % place.target)
    # MindSpore must be loaded by `connect`, which says what is wrong with its environment.
    from ugatit import exporting

    folder, found = os.path.abspath(options.out), {}
    sources = exporting.chosen(config)
    names = [target for name in sources for target in targets(name, options.formats)]
    parity.check_targets(folder, names)
    facts = {"model": "U-GAT-IT_for_MindSpore", "command": parity.command_line()}
    facts.update(date=time.strftime("%Y-%m-%d"), device=device.describe(place))
    with parity.hidden_folder(folder) as temporary:
        for name, weights in sources.items():
            records = export(config, name, weights, options, temporary)
            found.update(records)
            before = read_json(os.path.join(folder, _report(name)), {})
            before.update({file: dict(record, **facts) for file, record in records.items()})
            write_json(os.path.join(temporary, _report(name)), before)
        print(parity.table(found), flush=True)
        parity.check(found)
        parity.publish(temporary, folder, [n for n in names if n.endswith(parity.VARIABLES)])
    reports = ", ".join(os.path.join(folder, _report(name)) for name in sources)
    print("%s; reports: %s" % (next(iter(found.values()))["pictures"], reports))
    return 0


def read_config(options: ExportOptions, given: dict):
    """Returns U-GAT-IT's options: those `given`, then those of the training beside the weights.

    Raises:
      UserError: if --ckpt is missing, its direction is not known, or an option contradicts it.
    """
    from ugatit import reading

    path, fixed = options.ckpt.rstrip(os.sep), {"phase": "test"}
    if os.path.isdir(path):
        output, fixed["dataset"] = os.path.split(os.path.abspath(path))
        fixed["output_path"] = output
    elif os.path.isfile(path):
        fixed[_flag(path, given.get("direction", "both"))] = path
    else:
        text = "--ckpt %s: there is no such file or folder; give a generator's weights, or the "
        raise UserError((text + "folder OUTPUT_PATH/DATASET of a training") % (path or '""'))
    preset = _training(path)
    for name in SHAPING:
        if name in given and given[name] != preset.get(name, given[name]):
            text = "--%s %s: %s was trained with %s; leave the option out"
            raise UserError(text % (name, given[name], options.ckpt, preset[name]))
    return reading.combine(given, fixed, preset)[0]


def _flag(path, direction) -> str:
    """Returns the option that takes the weights `path`: of A2B or of B2A."""
    name = os.path.basename(path)
    named = [one for one in ("A2B", "B2A") if "gen" + one in name]
    wanted = direction if direction != "both" else (named or [""])[0]
    if not wanted:
        text = "--ckpt %s: its name does not say which direction it is; add --direction=A2B or B2A"
        raise UserError(text % path)
    if named and wanted != named[0]:
        text = "--direction %s: %s is gen%s by its name; leave the option out"
        raise UserError(text % (direction, path, named[0]))
    return "gen_%s_ckpt" % wanted.lower()


def _training(path) -> dict:
    """Returns {option: value} of the training in whose folder the weights `path` are, if any."""
    folder = path if os.path.isdir(path) else os.path.dirname(os.path.abspath(path))
    for place in (folder, os.path.dirname(folder)):
        options = read_json(os.path.join(place, "checkpoint", "config.json"), {}).get("options")
        if options:
            return {name: options[name] for name in SHAPING + DATA if name in options}
    return {}


def export(config, name: str, weights: str, options: ExportOptions, folder: str) -> dict:
    """Writes one generator to `folder` in all formats; returns {file: what is known of it}.

    Raises:
      UserError: if a file computes something else than the network.
    """
    from ugatit import exporting
    from ugatit.serving import Translator

    for kind in options.formats:
        words = {"mindir_outdir": folder, "export_file_format": kind}
        with contextlib.redirect_stdout(io.StringIO()):  # it names a folder that will be gone
            exporting.export_generator(dataclasses.replace(config, **words), name, weights)
    records = read_json(os.path.join(folder, _report(name)))
    pictures, _ = exporting.comparison_pictures(config, name)
    size = config.batch_size
    batches = [pictures[i : i + size] for i in range(0, len(pictures), size)]
    trained = Translator(config, name, weights)
    expected, network_time = [trained(x) for x in batches], parity.latency(trained, batches[0])
    for file, record in records.items():
        path = os.path.join(folder, file)
        record.update(parity.fingerprint(path), network_latency_ms=network_time)
        variables = os.path.splitext(path)[0] + parity.VARIABLES
        if file.endswith(".mindir") and os.path.isdir(variables):  # beyond 1 GB
            record["variables"] = parity.fingerprint(variables)
        del record["deviations"]  # "differences" are the same and more
        record.update(differences={}, within_tolerance=True, inputs={}, outputs={})
        if not file.endswith(".air"):  # which MindSpore cannot load
            run = exporting.run_onnx if file.endswith(".onnx") else exporting.run_mindir
            _measure(record, run(path), expected, batches)
            record.update(nodes(path, [output.shape for output in expected[0]]))
        layout = {"soc": options.soc, "layout": "NCHW"}
        record["atc"] = atc.command(path, record["inputs"], **layout)
    return records


def _measure(record, run, expected, batches) -> None:
    from ugatit.exporting import OUTPUTS

    found = [run(x) for x in batches]
    for i, output in enumerate(OUTPUTS):
        apart = parity.compare([one[i] for one in expected], [one[i] for one in found])
        record["differences"][output] = apart
        if output != OUTPUTS[0]:
            del apart["psnr_db"]  # has a meaning for pictures in [-1, 1] only
        record["within_tolerance"] &= parity.is_within(apart, record["tolerance"])
    record["latency_ms"] = parity.latency(run, batches[0])


def nodes(path: str, shapes: list) -> dict:
    """Returns {"inputs": {name: shape}, "outputs": likewise} of a .mindir or .onnx.

    A .mindir has no names of outputs; those that exporting.OUTPUTS gives them are taken.

    Args:
      path: the file.
      shapes: of its outputs.
    """
    from ugatit.exporting import OUTPUTS

    if path.endswith(".onnx"):
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        sides = (session.get_inputs(), session.get_outputs())
        found = [{node.name: list(node.shape) for node in side} for side in sides]
        return dict(zip(("inputs", "outputs"), found))
    from mindspore.train import mind_ir_pb2

    model = mind_ir_pb2.ModelProto()
    with open(path, "rb") as file:
        model.ParseFromString(file.read())
    inputs = {one.name.split(":")[-1]: list(one.tensor[0].dims) for one in model.graph.input}
    return {"inputs": inputs, "outputs": dict(zip(OUTPUTS, map(list, shapes)))}


def targets(name: str, kinds: Sequence[str]) -> List[str]:
    """Returns the names of all that an export of "genA2B" or "genB2A" to some formats may write."""
    from ugatit.exporting import FILES

    names = ["%s.%s" % (FILES[name], kind.lower()) for kind in kinds]
    if "MINDIR" in kinds:
        names += [FILES[name] + "_graph.mindir", FILES[name] + parity.VARIABLES]
    return names + [_report(name)]


def _report(name) -> str:
    from ugatit.exporting import FILES

    return FILES[name] + "_parity.json"


if __name__ == "__main__":
    run_program(main)
