# SPDX-License-Identifier: Apache-2.0
"""Files of torch.save without PyTorch: views, both formats, and pickles that want more than data.

The files are put together here, opcode by opcode, as PyTorch 2.13 writes them.
"""

import os
import struct
import zipfile

import numpy as np
import pytest

from harness.errors import UserError
from tools.weights import pytorch
from tools.weights.torch_files import MAGIC

ORDERED = b"ccollections\nOrderedDict\n"
TYPES = {"Double": "f8", "Half": "f2", "Long": "i8", "Int": "i4", "Short": "i2", "Char": "i1"}
TYPES.update({"Byte": "u1", "Bool": "?", "ComplexFloat": "c8"})


def _content(path):
    with open(path, "rb") as file:
        return file.read()


def _text(text):
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def _number(number):
    return b"J" + struct.pack("<i", number)


def _numbers(numbers):
    return b"(" + b"".join(map(_number, numbers)) + b"t"


def _storage(kind, key, count, rest=b""):
    name = b"ctorch\n%sStorage\n" % kind.encode()
    return (
        b"("
        + _text("storage")
        + name
        + _text(key)
        + _text("cuda:0")
        + _number(count)
        + rest
        + b"tQ"
    )


def _tensor(storage, offset, shape, strides):
    """Emits a tensor; strides count values."""
    rest = b"\x89" + ORDERED + b")R"  # requires_grad and hooks
    place = _number(offset) + _numbers(shape) + _numbers(strides)
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + place + rest + b"tR"


def _dict(**parts):
    pairs = b"".join(_text(name) + content for name, content in parts.items())
    return ORDERED + b")R(" + pairs + b"u"


def _pickle(content):
    return b"\x80\x02" + content + b"."


