# SPDX-License-Identifier: Apache-2.0
"""The generator's weights: checkpoints and .npz, the same bytes everywhere, what is wrong."""

import glob
import hashlib
import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import FOLDER

from tf_runtime.checkpoints import restore
from whitebox import networks
from whitebox.generators import (
    GENERATOR_SHAPES,
    newest_generator,
    read_generator,
    write_generator,
)
from whitebox.weights import WeightsError

SHARED = os.path.join(os.path.dirname(os.path.dirname(FOLDER)), "shared", "data", "whitebox")
FIRST, LAST = "generator/Conv/biases", "generator/block_3/conv2/weights"
DATA = ".data-00000-of-00001"


def draw(seed=0):
    rng = np.random.RandomState(seed)
    shapes = GENERATOR_SHAPES.items()
    return {name: rng.uniform(-1, 1, shape).astype(np.float32) for name, shape in shapes}


@pytest.fixture(scope="module")
def arrays():
    return draw()


@pytest.fixture
def saved(tmp_path, arrays):
    path = str(tmp_path / "model-7")
    write_generator(path, arrays)
    return path


def same(read, arrays):
    assert list(read) == list(GENERATOR_SHAPES)
    for name, array in read.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, arrays[name], name)


def fails(path, *words):
    """Asserts one sentence that names the file and has the words."""
    with pytest.raises(WeightsError) as caught:
        read_generator(str(path))
    message = str(caught.value)
    for word in (str(path),) + words:
        assert word in message
    assert "\n" not in message


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()[:16]


def save_variables(path, arrays):
    """Saves `arrays` as variables by TensorFlow's own saver."""
    with tf.Graph().as_default(), tf.Session() as session:
        variables = [tf.get_variable(name, initializer=value) for name, value in arrays.items()]
        session.run(tf.global_variables_initializer())
        tf.train.Saver(variables).save(session, str(path), write_meta_graph=False)


def test_shapes_are_those_of_the_network():
    networks.generator(tf.placeholder(tf.float32, [1, 32, 32, 3]))
    there = {v.op.name: tuple(v.shape.as_list()) for v in tf.global_variables()}
    assert there == GENERATOR_SHAPES
    assert len(GENERATOR_SHAPES) == 36
    assert sum(int(np.prod(shape)) for shape in GENERATOR_SHAPES.values()) == 1467075


def test_checkpoint_holds_the_weights_and_nothing_else(tmp_path, saved, arrays):
    assert sorted(os.listdir(str(tmp_path))) == ["model-7" + DATA, "model-7.index"]
    for ending in ("", ".index", DATA):
        same(read_generator(saved + ending), arrays)
    listed = [(name, list(shape)) for name, shape in GENERATOR_SHAPES.items()]
    assert tf.train.list_variables(saved) == listed


def test_checkpoint_has_the_same_bytes_with_every_tensorflow(saved):
    assert os.path.getsize(saved + DATA) == 4 * 1467075
    assert (digest(saved + DATA), digest(saved + ".index")) == (
        "0401926e3aa858ac",
        "aa80577d9df40605",
    )


def test_checkpoint_loads_into_the_network(saved, arrays):
    networks.generator(tf.placeholder(tf.float32, [1, 32, 32, 3]))
    with tf.Session() as session:
        restore(session, saved, tf.global_variables())
        last = [variable for variable in tf.global_variables() if variable.op.name == LAST]
        np.testing.assert_array_equal(session.run(last[0]), arrays[LAST])


def test_checkpoint_may_hold_other_variables_and_replaces_an_older_one(tmp_path, arrays):
    path = str(tmp_path / "model-7")
    others = {"disc/u": np.arange(1.0, 5.0), FIRST + "/Adam": arrays[FIRST] / 2}
    save_variables(path, dict(arrays, **others))
    same(read_generator(path), arrays)
    newer = draw(seed=1)
    write_generator(path, newer)
    same(read_generator(path), newer)


def test_npz_is_written_and_read(tmp_path, arrays):
    path = str(tmp_path / "new" / "generator.npz")
    write_generator(path, dict(arrays, other=np.ones(3)))
    assert os.listdir(os.path.dirname(path)) == ["generator.npz"]
    same(read_generator(path), arrays)
    with np.load(path) as content:
        assert content.files == list(GENERATOR_SHAPES)
    before = digest(path)
    write_generator(path, arrays)
    assert digest(path) == before


def test_npz_may_be_of_half_precision(tmp_path, arrays):
    half = {name: array.astype(np.float16) for name, array in arrays.items()}
    np.savez(str(tmp_path / "half.npz"), **half)
    same(read_generator(str(tmp_path / "half.npz")), half)


