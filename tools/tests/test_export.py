# SPDX-License-Identifier: Apache-2.0
"""Exports of the TensorFlow models: files that compute what the session does, or nothing."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image

from harness.errors import UserError
from harness.files import write_json
from tools.export import atc, ckpt_to_pb, formats, parity, runtimes
from tools.folders import find_folder
from tools.weights import graphs

sys.path.append(find_folder("pix2pix"))

import pix2pix.config
import pix2pix.serving
import stargan.config
import stargan.serving
import whitebox.exporting
import whitebox.serving
from stargan.labels import Labelled, Source
from whitebox.generators import GENERATOR_SHAPES

IS_1 = tf.__version__.startswith("1.")
NAMES = ("Blond_Hair", "Male")
STARGAN = stargan.config.Config(
    selected_attrs=NAMES, image_size=32, d_repeat_num=5, g_conv_dim=4, g_repeat_num=1
)
PIX2PIX = pix2pix.config.Config(ngf=2, ndf=2)
SOURCES = [Source("celeba", NAMES, *[Labelled([], np.zeros([0, 2], np.float32))] * 2)]
NODES = {
    "pix2pix": (["input"], "output"),
    "stargan": (["x_real", "c_trg"], "G/Tanh"),
    "whitebox": (["input"], "add_1"),
}
KINDS = "pb,saved_model,onnx,tflite"
FILES = ["g.onnx", "g.pb", "g.tflite", "g_parity.json", "g_saved_model"]
SESSION = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)


def _save(path, build):
    """Writes a checkpoint of drawn weights; build() adds the network to the default graph."""
    rng = np.random.RandomState(1)
    with tf.Graph().as_default(), tf.Session() as session:
        build()
        session.run(tf.global_variables_initializer())
        for variable in tf.global_variables():
            value = session.run(variable)
            variable.load(value + rng.normal(0, 0.1, value.shape).astype(np.float32), session)
        tf.train.Saver().save(session, path, write_meta_graph=False)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """{model: path of a checkpoint}, with the settings of its training beside it."""
    tf.disable_v2_behavior()
    folder = tmp_path_factory.mktemp("runs")
    paths = {name: str(folder / name / "model-7") for name in NODES}
    for name, config in (("pix2pix", PIX2PIX), ("stargan", STARGAN)):
        write_json(str(folder / name / "config.json"), {"options": dataclasses.asdict(config)})
    write_json(str(folder / "stargan" / "labels.json"), stargan.serving.describe_sources(SOURCES))
    _save(paths["stargan"], lambda: stargan.serving.build_inference(STARGAN, SOURCES))
    _save(paths["pix2pix"], lambda: pix2pix.serving.build_inference(PIX2PIX))
    rng, arrays = np.random.RandomState(0), {}
    for name, shape in GENERATOR_SHAPES.items():
        bound = np.sqrt(6 / (np.prod(shape[:2]) * (shape[2] + shape[3]))) if shape[1:] else 0.1
        arrays[name] = rng.uniform(-bound, bound, shape).astype(np.float32)
    (folder / "whitebox").mkdir()
    paths["whitebox"] += ".npz"
    np.savez(paths["whitebox"], **arrays)
    return paths


@pytest.fixture
def export(checkpoints, monkeypatch, capsys):
    """export(model, place, word, ...) runs the program here and returns what it printed."""
    monkeypatch.setattr(sys, "path", sys.path[:])

    def run(model, place, *words):
        words = ["--model=" + model, "--out=" + str(place / "g.pb")] + list(words)
        if not any(word.startswith("--ckpt") for word in words):
            words.append("--ckpt=" + checkpoints[model])
        monkeypatch.setattr(sys, "argv", ["ckpt_to_pb.py"] + words)
        assert ckpt_to_pb.main() == 0
        return capsys.readouterr().out

    return run


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The words that compare with two small pictures."""
    folder, rng = tmp_path_factory.mktemp("small"), np.random.RandomState(4)
    for name, shape in (("1.png", (32, 32, 3)), ("2.png", (24, 40, 3))):
        pixels = Image.fromarray(rng.randint(0, 256, shape).astype(np.uint8))
        pixels.save(str(folder / name))
    return ["--pictures=" + str(folder)]


