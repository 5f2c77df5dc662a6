# SPDX-License-Identifier: Apache-2.0
"""Distances of two sets of pictures: FID, KID, precision and recall.

REAL and FAKE are folders of pictures (with the folders in them, any sizes and formats) or, for FID,
.npz files of statistics as TTUR and pytorch-fid write them; more pairs may follow. Each pair gives
a line of JSON and, for FID, the line "FID:  x". Progress and warnings go to stderr.
"""

import argparse
import importlib.util
import json
import os
import sys

sys.path.append(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "shared"))

import numpy as np

from harness.errors import UserError, run_program
from harness.files import atomic_path
from tools.fid import distances, report, statistics
from tools.fid.images import PROTOCOLS
from tools.folders import ROOT

WITH_TENSORFLOW = os.path.join(ROOT, ".venv", "tf2", "bin", "python")  # of ci/environments.py


def parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    options = argparse.ArgumentParser(
        prog="python -m tools.fid",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = options.add_argument
    add("paths", nargs="+", metavar="REAL FAKE", help="pairs; one alone with --features, --save")
    network = options.add_argument_group("network (one of the three)")
    text = "Inception of 2015: classify_image_graph_def.pb or pt_inception-2015-12-05-6726825d.pth"
    network.add_argument("--inception", metavar="FILE", help=text)
    text = "another: a frozen .pb, an .onnx, VGG-19 as .mat, an Inception as .pth; or the word "
    network.add_argument("--network", metavar="FILE", help=text + "random: Inception, not trained")
    network.add_argument("--input", default="", help="name of its input")
    network.add_argument("--output", default="", help="name of its output, or layer of VGG-19")
    network.add_argument("--side", type=int, default=0, help="height and width that it takes")
    text = "what it takes for black and white; default -1 1"
    network.add_argument("--range", nargs=2, type=float, default=(-1.0, 1.0), help=text)
    text = "how pictures are resized; default %(default)s"
    add("--protocol", choices=list(PROTOCOLS), default="clean", help=text)
    text = "what to measure; default %(default)s"
    add("--metrics", default="fid", metavar="fid,kid,precision_recall", help=text)
    add("--source", metavar="FOLDER", help="what FAKE was translated from: the authors' mean KID")
    add("--subsets", type=int, default=100, help="of the KID; default %(default)s")
    add("--subset_size", type=int, default=1000, help="at the most; default %(default)s")
    add("--seed", type=int, default=0, help="of all draws; default %(default)s")
    add("--neighbours", type=int, default=3, help="of precision and recall; default %(default)s")
    add("--bootstrap", type=int, default=0, metavar="DRAWS", help="95 %% interval of the FID")
    add("--batch_size", type=int, default=32, help="pictures at a time; default %(default)s")
    add("--skip_bad", action="store_true", help="leave unreadable pictures out, and list them")
    add(
        "--cache",
        default="",
        metavar="FOLDER",
        help="keeps statistics for the next time, of FID alone",
    )
    add("--features", metavar="OUT.npy", help="with one path: write its features, float32 [N, D]")
    add("--save", metavar="OUT.npz", help="with one path: write its statistics (mu, sigma)")
    return options


def check(options) -> report.Request:
    """Returns what is asked for.

    Raises:
      UserError: if options contradict each other or are out of range, or pictures are missing.
    """
    count, writes = len(options.paths), bool(options.features or options.save)
    if count % 2 and not (count == 1 and writes):
        text = "%d paths: give pairs REAL FAKE, or one path with --features or --save"
        raise UserError(text % count)
    if writes and count != 1:
        raise UserError("--features and --save take one path, not %d" % count)
    if writes and options.paths[0].endswith(".npz"):
        raise UserError("--features and --save take pictures, not %s" % options.paths[0])
    if bool(options.inception) == bool(options.network):
        text = "give one of --inception FILE, for FID and KID, and --network FILE or --network "
        raise UserError(text + "random, which measure under other names")
    if options.network == "random" and any((options.input, options.output, options.side)):
        raise UserError("--network random is Inception: leave --input, --output and --side out")
    for name, high in (("subsets", 10**6), ("neighbours", 10**6), ("batch_size", 1024)):
        if not 1 <= getattr(options, name) <= high:
            text = "--%s %d: it must be at least 1 and at most %d"
            raise UserError(text % (name, getattr(options, name), high))
    for name, low in (("subset_size", 2), ("bootstrap", 0), ("seed", 0), ("side", 0)):
        if getattr(options, name) < low:
            raise UserError("--%s %d: it must be at least %d" % (name, getattr(options, name), low))
    if options.range[0] >= options.range[1]:
        raise UserError("--range %g %g: black must be below white" % tuple(options.range))
    metrics = tuple(options.metrics.split(","))
    odd = [name for name in metrics if name not in report.METRICS]
    if odd:
        raise UserError("--metrics %s: choose from %s" % (odd[0], ",".join(report.METRICS)))
    fields = [name for name in report.Request._fields if name != "metrics"]
    request = report.Request(metrics, **{name: getattr(options, name) for name in fields})
    needed = request._replace(metrics=("fid", "kid")) if options.source else request
    for path in filter(None, [*options.paths, options.source]):
        report.check_path(path, needed)
    for path in filter(None, (options.features, options.save)):
        if os.path.isdir(path):
            raise UserError("%s is a folder; name a file to write" % path)
    if options.cache and os.path.exists(options.cache) and not os.path.isdir(options.cache):
        raise UserError("--cache %s is no folder; name one" % options.cache)
    return request


def main() -> int:
    """Measures what the command line names."""
    options = parser().parse_args()
    request = check(options)
    if importlib.util.find_spec("tensorflow") is None:
        return run_elsewhere()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from tools.fid import networks

    if options.inception:
        network = networks.open_inception(options.inception)
    elif options.network == "random":
        network = networks.open_random()
    else:
        interface = networks.Interface(options.input, options.output, options.side, *options.range)
        network = networks.open_file(options.network, interface)
    if options.features or options.save:
        return _write(options, network, request)
    names = [*options.paths, options.source] if options.source else options.paths
    sets = dict.fromkeys(names)  # what is named twice is described once
    for name in sets:
        sets[name] = report.describe(name, network, request, bool(options.source))
    for real, fake in zip(options.paths[::2], options.paths[1::2]):
        _compare(sets[real], sets[fake], sets.get(options.source), network, request)
    return 0


def run_elsewhere() -> int:
    """Runs this command with a Python that has TensorFlow."""
    this = os.path.join(sys.prefix, "bin", "python")
    if not os.path.exists(WITH_TENSORFLOW) or os.path.abspath(this) == WITH_TENSORFLOW:
        text = "this Python has no TensorFlow, which describes the pictures: install "
        raise UserError(text + "tools/requirements.txt, or let python3 ci/environments.py tf2")
    words = [WITH_TENSORFLOW, "-m", "tools.fid", *sys.argv[1:]]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")]))
    os.execv(WITH_TENSORFLOW, words)


def _compare(real, fake, source, network, request):
    """Prints the distances of two sets, as soon as they are known."""
    result = report.measure(real, fake, network, request)
    keys = report.key_names(network)
    if source:
        value = distances.author_mean(source.features, real.features, fake.features)
        result[keys["kid"] + "_author_mean"] = value
        result["source"] = report.describe_set(source)
    for warning in result["warnings"]:
        print("warning: %s" % warning, file=sys.stderr)
    print(json.dumps(result))
    if "fid" in request.metrics:
        label = "FID" if keys["fid"] == "fid" else keys["fid"]
        print("%s:  %s" % (label, result[keys["fid"]]), flush=True)


def _write(options, network, request) -> int:
    request = request._replace(metrics=("fid",), bootstrap=0)
    found = report.describe(options.paths[0], network, request, bool(options.features))
    if options.features:
        with atomic_path(options.features) as temporary, open(temporary, "wb") as file:
            np.save(file, found.features)
    if options.save:
        statistics.write(options.save, found.statistics)
    print(json.dumps(report.describe_set(found)))
    return 0


if __name__ == "__main__":
    run_program(main)