def test_missing_files_are_told(tmp_path, saved):
    fails(tmp_path / "none", "there is no %s.index" % (tmp_path / "none"))
    fails(tmp_path / "none.npz", "there is no file")
    fails(tmp_path, "is a folder; give a checkpoint in it, as model-7")
    (tmp_path / "dir.npz").mkdir()
    fails(tmp_path / "dir.npz", "cannot be read (IsADirectoryError")
    os.remove(saved + DATA)
    fails(saved, "model-7.index has no model-7" + DATA)


@pytest.mark.parametrize("ending", [DATA, ".index"])
def test_damaged_checkpoints_are_told(saved, ending):
    with open(saved + ending, "rb") as file:
        whole = file.read()
    middle = len(whole) // 2
    cases = [
        (b"", "%s%s is empty" % (saved, ending)),
        (b"<html><body>404", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (whole[:middle], "incomplete or damaged"),
        (whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :], "damaged"),
    ]
    for content, words in cases:
        with open(saved + ending, "wb") as file:
            file.write(content)
        fails(saved, words)


def test_other_networks_are_told(tmp_path, arrays):
    path = tmp_path / "model-1"
    some = {name: arrays[name] for name in list(arrays)[2:]}
    save_variables(path, some)
    words = "has no generator/Conv/biases, generator/Conv/weights (2 of 36 arrays"
    fails(path, words)
    np.savez(str(tmp_path / "some.npz"), **some)
    fails(tmp_path / "some.npz", words)
    save_variables(path, dict(arrays, **{FIRST: np.ones(31, np.float32)}))
    fails(path, FIRST, "shape (31,); it must be (32,)")
    save_variables(path, dict(arrays, **{LAST: arrays[LAST] * np.float32(np.inf)}))
    fails(path, LAST, "NaN or infinite")
    save_variables(path, dict(arrays, **{FIRST: np.arange(32)}))
    fails(path, FIRST, "int64", "floating-point numbers")


def test_damaged_and_pickled_npz_are_told(tmp_path, arrays):
    path = tmp_path / "g.npz"
    objects = np.array([tmp_path] * 32, dtype=object)
    np.savez(str(path), **dict(arrays, **{FIRST: objects}))
    fails(path, FIRST, "is pickled", "is not trusted")
    np.savez(str(path), **arrays)
    whole = path.read_bytes()
    for content, words in [
        (whole[:100000], "BadZipFile"),
        (whole[:100000] + b"damage" + whole[100006:], "Bad CRC-32"),
        (b"\x80\x04N.", "BadZipFile"),
        (b"", "is empty"),
    ]:
        path.write_bytes(content)
        fails(path, words)


@pytest.mark.parametrize("name", ["model-1", "g.npz"])
def test_failed_writing_leaves_what_stood_there(tmp_path, arrays, name):
    path = str(tmp_path / name)
    write_generator(path, arrays)
    before = {file: digest(file) for file in glob.glob(path + "*")}
    wrong = dict(arrays, **{FIRST: np.ones(31, np.float32)})
    with pytest.raises(WeightsError, match=r"generator/Conv/biases of .* has the shape"):
        write_generator(path, wrong)
    below = os.path.join(sorted(before)[0], name)  # below a file
    with pytest.raises(WeightsError, match=r"cannot write .*; free space or choose another"):
        write_generator(below, arrays)
    assert {file: digest(file) for file in glob.glob(path + "*")} == before
    os.makedirs(str(tmp_path / "b" / (name if name.endswith(".npz") else name + ".index")))
    with pytest.raises(WeightsError, match="cannot write"):
        write_generator(str(tmp_path / "b" / name), arrays)
    assert not [entry for entry in os.listdir(str(tmp_path / "b")) if entry.startswith(".")]


def test_newest_generator_goes_by_number(tmp_path):
    assert newest_generator(str(tmp_path / "none")) == newest_generator(str(tmp_path)) == ""
    for name in ("model-999.index", "model-33999.index", "model-4000.index", "other-50000.index"):
        (tmp_path / name).write_bytes(b"x")
    assert newest_generator(str(tmp_path)) == str(tmp_path / "model-33999")


@pytest.mark.skipif(not os.path.isdir(SHARED), reason="the published weights are not here")
def test_published_weights_are_read_and_have_the_published_names(tmp_path):
    arrays = read_generator(os.path.join(SHARED, "whitebox_generator_33999_from_tflite.npz"))
    assert sum(array.size for array in arrays.values()) == 1467075
    write_generator(str(tmp_path / "model-33999"), arrays)
    same(read_generator(str(tmp_path / "model-33999")), arrays)
    published = tf.train.list_variables(os.path.join(SHARED, "saved_models", "model-33999"))
    assert tf.train.list_variables(str(tmp_path / "model-33999")) == published
