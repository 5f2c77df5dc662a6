# SPDX-License-Identifier: Apache-2.0
"""Weight files of every kind: found by their content, read, described, damaged."""

import argparse
import importlib.util
import json
import os
import struct
import zipfile

import numpy as np
import pytest
from conftest import TOOLS

from harness.errors import UserError
from tools.weights import files, inspection, mindspore_file, pytorch

SHARED = os.path.join(os.path.dirname(os.path.dirname(TOOLS)), "shared")
VGG = os.path.join(SHARED, "reference", "neural_style_vgg_old_format_tiny.mat")


def _arrays(seed=0):
    rng = np.random.RandomState(seed)
    return {
        "conv/kernel": rng.standard_normal([2, 3, 4]).astype(np.float32),
        "conv/bias": rng.standard_normal(4),
        "steps": rng.randint(1, 9, []).astype(np.int64),
    }


def _bytes_field(number, content):
    size, length = len(content), b""
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def _mindspore_value(name, kind, shape, content):
    dims = b"".join(b"\x08" + bytes([size]) for size in shape)
    tensor = dims + _bytes_field(2, kind.encode()) + _bytes_field(3, content)
    value = _bytes_field(1, name.encode()) + _bytes_field(2, tensor)
    return _bytes_field(1, value)


def _save_mindspore(path, arrays):
    with open(path, "wb") as file:
        for name, array in arrays.items():
            kind = array.dtype.name.capitalize()
            file.write(_mindspore_value(name, kind, array.shape, array.tobytes()))
    return path


def _save_npz(path, arrays):
    with open(path, "wb") as file:
        np.savez(file, **arrays)
    return path


def _save_packed_npz(path, arrays):
    turned = {name: np.asfortranarray(array.astype(">f8")) for name, array in arrays.items()}
    with open(path, "wb") as file:
        np.savez_compressed(file, **turned)
    return path


def _save_pytorch(path, arrays):
    pytorch.write(path, arrays)
    return path


def _save_safetensors(path, arrays):
    numpy = pytest.importorskip("safetensors.numpy")
    numpy.save_file(arrays, path)
    return path


def _save_mat(path, arrays):
    layers = np.empty([1, len(arrays)], object)
    for i, (name, array) in enumerate(arrays.items()):
        weights = np.empty([1, 1], object)
        weights[0, 0] = array
        layers[0, i] = {"name": name, "weights": weights}
    with open(path, "wb") as file:
        pytest.importorskip("scipy.io").savemat(file, {"layers": layers}, do_compression=True)
    return path


def _save_onnx(path, arrays):
    onnx = pytest.importorskip("onnx")
    held = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    ends = [onnx.helper.make_tensor_value_info(name, 1, [1, 4]) for name in ("x", "y")]
    nodes = [onnx.helper.make_node("Add", ["x", "conv/bias"], ["y"])]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "net", ends[:1], ends[1:], initializer=held)
    )
    with open(path, "wb") as file:
        file.write(model.SerializeToString())
    return path


def _tensorflow():
    return pytest.importorskip("tensorflow.compat.v1")


def _save_graph(path, arrays):
    tf = _tensorflow()
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float64, [None, 4], "x")
        nodes = [tf.constant(array, name=name) for name, array in arrays.items()]
        tf.add(x, nodes[1], name="y")
        tf.constant("a text", name="text")
        content = graph.as_graph_def()
    with open(path, "wb") as file:
        file.write(content.SerializeToString())
    return path


def _save_checkpoint(path, arrays):
    tf = _tensorflow()
    with tf.Graph().as_default(), tf.Session() as session:
        names = list(arrays) + ["text"]
        values = [tf.constant(array) for array in arrays.values()] + [tf.constant("a text")]
        session.run(
            tf.raw_ops.SaveV2(
                prefix=path, tensor_names=names, shape_and_slices=[""] * len(names), tensors=values
            )
        )
    return path