def _zip(path, content, storages, order=b"little", compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(str(path), "w", compression) as archive:
        archive.writestr("net/data.pkl", _pickle(content))
        archive.writestr("net/byteorder", order)
        for key, data in storages.items():
            archive.writestr("net/data/" + key, data.tobytes())
        archive.writestr("net/version", b"3\n")
    return str(path)


def _stream(path, content, storages, protocol=b"\x80\x02"):
    keys = b"](" + b"".join(map(_text, storages)) + b"e"
    with open(str(path), "wb") as file:
        file.write(protocol + MAGIC + _pickle(b"M\xe9\x03") + _pickle(b"}"))
        file.write(_pickle(content) + _pickle(keys))
        for data in storages.values():
            file.write(struct.pack("<q", data.size) + data.tobytes())
    return str(path)


@pytest.fixture(params=[_zip, _stream], ids=["zip", "stream"])
def save(request):
    return request.param


def _random(count, dtype="<f4", seed=0):
    return np.random.RandomState(seed).standard_normal(count).astype(dtype)


def _equal(one, other):
    assert one.dtype == other.dtype
    np.testing.assert_array_equal(one, other)


def test_views_that_are_not_contiguous_share_a_storage(save, tmp_path):
    base = _random(30)
    storage = _storage("Float", "7", 30)
    kernel = _tensor(storage, 4, [2, 3, 4], [1, 8, 2])
    content = _dict(
        kernel=kernel,
        row=_tensor(storage, 5, [6], [4]),
        number=_tensor(storage, 29, [], []),
        expanded=_tensor(storage, 3, [2, 3], [0, 1]),
        nothing=_tensor(storage, 0, [0, 4], [4, 1]),
    )
    arrays = pytorch.read(save(tmp_path / "net.pth", content, {"7": base}))
    index = np.indices([2, 3, 4])
    _equal(arrays["kernel"], base[4 + index[0] + 8 * index[1] + 2 * index[2]])
    _equal(arrays["row"], base[5:29:4])
    _equal(arrays["number"], base[29])
    _equal(arrays["expanded"], np.stack([base[3:6]] * 2))
    assert arrays["nothing"].shape == (0, 4)


@pytest.mark.parametrize("kind", TYPES)
def test_types_stay(save, kind, tmp_path):
    values = (10 * _random(6)).astype(TYPES[kind])
    content = _dict(x=_tensor(_storage(kind, "0", 6), 0, [2, 3], [3, 1]))
    _equal(pytorch.read(save(tmp_path / "x.pt", content, {"0": values}))["x"], values.reshape(2, 3))


def test_bfloat16_becomes_float32_without_loss(save, tmp_path):
    values = (_random(9).view(np.uint32) >> 16).astype(np.uint16)
    path = save(
        tmp_path / "x.pt",
        _dict(x=_tensor(_storage("BFloat16", "0", 9), 1, [4], [2])),
        {"0": values},
    )
    expected = (values.astype(np.uint32) << 16).view(np.float32)
    _equal(pytorch.read(path)["x"], expected[1:8:2])
    assert pytorch.describe(path) == [("x", (4,), "bfloat16")]


def test_big_endian_values_are_turned(tmp_path):
    values = _random(5)
    content = _dict(x=_tensor(_storage("Float", "0", 5), 0, [5], [1]))
    path = _zip(tmp_path / "x.pt", content, {"0": values.astype(">f4")}, b"big")
    _equal(pytorch.read(path)["x"], values)


def test_a_part_of_a_storage_as_pytorch_0_3_wrote_it(tmp_path):
    values = _random(10)
    part = b"(" + _text("9") + _number(4) + _number(5) + b"t"
    content = _dict(x=_tensor(_storage("Float", "1", 10, part), 1, [2, 2], [2, 1]))
    path = _stream(tmp_path / "x.pt", content, {"1": values})
    _equal(pytorch.read(path)["x"], values[5:9].reshape(2, 2))


def test_nested_dicts_lists_and_parameters_are_named_and_the_rest_left_out(save, tmp_path):
    values = _random(4)
    tensor = _tensor(_storage("Float", "0", 4), 0, [4], [1])
    parameter = b"ctorch._utils\n_rebuild_parameter\n(" + tensor + b"\x88" + ORDERED + b")RtR"
    state = b"}" + _text("_metadata") + ORDERED + b")Rs"
    content = _dict(
        genA2B=_dict(**{"conv.weight": parameter}) + state + b"b",
        optimizer=b"](" + tensor + _number(3) + b"e",
        step=b"}" + _number(12) + tensor + b"s",
        epoch=_number(3),
        rate=b"G" + struct.pack(">d", 0.1),
        best=b"N",
        comment=_text("hello"),
        sizes=b"ctorch\nSize\n(" + _numbers([1, 2]) + b"tR",
    )
    arrays = pytorch.read(save(tmp_path / "x.pt", content, {"0": values}))
    assert list(arrays) == ["genA2B/conv.weight", "optimizer/0", "step/12"]
    for array in arrays.values():
        _equal(array, values)


def test_strings_of_python_2_are_names_too(tmp_path):
    tensor = _tensor(_storage("Float", "0", 2), 0, [2], [1])
    path = _stream(tmp_path / "x.pt", b"}U\x03a.bq\x01" + tensor + b"s", {"0": _random(2)})
    assert list(pytorch.read(path)) == ["a.b"]


def test_a_stream_of_protocol_4_is_read_too(tmp_path):
    frame = b"\x80\x04\x95" + struct.pack("<Q", 13)
    text = b"\x8c\x01w\x94"  # SHORT_BINUNICODE, MEMOIZE
    content = b"}" + text + _tensor(_storage("Float", "0", 2), 0, [2], [1]) + b"s"
    path = _stream(tmp_path / "x.pt", content, {"0": _random(2)}, frame)
    _equal(pytorch.read(path)["w"], _random(2))


def test_what_is_written_is_read_and_another_write_gives_the_same_file(tmp_path):
    arrays = {
        "genA2B/conv.weight": _random(24).reshape(2, 3, 4).transpose(2, 0, 1),
        "genA2B/steps": np.array(7, np.int64),
        "genB2A/half": _random(3, "f2"),
        "bias": _random(3, ">f8"),
        "nothing": np.zeros([0, 2], np.float32),
    }
    paths = [str(tmp_path / name) for name in ("a.pt", "b.pt")]
    for path in paths:
        pytorch.write(path, arrays)
    found = pytorch.read(paths[0])
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        _equal(found[name], array.astype(array.dtype.newbyteorder("=")))
    contents = [_content(path) for path in paths]
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"a": np.ones(2, np.float32), "a/b": np.ones(2, np.float32)}, "a tensor's and a dict's"),
        ({"a/b": np.ones(2, np.float32), "a": np.ones(2, np.float32)}, "a tensor's and a dict's"),
        ({"a": np.array(["x"])}, "has the type <U1"),
    ],
)
def test_what_cannot_be_written_leaves_the_file_that_was_there(arrays, text, tmp_path):
    path = tmp_path / "a.pt"
    path.write_bytes(b"before")
    with pytest.raises(UserError, match=text):
        pytorch.write(str(path), arrays)
    assert path.read_bytes() == b"before"
    assert os.listdir(str(tmp_path)) == ["a.pt"]


