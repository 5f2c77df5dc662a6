# SPDX-License-Identifier: Apache-2.0
"""Pictures to tensors and back: values, file names, and what wrong input answers."""

import os

import numpy as np
import pytest
from PIL import Image

from harness.errors import UserError
from ugatit.pictures import postprocess, preprocess, resize, to_float, to_uint8


def _pixels(seed, height, width):
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)


def _save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(str(path))


def test_a_tensor_has_planes_from_minus_one_to_one():
    pixels = _pixels(0, 5, 7)
    pixels[0, 0], pixels[4, 6] = (0, 0, 0), (255, 255, 255)
    tensor = to_float(pixels)
    assert (tensor.shape, tensor.dtype) == ((3, 5, 7), np.float32)
    assert (tensor.min(), tensor.max()) == (-1, 1)
    np.testing.assert_allclose(tensor[2, 3, 4], pixels[3, 4, 2] / 127.5 - 1, atol=1e-6)


def test_every_level_survives_the_way_to_a_tensor_and_back():
    levels = np.arange(256).astype(np.uint8).reshape(16, 16, 1) ^ np.uint8([0, 85, 170])
    assert np.array_equal(to_uint8(to_float(levels)), levels)


def test_what_is_beyond_the_range_is_clipped():
    values = np.float32([-3.7, -1.001, 0.0, 1.001, 250.0]).reshape(1, 1, 5).repeat(3, 0)
    assert to_uint8(values)[0, :, 1].tolist() == [0, 0, 128, 255, 255]


def test_shrinking_averages_as_the_inference_client_does():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255  # without a filter that averages, all white or all black
    inner = resize(stripes, 16)[:, 2:-2]
    assert np.abs(inner.astype(int) - 128).max() <= 1


def test_preprocess_writes_a_binary_for_every_picture(tmp_path):
    for name, shape in (("a.b.png", (30, 41)), ("c.bmp", (9, 5)), ("d.JPG", (80, 64))):
        _save(tmp_path / "in" / name, _pixels(len(name), *shape))
    assert preprocess(str(tmp_path / "in"), str(tmp_path / "out" / "bins"), 16) == 0
    assert sorted(os.listdir(str(tmp_path / "out" / "bins"))) == ["a.b.bin", "c.bin", "d.bin"]
    tensor = np.fromfile(str(tmp_path / "out" / "bins" / "a.b.bin"), np.float32)
    expected = to_float(resize(_pixels(7, 30, 41), 16))
    assert np.array_equal(tensor.reshape(3, 16, 16), expected)


def test_preprocess_refuses_two_pictures_for_one_binary(tmp_path):
    for name in ("cat.png", "dog.png", "cat.bmp"):
        _save(tmp_path / name, _pixels(1, 4, 4))
    with pytest.raises(UserError, match=r"cat\.bmp and cat\.png .*rename"):
        preprocess(str(tmp_path), str(tmp_path / "out"), 8)
    assert not (tmp_path / "out").exists()


def test_preprocess_reports_every_broken_picture_and_writes_the_others(tmp_path, capsys):
    for name in "abcd":
        _save(tmp_path / (name + ".png"), _pixels(2, 40, 40))
    for name in "ac":
        path = tmp_path / (name + ".png")
        path.write_bytes(path.read_bytes()[:1000])
    assert preprocess(str(tmp_path), str(tmp_path / "out"), 8) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [os.path.basename(line.split(" cannot")[0]) for line in lines] == ["a.png", "c.png"]
    assert sorted(os.listdir(str(tmp_path / "out"))) == ["b.bin", "d.bin"]


@pytest.mark.parametrize("size", [0, 24])
def test_postprocess_writes_the_pictures(tmp_path, size):
    smooth = resize(_pixels(3, 3, 3), 24)
    to_float(smooth).tofile(str(tmp_path / "a.b_0.bin"))
    (tmp_path / "a.b_1.bin").write_bytes(b"another output of the network")
    assert postprocess(str(tmp_path), str(tmp_path / "out"), size) == 0
    assert os.listdir(str(tmp_path / "out")) == ["a.b_0.jpg"]
    with Image.open(str(tmp_path / "out" / "a.b_0.jpg")) as image:
        assert np.abs(np.asarray(image).astype(int) - smooth).mean() < 4


@pytest.mark.parametrize(("size", "values"), [(8, 3 * 9 * 9), (0, 3 * 9 * 9 + 1), (0, 0)])
def test_postprocess_names_the_file_of_a_wrong_size(tmp_path, size, values):
    to_float(_pixels(4, 8, 8)).tofile(str(tmp_path / "a_0.bin"))
    np.random.RandomState(5).rand(values).astype(np.float32).tofile(str(tmp_path / "b_0.bin"))
    with pytest.raises(UserError, match=r"b_0\.bin has %d bytes" % (4 * values)):
        postprocess(str(tmp_path), str(tmp_path / "out"), size)
    assert not (tmp_path / "out").exists()


def test_postprocess_refuses_values_that_are_not_finite(tmp_path):
    tensor = to_float(_pixels(6, 8, 8))
    tensor[1, 2, 3] = np.nan
    tensor.tofile(str(tmp_path / "a_0.bin"))
    with pytest.raises(UserError, match=r"a_0\.bin .*not finite"):
        postprocess(str(tmp_path), str(tmp_path / "out"), 0)


def test_an_empty_and_a_missing_folder_are_told_apart(tmp_path):
    (tmp_path / "empty").mkdir()
    for name, sentence in (("empty", "holds no picture"), ("absent", "there is no folder")):
        with pytest.raises(UserError, match=sentence):
            preprocess(str(tmp_path / name), str(tmp_path / "out"), 8)
        with pytest.raises(UserError, match="no NAME_0.bin in .*" + name):
            postprocess(str(tmp_path / name), str(tmp_path / "out"), 0)
