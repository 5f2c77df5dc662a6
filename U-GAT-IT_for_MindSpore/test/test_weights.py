# SPDX-License-Identifier: Apache-2.0
"""Files of weights: what fits is loaded whole, what does not is refused; options of the cases."""

import dataclasses
import importlib.util
import os

import numpy as np
import pytest

if not importlib.util.find_spec("mindspore"):
    pytest.skip("MindSpore is not installed", allow_module_level=True)
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")  # as `device.prepare`; read at import
os.environ.setdefault("GLOG_v", "3")

from harness import cases
from harness.errors import UserError
from harness.files import write_json
from ugatit import reading, weights
from ugatit.config import Config
from ugatit.networks import build_generator
from ugatit.serving import find_weights

TINY = {"img_size": 32, "ch": 4, "n_res": 1, "n_dis": 4, "light": True}


@pytest.fixture
def config(tmp_path):
    return Config(output_path=str(tmp_path), **TINY)


def written(config, **changes):
    """Returns the path of the weights of a generator, built with `changes` to the options."""
    config = dataclasses.replace(config, **changes)
    path = weights.weights_path(config, "genA2B")
    weights.write_weights(build_generator(config, "genA2B"), path)
    return path


def values(network):
    return {p.name: p.asnumpy().copy() for p in network.get_parameters()}


def test_weights_are_read_as_they_were_written(config):
    path = written(config)
    other = build_generator(dataclasses.replace(config, seed=2), "genA2B")
    weights.load_weights(other, path)
    expected = values(build_generator(config, "genA2B"))
    assert all(np.array_equal(array, expected[name]) for name, array in values(other).items())
    assert os.stat(path).st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_res": 2}, r"encoder\.1\.conv1\.weight, which this network has not"),
        ({"ch": 8}, "those weights are of --light=True --ch=8"),
        ({"light": False}, "those weights are of --light=False --ch=4 --img_size=32"),
    ],
)
def test_weights_of_another_network_are_refused_and_change_nothing(config, changes, words):
    path, network = written(config, **changes), build_generator(config, "genA2B")
    before = values(network)
    with pytest.raises(UserError, match=words):
        weights.load_weights(network, path)
    assert all(np.array_equal(array, before[name]) for name, array in values(network).items())


@pytest.mark.parametrize("keep", [0, 100, 0.5])
def test_damaged_weights_are_told(config, keep):
    path = written(config)
    with open(path, "r+b") as file:
        file.truncate(int(keep * os.path.getsize(path)) if keep < 1 else keep)
    with pytest.raises(UserError, match="is damaged or no MindSpore checkpoint"):
        weights.load_weights(build_generator(config, "genA2B"), path)


def test_weights_of_another_variant_are_refused(config):
    written(config)
    place = os.path.join(config.folder, "checkpoint", "config.json")
    write_json(place, {"must_agree": {"variant": "pytorch"}})
    with pytest.raises(UserError, match="trained with --variant=pytorch, not paper; give that"):
        find_weights(config, "genA2B")
    assert find_weights(dataclasses.replace(config, variant="pytorch"), "genA2B")


def test_the_cases_take_options_from_file_and_command_line_together(tmp_path, monkeypatch):
    module = cases.load_module()
    path = tmp_path / "own.yaml"
    path.write_text("n_dis: 4\nimg_size: 64\ndataset: shapes\niteration: 7\n")
    words = ["--config_path=%s" % path, "--img_size=32", "--data_path=x"]
    case, _ = cases.read_case("performance", 1, words, module)
    config = case.config
    assert (config.n_dis, config.img_size, config.dataset) == (4, 32, "shapes")
    assert (config.iteration, config.log_freq) == (7, 5)  # the file's, the preset's
    path.write_text("lr: -1\n")
    with pytest.raises(UserError, match=r"--lr -1\.0 is too small"):
        cases.read_case("full", 1, words[:1], module)
    monkeypatch.setattr(reading, "DEFAULT_FILE", str(path))
    path.write_text("dataset: cats\niteration: 7\n")
    case, _ = cases.read_case("performance", 1, [], module)
    assert (case.config.dataset, case.config.iteration) == ("cats", 20)  # the preset goes first
