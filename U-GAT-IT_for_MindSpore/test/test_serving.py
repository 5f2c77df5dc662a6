# SPDX-License-Identifier: Apache-2.0
"""Weights are found, fit, and translate as the network that they were saved from."""

import dataclasses
import importlib.util
import os

import numpy as np
import pytest
from conftest import DATASET

from harness.errors import UserError
from ugatit import device
from ugatit.config import Config

if not importlib.util.find_spec("mindspore"):  # not imported before `device.prepare`
    pytest.skip("MindSpore is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def tiny():
    config = Config(dataset=DATASET, light=True, img_size=32, ch=4, n_res=1, n_dis=4, device="CPU")
    device.prepare(config)
    device.connect(config)
    return config


@pytest.fixture
def config(tiny, tmp_path):
    return dataclasses.replace(tiny, output_path=str(tmp_path / "results"))


def write(config, name, number="latest"):
    """Writes initial weights of a generator; returns their path and the network."""
    from ugatit.networks import build_generator
    from ugatit.weights import weights_path, write_weights

    network, path = build_generator(config, name), weights_path(config, name, number)
    write_weights(network, path)
    return path, network


def error(config, name="genA2B"):
    from ugatit.serving import find_weights

    with pytest.raises(UserError) as caught:
        find_weights(config, name)
    return str(caught.value)


def test_translator_computes_what_the_network_did(config):
    from mindspore import Tensor

    from ugatit.serving import Translator

    path, network = write(dataclasses.replace(config, seed=5), "genB2A")
    pictures = np.random.RandomState(0).uniform(-1, 1, (2, 3, 32, 32)).astype(np.float32)
    found = Translator(config, "genB2A", path)(pictures)
    assert [value.shape for value in found] == [(2, 3, 32, 32), (2, 2), (2, 1, 8, 8)]
    for value, expected in zip(found, network(Tensor(pictures))):
        np.testing.assert_allclose(value, expected.asnumpy(), rtol=1e-4, atol=1e-4)
    other = Translator(config, "genB2A", write(config, "genB2A")[0])(pictures)
    assert np.abs(found[0] - other[0]).max() > 0.01


def test_latest_numbered_and_given_weights_are_found(config, tmp_path):
    from ugatit.serving import find_weights

    latest, _ = write(config, "genA2B")
    numbered, _ = write(config, "genA2B", 300)
    assert find_weights(config, "genA2B") == latest
    for number in ("300", "0000300"):
        assert find_weights(dataclasses.replace(config, checkpoint=number), "genA2B") == numbered
    assert find_weights(dataclasses.replace(config, checkpoint="latest"), "genA2B") == latest
    elsewhere = dataclasses.replace(
        config, output_path=str(tmp_path / "new"), load_path=config.output_path
    )
    assert find_weights(elsewhere, "genA2B") == latest
    given = dataclasses.replace(config, gen_a2b_ckpt=numbered, checkpoint="7")
    assert find_weights(given, "genA2B") == numbered


def test_an_error_lists_the_numbers_that_there_are(config):
    for number in (400, 20, 3):
        write(config, "genA2B", number)
    write(config, "genB2A", 5000)
    assert error(config).endswith("give --checkpoint with one of 3, 20, 400")
    assert "_0000021.ckpt" in error(dataclasses.replace(config, checkpoint="21"))


def test_without_weights_an_error_says_what_to_give(config):
    text = error(config)
    assert os.path.join("results", "shapes", "shapes_genA2B_params_latest.ckpt") in text
    assert "--genA2B_ckpt" in text
    assert "it must be the number" in error(dataclasses.replace(config, checkpoint="newest"))
    missing = error(dataclasses.replace(config, gen_b2a_ckpt="no.ckpt"), "genB2A")
    assert missing == "--genB2A_ckpt no.ckpt: there is no such file"


@pytest.mark.parametrize(
    ("options", "hint"),
    [({"light": False}, "--light=True --ch=4"), ({"ch": 6}, "--ch=4")],
)
def test_weights_of_another_network_are_refused(config, options, hint):
    from ugatit.serving import Translator

    path, _ = write(config, "genA2B")
    with pytest.raises(UserError, match=hint) as caught:
        Translator(dataclasses.replace(config, **options), "genA2B", path)
    assert path in str(caught.value)


def test_damaged_weights_are_refused(config):
    from ugatit.serving import Translator

    path, _ = write(config, "genA2B")
    os.truncate(path, os.path.getsize(path) // 2)
    with pytest.raises(UserError) as caught:
        Translator(config, "genA2B", path)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)
