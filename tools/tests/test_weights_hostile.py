# SPDX-License-Identifier: Apache-2.0
"""Weight files made to run a command or to fill the memory do neither."""

import os
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from test_weights_pytorch import (
    ORDERED,
    _content,
    _dict,
    _number,
    _storage,
    _stream,
    _tensor,
    _text,
    _zip,
)

from harness.errors import UserError
from tools.weights import files, pytorch

MIB = 1 << 20
VALUES = np.arange(4, dtype=np.float32) + 0.5
GOOD = _tensor(_storage("Float", "0", 4), 0, [4], [1])


@pytest.fixture(params=[_zip, _stream], ids=["zip", "stream"])
def save(request):
    return request.param


@pytest.fixture
def little_memory():
    """Fails the test if it had more than 100 MiB at once."""
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100 * MIB


def _commands(marker):
    """Returns {what is refused: content that would make the file `marker`}."""
    touch = _text("touch %s" % marker)
    python = _text("open(%r, 'w')" % marker)
    system = b"cos\nsystem\n(" + touch + b"tR"
    return {
        "os.system": system,
        "posix.system": _dict(a=GOOD, b=_dict(c=b"cposix\nsystem\n(" + touch + b"tR")),
        "builtins.eval": b"cbuiltins\neval\n(" + python + b"tR",
        "__builtin__.exec": b"c__builtin__\nexec\n(" + python + b"tR",
        "subprocess.Popen": _text("subprocess") + _text("Popen") + b"\x93(" + touch + b"tR",
        "numpy.core.multiarray._reconstruct": b"cnumpy.core.multiarray\n_reconstruct\n)R",
        "models.Generator": b"cmodels\nGenerator\n)\x81}b",
        "torch.hub.load": b"ctorch.hub\nload\n(" + touch + b"tR",
        "torch._utils._rebuild_tensor_v2.__globals__": (
            _text("torch._utils") + _text("_rebuild_tensor_v2.__globals__") + b"\x93"
        ),
        "the operation INST": b"(" + touch + b"ios\nsystem\n",
        "the operation OBJ": b"(ctorch\nSize\n" + touch + b"o",
        "the operation NEWOBJ": b"ctorch\nSize\n)\x81",
        "the operation EXT1": b"\x82\x01",
        "the operation PERSID": b"P0\n",
        "the operation STRING": b"S'a'\n",
        "the operation LONG": b"L12L\n",
        "the operation PUT": b"}p0\n",
    }


@pytest.mark.parametrize("refused", _commands("x"))
def test_a_pickle_that_asks_for_more_than_data_is_not_run(save, refused, tmp_path):
    marker = tmp_path / "it-ran"
    path = save(tmp_path / "x.pt", _commands(str(marker))[refused], {"0": VALUES})
    with pytest.raises(UserError, match="asks for %s, which is not run" % refused):
        pytorch.read(path)
    assert not marker.exists()


@pytest.mark.parametrize("place", ["hooks", "type of a storage", "key", "magic", "keys"])
def test_nor_where_a_command_hides_in_another_place(place, tmp_path):
    marker = tmp_path / "it-ran"
    command = b"cos\nsystem\n(" + _text("touch %s" % marker) + b"tR"
    content = {
        "hooks": GOOD.replace(ORDERED + b")R", command),
        "type of a storage": GOOD.replace(b"ctorch\nFloatStorage\n", command),
        "key": b"}" + command + GOOD + b"s",
    }.get(place, GOOD)
    path = _stream(tmp_path / "x.pt", _dict(x=content), {"0": VALUES})
    whole = _content(path)
    if place == "keys":
        whole = whole.replace(b"](" + _text("0") + b"e", b"](" + command + b"e")
    elif place == "magic":
        whole = b"\x80\x02" + command + b"." + whole
    with open(path, "wb") as file:
        file.write(whole)
    with pytest.raises(UserError):
        files.read(path)
    assert not marker.exists()


