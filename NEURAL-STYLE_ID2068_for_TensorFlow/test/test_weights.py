# SPDX-License-Identifier: Apache-2.0
"""The file of VGG-19: layouts, orders, networks cut short, files that are not one."""

import hashlib
import os
import pickle

import numpy as np
import pytest
from conftest import FOLDER, MEAN_PIXEL, draw_data, random_layers, save_mat, write_mat
from PIL import Image
from scipy.io import loadmat, savemat

from stylize import weights
from stylize.weights import WeightsError, available, check_layers, read_network

SHARED = os.path.join(os.path.dirname(os.path.dirname(FOLDER)), "shared")


def _convolutions(**options):
    return {n: pair for n, pair in random_layers(**options).items() if n.startswith("conv")}


def _same(network, layers):
    assert list(network.layers) == list(layers)
    for name, (kernel, bias) in network.layers.items():
        assert kernel.dtype == bias.dtype == np.float32
        assert kernel.flags.c_contiguous
        assert kernel.flags.owndata or kernel.base.nbytes == kernel.nbytes, "holds a larger array"
        np.testing.assert_array_equal(kernel, layers[name][0], name)
        np.testing.assert_array_equal(bias, layers[name][1], name)


def _fails(words, path, **options):
    """Asserts one sentence that names the file and has the words."""
    with pytest.raises(WeightsError) as caught:
        read_network(str(path), **options)
    message = str(caught.value)
    assert str(path) in message
    for word in [words] if isinstance(words, str) else words:
        assert word in message
    assert "\n" not in message
    return message


def _write(path, content):
    path.write_bytes(content)
    return path


def _save_npz(path, layers):
    arrays = {name + "_W": pair[0] for name, pair in layers.items()}
    arrays.update({name + "_b": pair[1] for name, pair in layers.items()})
    np.savez(str(path), **arrays)
    return str(path)


def _save_npy(path, content):
    np.save(str(path), np.array(content, dtype=object), allow_pickle=True)
    return str(path)


def _cut(channels=(2, 3, 4, 4, 4), last="relu2_1", **changes):
    """Returns the convolutions of a small network with some replaced."""
    return dict(_convolutions(channels=channels, last=last), **changes)


@pytest.mark.parametrize("layout", ["meta", "normalization"])
def test_both_layouts_are_read_as_stored(tmp_path, layout):
    path = write_mat(tmp_path / "net.mat", layout=layout, seed=3)
    network = read_network(path)
    _same(network, _convolutions(seed=3))
    np.testing.assert_allclose(network.mean_pixel, MEAN_PIXEL, rtol=1e-6)
    assert network.description.startswith("net.mat (MatConvNet with %s, " % layout)
    assert "ends after relu5_4" in network.description
    assert available(network) == weights.LAYERS
    assert list(random_layers()) == weights.LAYERS


def test_fields_are_found_by_name_not_by_place(tmp_path):
    path = write_mat(tmp_path / "net.mat", last="relu1_2")
    content = loadmat(path)
    for index, cell in enumerate(content["layers"][0]):
        record = {name: cell[name][0, 0] for name in reversed(cell.dtype.names)}
        content["layers"][0, index] = dict(stride=np.ones(2), **record)
    content = {name: content[name] for name in ("meta", "layers")}
    content["meta"] = {"classes": "x", "normalization": content["meta"]["normalization"][0, 0]}
    content["epoch"] = 3.0
    savemat(path, content)
    _same(read_network(path), _convolutions(last="relu1_2"))


def test_legacy_transposed_kernels_swap_height_and_width(tmp_path):
    path, stored = write_mat(tmp_path / "net.mat"), _convolutions()
    network = read_network(path, legacy_transposed_kernels=True)
    _same(network, {n: (np.transpose(k, (1, 0, 2, 3)), b) for n, (k, b) in stored.items()})
    assert "kernels transposed" in network.description
    assert "transposed" not in read_network(path).description


