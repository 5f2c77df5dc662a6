# SPDX-License-Identifier: Apache-2.0
"""The feature networks: Inception from either file, and others from files with named nodes."""

import os

import numpy as np
import old_graph
import onnx
import pytest
import scipy.io
import tensorflow.compat.v1 as tf
from PIL import Image

from harness.errors import UserError
from tools.fid import frozen, images, inception, networks
from tools.fid.networks import Interface
from tools.weights import graphs, pytorch

PARAMETERS = 21785568  # of torchvision's Inception v3 without its two heads


@pytest.fixture(scope="module")
def weights():
    """An Inception whose batch normalisations do something."""
    rng, arrays = np.random.RandomState(0), inception.random_weights(1)
    for name, array in arrays.items():
        if ".bn." in name:
            noise = 0.2 * rng.standard_normal(array.shape).astype(np.float32)
            arrays[name] = np.abs(array + noise) + 0.1 if name.endswith("var") else array + noise
    return arrays


@pytest.fixture(scope="module")
def files(weights, tmp_path_factory):
    """The same network in TensorFlow's form and in PyTorch's."""
    folder = tmp_path_factory.mktemp("inception")
    old_graph.write(str(folder / "graph.pb"), weights)
    pytorch.write(str(folder / "network.pth"), weights)
    return folder


@pytest.fixture
def pictures():
    return np.random.RandomState(2).rand(2, 299, 299, 3).astype(np.float32) * 2 - 1


def test_the_layers_are_those_of_the_published_file():
    table = inception.shapes()
    assert len(inception.CONVOLUTIONS) == 94
    assert len(table) == 94 * 5 + 2
    trained = [n for n in table if not n.startswith("fc.") and "running" not in n]
    assert sum(int(np.prod(table[name])) for name in trained) == PARAMETERS
    assert table["Mixed_6c.branch7x7dbl_2.conv.weight"] == (160, 160, 7, 1)
    assert table["Mixed_7c.branch3x3dbl_3a.conv.weight"] == (384, 384, 1, 3)
    assert table["fc.weight"] == (1008, 2048)


def test_both_files_of_inception_give_the_same_features(files, pictures):
    graph = networks.open_inception(str(files / "graph.pb"))
    other = networks.open_file(str(files / "network.pth"), Interface())
    assert graph.name == networks.INCEPTION
    assert other.name.startswith("network_")
    found = graph.run(pictures)
    assert found.shape == (2, 2048)
    np.testing.assert_allclose(other.run(pictures), found, atol=1e-4)
    assert found.std() > 0.01
    np.testing.assert_allclose(graph.run(pictures[1:]), found[1:], atol=1e-5)


def test_a_picture_that_the_graph_resizes_itself_has_the_features_of_the_protocol(files, tmp_path):
    noise = np.random.RandomState(8).randint(0, 256, (40, 53, 3)).astype(np.uint8)
    path = str(tmp_path / "noise.png")
    Image.fromarray(noise).save(path)
    with tf.Graph().as_default() as graph:
        graph_def = graphs.read_definition(str(files / "graph.pb"))
        x = tf.placeholder(tf.float32, [None, None, None, 3])
        (y,) = tf.import_graph_def(graph_def, {"ExpandDims:0": x}, ["pool_3:0"])
    with tf.Session(graph=graph) as session:
        wanted = session.run(y, {x: noise[np.newaxis].astype(np.float32)})[:, 0, 0]
    ours = images.load(path, images.PROTOCOLS["legacy_tensorflow"], 299)
    found = networks.open_inception(str(files / "graph.pb")).run(ours[np.newaxis])
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_folding_changes_no_numbers_and_leaves_no_norm(files, pictures):
    plain = graphs.read_definition(str(files / "graph.pb"))
    folded = frozen.fold(plain)
    assert folded.versions.producer == plain.versions.producer
    assert frozen.NORM not in {node.op for node in folded.node}
    results = []
    for graph_def in (plain, folded):
        with tf.Graph().as_default() as graph:
            x = tf.placeholder(tf.float32, [None, 299, 299, 3])
            (y,) = tf.import_graph_def(graph_def, {"ExpandDims:0": x}, ["pool_3:0"])
        with tf.Session(graph=graph) as session:
            results.append(session.run(y, {x: pictures[:1] * 128 + 128}))
    np.testing.assert_allclose(*results, atol=1e-4)


def test_inception_is_the_published_file_or_refused(files, tmp_path):
    path = str(files / "network.pth")
    with pytest.raises(UserError, match=r"its SHA-256 begins with \w{8}, that of .* with 6726825d"):
        networks.open_inception(path)
    with pytest.raises(UserError, match="there is no such file"):
        networks.open_inception(str(tmp_path / "absent.pb"))
    small = str(tmp_path / "small.pb")
    _write_graph(small)
    with pytest.raises(UserError, match="is not the graph of 2015-12-05: it has 1 convolutions"):
        networks.open_inception(small)
    assert "its SHA-256 is" in networks.open_inception(str(files / "graph.pb")).note


