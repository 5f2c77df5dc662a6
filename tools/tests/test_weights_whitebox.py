# SPDX-License-Identifier: Apache-2.0
"""The published White-box generator: bundle and .npz give the same arrays, and our graph's."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import TOOLS

from weights import whitebox as published
from whitebox import generators, networks

INDEX = os.path.join(
    os.path.dirname(os.path.dirname(TOOLS)), "shared", "data", "whitebox", "saved_models"
)


def _arrays(seed=0):
    rng = np.random.RandomState(seed)
    return {n: rng.normal(size=s).astype(np.float32) for n, s in published.shapes().items()}


def _assert_equal(mine, theirs):
    assert list(mine) == list(theirs)
    for name in mine:
        assert mine[name].dtype == np.float32
        np.testing.assert_array_equal(mine[name], theirs[name])


def test_a_bundle_that_tensorflow_wrote_reads_without_tensorflow(tmp_path):
    arrays = _arrays()
    generators.write_generator(str(tmp_path / "model-33999"), arrays)
    _assert_equal(published.from_bundle(str(tmp_path / "model-33999")), arrays)
    assert sum(array.size for array in arrays.values()) == 1467075


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
    np.savez(source, **arrays)
    program = os.path.join(TOOLS, "weights", "whitebox.py")
    done = subprocess.run([sys.executable, program, source, target], check=False)
    assert done.returncode == 0
    wanted = {name: array.astype(np.float32) for name, array in arrays.items()}
    _assert_equal(published.from_npz(target), wanted)
    assert sorted(os.listdir(str(tmp_path))) == ["full.npz", "half.npz"]


def test_what_is_no_such_generator_is_refused(tmp_path):
    arrays = _arrays(2)
    path = str(tmp_path / "model-1")
    generators.write_generator(path, arrays)
    with open(path + published.ENDING, "ab") as file:
        file.write(b"more")
    with pytest.raises(ValueError, match="5868304 bytes; the published generator has 5868300"):
        published.from_bundle(path)
    lacking = str(tmp_path / "lacking.npz")
    np.savez(lacking, **{n: a for n, a in arrays.items() if n != "generator/Conv_9/biases"})
    with pytest.raises(ValueError, match="has no generator/Conv_9/biases"):
        published.from_npz(lacking)
    arrays["generator/Conv/biases"][3] = np.nan
    np.savez(lacking, **arrays)
    with pytest.raises(ValueError, match=r"generator/Conv/biases .* not finite"):
        published.from_npz(lacking)