def _feed(model, count, size=None, seed=5):
    """Returns a feed of drawn pictures; `size` is (H, W)."""
    rng = np.random.RandomState(seed)
    size = size or {"pix2pix": (256, 256), "stargan": (32, 32), "whitebox": (32, 32)}[model]
    feed = {NODES[model][0][0]: rng.uniform(-1, 1, (count,) + size + (3,)).astype(np.float32)}
    if model == "stargan":
        feed["c_trg"] = rng.randint(0, 2, (count, 2)).astype(np.float32)
    return feed


def _session(model, path, feed):
    """Returns what the network makes of a feed, without any of the export's code."""
    inputs, output = NODES[model]
    with tf.Graph().as_default(), tf.Session() as session:
        if model == "whitebox":
            whitebox.serving.build_inference()
            with np.load(path) as arrays:
                whitebox.serving.assign(session, arrays)
        else:
            if model == "stargan":
                stargan.serving.build_inference(STARGAN, SOURCES)
            else:
                pix2pix.serving.build_inference(PIX2PIX)
            tf.train.Saver().restore(session, path)
        return session.run(output + ":0", {name + ":0": feed[name] for name in inputs})


def _report(place):
    with open(str(place / "g_parity.json")) as file:
        return json.load(file)


def _contents(folder):
    """Returns {path: bytes} of all files below a folder, hidden ones too."""
    found = {}
    for place, _, names in os.walk(str(folder)):
        for name in names:
            with open(os.path.join(place, name), "rb") as file:
                found[os.path.relpath(os.path.join(place, name), str(folder))] = file.read()
    return found


@pytest.mark.parametrize("model", sorted(NODES))
def test_every_format_computes_what_the_session_does(model, checkpoints, export, small, tmp_path):
    words = ["--formats=" + KINDS] + small
    sizes = {"pix2pix": (256, 512), "stargan": None, "whitebox": (40, 64)}
    if IS_1 and model == "pix2pix":  # its interpreter lacks an operation
        words[0] = "--formats=pb,saved_model,onnx"
    elif IS_1 and model == "whitebox":  # it makes a .tflite of one size
        words, sizes[model] = words + ["--size=32"], None
    out = export(model, tmp_path, *words)
    jsons = ["g.onnx.json", "g.pb.json"] if model == "stargan" else []
    files = [name for name in FILES if "tflite" in words[0] or name != "g.tflite"]
    assert sorted(os.listdir(str(tmp_path))) == sorted(files + jsons)
    cases = [(1, None), (3, None)] + ([(2, sizes[model])] if sizes[model] else [])
    feeds = [_feed(model, *case) for case in cases]
    expected = [_session(model, checkpoints[model], feed) for feed in feeds]
    assert expected[0].std() > 0.1
    inputs, output = NODES[model]
    for kind in words[0][len("--formats=") :].split(","):
        ending = ckpt_to_pb.ENDINGS[kind]
        path = str(tmp_path / ("g" + ending))
        with runtimes.OPEN[kind](path, inputs, output, SESSION) as (run, _):
            for feed, wanted in zip(feeds, expected):
                np.testing.assert_allclose(run(feed), wanted, atol=1e-4)
        record = _report(tmp_path)["g" + ending]
        assert record["differences"]["picture"]["max_difference"] <= record["tolerance"] <= 1e-4
        assert sorted(name.split(":")[0] for name in record["inputs"]) == sorted(inputs)
        assert [name.split(":")[0] for name in record["outputs"]] == [output] or kind == "tflite"
        assert {k: record[k] for k in ("bytes", "sha256")} == parity.fingerprint(path)
        assert record["latency_ms"] > 0 < record["network_latency_ms"]
        assert record["sha256"] in out
        assert record["pictures"].startswith("2 pictures of ")
        assert record["checkpoint"] == checkpoints[model]