def test_an_inception_with_a_wrong_tensor_is_refused(weights, tmp_path):
    path, name = str(tmp_path / "wrong.pth"), "Mixed_5b.branch1x1.conv.weight"
    pytorch.write(path, dict(weights, **{name: np.ones((64, 192, 3, 1), np.float32)}))
    with pytest.raises(UserError, match=r"Mixed_5b.branch1x1.conv.weight is \(64, 192, 3, 1\)"):
        networks.open_file(path, Interface())
    pytorch.write(path, {"main.weight": np.ones(3, np.float32)})
    with pytest.raises(UserError, match="is no Inception of 2015: it has no Conv2d_1a_3x3"):
        networks.open_file(path, Interface())


def test_the_random_network_is_the_same_everywhere():
    table = inception.random_weights(0)
    assert table["Conv2d_1a_3x3.conv.weight"].shape == (32, 3, 3, 3)
    np.testing.assert_allclose(
        table["Conv2d_1a_3x3.conv.weight"].ravel()[:3], [0.480114, 0.108909, 0.266379], rtol=1e-5
    )
    assert abs(table["Mixed_7c.branch1x1.conv.weight"].std() / np.sqrt(2 / 2048) - 1) < 0.01


def _write_graph(path, side=None, first=False):
    """Writes a network of one convolution, and what it should compute."""
    kernel = np.random.RandomState(3).rand(1, 1, 3, 5).astype(np.float32)
    with tf.Graph().as_default() as graph:
        shape = [None, 3, side, side] if first else [None, side, side, 3]
        images = tf.placeholder(tf.float32, shape, "images")
        x = tf.transpose(images, [0, 2, 3, 1]) if first else images
        x = tf.nn.conv2d(x, kernel, [1, 1, 1, 1], "SAME")
        tf.identity(tf.transpose(x, [0, 3, 1, 2]) if first else x, "maps")
    with open(path, "wb") as file:
        file.write(graph.as_graph_def().SerializeToString())
    return kernel[0, 0]


@pytest.mark.parametrize("first", [False, True])
def test_another_graph_is_used_by_its_nodes(tmp_path, first):
    path = str(tmp_path / "my net.pb")
    kernel = _write_graph(path, 16, first)
    network = networks.open_file(path, Interface("images", "maps:0", 0, 0.0, 255.0))
    assert network.side == 16
    assert network.name.startswith("my_net_maps_")
    x = np.random.RandomState(4).rand(3, 16, 16, 3).astype(np.float32) * 2 - 1
    wanted = ((x + 1) * 127.5).mean((1, 2)) @ kernel
    np.testing.assert_allclose(network.run(x), wanted, rtol=1e-4)
    with pytest.raises(UserError, match="say its nodes with --input and --output"):
        networks.open_file(path, Interface())
    with pytest.raises(UserError, match="does not have the nodes images:0, no:0"):
        networks.open_file(path, Interface("images", "no"))
    with pytest.raises(UserError, match="leave --side out"):
        networks.open_file(path, Interface("images", "maps", side=17))
    other = networks.open_file(path, Interface("images", "maps:0", 0, 0.0, 1.0))
    assert (other.name, other.settings) != (network.name, network.settings)
    assert other.name != network.name


def test_a_graph_of_one_picture_at_a_time_is_fed_so(tmp_path):
    path = str(tmp_path / "one.pb")
    with tf.Graph().as_default() as graph:
        pixels = tf.placeholder(tf.float32, [1, 4, 4, 3], "images")
        tf.reduce_mean(pixels, [1, 2], name="mean")
        tf.placeholder(tf.uint8, [None, 4, 4, 3], "levels")
    with open(path, "wb") as file:
        file.write(graph.as_graph_def().SerializeToString())
    network = networks.open_file(path, Interface("images", "mean"))
    x = np.random.RandomState(9).rand(3, 4, 4, 3).astype(np.float32)
    np.testing.assert_allclose(network.run(x), x.mean((1, 2)), atol=1e-6)
    with pytest.raises(UserError, match="takes uint8; it must be float32"):
        networks.open_file(path, Interface("levels", "mean"))


def test_a_graph_with_a_second_input_is_refused(tmp_path):
    path = str(tmp_path / "two.pb")
    with tf.Graph().as_default() as graph:
        pixels = tf.placeholder(tf.float32, [None, 4, 4, 3], "images")
        tf.add(tf.reduce_mean(pixels, [1, 2]), tf.placeholder(tf.float32, [], "more"), "sum")
    with open(path, "wb") as file:
        file.write(graph.as_graph_def().SerializeToString())
    with pytest.raises(UserError, match=r"cannot be run on pictures alone: .*more"):
        networks.open_file(path, Interface("images", "sum"))


