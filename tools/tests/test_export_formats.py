# SPDX-License-Identifier: Apache-2.0
"""Graphs that a format cannot hold are told in one sentence."""

import importlib.util

import pytest

if importlib.util.find_spec("tensorflow") is None:
    pytest.skip("needs TensorFlow, which is not installed here", allow_module_level=True)

import tensorflow.compat.v1 as tf

from harness.errors import UserError
from tools.export import formats, runtimes

SESSION = tf.ConfigProto(intra_op_parallelism_threads=1)


def _graph(operation):
    """Returns a graph x [N, 4, 4] -> y."""
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, 4, 4], "x")
        tf.identity(operation(x), "y")
        return graph.as_graph_def()


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_a_network_that_cannot_be_converted_is_told_in_one_sentence(kind, tmp_path):
    write = getattr(formats, "write_" + kind)
    sentence = r"^--formats %s: \w+ \d[.\d]+ cannot convert this network \(.*MatrixInverse.*\); "
    with pytest.raises(UserError, match=sentence % kind + "leave it out$") as error:
        write(_graph(tf.linalg.inv), ["x"], "y", path=str(tmp_path / "g"))
    assert "\n" not in str(error.value)
    assert ".cc:" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_what_the_converter_itself_refuses_is_told_too(tmp_path):
    graph = _graph(lambda x: x * tf.get_variable("w", [4], use_resource=False))  # not frozen
    sentence = "^--formats onnx: tf2onnx .* cannot convert this network .*; leave it out$"
    with pytest.raises(UserError, match=sentence) as error:
        formats.write_onnx(graph, ["x"], "y", path=str(tmp_path / "g.onnx"))
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_an_onnx_that_its_runtime_cannot_load_is_told(tmp_path):
    path, words = tmp_path / "g.onnx", (["x"], "y", SESSION)
    formats.write_onnx(_graph(tf.nn.relu), ["x"], "y", path=str(path))
    with runtimes.open_onnx(str(path), *words) as (_, nodes):
        assert nodes["outputs"] == {"y:0": [None, 4, 4]}
    path.write_bytes(path.read_bytes().replace(b"Relu", b"Rule"))
    sentence = r"^--formats onnx: onnxruntime [\d.]+ cannot load this network \(.*Rule.*\); leave"
    with pytest.raises(UserError, match=sentence) as error:
        runtimes.open_onnx(str(path), *words).__enter__()
    assert "\n" not in str(error.value)