@pytest.mark.parametrize("model", sorted(NODES))
def test_the_pb_is_what_the_folder_itself_writes(model, checkpoints, export, small, tmp_path):
    export(model, tmp_path, *small)
    own, path = str(tmp_path / "own.pb"), checkpoints[model]
    if model == "pix2pix":
        pix2pix.serving.export(PIX2PIX, path, own)
    elif model == "stargan":
        stargan.serving.export(STARGAN, SOURCES, path, own)
    else:
        whitebox.exporting.export(path, own)
    theirs = [(node.name, node.op, list(node.input)) for node in graphs.read_definition(own).node]
    ours = graphs.read_definition(str(tmp_path / "g.pb")).node
    assert [(node.name, node.op, list(node.input)) for node in ours] == theirs
    shape = _report(tmp_path)["g.pb"]["inputs"][NODES[model][0][0]]
    assert shape == ([None, 32, 32, 3] if model == "stargan" else [None, None, None, 3])


@pytest.mark.parametrize("broken", ["saved_model", "onnx", "tflite"])
def test_a_wrong_file_fails_and_leaves_what_was_there(broken, export, tmp_path, monkeypatch):
    words = ["--formats=pb," + broken]
    export("stargan", tmp_path, *words)
    before, write = _contents(tmp_path), getattr(formats, "write_" + broken)

    def write_wrong(graph, *nodes, **others):
        wrong = tf.GraphDef()
        wrong.CopyFrom(graph)
        for node in wrong.node:
            if node.op == "Const" and node.name.startswith("G/G_logit/conv2d/kernel"):
                value = tf.make_ndarray(node.attr["value"].tensor) * 1.01
                node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
        write(wrong, *nodes, **others)

    monkeypatch.setattr(formats, "write_" + broken, write_wrong)
    name = "g" + ckpt_to_pb.ENDINGS[broken]
    with pytest.raises(UserError, match=name + r" is up to .*e-0[23] off the network, 1e-0\d is"):
        export("stargan", tmp_path, "--count=1", *words)
    assert _contents(tmp_path) == before
    assert sorted(name for name in os.listdir(str(tmp_path)) if name.startswith(".")) == []


def test_without_pictures_smooth_ones_are_drawn(export, tmp_path):
    export("stargan", tmp_path)
    record = _report(tmp_path)["g.pb"]
    assert record["pictures"] == "3 smooth random pictures, seed 0"
    assert record["differences"]["picture"]["greatest"] > 0.3


def test_a_size_is_fixed_in_every_file(checkpoints, export, small, tmp_path):
    export("whitebox", tmp_path, "--size=64", "--formats=" + KINDS, *small)
    for name, record in _report(tmp_path).items():
        for shape in record["inputs"].values():
            assert shape[1:] == [64, 64, 3], name
    export("pix2pix", tmp_path, "--size=512", *small)
    record = _report(tmp_path)["g.pb"]
    assert record["inputs"] == {"input": [None, 512, 512, 3]}
    assert "--input_shape=input:1,512,512,3" in record["atc"]
    assert record["outputs"]["output"][3] == 3


def test_float16_weights_halve_the_tflite(export, small, tmp_path):
    words, sizes = ["--formats=tflite", "--size=64"] + small, []
    for weights in ("float32", "float16"):
        export("whitebox", tmp_path, "--tflite_weights=" + weights, *words)
        record = _report(tmp_path)["g.tflite"]
        sizes.append(record["bytes"])
        assert sorted(os.listdir(str(tmp_path))) == ["g.tflite", "g_parity.json"]
    assert record["tolerance"] == 5e-3
    assert 1e-5 < record["differences"]["picture"]["max_difference"] < 5e-3
    assert 0.45 < sizes[1] / sizes[0] < 0.6