@pytest.mark.parametrize(
    ("last", "end"),
    [("conv1_1", "relu1_1"), ("pool1", "relu1_2"), ("conv3_1", "relu3_1"), ("fc6", "relu5_4")],
)
def test_a_network_may_end_anywhere(tmp_path, last, end):
    network = read_network(write_mat(tmp_path / "net.mat", last=last))
    _same(network, _convolutions(last=last))
    assert available(network) == weights.LAYERS[: weights.LAYERS.index(end) + 1]
    assert "ends after %s" % end in network.description


def test_check_layers_lists_what_there_is(tmp_path):
    network = read_network(write_mat(tmp_path / "small.mat", last="relu2_1"))
    check_layers(network, ["relu1_1", "conv1_2", "pool1", "relu2_1"])
    with pytest.raises(WeightsError) as caught:
        check_layers(network, ["relu1_1", "relu4_2", "relu9_9"])
    message = str(caught.value)
    assert message.startswith("the layers relu4_2 relu9_9 are not in small.mat (")
    assert "ends after relu2_1" in message
    assert message.endswith(" --content_layers and --style_layers from relu1_1 relu1_2 relu2_1")


def test_a_missing_layer_is_named(tmp_path):
    layers = _cut(last="relu3_1")
    del layers["conv2_1"]
    _fails("no layer conv2_1 before conv2_2", save_mat(tmp_path / "gap.mat", layers))
    del layers["conv1_1"]
    _fails("no layer conv1_1 before conv1_2", save_mat(tmp_path / "gap.mat", layers))


@pytest.mark.parametrize(
    ("kernel", "bias"),
    [("_W", "_b"), ("/kernel", "/bias"), ("/weights", "/biases"), ("/filter", "/biases")],
)
def test_npz_of_plain_arrays(tmp_path, kernel, bias):
    layers, path = _cut(), str(tmp_path / "net.npz")
    arrays = {name + kernel: pair[0] for name, pair in layers.items()}
    arrays.update({name + bias: pair[1] for name, pair in layers.items()}, fc6_W=np.ones((2, 2)))
    np.savez(path, **arrays)
    network = read_network(path)
    _same(network, layers)
    np.testing.assert_array_equal(network.mean_pixel, weights.MEAN_PIXEL)
    np.savez(path, mean_pixel=np.array([103.0, 116.0, 123.0]), **arrays)
    network = read_network(path, channel_order="bgr")
    np.testing.assert_array_equal(network.mean_pixel, [123, 116, 103])
    np.testing.assert_array_equal(network.layers["conv1_1"][0], layers["conv1_1"][0][:, :, ::-1])
    np.testing.assert_array_equal(read_network(path).mean_pixel, [103, 116, 123])


def test_npy_dictionaries_need_a_word_and_are_bgr(tmp_path):
    layers = _cut()
    path = _save_npy(tmp_path / "net.npy", {n: list(pair) for n, pair in layers.items()})
    _fails(["Python pickle, which can run code", "give --allow_pickle"], path)
    network = read_network(path, allow_pickle=True)
    kernel, bias = layers["conv1_1"]
    _same(network, dict(layers, conv1_1=(kernel[:, :, ::-1], bias)))
    np.testing.assert_array_equal(network.mean_pixel, weights.MEAN_PIXEL)
    assert "stored as BGR" in network.description
    _same(read_network(path, channel_order="rgb", allow_pickle=True), layers)


class _Runs:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("ending", [".npy", ".npz"])
def test_no_pickle_runs_without_a_word(tmp_path, ending):
    trap, path = str(tmp_path / "trap"), tmp_path / ("net" + ending)
    content = np.array([_Runs(trap)], dtype=object)
    if ending == ".npz":
        _save_npz(path, {"conv1_1": (content, np.ones(2))})
    else:
        _save_npy(path, content)
    _fails(["Python pickle", "--allow_pickle"], path)
    assert not os.path.exists(trap)
    _fails("; ", path, allow_pickle=True)
    assert os.path.exists(trap)  # thus it is one


