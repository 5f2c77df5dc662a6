# SPDX-License-Identifier: Apache-2.0
"""The file of VGG-19: its three kinds, pickles that would run code, files that are not one."""

import collections
import contextlib
import io
import os
import pickle
import re
import struct

import numpy as np
import pytest
from conftest import VGG_LAYERS, write_vgg
from scipy.io import savemat

from whitebox import weights
from whitebox.weights import WeightsError, find_vgg, read_vgg

WIDTHS = (3, 2, 4, 3, 5, 4, 3, 2, 4, 5, 6, 7)
MULTIARRAY = re.compile(rb"numpy\._?core\.multiarray")


class Evil:
    """When it is unpickled by the usual means, the file `path` comes into being."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


class Python2Pickler(pickle._Pickler):
    """Writes str and bytes alike as strings of Python 2."""

    def save(self, value, *words):
        if not isinstance(value, (str, bytes)):
            return super().save(value, *words)
        data = value.encode("latin1") if isinstance(value, str) else value
        return self.write(b"T" + struct.pack("<i", len(data)) + data)


def draw(seed=0, **changes):
    """Returns {name: [kernel, bias]} of a narrow VGG-19, some of it replaced."""
    rng, channels, layers = np.random.RandomState(seed), 3, {}
    for name, width in zip(VGG_LAYERS, WIDTHS):
        kernel = rng.normal(size=(3, 3, channels, width)).astype(np.float32)
        layers[name] = [kernel, rng.normal(size=width).astype(np.float32)]
        channels = width
    return dict(layers, **changes)


def save_npy(path, content):
    np.save(str(path), np.array(content, dtype=object), allow_pickle=True)
    return str(path)


def write_npy(path, pickled):
    """Writes a .npy whose pickle is `pickled`."""
    with open(str(path), "wb") as file:
        header = {"descr": "|O", "fortran_order": False, "shape": ()}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(pickled)
    return str(path)


def save_npz(path, layers, names=("%s/kernel", "%s/bias")):
    pairs = [(names[i] % n, pair[i]) for n, pair in layers.items() for i in (0, 1)]
    np.savez(str(path), **dict(pairs))
    return str(path)


def save_mat(path, layers, compress=True, **others):
    """Writes `layers` as MatConvNet does, with ReLUs between them."""
    cells = np.empty((1, 2 * len(layers)), object)
    for index, (name, (kernel, bias)) in enumerate(layers.items()):
        pair = np.empty((1, 2), object)
        pair[0] = kernel, bias.reshape(1, -1)
        cells[0, 2 * index] = {"name": name, "type": "conv", "stride": 1.0, "weights": pair}
        cells[0, 2 * index + 1] = {"name": "relu" + name[4:], "type": "relu"}
    # Compressed: SciPy itself can crash on damage in a file that is not.
    savemat(str(path), dict(others, layers=cells), do_compression=compress)
    return str(path)


def same(read, layers):
    assert list(read) == VGG_LAYERS
    for name, (kernel, bias) in read.items():
        assert kernel.dtype == bias.dtype == np.float32
        assert kernel.flags.c_contiguous
        assert kernel.flags.writeable
        np.testing.assert_array_equal(kernel, layers[name][0], name)
        np.testing.assert_array_equal(bias, layers[name][1], name)


def fails(path, *words):
    """Asserts one sentence that names the file and has the words; returns it."""
    with pytest.raises(WeightsError) as caught:
        read_vgg(str(path))
    message = str(caught.value)
    for word in (str(path),) + words:
        assert word in message
    assert "\n" not in message
    return message


def test_npy_is_read_and_later_layers_are_ignored(tmp_path):
    layers = draw()
    extra = dict(layers, conv5_1=["no", "array"], mean=np.float32(3.5), fc6=[np.ones(2)])
    same(read_vgg(save_npy(tmp_path / "v.npy", extra)), layers)


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_npy_of_either_numpy_is_read(tmp_path, module, protocol):
    layers = draw(seed=1)
    extra = dict(layers, mean=np.float32(3.5))
    pickled = pickle.dumps(np.array(extra, dtype=object), protocol=protocol)
    pickled, count = MULTIARRAY.subn(module, pickled)
    assert count >= 2  # _reconstruct and scalar
    same(read_vgg(write_npy(tmp_path / "v.npy", pickled)), layers)


def test_npy_of_protocol_4_is_read(tmp_path):
    layers = draw(seed=2)
    pickled = pickle.dumps(np.array(layers, dtype=object), protocol=4)
    same(read_vgg(write_npy(tmp_path / "v.npy", pickled)), layers)


def test_npy_of_python_2_is_read(tmp_path):
    layers, file = draw(seed=3), io.BytesIO()
    Python2Pickler(file, protocol=2).dump(np.array(layers, dtype=object))
    assert b"_codecs" not in file.getvalue()  # by which Python 3 writes protocol 2
    with pytest.raises(UnicodeDecodeError):
        pickle.loads(file.getvalue())
    same(read_vgg(write_npy(tmp_path / "v.npy", file.getvalue())), layers)


def test_npy_may_hold_arrays_of_other_layouts(tmp_path):
    layers = draw(seed=4)
    stored = collections.OrderedDict((name, tuple(pair)) for name, pair in layers.items())
    kernel, bias = layers["conv1_1"]
    stored["conv1_1"] = [np.asfortranarray(kernel), bias.astype(">f4")]
    stored["conv1_2"] = np.empty(2, object)
    stored["conv1_2"][:] = layers["conv1_2"]
    stored["conv2_1"] = [part.astype(np.float64) for part in layers["conv2_1"]]
    half = [part.astype(np.float16) for part in layers["conv2_2"]]
    stored["conv2_2"] = half
    expected = dict(layers, conv2_2=[part.astype(np.float32) for part in half])
    same(read_vgg(save_npy(tmp_path / "v.npy", stored)), expected)


@pytest.mark.parametrize("names", weights.NPZ_NAMES)
def test_npz_is_read_by_any_of_its_names(tmp_path, names):
    layers = draw(seed=5)
    same(read_vgg(save_npz(tmp_path / "v.npz", dict(layers, fc6=layers["conv1_1"]), names)), layers)


def test_npz_of_the_tests_is_read(tmp_path):
    write_vgg(tmp_path / "v.npz")
    with np.load(str(tmp_path / "v.npz")) as arrays:
        layers = {n: (arrays[n + "/kernel"], arrays[n + "/bias"]) for n in VGG_LAYERS}
    same(read_vgg(str(tmp_path / "v.npz")), layers)


@pytest.mark.parametrize("others", [{}, {"meta": {"classes": "x"}}, {"normalization": {"a": 1}}])
def test_mat_is_read_and_becomes_bgr(tmp_path, others):
    layers = draw(seed=6)
    stored = dict(layers, conv5_1=layers["conv1_2"])
    stored["conv1_1"] = [layers["conv1_1"][0][:, :, [2, 1, 0]], layers["conv1_1"][1]]
    for compress in (True, False):
        same(read_vgg(save_mat(tmp_path / "v.mat", stored, compress, **others)), layers)


def test_pickle_that_is_no_dictionary_of_arrays_runs_nothing(tmp_path):
    trap = tmp_path / "trap"
    pickle.loads(pickle.dumps(Evil(trap))).close()
    assert trap.exists(), "the trap must work"
    trap.unlink()
    layers = draw()
    layers["conv3_2"][1] = Evil(trap)
    evils = [Evil(trap), dict(draw(), zz=[[{"a": Evil(trap)}]]), layers]
    for number, content in enumerate(evils):
        path = save_npy(tmp_path / ("%d.npy" % number), content)
        fails(path, "asks for io.open", "is not trusted")
    pickled = pickle.dumps(Evil(trap), protocol=2)
    fails(write_npy(tmp_path / "p.npy", pickled), "asks for", "open", "is not trusted")
    arrays = {"conv1_1/kernel": np.array([Evil(trap)], dtype=object)}
    np.savez(str(tmp_path / "v.npz"), **arrays)
    fails(tmp_path / "v.npz", "conv1_1/kernel of", "is pickled", "is not trusted")
    bare = tmp_path / "bare.npy"
    bare.write_bytes(pickled)
    fails(bare, "is a bare Python pickle")
    assert not trap.exists()


@pytest.mark.parametrize(
    "forbidden",
    [b"cos\nsystem\n", b"cnumpy\nload\n", b"cbuiltins\neval\n", b"c__builtin__\ngetattr\n"],
)
def test_functions_other_than_those_of_arrays_are_named(tmp_path, forbidden):
    pickled = b"\x80\x02" + forbidden + b"X\x01\x00\x00\x00a\x85R."
    module, name = forbidden[1:].decode().split()
    fails(write_npy(tmp_path / "v.npy", pickled), "asks for %s.%s," % (module, name))


def test_forged_arrays_are_refused(tmp_path):
    class Forged:
        def __init__(self, dtype, data):
            self.state = (1, (1,), np.dtype(dtype), False, data)

        def __reduce__(self):
            make, words, _ = np.ones(1).__reduce__()
            return make, words, self.state

    for dtype, data in [("O", b"A" * 8), ("V8", b"A" * 8), ("f4", b"A" * 3), ("f4", 7)]:
        layers = draw(conv1_1=[Forged(dtype, data), np.ones(3, np.float32)])
        fails(save_npy(tmp_path / "v.npy", layers), "damaged")


def test_missing_files_and_other_kinds_are_told(tmp_path):
    fails(tmp_path / "none.npy", "cannot be opened: No such file", "--vgg")
    (tmp_path / "folder.npy").mkdir()
    fails(tmp_path / "folder.npy", "cannot be opened: Is a directory")
    cases = [
        ("a.h5", b"\x89HDF\r\n", "ends in '.h5'; allowed are .npy, .npz, .mat"),
        ("a.npy", b"", "is empty"),
        ("a.mat", b"\n <!DOCTYPE html><html>", "is a web page"),
        ("a.npz", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("b.npy", pickle.dumps(draw()), "is a bare Python pickle"),
        ("b.mat", b"MATLAB 7.3 MAT-file", "MATLAB 7.3"),
        ("b.npz", b"\x93NUMPY\x01\x00", "begins with b'\\x93NUMPY\\x01\\x00', not as a .npz"),
    ]
    for name, content, words in cases:
        (tmp_path / name).write_bytes(content)
        fails(tmp_path / name, words)


def test_npy_that_is_no_dictionary_is_told(tmp_path):
    for content in (np.arange(1.0, 4.0), np.array(["conv1_1"]), np.array([{}, {}])):
        np.save(str(tmp_path / "v.npy"), content, allow_pickle=True)
        fails(tmp_path / "v.npy", "is not a dictionary")


@pytest.mark.parametrize("save", [save_npy, save_npz, save_mat])
def test_networks_that_are_not_vgg19_are_told(tmp_path, save):
    path = str(tmp_path / ("v." + save.__name__[-3:]))
    layers = draw()
    del layers["conv2_1"], layers["conv4_4"]
    fails(save(path, layers), "has no layer conv2_1, conv4_4 of conv1_1 to conv4_4")
    kernel, bias = draw()["conv1_2"]
    wrong = [
        ([kernel[:2], bias], "the kernel of conv1_2", "shape (2, 3, 3, 2)", "(3, 3, 3, out)"),
        ([kernel[:, :, :2], bias], "the kernel of conv1_2", "shape (3, 3, 2, 2)"),
        ([kernel, np.ones(5, np.float32)], "the bias of conv1_2", "must have 2 values"),
        ([kernel * np.nan, bias], "conv1_2 of", "NaN"),
        ([kernel.astype(int), bias], "conv1_2 of", "int64", "floating-point numbers"),
        ([kernel * np.float64(1e300), bias], "conv1_2 of", "infinite"),
    ]
    for pair, *words in wrong:
        fails(save(path, draw(conv1_2=pair)), *words)


def test_pairs_that_are_none_are_told(tmp_path):
    kernel, bias = draw()["conv1_2"]
    for pair in ([kernel], [kernel, bias, bias], kernel, "text", {"kernel": kernel}):
        fails(save_npy(tmp_path / "v.npy", draw(conv1_2=pair)), "is not a kernel and a bias")
    path = save_npy(tmp_path / "v.npy", draw(conv1_2=[kernel.tolist(), bias]))
    fails(path, "conv1_2 of", "holds list")


@pytest.mark.parametrize("save", [save_npy, save_npz, save_mat])
def test_damaged_files_never_end_in_a_traceback(tmp_path, save):
    path = tmp_path / ("v." + save.__name__[-3:])
    save(path, draw())
    whole, rng = path.read_bytes(), np.random.RandomState(0)
    for _ in range(30):
        path.write_bytes(whole[: rng.randint(16, len(whole))])
        fails(path)
    for number in range(60):
        content = bytearray(whole)
        content[rng.randint(8, 400 if number % 2 else len(whole))] ^= 1 << rng.randint(8)
        path.write_bytes(bytes(content))
        with contextlib.suppress(WeightsError):  # a number may have changed, nothing else
            assert list(read_vgg(str(path))) == VGG_LAYERS


def test_find_vgg_prefers_the_published_file(tmp_path):
    with pytest.raises(WeightsError) as caught:
        find_vgg(str(tmp_path))
    for word in (str(tmp_path), "--vgg", "https://") + weights.NAMES:
        assert word in str(caught.value)
    for name in reversed(weights.NAMES):
        (tmp_path / name).write_bytes(b"x")
        assert find_vgg(str(tmp_path)) == os.path.join(str(tmp_path), name)
    assert weights.NAMES[0] == "vgg19_no_fc.npy"