@pytest.mark.skipif(not IS_1, reason="TensorFlow 2 has it")
def test_an_interpreter_without_an_operation_is_told(export, small, tmp_path):
    with pytest.raises(UserError, match=r"tflite: TensorFlow 1\.15\.\d cannot run this network so"):
        export("pix2pix", tmp_path, "--formats=pb,tflite", "--size=256", *small)
    assert os.listdir(str(tmp_path)) == []


@pytest.mark.skipif(not IS_1, reason="TensorFlow 2 makes a .tflite of any size")
def test_a_tflite_of_any_size_is_refused(export, tmp_path):
    with pytest.raises(UserError, match=r"TensorFlow 1\.15\.\d makes a \.tflite of one size only"):
        export("whitebox", tmp_path, "--formats=tflite")
    assert os.listdir(str(tmp_path)) == []


@pytest.mark.skipif(not IS_1, reason="the onnxruntime beside TensorFlow 2 takes opset 18")
def test_an_opset_that_cannot_be_compared_is_refused(export, tmp_path):
    with pytest.raises(UserError, match=r"--opset 18: onnxruntime 1\.10\.\d cannot load such an"):
        export("stargan", tmp_path, "--formats=onnx", "--opset=18")
    assert os.listdir(str(tmp_path)) == []


@pytest.mark.parametrize("opset", [13, 15 if IS_1 else 18])
def test_the_onnx_has_the_opset_that_was_asked_for(opset, export, tmp_path):
    onnx = pytest.importorskip("onnx")
    export("stargan", tmp_path, "--formats=onnx", "--opset=%d" % opset)
    model = onnx.load(str(tmp_path / "g.onnx"))
    assert [one.version for one in model.opset_import if not one.domain] == [opset]
    with open(str(tmp_path / "g.onnx.json")) as file:
        assert json.load(file)["labels"][0]["names"] == list(NAMES)


def test_real_pictures_of_any_size_and_a_report_that_grows(export, tmp_path):
    rng = np.random.RandomState(3)
    (tmp_path / "photos").mkdir()
    for name, shape in (("1.png", (50, 40, 3)), ("2.jpg", (33, 70, 3)), ("3.png", (20, 20, 4))):
        pixels = Image.fromarray(rng.randint(0, 256, shape).astype(np.uint8))
        pixels.save(str(tmp_path / "photos" / name))
    words = ["--pictures=" + str(tmp_path / "photos")]
    for model in ("stargan", "whitebox", "pix2pix"):
        export(model, tmp_path / model, *words)
        record = _report(tmp_path / model)["g.pb"]
        assert record["pictures"] == "3 pictures of %s" % (tmp_path / "photos")
        assert record["differences"]["picture"]["greatest"] > 0.3
    words += ["--formats=onnx", "--count=1"]
    with pytest.raises(UserError, match=r"g\.onnx is up to .* off the network, 1e-12 is allowed"):
        export("stargan", tmp_path / "new" / "deep", "--tolerance=1e-12", *words)
    assert not (tmp_path / "new").exists()
    export("stargan", tmp_path / "stargan", *words)
    report = _report(tmp_path / "stargan")
    assert sorted(report) == ["g.onnx", "g.pb"]
    assert report["g.onnx"]["pictures"].startswith("1 pictures of ")