@pytest.mark.parametrize("ending", [".mat", ".npz", ".npy"])
@pytest.mark.parametrize("protocol", [0, 2])
def test_a_bare_pickle_never_runs(tmp_path, ending, protocol):
    trap = str(tmp_path / "trap")
    path = _write(tmp_path / ("net" + ending), pickle.dumps(_Runs(trap), protocol))
    words = "bare Python pickle" if protocol else "not as a %s file does" % ending
    _fails(words, path, allow_pickle=True)
    assert not os.path.exists(trap)


def test_npz_of_objects_is_read_with_a_word(tmp_path):
    layers = _cut(last="relu1_2")
    objects = {name: (pair[0].astype(object), pair[1]) for name, pair in layers.items()}
    path = _save_npz(tmp_path / "net.npz", objects)
    _fails("--allow_pickle", path)
    _same(read_network(path, allow_pickle=True), layers)


def test_channel_order_of_a_mat_file(tmp_path):
    path, layers = write_mat(tmp_path / "net.mat", last="relu1_2"), _convolutions(last="relu1_2")
    _same(read_network(path, channel_order="rgb"), layers)
    network = read_network(path, channel_order="bgr", legacy_transposed_kernels=True)
    kernel = np.transpose(layers["conv1_1"][0], (1, 0, 2, 3))[:, :, ::-1]
    np.testing.assert_array_equal(network.layers["conv1_1"][0], kernel)
    np.testing.assert_allclose(network.mean_pixel, MEAN_PIXEL[::-1], rtol=1e-6)
    with pytest.raises(WeightsError, match="'grb'; allowed are auto, rgb, bgr"):
        read_network(path, channel_order="grb")


def test_the_published_file_is_known_by_its_hash(tmp_path, monkeypatch):
    path = write_mat(tmp_path / "net.mat", last="relu1_2")
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    assert "unknown, SHA-256 %s..." % digest[:12] in read_network(path).description
    assert weights.PUBLISHED_SHA256.startswith("abdb5716")
    monkeypatch.setattr(weights, "PUBLISHED_SHA256", digest)
    assert "the published imagenet-vgg-verydeep-19.mat" in read_network(path).description


def test_paths_that_are_no_file(tmp_path):
    _fails(["there is no file", "--network", "https://"], tmp_path / "no.mat")
    _fails("is a folder", tmp_path)
    _fails("is empty", _write(tmp_path / "net.mat", b""))
    _fails("cannot be opened", tmp_path / "net.mat" / "inner.mat")
    _fails("ends in '.h5'; allowed are .mat, .npz, .npy", _write(tmp_path / "net.h5", b"x" * 9))


@pytest.mark.parametrize("ending", [".mat", ".npz", ".npy"])
def test_files_of_another_kind(tmp_path, ending):
    path = tmp_path / ("net" + ending)
    for page in (b"\n<!DOCTYPE html><html>", b"<HTML>", b"\xef\xbb\xbf<?xml version='1.0'?>"):
        _fails(["is a web page", "https://"], _write(path, page))
    _fails("not as a %s file does" % ending, _write(path, b"version https://git-lfs.github.com"))


def test_matlab_7_3(tmp_path):
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM"
    for start in (header + b"\0" * 384, b""):
        path = _write(tmp_path / "net.mat", start + b"\x89HDF\r\n\x1a\n" + b"\0" * 99)
        _fails(["MATLAB 7.3", "save it with -v7"], path)


