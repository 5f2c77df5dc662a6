# SPDX-License-Identifier: Apache-2.0
"""The files that only an NPU reads: the types of single operators, the mixed precision's list."""

import json
import os

import cases
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import FOLDER, draw_data, draw_picture
from test_networks import make_network

from harness.cases import Case
from harness.options import parse
from stylize import training
from stylize.config import Config
from stylize.data import Pictures
from stylize.networks import Vgg
from tf_runtime import device as devices


def _words(data, *given):
    """Returns the words that the performance case runs the program with."""
    config, names = parse(Config, list(given))
    settings = {name: getattr(config, name) for name in names}
    case = Case("performance", FOLDER, str(data), "out", 1, config, settings, [])
    return [word for word in cases.training(case) if word.startswith("--customize_dtypes")]


def test_a_case_takes_the_switches_that_lie_beside_its_data(tmp_path):
    draw_data(tmp_path / "data", last="relu2_1")
    path = tmp_path / "data" / "switch_config.txt"
    assert _words(tmp_path / "data") == []
    path.write_text("OpType::MatMulV2:InputDtype:float16,float16,float32,OutputDtype:float32\n")
    assert _words(tmp_path / "data") == ["--customize_dtypes=%s" % path]
    given = _words(tmp_path / "data", "--customize_dtypes=mine.txt")
    assert given == ["--customize_dtypes=mine.txt"]
    path.unlink()
    path.mkdir()
    assert _words(tmp_path / "data") == []


# Operators of CANN -> those of TensorFlow that become them, or are fused into them.
OPERATORS = {
    "MatMul": "MatMul",
    "MatMulV2": "MatMul",
    "L2Loss": "L2Loss",
    "ReduceSum": "Sum",
    "ReduceSumD": "Sum",
    "Sqrt": "Sqrt",
}


@pytest.mark.parametrize("in_strips", [False, True])
def test_the_mix_list_names_operators_of_a_step(in_strips):
    with open(os.path.join(FOLDER, "ops_info.json")) as file:
        names = json.load(file)["black-list"]["to-add"]
    assert sorted(names) == sorted(OPERATORS)
    drawn = [draw_picture(np.random.RandomState(seed), 32, 44) for seed in range(2)]
    config = Config(content_layers=("relu2_1",), style_layers=("relu1_1", "relu2_1"))
    layers = [list(weights) for weights in training.used_layers(config)]
    vgg = Vgg(make_network(last="relu2_1"), *layers, pooling="max", minimal=False)
    cpu = devices.Device("cpu", "", config, 1)
    training.build_step(config, vgg, Pictures(drawn[0], drawn[1:], [], None), in_strips, cpu)
    there = {operation.type for operation in tf.get_default_graph().get_operations()}
    assert {OPERATORS[name] for name in names} <= there