def _read_checkpoint(path):
    reader = _tensorflow().train.NewCheckpointReader(str(path))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def _assert_equal(mine, theirs):
    assert set(mine) == set(theirs)
    for name in theirs:
        np.testing.assert_array_equal(mine[name], theirs[name], name)


def _run_command(command, capsys, *words):
    """Returns the lines that a command of tools.weights, a module, prints for these words."""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    assert command.run(parser.parse_args([str(word) for word in words])) == 0
    return capsys.readouterr().out.splitlines()


SAVERS = {
    files.NPZ: _save_npz,
    files.PYTORCH: _save_pytorch,
    files.SAFETENSORS: _save_safetensors,
    files.ONNX: _save_onnx,
    files.GRAPH: _save_graph,
    files.CHECKPOINT: _save_checkpoint,
    files.MINDSPORE: _save_mindspore,
}


@pytest.mark.parametrize("kind", SAVERS)
def test_a_file_of_each_kind_is_found_by_its_content_read_and_described(kind, tmp_path):
    arrays = _arrays()
    path = SAVERS[kind](str(tmp_path / "weights.bin"), arrays)
    assert files.kind(path) == kind
    found = files.read(path)
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    described = {name: (shape, dtype) for name, shape, dtype in files.describe(path)}
    assert described == {name: (a.shape, a.dtype.name) for name, a in arrays.items()}


def test_packed_arrays_of_another_byte_order_and_memory_order_are_the_same(tmp_path):
    arrays = _arrays()
    found = files.read(_save_packed_npz(str(tmp_path / "x.npz"), arrays))
    for name, array in arrays.items():
        assert found[name].dtype == np.float64
        assert found[name].dtype.isnative
        np.testing.assert_array_equal(found[name], array)


def test_a_network_of_matconvnet_is_read_by_its_places(tmp_path):
    arrays = _arrays()
    path = _save_mat(str(tmp_path / "x.mat"), arrays)
    assert files.kind(path) == files.MAT
    found = files.read(path)
    assert list(found) == ["layers/%d/weights" % i for i in range(3)]
    np.testing.assert_array_equal(found["layers/0/weights"], arrays["conv/kernel"])
    assert files.describe(path)[0] == ("layers/0/weights", (2, 3, 4), "float32")


@pytest.mark.skipif(not os.path.exists(VGG), reason="needs ../shared/reference")
def test_a_vgg_of_matconvnet_has_the_shapes_of_its_layers():
    described = {name: shape for name, shape, _ in files.describe(VGG)}
    assert described["layers/0/weights/0"] == (3, 3, 3, 2)
    assert described["layers/2/weights/0"] == (3, 3, 2, 2)


@pytest.mark.parametrize("ending", ["", ".index", ".data-00000-of-00001"])
def test_a_checkpoint_may_be_named_by_any_of_its_files(ending, tmp_path):
    path = _save_checkpoint(str(tmp_path / "model-3"), _arrays())
    np.testing.assert_array_equal(files.read(path + ending)["conv/bias"], _arrays()["conv/bias"])