def _bombs():
    """Returns {name: content} that is to need much memory, time or stack."""
    double = b"".join(b"h%ch%c\x86q%c0" % (i, i, i + 1) for i in range(60))
    pairs = b"".join(_number(i) + b"N\x86" for i in range(50000))
    size, made = b"ctorch\nSize\nh\x00\x85R", ORDERED + b"h\x00\x85R"
    return {
        "a text of 4 GiB": b"X\xff\xff\xff\xff",
        "a text of 2 EiB": b"\x8d" + struct.pack("<Q", 1 << 61),
        "a text of 4 GiB of Python 2": b"T" + struct.pack("<i", 0x7FFFFFFF),
        "a bytearray of 1 TiB": b"\x96" + struct.pack("<Q", 1 << 40),
        "lists 50,000 deep": b"]" * 50000 + b"a" * 49999,
        "dicts 20,000 deep": (b"}" + _text("a")) * 20000 + b"N" + b"s" * 20000,
        "a list in itself": b"]q\x00h\x00a",
        "a list 140,000 times in itself": b"]q\x00(" + b"h\x00" * 140000 + b"e",
        "sizes of a list of 140,000": b"](%seq\x000](%se" % (b"N" * 140000, size * 12000),
        "dicts of 50,000 pairs": b"](%seq\x000](%se" % (pairs, made * 300),
        "100,000 long names": (
            b"}" + _text("a" * 990) + b"](" + GOOD + b"q\x00" + b"h\x00" * 100000 + b"es"
        ),
        "pairs of pairs": b")q\x000" + double + b"h\x3c",
        "pairs of pairs as key": b"})q\x000" + double + b"h\x3cNs",
        "pairs of pairs as storage": b")q\x000" + double + b"h\x3cQ",
        "pairs of pairs as shape": (
            b"ctorch._utils\n_rebuild_tensor_v2\n("
            + b")q\x000"
            + double
            + _storage("Float", "0", 4)
            + _number(0)
            + b"h\x3ch\x3ctR"
        ),
        "400,000 dicts": b"]" + b"(" + b"}" * 400000 + b"e",
        "400,000 marks": b"(" * 400000,
        "a name of a mebibyte": b"}" + _text("a" * MIB) + GOOD + b"s",
        "a state for what is no dict": b"ctorch\nSize\n}" + _text("call") + b"Nsb",
        "a call of a number": _number(3) + b")R",
        "a call of a storage's type": b"ctorch\nFloatStorage\n)R",
        "a tensor of 2**60 values": _tensor(_storage("Float", "0", 4), 0, [1 << 30] * 2, [0, 0]),
        "33 axes": _tensor(_storage("Float", "0", 4), 0, [1] * 33, [0] * 33),
        "no tensors": b"}",
        "a tensor without a name": GOOD,
        "a number that was not stored": b"h\x05",
    }


@pytest.mark.parametrize("bomb", _bombs())
def test_a_pickle_made_to_fill_the_memory_is_one_sentence(save, bomb, little_memory, tmp_path):
    path = save(tmp_path / "x.pt", _bombs()[bomb], {"0": VALUES})
    with pytest.raises(UserError) as error:
        pytorch.read(path)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("keys", ["a list", "pairs of pairs", "a number"])
def test_keys_that_are_no_texts_are_one_sentence(keys, tmp_path):
    deep = b")q\x000" + b"".join(b"h%ch%c\x86q%c0" % (i, i, i + 1) for i in range(60)) + b"h\x3c"
    keys = {"a list": b"]", "pairs of pairs": deep, "a number": _number(0)}[keys]
    path = _stream(tmp_path / "x.pt", _dict(x=GOOD), {"0": VALUES})
    whole = _content(path).replace(b"](" + _text("0") + b"e", b"](" + keys + b"e")
    with open(path, "wb") as file:
        file.write(whole)
    with pytest.raises(UserError, match="its list of storages does not fit"):
        pytorch.read(path)