@pytest.mark.parametrize("layout", ["meta", "normalization"])
@pytest.mark.parametrize("compress", [True, False])
def test_mat_files_cut_off_anywhere(tmp_path, layout, compress):
    layers = random_layers(channels=(2, 2, 2, 2, 2), last="relu3_1")
    path = tmp_path / "net.mat"
    save_mat(path, layers, layout, compress=compress)
    whole = path.read_bytes()
    end = len(whole) - (0 if compress else 8)  # where it may be padding
    lengths = [*range(1, end, end // 150), *range(100, 400, 3), *range(end - 40, end)]
    for length in lengths:
        _fails("download it", _write(path, whole[:length]))


def test_numpy_files_cut_off_anywhere(tmp_path):
    layers = _cut(last="relu1_2")
    for save, path in ((_save_npz, tmp_path / "net.npz"), (_save_npy, tmp_path / "net.npy")):
        save(path, layers)
        whole = path.read_bytes()
        for length in list(range(1, len(whole), len(whole) // 100)) + [len(whole) - 1]:
            _fails("download it again", _write(path, whole[:length]), allow_pickle=True)


@pytest.mark.parametrize(("save", "name"), [(_save_npz, "net.npz"), (save_mat, "net.mat")])
def test_a_damaged_byte(tmp_path, save, name):
    path = tmp_path / name
    save(path, _cut(last="relu1_1"))
    content = bytearray(path.read_bytes())
    content[250] ^= 255  # in the values of the kernel
    _fails(["cannot be read", "download it again"], _write(path, bytes(content)))


def test_a_pickle_of_something_unknown(tmp_path):
    path = tmp_path / "net.npy"
    _save_npy(path, {"conv1_1": 0})
    content = path.read_bytes()
    start = content[: content.index(b"\n") + 1]
    _fails("ModuleNotFoundError", _write(path, start + b"cnone_such\nX\n."), allow_pickle=True)
    _fails("UnpicklingError", _write(path, start + b"\x80\x02\xff\xff"), allow_pickle=True)
    _fails("is not a dictionary", _write(path, start + b"S'text'\n."), allow_pickle=True)


@pytest.mark.parametrize(
    "content", [[1, 2], {"conv1_1": 3}, {"conv1_1": [np.ones(3)]}, {"conv1_1": np.ones(2)}, {}]
)
def test_npy_of_another_kind(tmp_path, content):
    words = "is not a dictionary" if isinstance(content, list) else "conv1_1"
    path = _save_npy(tmp_path / "net.npy", content)
    _fails(words, path, allow_pickle=True)


def test_npz_of_another_kind(tmp_path):
    path = str(tmp_path / "net.npz")
    words = {"conv1_1": (np.array(["a", "b"]), np.ones(2))}
    _fails("not an array of numbers", _save_npz(path, words))
    np.savez(path, conv1_1_W=np.ones((3, 3, 3, 2)))
    _fails("conv1_1 of", path)
    np.savez(path, fc6_W=np.ones((3, 3, 3, 2)))
    _fails("no layer conv1_1 nor any other", path)


@pytest.mark.parametrize(
    ("name", "given", "change"),
    [
        ("conv1_1", 3, lambda kernel: np.moveaxis(kernel, (2, 3), (1, 0))),  # as PyTorch has it
        ("conv1_1", 3, lambda kernel: kernel[:, :, :1]),
        ("conv1_2", 2, lambda kernel: np.repeat(kernel, 2, axis=2)),
        ("conv2_1", 2, lambda kernel: kernel[:2]),
        ("conv2_1", 2, lambda kernel: kernel[0]),
    ],
)
def test_wrong_kernel_shapes(tmp_path, name, given, change):
    kernel, bias = _cut()[name]
    path = save_mat(tmp_path / "net.mat", _cut(**{name: (change(kernel), bias)}))
    shape = str(change(kernel).shape)
    _fails(["kernel of " + name, shape, "it must be (3, 3, %d, out)" % given], path)


def test_wrong_biases(tmp_path):
    kernel, bias = _cut()["conv1_2"]
    for wrong in (bias[:1], np.append(bias, 1), np.ones(0)):
        path = save_mat(tmp_path / "net.mat", _cut(conv1_2=(kernel, wrong)))
        _fails(["bias of conv1_2", "it must have 2 values"], path)
    table = {"conv1_1": (np.ones((3, 3, 3, 4)), np.ones((2, 2)))}
    _fails("shape (2, 2)", _save_npz(tmp_path / "net.npz", table))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 1])
def test_weights_that_are_not_finite(tmp_path, value, place):
    pair = _cut()["conv1_2"]
    pair[place].flat[1] = value
    path = save_mat(tmp_path / "net.mat", _cut(conv1_2=pair))
    _fails("conv1_2 of %s has NaN or infinite" % path, path)


def test_mat_files_without_a_network(tmp_path):
    path = str(tmp_path / "net.mat")
    savemat(path, {"meta": 1.0})
    _fails("no variable layers", path)
    _fails("no layer conv1_1", save_mat(path, {"relu1_1": None, "fc6": (np.ones(2), np.ones(2))}))
    _fails("not a kernel and a bias", save_mat(path, {"conv1_1": None}))
    savemat(path, {"layers": np.ones((3, 3)), "meta": {"normalization": {"averageImage": 1.0}}})
    _fails("no layer conv1_1", path)


def test_mean_pixels_that_are_none(tmp_path):
    path, layers = str(tmp_path / "net.mat"), _cut()
    save_mat(path, layers)
    content = loadmat(path)
    for image in (np.ones((224, 224)), np.ones((2, 2, 4)), np.zeros((0, 0)), [1.0, 2.0, 256.0]):
        content["meta"] = {"normalization": {"averageImage": image}}
        savemat(path, {name: content[name] for name in ("layers", "meta")})
        _fails(["the mean pixel of", "three values in 0..255"], path)
    savemat(path, {"layers": content["layers"], "meta": {"normalization": {"imageSize": 3.0}}})
    _fails("no averageImage", path)
    _fails("the mean pixel of", save_mat(path, layers, mean_pixel=(1, np.nan, 3)))


def test_pictures_and_data_of_the_other_tests(tmp_path):
    folder = draw_data(tmp_path / "data", seed=1, last="relu1_2")
    network = read_network(os.path.join(folder, "imagenet-vgg-verydeep-19.mat"))
    _same(network, _convolutions(seed=1, last="relu1_2"))
    assert Image.open(os.path.join(folder, "1-content.jpg")).size == (64, 48)
    assert Image.open(os.path.join(folder, "1-style.jpg")).size == (80, 60)


def _beside(*names):
    path = os.path.join(SHARED, *names)
    if not os.path.isfile(path):
        pytest.skip("no reference numbers beside the repository: %s" % names[-1])
    return path


def test_reference_files_of_both_layouts():
    stored = np.load(_beside("reference", "neural_style.npz"))
    network = read_network(_beside("reference", "neural_style_vgg_new_format.mat"))
    for name in ("conv1_1", "conv3_2"):
        kernel, bias = network.layers[name]
        np.testing.assert_array_equal(kernel, stored["mat/new_%s_kernel_as_stored" % name])
        np.testing.assert_array_equal(bias, stored["mat/new_%s_bias" % name])
    np.testing.assert_array_equal(network.mean_pixel, stored["mat/new_mean_pixel"])
    assert available(network) == weights.LAYERS
    network = read_network(_beside("reference", "neural_style_vgg_old_format_tiny.mat"))
    np.testing.assert_allclose(network.mean_pixel, stored["mat/old_mean_pixel"], rtol=1e-6)
    assert [pair[0].shape[3] for pair in network.layers.values()] == [2] * 2 + [4] * 6 + [8] * 8


def test_genuine_filters():
    network = read_network(_beside("data", "vgg19", "vgg19_normalised_to_relu3_1.mat"))
    assert list(network.layers)[-1] == "conv3_1"
    assert [pair[0].shape[3] for pair in network.layers.values()] == [64, 64, 128, 128, 256]
    with pytest.raises(WeightsError, match=r"relu4_2 are not in .* from relu1_1 .*relu3_1$"):
        check_layers(network, ["relu4_2"])