def _views():
    storage = _storage("Float", "0", 6)
    return {
        "beyond the end": _tensor(storage, 0, [7], [1]),
        "offset": _tensor(storage, 6, [1], [1]),
        "stride": _tensor(storage, 0, [2, 3], [4, 1]),
        "negative stride": _tensor(storage, 5, [3], [-1]),
        "negative offset": _tensor(storage, -1, [3], [1]),
        "negative size": _tensor(storage, 0, [-3, -2], [1, 1]),
        "strides and sizes": _tensor(storage, 0, [3], [1, 1]),
        "too many values": _tensor(storage, 0, [30000, 30000], [0, 0]),
        "storage too small": _tensor(_storage("Double", "0", 6), 0, [6], [1]),
        "negative count": _tensor(_storage("Float", "0", -6), 0, [6], [1]),
        "no such storage": _tensor(_storage("Float", "1", 6), 0, [6], [1]),
        "no storage": _tensor(_number(1), 0, [6], [1]),
    }


@pytest.mark.parametrize("case", _views())
def test_views_outside_their_storage_are_errors(save, case, tmp_path):
    path = save(tmp_path / "x.pt", _dict(x=_views()[case]), {"0": _random(6)})
    with pytest.raises(UserError, match=r"x\.pt is (damaged|cut off)"):
        pytorch.read(path)


def test_a_file_that_is_cut_off_anywhere_is_one_sentence(save, tmp_path):
    content = _dict(x=_tensor(_storage("Float", "0", 6), 0, [2, 3], [1, 2]), epoch=_number(3))
    path = save(tmp_path / "x.pt", content, {"0": _random(6)})
    whole = _content(path)
    assert pytorch.read(path)["x"].shape == (2, 3)
    for length in range(len(whole)):
        with open(path, "wb") as file:
            file.write(whole[:length])
        for reader in (pytorch.read, pytorch.describe):
            with pytest.raises(UserError) as error:
                reader(path)
            assert "\n" not in str(error.value)


def test_changed_bytes_are_errors_or_other_weights_but_never_a_crash(save, tmp_path):
    content = _dict(x=_tensor(_storage("Float", "0", 6), 0, [2, 3], [1, 2]), epoch=_number(3))
    path, errors = save(tmp_path / "x.pt", content, {"0": _random(6)}), 0
    whole, rng = _content(path), np.random.RandomState(0)
    for _ in range(400):
        changed = bytearray(whole)
        for place in rng.randint(0, len(whole), rng.randint(1, 4)):
            changed[place] = rng.randint(0, 256)
        with open(path, "wb") as file:
            file.write(changed)
        try:
            pytorch.read(path)
        except UserError:
            errors += 1
    assert errors > 100


def test_a_list_of_storages_that_does_not_fit_is_an_error(tmp_path):
    content = _dict(x=_tensor(_storage("Float", "0", 6), 0, [6], [1]))
    for storages in ({}, {"0": _random(6), "1": _random(6)}, {"0": _random(5)}):
        path = _stream(tmp_path / "x.pt", content, storages)
        with pytest.raises(UserError, match="damaged"):
            pytorch.read(path)


@pytest.mark.parametrize("path", ["missing.pt", "."])
def test_a_missing_file_is_one_sentence(path, tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*: (No such file|Is a directory)"):
        pytorch.read(str(tmp_path / path))
