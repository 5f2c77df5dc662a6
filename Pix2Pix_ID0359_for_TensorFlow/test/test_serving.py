# SPDX-License-Identifier: Apache-2.0
"""The inference graph, its frozen form, and pictures of any size."""

import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from harness.errors import UserError
from harness.files import write_json
from pix2pix import serving
from pix2pix.config import Config
from tf_runtime.checkpoints import CheckpointError
from tf_runtime.device import choose

TINY = Config(ngf=2, device="cpu", precision_mode="force_fp32")


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint of an untrained generator, with the config.json of its run."""
    path = str(tmp_path / "run" / "pix2pix.model-7")
    with tf.Graph().as_default(), tf.Session() as session:
        serving.build_inference(TINY)
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, path, write_meta_graph=False)
    write_json(str(tmp_path / "run" / "config.json"), {"options": {"ngf": 2, "input_nc": 3}})
    return path


def _batch(*shape):
    return np.random.RandomState(0).uniform(-1, 1, shape).astype(np.float32)


def test_the_frozen_graph_gives_what_the_checkpoint_gives(checkpoint, tmp_path):
    path = str(tmp_path / "out" / "g.pb")
    serving.export(TINY, checkpoint, path)
    device = choose(TINY)
    for shape in ((2, 256, 256, 3), (1, 512, 256, 3)):
        with serving.CheckpointTranslator(TINY, checkpoint, device) as translate:
            expected = translate(_batch(*shape))
        with serving.GraphTranslator(path, device) as translate:
            np.testing.assert_allclose(translate(_batch(*shape)), expected, atol=1e-5)
    names = {node.name for node in serving.read_graph(path).node}
    assert {"input", "output"} <= names
    assert os.listdir(str(tmp_path / "out")) == ["g.pb"]


def test_other_sizes_are_padded_and_cropped(checkpoint):
    pixels = _batch(300, 200, 3)
    with serving.CheckpointTranslator(TINY, checkpoint, choose(TINY)) as translate:
        result = serving.translate_picture(translate, pixels)
        padded = np.pad(pixels, [(0, 212), (0, 56), (0, 0)], "symmetric")
        np.testing.assert_array_equal(result, translate(padded[np.newaxis])[0, :300, :200])
    assert result.shape == (300, 200, 3)


def test_without_stochastic_the_same_input_gives_the_same_output(checkpoint):
    with serving.CheckpointTranslator(TINY, checkpoint, choose(TINY)) as translate:
        np.testing.assert_array_equal(*(translate(_batch(1, 256, 256, 3)) for _ in range(2)))


def test_stochastic_noise_differs_between_pictures_and_repeats_between_runs(checkpoint):
    config = Config(ngf=2, device="cpu", precision_mode="force_fp32", stochastic=True)
    runs = []
    for _ in range(2):
        with serving.CheckpointTranslator(config, checkpoint, choose(config)) as translate:
            runs.append([translate(_batch(1, 256, 256, 3)) for _ in range(2)])
    np.testing.assert_array_equal(runs[0], runs[1])
    assert np.any(runs[0][0] != runs[0][1])


def test_the_network_is_that_of_the_checkpoint(checkpoint):
    assert serving.trained_config(Config(), set(), checkpoint).ngf == 2
    with pytest.raises(UserError, match="was trained with 2"):
        serving.trained_config(Config(ngf=8), {"ngf"}, checkpoint)


def test_a_checkpoint_of_another_configuration_is_an_error(checkpoint):
    with pytest.raises(CheckpointError, match="does not fit: generator/encoder_1/conv2d/kernel"):
        serving.CheckpointTranslator(Config(ngf=4), checkpoint, choose(TINY)).__enter__()


def test_an_unreadable_checkpoint_is_an_error(checkpoint):
    with open(checkpoint + ".data-00000-of-00001", "r+b") as file:
        file.truncate(1000)
    with pytest.raises(CheckpointError, match="is damaged or no checkpoint"):
        serving.CheckpointTranslator(TINY, checkpoint, choose(TINY)).__enter__()


def test_no_checkpoint_says_where_it_looked(tmp_path):
    (tmp_path / "other_1_256").mkdir()
    config = Config(checkpoint_dir=str(tmp_path))
    with pytest.raises(UserError, match=r"facades_1_256.*it holds other_1_256"):
        serving.find_checkpoint(config)


@pytest.mark.parametrize("content", [b"", b"no graph at all"])
def test_a_file_that_is_no_frozen_graph_is_an_error(tmp_path, content):
    path = str(tmp_path / "x.pb")
    with open(path, "wb") as file:
        file.write(content)
    with pytest.raises(UserError, match=r"x\.pb"):
        serving.GraphTranslator(path, choose(TINY)).__enter__()