@pytest.mark.parametrize("ending", [".index", ".data-00000-of-00001"])
def test_a_damaged_checkpoint_is_one_sentence(ending, tmp_path):
    path = _save_checkpoint(str(tmp_path / "model-3"), _arrays())
    with open(path + ending, "rb") as file:
        whole = file.read()
    for content in (whole[: len(whole) // 2], b"", whole[:9] + b"\xff\xff" + whole[11:]):
        with open(path + ending, "wb") as file:
            file.write(content)
        with pytest.raises(UserError, match="damaged"):
            files.read(path)
    os.remove(path + ".data-00000-of-00001")
    with pytest.raises(UserError, match="damaged"):
        files.read(path)


def test_values_that_look_like_the_end_of_a_header_stay(tmp_path):
    arrays = {"a": np.arange(9, 40, dtype=np.uint8), "b": np.full(3, 0x0A0A, np.uint16)}
    found = files.read(_save_npz(str(tmp_path / "x.npz"), arrays))
    np.testing.assert_array_equal(found["a"], arrays["a"])
    np.testing.assert_array_equal(found["b"], arrays["b"])


def test_a_graph_has_inputs_and_outputs(tmp_path):
    path = _save_graph(str(tmp_path / "x.pb"), _arrays())
    assert files.ends(path) == {"inputs": ["x"], "outputs": ["y"]}
    path = _save_onnx(str(tmp_path / "x.onnx"), _arrays())
    assert files.ends(path) == {"inputs": ["x"], "outputs": ["y"]}


def test_a_graph_that_declares_too_much_is_refused(tmp_path):
    tf = _tensorflow()
    graph = tf.GraphDef()
    node = graph.node.add(name="bomb", op="Const")
    node.attr["value"].tensor.dtype = tf.float32.as_datatype_enum
    node.attr["value"].tensor.float_val.append(1)
    for _ in range(2):
        node.attr["value"].tensor.tensor_shape.dim.add(size=1 << 20)
    path = tmp_path / "x.pb"
    path.write_bytes(graph.SerializeToString())
    for reader in (files.read, files.describe):
        with pytest.raises(UserError, match="made to fill the memory"):
            reader(str(path))


def test_bfloat16_of_safetensors_and_mindspore_becomes_float32(tmp_path):
    bits = (np.random.RandomState(0).standard_normal(6).astype("<f4").view("<u4") >> 16).astype(
        "<u2"
    )
    expected = (bits.astype(np.uint32) << 16).view(np.float32).reshape(2, 3)
    path = tmp_path / "x.ckpt"
    path.write_bytes(_mindspore_value("w", "BFloat16", [2, 3], bits.tobytes()))
    np.testing.assert_array_equal(files.read(str(path))["w"], expected)
    assert files.describe(str(path)) == [("w", (2, 3), "bfloat16")]
    pytest.importorskip("safetensors")
    header = json.dumps({"w": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bits.tobytes())
    np.testing.assert_array_equal(files.read(str(path))["w"], expected)
    assert files.describe(str(path)) == [("w", (2, 3), "bfloat16")]


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ({}, "holds no tensors"),
        ({"w": {"dtype": "F4", "shape": [4], "data_offsets": [0, 2]}}, "w has the type F4|damaged"),
        ({"w": {"dtype": "F8_E5M2", "shape": [2], "data_offsets": [0, 2]}}, "F8_E5M2|damaged"),
    ],
)
def test_safetensors_that_are_not_read_are_not_described_either(header, text, tmp_path):
    pytest.importorskip("safetensors")
    path, head = tmp_path / "x.safetensors", json.dumps(header).encode().ljust(8)
    path.write_bytes(struct.pack("<Q", len(head)) + head + bytes([1, 2] if header else []))
    for reader in (files.read, files.describe):
        with pytest.raises(UserError, match=text):
            reader(str(path))


def test_a_mindspore_tensor_in_slices_is_put_together_and_texts_are_left_out(tmp_path):
    values = np.random.RandomState(0).standard_normal([5, 6]).astype("<f4")
    parts = np.array_split(values.ravel(), 4)
    slices = [_mindspore_value("big", "Float32", [5, 6], part.tobytes()) for part in parts]
    note = _mindspore_value("note", "str", [0], "hello".encode("utf-32-le"))
    path = tmp_path / "x.ckpt"
    path.write_bytes(b"".join(slices) + note)
    assert list(files.read(str(path))) == ["big"]
    np.testing.assert_array_equal(files.read(str(path))["big"], values)
    path.write_bytes(slices[0] + note + b"".join(slices[1:]))
    np.testing.assert_array_equal(files.read(str(path))["big"], values)
    other = _mindspore_value("other", "Float32", [1], values.ravel()[:1].tobytes())
    path.write_bytes(slices[0] + other + b"".join(slices[1:]))
    with pytest.raises(UserError, match="two tensors big"):
        files.read(str(path))


def test_what_mindspore_saves_is_read_with_its_checksum(tmp_path):
    if importlib.util.find_spec("mindspore") is None:
        pytest.skip("needs MindSpore, which is not installed here")
    import mindspore as ms

    path, arrays = str(tmp_path / "x.ckpt"), _arrays()
    content = [{"name": name, "data": ms.Tensor(array)} for name, array in arrays.items()]
    ms.save_checkpoint(content, path, append_dict={"epoch": 3, "note": "hello"}, crc_check=True)
    found = files.read(path)
    assert set(found) == set(arrays) | {"epoch"}
    assert found["epoch"] == 3
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    with open(path, "r+b") as file:
        file.seek(40)
        file.write(b"\xff")
    with pytest.raises(UserError, match="checksum"):
        files.read(path)


@pytest.mark.parametrize("kind", [kind for kind in SAVERS if kind != files.CHECKPOINT])
def test_cut_off_and_changed_files_are_one_sentence_or_other_weights(kind, tmp_path):
    path, rng, errors = SAVERS[kind](str(tmp_path / "x"), _arrays()), np.random.RandomState(0), []
    with open(path, "rb") as file:
        whole = file.read()
    contents = [whole[:length] for length in rng.randint(0, len(whole), 60)]
    for place in rng.randint(0, len(whole), 100):
        contents.append(whole[:place] + bytes([rng.randint(0, 256)]) + whole[place + 1 :])
    for content in contents:
        with open(path, "wb") as file:
            file.write(content)
        for reader in (files.read, files.describe, inspection.report):
            try:
                reader(path)
            except UserError as error:
                errors.append(str(error))
    assert len(errors) > 60
    assert not [error for error in errors if "\n" in error]


@pytest.mark.parametrize("place", [128 + 3, 128 + 6, 128 + 40, 128 + 60, 200])
def test_a_damaged_mat_is_one_sentence(place, tmp_path):
    path = _save_mat(str(tmp_path / "x.mat"), _arrays())
    with open(path, "rb") as file:
        whole = file.read()
    for content in (whole[:place], whole[:place] + b"\xff" + whole[place + 1 :]):
        with open(path, "wb") as file:
            file.write(content)
        with pytest.raises(UserError, match=r"damaged|made to fill"):
            files.read(path)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "of an unknown kind, or damaged; what is read: MATLAB"),
        (b"hello, world, this is no weight file", "of an unknown kind"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\x93NUMPY\x01\x00", "a single array; an .npz has names"),
        (b"\x80\x04\x95\x05\x00}.", "a Python pickle that torch.save did not write"),
        (b"\x1f\x8b\x08", "packed with gzip"),
    ],
)
def test_other_files_are_named(content, text, tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match=text):
        files.read(str(path))


def test_a_zip_of_other_things_a_folder_and_no_file_are_told(tmp_path):
    with zipfile.ZipFile(str(tmp_path / "x.zip"), "w") as archive:
        archive.writestr("picture.png", b"no")
    with zipfile.ZipFile(str(tmp_path / "empty.npz"), "w"):
        pass
    for name, text in (
        ("x.zip", "not one that torch.save"),
        ("empty.npz", "with nothing in it"),
        ("", "a folder"),
        ("y", "there is no"),
    ):
        with pytest.raises(UserError, match=text):
            files.read(os.path.join(str(tmp_path), name))


def test_a_start_of_a_mindspore_file_is_not_taken_for_one_where_it_is_a_graph():
    assert mindspore_file.is_checkpoint(_mindspore_value("w", "Float32", [2], bytes(8)))
    node = _bytes_field(1, _bytes_field(1, b"weights") + _bytes_field(2, b"Const"))
    assert not mindspore_file.is_checkpoint(node)
    assert not mindspore_file.is_checkpoint(b"\n")