def test_a_great_number_for_the_memo_costs_nothing(save, little_memory, tmp_path):
    memo = b"r\xff\xff\xff\x7f" + b"j\xff\xff\xff\x7f0"
    arrays = pytorch.read(save(tmp_path / "x.pt", _dict(x=GOOD + memo), {"0": VALUES}))
    np.testing.assert_array_equal(arrays["x"], VALUES)


def _npy(descr, shape, data=b""):
    header = ("{'descr': %r, 'fortran_order': False, 'shape': %s, }\n" % (descr, shape)).encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (_npy("<f4", (1 << 40,), b"abcd"), "is damaged: a.npy has the shape"),
        (_npy("<f4", (1 << 30, 1 << 30, 1 << 30)), "is damaged"),
        (_npy("<f4", (3,), b"abcd"), "is damaged"),
        (_npy("|O", (1,), b"\x80\x02cos\nsystem\n."), "no array of numbers .pickled objects"),
        (_npy("<f4", "(" * 900 + ")" * 900), "is damaged"),
        (_npy("<f4", (-1, -1), b"abcd"), "no array of numbers"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", "is damaged"),
        (b"\x93NUMPY\x07\x00\x02\x00{}", "a header of version 7.0"),
        (b"", "is damaged"),
    ],
)
def test_an_npz_that_declares_what_it_has_not_is_an_error(content, text, little_memory, tmp_path):
    path = str(tmp_path / "x.npz")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", content)
    for reader in (files.read, files.describe):
        with pytest.raises(UserError, match=text):
            reader(path)


def _central(whole, place, form, value):
    """Returns a zip file with a changed field in its first central entry."""
    start = whole.index(b"PK\x01\x02") + place
    return whole[:start] + struct.pack(form, value) + whole[start + struct.calcsize(form) :]


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("place", [20, 24])
def test_a_zip_entry_that_lies_about_its_size_is_an_error(kind, place, little_memory, tmp_path):
    path = str(tmp_path / "x.npz")
    data = np.random.RandomState(0).standard_normal(1000).astype("<f4").tobytes()
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr("a.npy", _npy("<f4", (1000,), data))
    whole = _content(path)
    for size in (0xFFFFFFF0, 4100, 3000, 10, 0):
        with open(path, "wb") as file:
            file.write(_central(whole, place, "<I", size))
        with pytest.raises(UserError):
            files.read(path)


@pytest.mark.parametrize("name", ["net/data/0", "a.npy"])
def test_a_zip_bomb_is_refused_before_it_is_unpacked(name, little_memory, tmp_path):
    path = str(tmp_path / "x.pt")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        if name.startswith("net"):
            archive.writestr("net/data.pkl", b"\x80\x02" + _dict(x=GOOD) + b".")
        with archive.open(name, "w") as entry:
            for _ in range(120):
                entry.write(bytes(MIB))
    assert os.path.getsize(path) < MIB
    with pytest.raises(UserError, match=r"declares .* made to fill the memory"):
        files.read(path)


def test_two_entries_of_one_name_are_an_error(tmp_path):
    path = _zip(tmp_path / "x.pt", _dict(x=GOOD), {"0": VALUES})
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("net/data/0", VALUES.tobytes())
    with pytest.raises(UserError, match="two entries"):
        pytorch.read(path)


def test_a_mat_that_unpacks_to_much_more_is_refused(little_memory, tmp_path):
    engine = zlib.compressobj(9)
    packed = b"".join(engine.compress(bytes(MIB)) for _ in range(120)) + engine.flush()
    path = tmp_path / "x.mat"
    start = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    path.write_bytes(start + struct.pack("<II", 15, len(packed)) + packed)
    pytest.importorskip("scipy")
    with pytest.raises(UserError, match="made to fill the memory"):
        files.read(str(path))