def test_options_without_a_meaning_are_refused(files, tmp_path):
    with pytest.raises(UserError, match=r"--side is not for a network .pth"):
        networks.open_file(str(files / "network.pth"), Interface(side=10))
    path = str(tmp_path / "vgg.mat")
    scipy.io.savemat(path, {"layers": np.ones(3)})
    with pytest.raises(UserError, match=r"--range is not for a network .mat"):
        networks.open_file(path, Interface(high=255.0))


def test_a_ring_in_a_damaged_graph_ends():
    graph_def = tf.GraphDef()
    for name, other in (("a", "b"), ("b", "a")):
        graph_def.node.add(name=name, op="Identity", input=[other])
    graph_def.node.add(name="c", op=frozen.NORM, input=["a", "gone:1", "b", "a", "b"])
    assert len(frozen.fold(graph_def).node) == 3


def test_an_onnx_network_is_used(tmp_path):
    kernel = np.random.RandomState(5).rand(4, 3, 1, 1).astype(np.float32)
    floats, path = onnx.TensorProto.FLOAT, str(tmp_path / "net.onnx")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Conv", ["x", "w"], ["y"])],
        "net",
        [onnx.helper.make_tensor_value_info("x", floats, ["n", 3, "h", "w"])],
        [onnx.helper.make_tensor_value_info("y", floats, ["n", 4, "h", "w"])],
        [onnx.numpy_helper.from_array(kernel, "w")],
    )
    opset = onnx.helper.make_opsetid("", 13)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=7), path)
    network = networks.open_file(path, Interface(side=9))
    x = np.random.RandomState(6).rand(2, 9, 9, 3).astype(np.float32)
    np.testing.assert_allclose(
        network.run(x), x.mean((1, 2)) @ kernel[:, :, 0, 0].T, rtol=1e-4, atol=1e-6
    )
    with pytest.raises(UserError, match="--output must be one of y"):
        networks.open_file(path, Interface(output="z"))
    with open(path, "wb") as file:
        file.write(b"nothing")
    with pytest.raises(UserError, match="is no ONNX model"):
        networks.open_file(path, Interface())


def test_vgg_is_used_as_far_as_a_layer(tmp_path):
    rng, path, layers = np.random.RandomState(7), str(tmp_path / "vgg.mat"), []
    sizes = {"conv1_1": (3, 64), "conv1_2": (64, 64)}
    for name, (inputs, outputs) in sizes.items():
        pair = np.empty((1, 2), object)
        pair[0, 0] = rng.standard_normal((3, 3, inputs, outputs)).astype(np.float32) / 20
        pair[0, 1] = rng.standard_normal((1, outputs)).astype(np.float32)
        layers.append({"name": name, "type": "conv", "weights": pair})
        layers.append({"name": "relu" + name[4:], "type": "relu"})
    listed = np.empty((1, len(layers)), object)
    listed[0, :] = layers
    meta = {"normalization": {"averageImage": np.array([120.0, 110.0, 100.0])}}
    scipy.io.savemat(path, {"layers": listed, "meta": meta})
    network = networks.open_file(path, Interface(output="relu1_1", side=8))
    x = rng.rand(2, 8, 8, 3).astype(np.float32) * 2 - 1
    pixels = np.pad(
        (x + 1) * 127.5 - [120.0, 110.0, 100.0], [(0, 0), (1, 1), (1, 1), (0, 0)], "constant"
    )
    kernel, bias = layers[0]["weights"][0]
    windows = [pixels[:, i : i + 8, j : j + 8] @ kernel[i, j] for i in range(3) for j in range(3)]
    wanted = np.maximum(sum(windows) + bias[0], 0).mean((1, 2))
    np.testing.assert_allclose(network.run(x), wanted, rtol=1e-4, atol=1e-4)
    assert "relu1_1" in network.name
    with pytest.raises(UserError, match="--output must be one of conv1_1, relu1_1"):
        networks.open_file(path, Interface(output="relu9_9"))


def test_a_file_of_another_kind_is_refused(tmp_path):
    path = str(tmp_path / "network.h5")
    with open(path, "wb") as file:
        file.write(os.urandom(20))
    with pytest.raises(UserError, match=r"it must end in .pb, .onnx, .mat or .pth"):
        networks.open_file(path, Interface())
    path = str(tmp_path / "noise.pb")
    with open(path, "wb") as file:
        file.write(b"\x07 no graph")
    with pytest.raises(UserError, match="is damaged or of another kind"):
        networks.open_inception(path)
