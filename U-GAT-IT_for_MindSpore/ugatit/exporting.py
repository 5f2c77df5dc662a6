# SPDX-License-Identifier: Apache-2.0
"""Weights -> MINDIR, ONNX or AIR; a file gets its name after it computed what the network does.

The exported generator takes float32 [N, C, S, S] in [-1, 1], N = --batch_size, and returns the
picture [N, C, S, S], the CAM logits [N, 2] and the heat map [N, 1, S/4, S/4].
"""

import contextlib
import importlib.util
import os
import platform
import shutil
import tempfile
from typing import Callable, Dict, List, Tuple

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from harness.errors import UserError
from harness.files import read_json, write_json
from harness.images import list_images
from ugatit.data import find_root, read_test
from ugatit.device import first_line
from ugatit.networks import build_generator
from ugatit.pictures import resize, to_float
from ugatit.serving import Translator, find_weights
from ugatit.weights import load_weights

FILES = {"genA2B": "UGATIT_AtoB", "genB2A": "UGATIT_BtoA"}
TEST_FOLDERS = {"genA2B": "testA", "genB2A": "testB"}
OUTPUTS = ("picture", "CAM logits", "heat map")
TOLERANCE = 1e-3  # times the greatest value of an output, if that is more than 1
PICTURES = 4  # that are compared, or one batch if that is more
OPTIONS = ("variant", "light", "ch", "n_res", "img_size", "img_ch", "batch_size")

# float32 [N, C, S, S] -> the three outputs.
Run = Callable[[np.ndarray], List[np.ndarray]]


def export(config, target: str) -> None:
    """Exports the generators that `chosen` names to --mindir_outdir.

    Args:
      config: the options of the training, and those of the export.
      target: the device, "Ascend", "GPU" or "CPU".

    Raises:
      UserError: if weights are missing or of another network, if the format cannot be written here,
        or if a file computes something else than the network; that file is not left behind.
    """
    kind = config.export_file_format
    if kind == "AIR" and target != "Ascend":
        text = "--export_file_format AIR needs an Ascend NPU, this is a %s; choose MINDIR or ONNX"
        raise UserError(text % target)
    sources = chosen(config)
    print("export into %s format" % kind, flush=True)
    for name, path in sources.items():
        export_generator(config, name, path)


def chosen(config) -> Dict[str, str]:
    """Returns {"genA2B" or "genB2A": path of its weights} of what shall be exported.

    That are the directions of --direction, but where --gen_a2b_ckpt or --gen_b2a_ckpt is given,
    only those with given weights.
    """
    given = {"genA2B": config.gen_a2b_ckpt, "genB2A": config.gen_b2a_ckpt}
    names = [name for name in FILES if config.direction in ("both", name[3:])]
    if any(given.values()):
        names = [name for name in names if given[name]]
    if not names:
        other = "B2A" if config.direction == "A2B" else "A2B"
        text = "--gen%s_ckpt is given and --direction is %s; leave one of them out"
        raise UserError(text % (other, config.direction))
    return {name: find_weights(config, name) for name in names}


def export_generator(config, name: str, weights: str) -> None:
    """Exports one generator, compares the file with the network, and writes how far they differ.

    Writes NAME.mindir, .onnx or .air and NAME_parity.json, for MINDIR also NAME_graph.mindir, the
    same file under the name that MindSpore gives beyond 1 GB; the weights are in NAME_variables
    then, which must stay beside it. All in a hidden folder first.
    """
    pictures, origin = comparison_pictures(config, name)
    trained = Translator(config, name, weights)
    expected = _in_batches(trained, pictures, config.batch_size)
    network = _portable(config, name, weights)
    folder = os.path.abspath(config.mindir_outdir)
    os.makedirs(folder, exist_ok=True)
    temporary = tempfile.mkdtemp(prefix=".export-", dir=folder)
    try:
        example = Tensor(pictures[: config.batch_size])
        file = write_file(network, example, temporary, FILES[name], config.export_file_format)
        run, compared = _file_runner(os.path.join(temporary, file), network)
        deviations = compare(expected, _in_batches(run, pictures, config.batch_size), file)
        record = {"weights": os.path.abspath(weights), "compared": compared, "pictures": origin}
        record.update(deviations=deviations, tolerance=TOLERANCE, versions=_versions(compared))
        record["options"] = {option: getattr(config, option) for option in OPTIONS}
        parity = FILES[name] + "_parity.json"
        records = dict(read_json(os.path.join(folder, parity), {}), **{file: record})
        write_json(os.path.join(temporary, parity), records)
        publish(temporary, folder, FILES[name])
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    words = ", ".join("%s %.1e" % (key, value["max"]) for key, value in deviations.items())
    print("%s -> %s" % (weights, os.path.join(config.mindir_outdir, file)))
    print("compared %s, %s; largest deviations: %s" % (compared, origin, words), flush=True)


