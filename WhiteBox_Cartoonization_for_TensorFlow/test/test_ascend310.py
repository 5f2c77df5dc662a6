# SPDX-License-Identifier: Apache-2.0
"""Photos through .bin files and back; an ordinary session stands in for the inference client."""

import json
import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import FOLDER, draw_photo, run, write_vgg
from PIL import Image

from harness.errors import UserError
from tf_runtime import device as devices
from tf_runtime import ranks
from whitebox import exporting, offline, serving, training
from whitebox.config import CartoonizeConfig, Config
from whitebox.data import to_float
from whitebox.generators import GENERATOR_SHAPES, write_generator
from whitebox.vgg import Vgg
from whitebox.weights import read_vgg

SIZE = 64


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The path of a .pb, for any size, whose generator changes pictures a lot."""
    rng, arrays = np.random.RandomState(0), {}
    for name, shape in GENERATOR_SHAPES.items():
        bound = np.sqrt(6 / (np.prod(shape[:2]) * (shape[2] + shape[3]))) if shape[1:] else 0.1
        arrays[name] = rng.uniform(-bound, bound, shape).astype(np.float32)
    folder = tmp_path_factory.mktemp("model")
    tf.disable_v2_behavior()
    write_generator(str(folder / "model-5"), arrays)
    exporting.export(str(folder / "model-5"), str(folder / "wbcnet.pb"))
    return folder / "wbcnet.pb"


@pytest.fixture
def photos(tmp_path):
    """A folder of three photos of SIZE x SIZE pixels, and their names."""
    (tmp_path / "photos").mkdir()
    names = ["2013-11-08 16_45_24.jpg", "b.v2.PNG", "海.ppm"]
    for number, name in enumerate(names):
        pixels = draw_photo(np.random.RandomState(number), (SIZE, SIZE))
        Image.fromarray(pixels).save(str(tmp_path / "photos" / name))
    return tmp_path / "photos", names


def _client(model, inputs, outputs, ending):
    """Does what msame does with a model of batch 1: one folder in, one named by the time out."""
    config = CartoonizeConfig(device="cpu")
    options = devices.session_config(devices.choose(config))
    os.makedirs(str(outputs))
    with tf.Graph().as_default(), tf.Session(config=options) as session:
        tf.import_graph_def(serving.read_graph(str(model)), name="")
        for name in sorted(os.listdir(str(inputs))):
            image = np.fromfile(str(inputs / name), np.float32).reshape(1, SIZE, SIZE, 3)
            result = session.run("add_1:0", {"input:0": image})
            path = str(outputs / (name[: -len(".bin")] + "_output_0" + ending))
            if ending == ".bin":
                result.tofile(path)
            else:
                np.savetxt(path, result.reshape(SIZE, -1), "%.9g")


@pytest.mark.parametrize("ending", [".bin", ".txt"])
def test_the_commands_give_what_cartoonize_gives_byte_for_byte(model, photos, tmp_path, ending):
    folder, names = photos
    fake = tmp_path / "no_tensorflow"
    fake.mkdir()
    (fake / "tensorflow.py").write_text("raise RuntimeError('not on this host')")
    words = ["--data_path", folder, "--patch_size=%d" % SIZE]
    done = run("test_code/preprocess.py", *words, cwd=tmp_path, PYTHONPATH=str(fake))
    assert done.returncode == 0, done.stdout
    bins = tmp_path / "input_bin"
    assert sorted(os.listdir(str(bins))) == sorted(name + ".bin" for name in names)
    assert all(path.stat().st_size == 4 * SIZE * SIZE * 3 for path in bins.iterdir())
    _client(model, bins, tmp_path / "output_final" / "20260102_030405", ending)
    done = run("test_code/process.py", cwd=tmp_path, PYTHONPATH=str(fake))
    assert done.returncode == 0, done.stdout
    assert "3 cartoons written to ./cartoonized" in done.stdout
    words = ["--weights", model, "--input", folder, "--output=own", "--batch_size=1"]
    done = run("test_code/cartoonize.py", *(words + ["--device=cpu"]), cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    made, own = tmp_path / "cartoonized", tmp_path / "own"
    assert sorted(os.listdir(str(made))) == sorted(names[:2] + ["海.jpg"])
    for path in own.iterdir():
        assert (made / path.name).read_bytes() == path.read_bytes(), path.name
    changed = np.asarray(Image.open(str(made / names[1]))).astype(int)
    assert np.abs(changed - np.asarray(Image.open(str(folder / names[1])))).mean() > 5


def test_an_input_is_bgr_from_minus_one_to_one(tmp_path):
    pixels = draw_photo(np.random.RandomState(5), (SIZE, SIZE))
    pixels[0, 0], pixels[1, 2] = (255, 0, 0), (0, 0, 255)
    (tmp_path / "in").mkdir()
    Image.fromarray(pixels).save(str(tmp_path / "in" / "a.png"))
    assert offline.preprocess(str(tmp_path / "in"), str(tmp_path / "new" / "bins"), SIZE) == 0
    values = np.fromfile(str(tmp_path / "new" / "bins" / "a.png.bin"), np.float32)
    values = values.reshape(1, SIZE, SIZE, 3)
    assert values[0, 0, 0].tolist() == [-1, -1, 1]
    assert values[0, 1, 2].tolist() == [1, -1, -1]
    np.testing.assert_allclose(values[0], pixels[..., ::-1] / 127.5 - 1, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 3), (3, 2)])
def test_other_sizes_are_reduced_and_their_centre_is_cut_out(shape):
    pixels = draw_photo(np.random.RandomState(6), (shape[1] * SIZE, shape[0] * SIZE))
    means = pixels.reshape(shape[0] * SIZE // 2, 2, shape[1] * SIZE // 2, 2, 3).mean(axis=(1, 3))
    top, left = ((side - SIZE) // 2 for side in means.shape[:2])
    expected = means[top : top + SIZE, left : left + SIZE]
    assert np.abs(offline.fit(pixels, SIZE) - expected).max() <= 1
    small = offline.fit(pixels[:20, :30], SIZE)
    assert small.shape == (SIZE, SIZE, 3)
    edge = pixels[:20, 5:25].astype(int)
    assert np.abs(small.mean(axis=(0, 1)) - edge.mean(axis=(0, 1))).max() < 3
    assert offline.fit(expected.astype(np.uint8), SIZE).tolist() == expected.astype(int).tolist()


def test_a_broken_photo_is_named_and_the_others_are_written(photos, tmp_path, capsys):
    folder, names = photos
    path = folder / names[1]
    path.write_bytes(path.read_bytes()[:500])
    assert offline.preprocess(str(folder), str(tmp_path / "bins"), SIZE) == 1
    assert capsys.readouterr().err.startswith("left out: %s cannot be read as a picture" % path)
    assert sorted(os.listdir(str(tmp_path / "bins"))) == sorted(
        [names[0] + ".bin", names[2] + ".bin"]
    )


def _result(path, seed=0, dtype=np.float32):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.random.RandomState(seed).uniform(-1, 1, 8 * 8 * 3).astype(dtype).tofile(str(path))


def test_of_several_calls_of_the_client_the_newest_counts(tmp_path):
    for seed, name in ((1, "20260102_030405"), (2, "20251230_235959")):
        _result(tmp_path / "om" / name / "a.png_output_0.bin", seed)
    assert offline.postprocess(str(tmp_path / "om"), str(tmp_path / "made")) == 1
    values = np.random.RandomState(1).uniform(-1, 1, (8, 8, 3)).astype(np.float32)
    made = np.asarray(Image.open(str(tmp_path / "made" / "a.png")))
    assert np.abs(to_float(made) - values).max() <= 1.01 / 127.5


def _text(folder):
    (folder / "b.png_output_0.txt").write_text("0.5 -0.25 x")


def _halve(folder):
    _result(folder / "b.png_output_0.bin", 3, np.float16)


def _spoil(folder):
    values = np.random.RandomState(4).uniform(-1, 1, 48).astype(np.float32)
    values[7] = np.inf
    values.tofile(str(folder / "b.png_output_0.bin"))


def _double(folder):
    _result(folder / "a_output_0.bin", 5)
    _result(folder / "a.jpg_output_0.bin", 6)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (_text, r"b\.png_output_0\.txt is damaged: .*'x'; run the client again"),
        (_halve, r"b\.png_output_0\.bin holds 96 values of float32, which are no square .*FP32"),
        (_spoil, r"b\.png_output_0\.bin is not finite; run the client again"),
        (_double, r"a\.jpg_output_0\.bin and .*a_output_0\.bin would both become .*made/a\.jpg"),
    ],
)
def test_wrong_results_are_named(tmp_path, damage, sentence):
    _result(tmp_path / "om" / "c.png_output_0.bin")
    damage(tmp_path / "om")
    with pytest.raises(UserError, match=sentence) as caught:
        offline.postprocess(str(tmp_path / "om"), str(tmp_path / "made"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "made" / "b.png").exists()


def test_empty_folders_and_wrong_words_are_one_sentence(tmp_path):
    for program, words, sentence in (
        ("preprocess.py", [], "there is no folder ./dataset/scenery_photo; give a folder of"),
        ("preprocess.py", ["--patch_size=0"], "--patch_size 0 is too small; it must be at least 4"),
        ("process.py", [], "there is no NAME_output_0.bin or .txt in ./output_final or below; say"),
    ):
        done = run("test_code/" + program, *words, cwd=tmp_path)
        assert done.returncode in (1, 2)
        assert len(done.stdout.splitlines()) == 1
        assert sentence in done.stdout
    assert os.listdir(str(tmp_path)) == []


# Operators of CANN -> those of TensorFlow that become them, or are fused into them.
OPERATORS = {
    "AvgPool": "AvgPool",
    "AvgPoolGrad": "AvgPoolGrad",
    "AvgPoolGradD": "AvgPoolGrad",
    "Mul": "Mul",
    "Sub": "Sub",
    "RealDiv": "RealDiv",
    "L2Loss": "L2Loss",
    "ReduceSum": "Sum",
    "ReduceSumD": "Sum",
    "ReduceMean": "Mean",
    "ReduceMeanD": "Mean",
    "Square": "Square",
    "SquareSumV1": "Square",
    "Maximum": "Maximum",
    "Rsqrt": "Rsqrt",
}


def test_the_mix_list_names_operators_of_a_training_step(tmp_path):
    with open(os.path.join(FOLDER, "ops_info.json")) as file:
        names = json.load(file)["black-list"]["to-add"]
    assert sorted(names) == sorted(OPERATORS)
    write_vgg(tmp_path / "vgg.npz")
    config = Config(device="cpu", patch_size=32, batch_size=2, d_width=4)
    vgg = Vgg(read_vgg(str(tmp_path / "vgg.npz")))
    training.build_step(config, vgg, devices.choose(config), ranks.connect("cpu"))
    there = {operation.type for operation in tf.get_default_graph().get_operations()}
    assert {OPERATORS[name] for name in names} <= there
