# SPDX-License-Identifier: Apache-2.0
"""The exported files compute what the checkpoint does, and wrong requests leave nothing."""

import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import draw_photo, run

from harness.errors import UserError
from harness.platform_options import PlatformOptions
from tf_runtime import device as devices
from whitebox import data, exporting, serving
from whitebox.generators import GENERATOR_SHAPES, read_generator, write_generator

CPU = devices.Device("cpu", "", PlatformOptions(), 1)
IS_1 = tf.__version__.startswith("1.")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The path of a checkpoint whose generator changes pictures a lot, but not beyond [-1, 1]."""
    rng, arrays = np.random.RandomState(0), {}
    for name, shape in GENERATOR_SHAPES.items():
        bound = np.sqrt(6 / (np.prod(shape[:2]) * (shape[2] + shape[3]))) if shape[1:] else 0.1
        arrays[name] = rng.uniform(-bound, bound, shape)
    path = str(tmp_path_factory.mktemp("weights") / "model-5")
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    tf.disable_v2_behavior()
    write_generator(path, arrays)
    return path


def pictures(*shape):
    return np.random.RandomState(7).uniform(-1, 1, shape + (3,)).astype(np.float32)


def expected(weights, images, smooth=5e-3):
    """Returns what a session makes of float32 `images`."""
    with tf.Graph().as_default(), tf.Session() as session:
        placeholder, cartoons = serving.build_inference(None, smooth)
        serving.assign(session, read_generator(weights))
        return session.run(cartoons, {placeholder: images})


def by_pb(path, images):
    graph = tf.GraphDef()
    with open(path, "rb") as file:
        graph.ParseFromString(file.read())
    with tf.Graph().as_default(), tf.Session() as session:
        tf.import_graph_def(graph, name="")
        return session.run("add_1:0", {"input:0": images})


def by_onnx(path, images):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [node.name for node in session.get_inputs()] == ["input:0"]
    return session.run(["add_1:0"], {"input:0": images})[0]


def by_tflite(path, images):
    interpreter = tf.lite.Interpreter(path)
    (first,), (last,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(first["index"], images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(first["index"], images)
    interpreter.invoke()
    return interpreter.get_tensor(last["index"])


def test_the_pictures_are_changed_by_the_generator_and_by_the_filter(weights):
    images = pictures(2, 40, 64)
    made, raw = expected(weights, images), expected(weights, images, 0)
    assert np.abs(made - images).mean() > 0.1
    assert np.abs(made - raw).mean() > 0.01
    assert 0.1 < np.abs(made).max() < 2


@pytest.mark.parametrize("ending", ["pb", "onnx"])
@pytest.mark.parametrize(
    ("size", "shapes"), [(32, [(1, 32, 32), (3, 32, 32)]), (0, [(2, 40, 64), (1, 36, 32)])]
)
def test_a_pb_and_an_onnx_compute_what_the_session_does(weights, tmp_path, ending, size, shapes):
    path = str(tmp_path / "new" / ("g." + ending))
    exporting.export(weights, path, size)
    for shape in shapes:
        images = pictures(*shape)
        made = (by_pb if ending == "pb" else by_onnx)(path, images)
        np.testing.assert_allclose(made, expected(weights, images), atol=1e-5)
    assert os.listdir(str(tmp_path / "new")) == ["g." + ending]


def test_the_filter_is_in_the_file_or_left_out(weights, tmp_path):
    images = pictures(1, 32, 32)
    for smooth in (0.0, 0.1):
        exporting.export(weights, str(tmp_path / "g.pb"), 32, smooth)
        made = by_pb(str(tmp_path / "g.pb"), images)
        np.testing.assert_allclose(made, expected(weights, images, smooth), atol=1e-5)


def test_a_pb_keeps_the_size_it_was_made_for(weights, tmp_path):
    shapes = []
    for size in (64, 0):
        path = str(tmp_path / "g.pb")
        exporting.export(weights, path, size)
        nodes = {node.name: node for node in serving.read_graph(path).node}
        assert {node.op for node in nodes.values()}.isdisjoint({"VariableV2", "VarHandleOp"})
        assert nodes["input"].op == "Placeholder"
        shapes.append([side.size for side in nodes["input"].attr["shape"].shape.dim])
    assert shapes == [[-1, 64, 64, 3], [-1, -1, -1, 3]]


@pytest.mark.skipif(IS_1, reason="TensorFlow 1.15 makes a .tflite of one size only")
def test_a_tflite_takes_any_size(weights, tmp_path):
    path = str(tmp_path / "g.tflite")
    exporting.export(weights, path, 0)
    for shape in ((1, 32, 32), (2, 40, 64)):
        images = pictures(*shape)
        np.testing.assert_allclose(by_tflite(path, images), expected(weights, images), atol=5e-3)


def test_a_tflite_of_one_size_has_float16_weights_and_any_number_of_pictures(
    weights, tmp_path, monkeypatch
):
    monkeypatch.setenv("PATH", os.defpath)  # an environment that is used without activating it
    path = str(tmp_path / "g.tflite")
    exporting.export(weights, path, 32)
    values = sum(np.prod(shape) for shape in GENERATOR_SHAPES.values())
    assert 2 * values < os.path.getsize(path) < 2.2 * values
    for shape in ((1, 32, 32), (3, 32, 32)):
        images = pictures(*shape)
        np.testing.assert_allclose(by_tflite(path, images), expected(weights, images), atol=5e-3)


@pytest.mark.skipif(not IS_1, reason="TensorFlow 2 makes a .tflite of any size")
def test_a_tflite_of_any_size_is_refused(weights, tmp_path):
    with pytest.raises(UserError, match=r"TensorFlow 1\.15\.\d makes a \.tflite of one size only"):
        exporting.export(weights, str(tmp_path / "g.tflite"), 0)
    assert os.listdir(str(tmp_path)) == []


@pytest.mark.parametrize("shape", [(64, 48), (37, 50)])  # (W, H)
def test_a_cartoonizer_makes_the_same_of_a_pb_as_of_the_checkpoint(weights, tmp_path, shape):
    path = str(tmp_path / "g.pb")
    exporting.export(weights, path)
    photos = np.stack([draw_photo(np.random.RandomState(n), shape) for n in (1, 2)])
    made = []
    for source in (path, weights):
        with serving.Cartoonizer(source, CPU) as cartoonize:
            made.append(cartoonize(photos).astype(int))
    assert made[0].shape == photos.shape
    assert np.abs(made[0] - made[1]).max() <= 1
    assert np.abs(made[0] - photos).mean() > 10
    if shape == (64, 48):  # multiples of 4: nothing is padded
        cartoons = data.to_uint8(expected(weights, data.to_float(photos)))
        assert np.abs(made[0] - cartoons).max() <= 1


def test_a_cartoonizer_refuses_a_pb_of_one_size(weights, tmp_path):
    path = str(tmp_path / "g.pb")
    exporting.export(weights, path, 32)
    with pytest.raises(UserError, match=r"takes pictures of 32 x 32 pixels only; export it again"):
        serving.Cartoonizer(path, CPU).__enter__()


@pytest.mark.parametrize("name", ["g.h5", "g", "pb", "g.PB"])
def test_an_ending_that_is_not_known_is_refused(weights, tmp_path, name):
    with pytest.raises(UserError) as caught:
        exporting.export(weights, str(tmp_path / name))
    sentence = "an export ends in .pb, .onnx, .tflite; choose one"
    assert str(caught.value) == "%s: %s" % (tmp_path / name, sentence)
    assert os.listdir(str(tmp_path)) == []


def test_weights_that_are_missing_leave_what_was_there(tmp_path):
    (tmp_path / "g.pb").write_bytes(b"before")
    with pytest.raises(UserError, match=r"there is no .*nothing-3\.index; give a checkpoint"):
        exporting.export(str(tmp_path / "nothing-3"), str(tmp_path / "g.pb"))
    assert (tmp_path / "g.pb").read_bytes() == b"before"
    assert os.listdir(str(tmp_path)) == ["g.pb"]


def test_a_write_that_fails_leaves_nothing(weights, tmp_path):
    (tmp_path / "g.pb" / "inside").mkdir(parents=True)  # a folder where the file should be
    with pytest.raises(OSError, match=r"g\.pb"):
        exporting.export(weights, str(tmp_path / "g.pb"))
    assert os.listdir(str(tmp_path)) == ["g.pb"]
    assert os.listdir(str(tmp_path / "g.pb")) == ["inside"]


def test_the_program_exports_the_newest_generator(weights, tmp_path):
    folder = tmp_path / "output" / "train_cartoon" / "saved_models"
    arrays = read_generator(weights)
    write_generator(str(folder / "model-9"), {name: -array for name, array in arrays.items()})
    write_generator(str(folder / "model-10"), arrays)
    done = run("test_code/ckpt2pb.py", "--patch-size=32", "--output=a b/g.pb", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    names = ("./output/train_cartoon/saved_models/model-10", "a b/g.pb")
    assert "%s -> %s (nodes input -> add_1)\n" % names in done.stdout
    images = pictures(1, 32, 32)
    made = by_pb(str(tmp_path / "a b" / "g.pb"), images)
    np.testing.assert_allclose(made, expected(weights, images), atol=1e-5)


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["--patch_size=30"], 2, "ckpt2pb.py: --patch_size 30: it must be a multiple of 4"),
        (["--patchsize=8"], 2, "unknown option --patchsize=8; did you mean --patch_size?"),
        ([], 1, "error: no generator in ./output/train_cartoon/saved_models; give --weights, or"),
    ],
)
def test_the_program_answers_mistakes_in_one_line(tmp_path, words, status, sentence):
    done = run("test_code/ckpt2pb.py", *words, cwd=tmp_path)
    assert done.returncode == status
    assert sentence in done.stdout.splitlines()[-1]
    assert "Traceback" not in done.stdout
    assert os.listdir(str(tmp_path)) == []
