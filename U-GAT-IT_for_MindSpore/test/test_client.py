# SPDX-License-Identifier: Apache-2.0
"""The compiled inference client against MindSpore: same results, and what wrong input answers.

Needs MindSpore Lite, so Python 3.7 with mindspore-lite 2.0.0, besides cmake and a C++ compiler.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest
from conftest import FOLDER
from PIL import Image

from harness.images import read_image, write_image
from ugatit.pictures import preprocess, resize, to_float, to_uint8

for _program in ("cmake", "c++"):
    if not shutil.which(_program):
        pytest.skip("there is no %s to compile the client with" % _program, allow_module_level=True)
if importlib.util.find_spec("mindspore_lite") is None:
    pytest.skip("this Python has no mindspore_lite", allow_module_level=True)

SIZE = 32  # of the pictures that the small network takes
BYTES = 4 * 3 * SIZE * SIZE
TOLERANCE = 1e-3  # what is promised; 4e-5 is measured for this network
SMOOTH = {"a.b.png": (40, 50), "c.bmp": (17, 21), "d.ppm": (100, 33), "e.jpg": (300, 210)}


def _shell(words, cwd, **variables):
    """Returns the finished process; python3 is this Python."""
    path = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
    environment = dict(os.environ, PATH=path)
    environment.pop("GLOG_v", None)
    return subprocess.run(
        [str(word) for word in words],
        cwd=str(cwd),
        env=dict(environment, **variables),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """The model folder's copy with the compiled client; .formats are those that it decodes."""
    folder = tmp_path_factory.mktemp("client") / "a model"
    ignored = shutil.ignore_patterns("out", "test", "__pycache__")
    shutil.copytree(FOLDER, str(folder), ignore=ignored)
    done = _shell(["bash", folder / "ascend310_infer" / "build.sh"], folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in done.stdout + done.stderr
    formats = [name for name in ("JPEG", "PNG") if "Found " + name in done.stdout]
    main = folder / "ascend310_infer" / "out" / "main"
    return types.SimpleNamespace(folder=folder, main=main, formats=formats)


def _export(cell, path, shape):
    """Writes a network that takes float32 of this shape."""
    import mindspore

    example = mindspore.Tensor(np.random.RandomState(7).rand(*shape).astype(np.float32))
    mindspore.export(cell, example, file_name=str(path), file_format="MINDIR")


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A random network with the three outputs of the generator: .mindir and .run(tensor)."""
    import mindspore
    from mindspore import Tensor, nn, ops

    class Network(nn.Cell):
        def __init__(self):
            super().__init__()
            self.down = nn.Conv2d(3, 8, 3, 2, "same", has_bias=True)
            self.up = nn.Conv2dTranspose(8, 3, 4, 2)
            self.logit = nn.Dense(8, 2)

        def construct(self, x):
            hidden = ops.relu(self.down(x))
            heatmap = hidden.sum(axis=1, keepdims=True)
            return ops.tanh(self.up(hidden)), self.logit(hidden.mean((2, 3))), heatmap

    mindspore.set_context(device_target="CPU")
    mindspore.set_seed(1)
    cell, rng = Network(), np.random.RandomState(1)
    for parameter in cell.get_parameters():
        parameter.set_data(Tensor(rng.normal(0, 0.3, parameter.shape).astype(np.float32)))
    mindir = tmp_path_factory.mktemp("network") / "small.mindir"
    _export(cell, mindir, (1, 3, SIZE, SIZE))
    return types.SimpleNamespace(mindir=mindir, run=lambda x: cell(Tensor(x[None]))[0].asnumpy()[0])


def _infer(client, network, inputs, cwd, *words):
    words = ["--mindir_path=%s" % network.mindir, "--input0_path=%s" % inputs] + list(words)
    return _shell([client.main] + words, cwd)


def _refused(done, cwd, *texts):
    """Asserts one sentence with these texts, exit status 1, and nothing written."""
    assert (done.returncode, done.stdout.count("NN inference")) == (1, 0)
    assert done.stderr.startswith("main: error: ")
    assert done.stderr.count("\n") == 1
    for text in texts:
        assert text in done.stderr
    assert not (cwd / "result_Files").exists() or os.listdir(str(cwd / "result_Files")) == []


def _binaries(folder, *names):
    """Writes random tensors and returns {name: float32 [3, SIZE, SIZE]}."""
    folder.mkdir(parents=True)
    rng = np.random.RandomState(2)
    tensors = {n: rng.uniform(-1, 1, (3, SIZE, SIZE)).astype(np.float32) for n in names}
    for name in names:
        tensors[name].tofile(str(folder / name))
    return tensors


def _result(cwd, name):
    return np.fromfile(str(cwd / "result_Files" / name), np.float32).reshape(3, SIZE, SIZE)


def _smooth(height, width, seed=3):
    pixels = np.random.RandomState(seed).randint(0, 256, (height // 6 + 2, width // 6 + 2, 3))
    return Image.fromarray(pixels.astype(np.uint8)).resize((width, height), Image.BICUBIC)


def test_binaries_give_the_results_of_mindspore(client, network, tmp_path):
    tensors = _binaries(tmp_path / "my bins", "a.b.bin", "c.bin", "d.bin")
    done = _infer(client, network, "my bins", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(os.listdir(str(tmp_path / "result_Files"))) == [
        "a.b_0.bin",
        "c_0.bin",
        "d_0.bin",
    ]
    for name, tensor in tensors.items():
        expected = network.run(tensor)
        assert expected.std() > 0.1
        result = _result(tmp_path, name.replace(".bin", "_0.bin"))
        np.testing.assert_allclose(result, expected, atol=TOLERANCE)
    line = (tmp_path / "time_Result" / "test_perform_static.txt").read_text()
    assert line.startswith("NN inference cost average time: ")
    assert line.endswith(" ms of infer_count 3\n")
    assert float(line.split()[5]) > 0
    assert done.stdout.endswith(line)


def test_pictures_are_decoded_and_resized_as_preprocess_does(client, network, tmp_path):
    names = dict(SMOOTH)
    if "JPEG" not in client.formats:
        del names["e.jpg"]
    if "PNG" not in client.formats:
        del names["a.b.png"]
    (tmp_path / "in").mkdir()
    for name, shape in names.items():
        _smooth(*shape).save(str(tmp_path / "in" / name))
    if client.formats == ["JPEG", "PNG"]:
        names.update({"f.jpg": 0, "g.png": 0, "h.png": 0})
        _smooth(50, 60).convert("L").save(str(tmp_path / "in" / "f.jpg"), progressive=True)
        _smooth(60, 50).convert("P").save(str(tmp_path / "in" / "g.png"))
        _smooth(33, 31).save(str(tmp_path / "in" / "h.png.jpg"))  # what the name says is not asked
        (tmp_path / "in" / "h.png.jpg").rename(tmp_path / "in" / "h.png")
    (tmp_path / "through preprocess").mkdir()
    preprocess(str(tmp_path / "in"), str(tmp_path / "bins"), SIZE)
    other = _infer(client, network, "../bins", tmp_path / "through preprocess")
    done = _infer(client, network, "in/", tmp_path)
    assert (done.returncode, done.stderr, other.returncode) == (0, "", 0)
    for name in names:
        tensor = to_float(resize(read_image(str(tmp_path / "in" / name)), SIZE))
        result = os.path.splitext(name)[0] + "_0.bin"
        np.testing.assert_allclose(_result(tmp_path, result), network.run(tensor), atol=TOLERANCE)
        assert np.array_equal(
            _result(tmp_path, result), _result(tmp_path / "through preprocess", result)
        )


def test_options_are_accepted_in_both_forms(client, network, tmp_path):
    _binaries(tmp_path / "in", "a.bin")
    words = ["--mindir_path", network.mindir, "--input0_path", "in", "--device_target", "CPU"]
    done = _shell([client.main] + words + ["--device_id=0"], tmp_path)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "device: CPU")
    assert "--fusion_switch_path" in _shell([client.main, "--help"], tmp_path).stdout


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--batch=1"], "unknown option --batch=1"),
        (["in"], "unknown option in"),
        (["--device_id"], "--device_id has no value"),
        (["--device_id=-1"], "--device_id=-1: it must be a whole number"),
        (["--device_target=GPU"], "--device_target=GPU: it must be Ascend310, CPU or auto"),
        (["--fusion_switch_path=no.cfg"], "there is no file no.cfg"),
        (["--mindir_path=no.mindir"], "there is no file no.mindir"),
        (["--input0_path="], "must be given"),
    ],
)
def test_a_wrong_option_is_refused(client, network, tmp_path, words, text):
    _binaries(tmp_path / "in", "a.bin")
    _refused(_infer(client, network, "in", tmp_path, *words), tmp_path, text)


def _damage(mindir, kind):
    if kind == "cut off":
        return mindir[: len(mindir) // 2]
    if kind == "random":
        return np.random.RandomState(4).bytes(len(mindir))
    if kind == "crashing":  # a shape that is no shape any more: the library reads address 0
        assert b"shapeb" in mindir
        return mindir.replace(b"shapeb", b'shape"')
    return b""


@pytest.mark.parametrize("kind", ["cut off", "random", "crashing", "empty"])
def test_a_damaged_mindir_is_refused(client, network, tmp_path, kind):
    _binaries(tmp_path / "in", "a.bin")
    (tmp_path / "bad.mindir").write_bytes(_damage(network.mindir.read_bytes(), kind))
    done = _infer(client, network, "in", tmp_path, "--mindir_path=bad.mindir")
    _refused(done, tmp_path, "bad.mindir", "damaged")


def test_a_network_that_takes_no_picture_is_refused(client, network, tmp_path):
    from mindspore import nn

    _export(nn.ReLU(), tmp_path / "other.mindir", (2, 3, 8, 8))
    _binaries(tmp_path / "in", "a.bin")
    done = _infer(client, network, "in", tmp_path, "--mindir_path=other.mindir")
    _refused(done, tmp_path, "other.mindir takes [2 3 8 8 type 43], not one float32 picture")


def test_an_empty_and_a_missing_folder_are_told_apart(client, network, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no picture")
    (tmp_path / "empty" / ".hidden.png").write_bytes(b"not looked at")
    done = _infer(client, network, "empty", tmp_path)
    _refused(done, tmp_path, "the folder empty holds no picture")
    for name in ("absent", "empty/notes.txt"):
        _refused(_infer(client, network, name, tmp_path), tmp_path, "there is no folder " + name)


def test_a_binary_of_a_wrong_size_is_refused_before_any_other_is_done(client, network, tmp_path):
    _binaries(tmp_path / "in", "a.bin", "b.bin", "c.bin")
    with (tmp_path / "in" / "b.bin").open("ab") as file:
        file.write(b"\x01")
    done = _infer(client, network, "in", tmp_path)
    _refused(done, tmp_path, "in/b.bin has %d bytes" % (BYTES + 1), "takes %d " % BYTES)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (("a.jpg", "b.png", "a.png"), "a.jpg and a.png in in would both write a_0.bin"),
        (("a.bin", "b.ppm"), "holds both pictures (b.ppm) and .bin files"),
        (("a.bmp", "b.webp"), "in/b.webp is a picture that only preprocess.py reads"),
    ],
)
def test_names_that_do_not_go_together_are_refused(client, network, tmp_path, names, text):
    _binaries(tmp_path / "in", *names)
    _refused(_infer(client, network, "in", tmp_path), tmp_path, text)


@pytest.mark.parametrize("name", ["z.bmp", "z.ppm", "z.png", "z.jpg"])
def test_a_damaged_picture_is_named_and_earlier_results_stay(client, network, tmp_path, name):
    if {".jpg": "JPEG", ".png": "PNG"}.get(name[-4:], "PNG") not in client.formats:
        pytest.skip("the client was compiled without the library for " + name)
    (tmp_path / "in").mkdir()
    _smooth(50, 60).save(str(tmp_path / "in" / "a.ppm"))
    picture = tmp_path / "in" / name
    _smooth(70, 80).save(str(picture))
    content = picture.read_bytes()
    picture.write_bytes(content[: len(content) * 2 // 3])
    done = _infer(client, network, "in", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("main: error: in/%s cannot be read as a picture: " % name)
    assert done.stderr.count("\n") == 1
    assert os.listdir(str(tmp_path / "result_Files")) == ["a_0.bin"]
    assert os.listdir(str(tmp_path / "time_Result")) == []


@pytest.mark.parametrize(
    "kind", ["turned.jpg", "turned.png", "CMYK.jpg", "RGBA.png", "I;16.png", "L.bmp", "webp.jpg"]
)
def test_what_only_preprocess_converts_is_said(client, network, tmp_path, kind):
    mode, ending = kind.split(".")
    if {"jpg": "JPEG", "png": "PNG"}.get(ending, "PNG") not in client.formats:
        pytest.skip("the client was compiled without the library for " + kind)
    (tmp_path / "in").mkdir()
    path, picture, words = str(tmp_path / "in" / ("a." + ending)), _smooth(40, 50), {}
    if mode == "turned":
        words["exif"] = picture.getexif()
        words["exif"][0x0112] = 6
    elif mode == "webp":
        words["format"] = "webp"
    elif mode == "I;16":
        noise = np.random.RandomState(6).randint(0, 65536, (40, 50))
        picture = Image.fromarray(noise.astype(np.uint16))
    else:
        picture = picture.convert(mode)
    picture.save(path, **words)
    _refused(_infer(client, network, "in", tmp_path), tmp_path, "in/a.", "run preprocess.py")
    assert preprocess(str(tmp_path / "in"), str(tmp_path / "bins"), SIZE) == 0
    assert _infer(client, network, "bins", tmp_path).returncode == 0


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_result_that_is_not_finite_is_not_written(client, network, tmp_path, value):
    from mindspore import nn

    class Double(nn.Cell):
        def construct(self, x):
            return x + x

    _export(Double(), tmp_path / "double.mindir", (1, 3, SIZE, SIZE))
    tensor = _binaries(tmp_path / "in", "a.bin")["a.bin"]
    tensor[1, 4, 5] = value
    tensor.tofile(str(tmp_path / "in" / "a.bin"))
    done = _infer(client, network, "in", tmp_path, "--mindir_path=double.mindir")
    _refused(done, tmp_path, "in/a.bin: the result is not finite")


def test_a_file_in_the_way_of_the_results_is_named(client, network, tmp_path):
    _binaries(tmp_path / "in", "a.bin")
    (tmp_path / "result_Files").write_text("in the way")
    done = _infer(client, network, "in", tmp_path)
    assert done.returncode == 1
    assert "cannot make the folder ./result_Files" in done.stderr
    assert (tmp_path / "result_Files").read_text() == "in the way"


def test_build_names_what_is_missing(client, tmp_path):
    build = client.folder / "ascend310_infer" / "build.sh"
    done = _shell(["bash", build], tmp_path, LITE_HOME=str(tmp_path))
    assert done.returncode == 1
    assert "there is no MindSpore Lite in '%s'; set LITE_HOME" % tmp_path in done.stderr
    for program in ("bash", "dirname"):
        (tmp_path / program).symlink_to(shutil.which(program))
    done = _shell([shutil.which("bash"), build], tmp_path, PATH=str(tmp_path))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "there is no cmake" in done.stderr
    assert client.main.exists()  # a build that cannot start leaves the last one


@pytest.mark.parametrize("words", [[], ["a.mindir"], ["a.mindir", "in", "0", "more"]])
def test_run_infer_310_prints_its_usage(client, tmp_path, words):
    script = client.folder / "scripts" / "run_infer_310.sh"
    done = _shell(["bash", script] + words, tmp_path)
    assert done.returncode == 1
    assert "MINDIR_PATH DATA_PATH [DEVICE_ID]" in done.stderr
    assert os.listdir(str(tmp_path)) == []


@pytest.mark.parametrize("source", ["pictures", "binaries"])
def test_run_infer_310_goes_from_pictures_to_pictures(client, network, tmp_path, source):
    (tmp_path / "my data").mkdir()
    for name in ("a.b.png", "c.webp"):
        _smooth(60, 50).save(str(tmp_path / "my data" / name), lossless=True)
    if source == "binaries":
        preprocess(str(tmp_path / "my data"), str(tmp_path / "bins"), SIZE)
    (tmp_path / "net.mindir").symlink_to(network.mindir)
    (tmp_path / "result_Files").mkdir()
    (tmp_path / "result_Files" / "old_0.bin").write_bytes(b"of an earlier run")
    words = ["net.mindir", "my data" if source == "pictures" else "bins", "0"]
    script = client.folder / "scripts" / "run_infer_310.sh"
    done = _shell(["bash", script] + words, tmp_path, IMG_SIZE=str(SIZE))
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(str(tmp_path / "result_Files"))) == ["a.b_0.bin", "c_0.bin"]
    assert (tmp_path / "time_Result" / "test_perform_static.txt").exists()
    assert sorted(os.listdir(str(tmp_path / "infer_output_img"))) == ["a.b_0.jpg", "c_0.jpg"]
    tensor = to_float(resize(np.asarray(_smooth(60, 50)), SIZE))
    write_image(str(tmp_path / "c.jpg"), to_uint8(network.run(tensor)))
    expected = read_image(str(tmp_path / "c.jpg")).astype(int)
    picture = read_image(str(tmp_path / "infer_output_img" / "c_0.jpg"))
    assert np.abs(picture - expected).mean() < 1  # a rounded level may differ
    assert not (tmp_path / "build.log").exists()  # nothing had to be compiled again


def test_run_infer_310_says_which_part_failed(client, network, tmp_path):
    script = client.folder / "scripts" / "run_infer_310.sh"
    _binaries(tmp_path / "in", "a.bin")
    (tmp_path / "bad.mindir").write_bytes(b"bad")
    done = _shell(["bash", script, "bad.mindir", "in"], tmp_path)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, " execute inference failed")
    assert "cannot load bad.mindir" in done.stderr
    newer = client.folder / "ascend310_infer" / "inc" / "utils.h"
    times = newer.stat()
    os.utime(str(newer))
    done = _shell(["bash", script, network.mindir, "in"], tmp_path, LITE_HOME=str(tmp_path))
    os.utime(str(newer), (times.st_atime, times.st_mtime))
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, "compile app code failed")
    assert "set LITE_HOME" in done.stderr
