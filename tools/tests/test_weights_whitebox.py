# SPDX-License-Identifier: Apache-2.0
"""The published White-box generator: every form of it gives the same arrays, and our graph's."""

import functools
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import TOOLS
from test_weights_files import _run_command

from harness.errors import UserError
from tools.weights import whitebox as published
from whitebox import generators, networks

ROOT = os.path.dirname(TOOLS)
_run = functools.partial(_run_command, published)
SHARED = os.path.join(os.path.dirname(ROOT), "shared", "data", "whitebox")
INDEX = os.path.join(SHARED, "saved_models")
PUBLISHED = os.path.join(SHARED, "whitebox_generator_33999_from_tflite.npz")


def _arrays(seed=0):
    rng = np.random.RandomState(seed)
    return {n: rng.normal(size=s).astype(np.float32) for n, s in published.shapes().items()}


def _assert_equal(mine, theirs):
    assert list(mine) == list(theirs)
    for name in mine:
        assert mine[name].dtype == np.float32
        np.testing.assert_array_equal(mine[name], theirs[name])


def test_a_bundle_that_tensorflow_wrote_reads_without_tensorflow(tmp_path, monkeypatch, capsys):
    arrays = _arrays()
    path = str(tmp_path / "model-33999")
    generators.write_generator(path, arrays)
    _assert_equal(published.from_bundle(path), arrays)
    assert sum(array.size for array in arrays.values()) == 1467075
    monkeypatch.setattr(published.importlib.util, "find_spec", lambda name: None)
    for name in (path, path + ".index", path + published.ENDING):
        _assert_equal(published.read(name)[0], arrays)
    _run(capsys, path, "--output", tmp_path / "model.npz")
    _assert_equal(generators.read_generator(str(tmp_path / "model.npz")), arrays)
    with pytest.raises(UserError, match=r"is not installed here; name an \.npz"):
        _run(capsys, path, "--output", tmp_path / "model-1")


def test_names_and_shapes_are_those_of_our_graph():
    with tf.Graph().as_default():
        networks.generator(tf.placeholder(tf.float32, [1, 8, 8, 3]))
        ours = {v.op.name: tuple(v.shape.as_list()) for v in tf.trainable_variables()}
    assert ours == published.shapes()


def test_names_and_shapes_are_those_of_the_published_index():
    if not os.path.isdir(INDEX):
        pytest.skip("needs the published index, which is not beside this repository")
    listed = tf.train.list_variables(os.path.join(INDEX, "model-33999"))
    assert {name: tuple(shape) for name, shape in listed} == published.shapes()


def test_the_command_converts_and_half_precision_becomes_float32(tmp_path):
    arrays = {name: array.astype(np.float16) for name, array in _arrays(1).items()}
    source, target = str(tmp_path / "half.npz"), str(tmp_path / "full.npz")
    np.savez(source, extra=np.ones(2), **arrays)
    command = [sys.executable, "-m", "tools.weights", "whitebox", source, "--output", target]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    lines = done.stdout.splitlines()
    assert lines[:2] == ["%s: 36 tensors, 1467075 values" % target, "left out: extra"]
    assert lines[3].startswith("needs no switch: ")
    wanted = {name: array.astype(np.float32) for name, array in arrays.items()}
    _assert_equal(published.read(target)[0], wanted)
    assert sorted(os.listdir(str(tmp_path))) == ["full.npz", "half.npz"]


def test_there_and_back_is_the_same_bit_for_bit(tmp_path, capsys):
    arrays = _arrays(3)
    np.savez(str(tmp_path / "ours.npz"), **arrays)
    there = tmp_path / "there" / "model-33999"
    _run(capsys, tmp_path / "ours.npz", "--output", there, "--to_published")
    assert os.path.getsize(str(there) + published.ENDING) == 4 * 1467075
    _assert_equal(generators.read_generator(str(there)), arrays)
    _run(capsys, there, "--output", tmp_path / "back.npz")
    _run(capsys, tmp_path / "back.npz", "--output", tmp_path / "again" / "model-33999")
    _assert_equal(generators.read_generator(str(tmp_path / "back.npz")), arrays)
    for ending in (".index", published.ENDING):
        again = tmp_path / "again" / ("model-33999" + ending)
        assert again.read_bytes() == (tmp_path / "there" / again.name).read_bytes()


def test_the_folders_own_code_computes_the_same_with_the_published_weights(tmp_path, capsys):
    if not os.path.isfile(PUBLISHED):
        pytest.skip("needs the published weights, which are not beside this repository")
    _run(capsys, PUBLISHED, "--output", tmp_path / "model-33999")
    picture = np.random.RandomState(4).uniform(-1, 1, [1, 24, 32, 3]).astype(np.float32)
    with np.load(PUBLISHED) as stored:
        given = {name: stored[name].astype(np.float32) for name in published.shapes()}
    results = []
    for arrays in (given, generators.read_generator(str(tmp_path / "model-33999"))):
        with tf.Graph().as_default(), tf.Session() as session:
            cartoon = networks.generator(tf.constant(picture))
            for variable in tf.trainable_variables():
                variable.load(arrays[variable.op.name], session)
            results.append(session.run(cartoon))
    np.testing.assert_array_equal(*results)
    assert results[0].std() > 0.1


def test_what_is_no_such_generator_is_refused_and_nothing_is_written(tmp_path, capsys):
    arrays = _arrays(2)
    path = str(tmp_path / "model-1")
    generators.write_generator(path, arrays)
    with open(path + published.ENDING, "ab") as file:
        file.write(b"more")
    with pytest.raises(UserError, match="5868304 bytes; the published generator has 5868300"):
        published.from_bundle(path)
    source, target = str(tmp_path / "wrong.npz"), tmp_path / "out.npz"
    first, *rest = published.shapes()
    np.savez(source, **{name: arrays[name] for name in rest})
    with pytest.raises(UserError, match=r"it lacks generator/Conv/biases$"):
        _run(capsys, source, "--output", target)
    np.savez(source, **{name: arrays[name] for name in rest[:20]})
    with pytest.raises(UserError, match=r"it lacks generator/Conv/biases, .* \(16 in all\)"):
        _run(capsys, source, "--output", target)
    np.savez(source, **dict(arrays, **{first: arrays[first][:-1]}))
    with pytest.raises(UserError, match=r"Conv/biases is \(31,\), must be \(32,\)"):
        _run(capsys, source, "--output", target)
    arrays[first][3] = np.nan
    np.savez(source, **arrays)
    with pytest.raises(UserError, match="not finite are in generator/Conv/biases"):
        _run(capsys, source, "--output", target)
    with pytest.raises(UserError, match="what was published is a checkpoint"):
        _run(capsys, path, "--output", target, "--to_published")
    assert not target.exists()