def test_the_command_for_atc_has_the_nodes_and_shapes(export, tmp_path):
    out = export("stargan", tmp_path, "--soc=Ascend910", "--formats=" + KINDS)
    line = "atc --framework=3 --model=g.pb --output=g --soc_version=Ascend910 --input_format=NHWC "
    line += "'--input_shape=x_real:1,32,32,3;c_trg:1,2' --out_nodes=G/Tanh:0 --output_type=FP32"
    assert line in out
    report = _report(tmp_path)
    assert report["g.pb"]["atc"] == line
    line = "atc --framework=5 --model=g.onnx --output=g --soc_version=Ascend910 --input_format=ND "
    line += "'--input_shape=x_real:0:1,32,32,3;c_trg:0:1,2' --output_type=FP32"
    assert report["g.onnx"]["atc"] == line
    assert sorted(name for name in report if "atc" in report[name]) == ["g.onnx", "g.pb"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--model=neural"], "NEURAL-STYLE_.* has no network to export, it optimises each picture"),
        (["--model=u-gat"], r"for MindSpore; export it with tools/export/ckpt_to_mindir\.py"),
        (["--model=w", "--ckpt=no.npz"], r"there is no file no\.npz; give a checkpoint"),
        (["--model=w", "--size=30"], r"--size 30: it must be a multiple of 4, or 0 for any"),
        (["--model=pix", "--size=64"], r"--size 64: it must be a multiple of 256, or 0"),
        (["--model=star", "--size=64"], r"--size 64: this network takes pictures of 32 pixels"),
        (["--model=star", "--image_size=64"], r"model-7 was trained with 32; leave the option out"),
        (["--model=star", "--ckpt=no-7"], r"--ckpt no-7: there is no no-7\.index; give a"),
        (["--model=star", "--pictures=no"], r"there is no folder no; give a folder of pictures"),
    ],
)
def test_what_cannot_be_exported_is_told_in_one_sentence(
    words, sentence, export, checkpoints, tmp_path
):
    starts = {"--model=w": "whitebox", "--model=pix": "pix2pix", "--model=star": "stargan"}
    if words[0] in starts and "--ckpt" not in words[1]:
        words = words + ["--ckpt=" + checkpoints[starts[words[0]]]]
    with pytest.raises(UserError, match=sentence) as error:
        export("stargan", tmp_path / "new", *words)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("--formats=pb,mindir", "--formats mindir: each must be one of pb, saved_model, onnx, tf"),
        ("--out=g.onnx", "--out g.onnx: it must be a name that ends in .pb"),
        ("--opset=19", "--opset 19 is too large; it must be at most 18"),
        ("--g_conv=4", "unknown option --g_conv=4; did you mean --g_conv_dim?"),
    ],
)
def test_a_wrong_option_is_told_in_one_sentence(word, sentence, export, tmp_path, capsys):
    with pytest.raises(SystemExit):
        export("stargan", tmp_path, word)
    assert sentence in capsys.readouterr().err
    assert os.listdir(str(tmp_path)) == []


def test_what_is_no_export_is_not_replaced(export, tmp_path, monkeypatch):
    (tmp_path / "g_saved_model").mkdir()
    (tmp_path / "g_saved_model" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="g_saved_model is a folder with something else in it"):
        export("stargan", tmp_path, "--formats=pb,saved_model")
    (tmp_path / "g.onnx").mkdir()
    with pytest.raises(UserError, match=r"g\.onnx is a folder; choose another name"):
        export("stargan", tmp_path, "--formats=onnx")
    (tmp_path / "g.pb.json").mkdir()
    (tmp_path / "g.pb.json" / "mine.txt").write_text("mine")
    monkeypatch.setattr(ckpt_to_pb, "write", None)  # it is told before anything is written
    with pytest.raises(UserError, match=r"g\.pb\.json is a folder; choose another name"):
        export("stargan", tmp_path)
    assert sorted(_contents(tmp_path)) == ["g.pb.json/mine.txt", "g_saved_model/thesis.txt"]


@pytest.mark.parametrize("model", sorted(NODES))
def test_the_command_line_exports(model, checkpoints, small, tmp_path):
    program = os.path.join(os.path.dirname(atc.__file__), "ckpt_to_pb.py")
    words = small + ["--model", model, "--ckpt", checkpoints[model], "--out", "a b/g.pb"]
    done = subprocess.run(
        [sys.executable, program] + words,
        cwd=str(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "g.pb: " in done.stdout
    assert "atc --framework=3 --model=g.pb" in done.stdout
    assert os.path.exists(str(tmp_path / "a b" / "g.pb"))
    command = _report(tmp_path / "a b")["g.pb"]["command"]
    assert command.endswith("--ckpt %s --out 'a b/g.pb'" % checkpoints[model])