def comparison_pictures(config, name: str) -> Tuple[np.ndarray, str]:
    """Returns (pictures float32 [n, C, S, S], n whole batches; words that say where they are from).

    They are test pictures of the data set, or else smooth random ones.
    """
    count = config.batch_size * max(1, PICTURES // config.batch_size)
    size, channels = config.img_size, config.img_ch
    try:
        folder = os.path.join(find_root(config), TEST_FOLDERS[name])
        paths = list_images(folder)[:count]
        shown = [read_test(path, config) for path in paths]
        origin = "%d pictures of %s" % (len(paths), folder)
    except UserError as error:
        rng = np.random.RandomState(config.seed)
        noise = rng.randint(0, 256, (count, 9, 9, channels)).astype(np.uint8)
        shown = [to_float(resize(one, size)) for one in noise]
        why = str(error).split(";")[0]
        origin = "%d random pictures, seed %d (%s)" % (count, config.seed, why)
    return np.stack([shown[i % len(shown)] for i in range(count)]), origin


def write_file(network: nn.Cell, example: Tensor, folder: str, stem: str, kind: str) -> str:
    """Writes a network to `folder` in one of the formats; returns the file's name.

    Args:
      network: in its portable form.
      example: an input.
      folder: where to; an empty one.
      stem: the file's name without its ending.
      kind: "MINDIR", "ONNX" or "AIR".

    Raises:
      UserError: if this MindSpore cannot write the network in that format.
    """
    file = "%s.%s" % (stem, kind.lower())
    with _inside(folder):  # MindSpore refuses paths with a blank, and some letters
        try:
            ms.export(network, example, file_name=stem, file_format=kind)
        except (RuntimeError, ValueError, TypeError) as error:
            text = "--export_file_format %s: MindSpore %s cannot write this network so: %s"
            raise UserError(text % (kind, ms.__version__, first_line(error))) from error
        if kind == "MINDIR":
            names = (file, stem + "_graph.mindir")
            _link(*(names if os.path.exists(file) else names[::-1]))
        for place, folders, names in os.walk("."):  # MindSpore lets only their owner read them
            for name in folders + names:
                os.chmod(os.path.join(place, name), 0o755 if name in folders else 0o644)
    return file


def run_mindir(path: str) -> Run:
    """Returns what computes with the network in a .mindir.

    Raises:
      UserError: if the file is missing, damaged or of a newer MindSpore.
    """
    if not os.path.isfile(path):
        raise UserError("there is no %s; write it with export.py" % path)
    try:
        network = nn.GraphCell(ms.load(path))
    except (RuntimeError, ValueError) as error:
        text = "%s is damaged or of another MindSpore than %s: %s; export it again"
        raise UserError(text % (path, ms.__version__, first_line(error))) from error

    def run(x):
        mode = ms.get_context("mode")
        ms.set_context(mode=ms.GRAPH_MODE)  # MindSpore 2.0 runs such a network in no other
        try:
            return _runner(network)(x)
        finally:
            ms.set_context(mode=mode)

    return run


def run_onnx(path: str) -> Run:
    """Returns what computes with the network in an .onnx, by ONNX Runtime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {session.get_inputs()[0].name: x})


def compare(expected: List[np.ndarray], found: List[np.ndarray], file: str) -> Dict[str, dict]:
    """Returns {output: {"max", "mean": of the absolute deviation, "greatest": absolute value}}.

    Raises:
      UserError: if an output is not finite or deviates by more than TOLERANCE.
    """
    deviations = {}
    for output, a, b in zip(OUTPUTS, expected, found):
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            text = "the %s of %s is not finite; take the weights of an earlier step"
            raise UserError(text % (output, file))
        apart, greatest = np.abs(a.astype(np.float64) - b), float(np.abs(a).max())
        most = float(apart.max())
        if most > TOLERANCE * max(1.0, greatest):
            text = "the %s of %s is up to %g off the network's (values up to %g); do not use this "
            text += "export, and report it with the versions of MindSpore and of the device"
            raise UserError(text % (output, file, most, greatest))
        deviations[output] = {"max": most, "mean": float(apart.mean()), "greatest": greatest}
    return deviations


def publish(temporary: str, folder: str, stem: str) -> None:
    """Moves all of `temporary` to `folder`, weights first, over what an earlier export left."""
    names = sorted(os.listdir(temporary))
    names.sort(key=lambda name: os.path.isfile(os.path.join(temporary, name)))
    variables, old = os.path.join(folder, stem + "_variables"), os.path.join(temporary, "old")
    if os.path.isdir(variables) and stem + ".mindir" in names:
        os.replace(variables, old)
    for name in names:
        os.replace(os.path.join(temporary, name), os.path.join(folder, name))


def _portable(config, name, weights):
    network = build_generator(config, name, portable=True)
    load_weights(network, weights)
    for p in network.get_parameters():
        if not np.isfinite(p.asnumpy()).all():
            text = "%s in %s is not finite; take the weights of an earlier step"
            raise UserError(text % (p.name, weights))
    return network


def _runner(network) -> Run:
    return lambda x: [output.asnumpy() for output in network(Tensor(x))]


def _file_runner(path, network) -> Tuple[Run, str]:
    """Returns (what computes with the file, or else with the network written; which of them)."""
    if path.endswith(".mindir"):
        return run_mindir(path), "the file"
    if path.endswith(".onnx") and importlib.util.find_spec("onnxruntime"):
        return run_onnx(path), "the file in ONNX Runtime"
    why = "MindSpore cannot load it" if path.endswith(".air") else "onnxruntime is not installed"
    return _runner(network), "the network that was written, not the file (%s)" % why


def _in_batches(run, pictures, size) -> List[np.ndarray]:
    results = [run(pictures[i : i + size]) for i in range(0, len(pictures), size)]
    return [np.concatenate(parts) for parts in zip(*results)]


def _versions(compared) -> Dict[str, str]:
    versions = {"python": platform.python_version(), "mindspore": ms.__version__}
    versions["numpy"] = np.__version__
    if "ONNX Runtime" in compared:
        import onnxruntime

        versions["onnxruntime"] = onnxruntime.__version__
    return versions


@contextlib.contextmanager
def _inside(folder):
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _link(source, target) -> None:
    """Gives a file a second name; a copy where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
