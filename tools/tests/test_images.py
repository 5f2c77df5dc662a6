# SPDX-License-Identifier: Apache-2.0
"""Real files: orientation, modes, damage; whole or absent writing; grids; work ahead."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from harness import files, images
from harness.ahead import Ahead
from harness.errors import UserError

RED, WHITE = (255, 0, 0), (255, 255, 255)


def _noise(*shape):
    return np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_exif_orientation_is_applied_once(tmp_path, ending):
    pixels = _noise(8, 16, 3)
    image, path = Image.fromarray(pixels), str(tmp_path / ("x" + ending))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    image.save(path, exif=exif.tobytes())
    np.testing.assert_array_equal(images.read_image(path), np.rot90(pixels, -1))


def test_names_with_equal_keys_or_odd_digits_have_one_order(tmp_path):
    for name in ("01.png", "a.png", "1.png", "A.png", "1\u00b22.png"):
        images.write_image(str(tmp_path / name), _noise(2, 2, 3))
    found = [os.path.basename(path) for path in images.list_images(str(tmp_path))]
    assert found == ["01.png", "1.png", "1\u00b22.png", "A.png", "a.png"]


def test_transparency_is_laid_over_white(tmp_path):
    rgba = np.zeros([2, 2, 4], np.uint8)
    rgba[0] = RED + (255,)
    Image.fromarray(rgba).save(str(tmp_path / "x.png"))
    pixels = images.read_image(str(tmp_path / "x.png"))
    assert tuple(pixels[0, 0]) == RED
    assert tuple(pixels[1, 1]) == WHITE


def test_a_palette_with_transparency_is_laid_over_white(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putdata([0, 1])
    image.save(str(tmp_path / "x.png"), transparency=1)
    pixels = images.read_image(str(tmp_path / "x.png"))
    assert [tuple(p) for p in pixels[0]] == [RED, WHITE]


def test_16_bits_are_scaled_to_8(tmp_path):
    values = np.array([[0, 257, 32768, 65535]], np.uint16)
    Image.fromarray(values).save(str(tmp_path / "x.png"))
    pixels = images.read_image(str(tmp_path / "x.png"), channels=1)
    assert pixels.ravel().tolist() == [0, 1, 127, 255]


def test_cmyk_and_grey_become_rgb(tmp_path):
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(str(tmp_path / "x.jpg"))
    red = images.read_image(str(tmp_path / "x.jpg")).mean(axis=(0, 1))
    assert red[0] > 200 > 60 > red[1:].max()
    grey = _noise(4, 6)
    Image.fromarray(grey).save(str(tmp_path / "y.png"))
    np.testing.assert_array_equal(images.read_image(str(tmp_path / "y.png"))[:, :, 1], grey)
    assert images.read_image(str(tmp_path / "y.png"), channels=1).shape == (4, 6, 1)


def test_damaged_and_missing_files_are_named(tmp_path):
    (tmp_path / "text.jpg").write_text("hello")
    Image.fromarray(_noise(64, 64, 3)).save(str(tmp_path / "cut.jpg"))
    with (tmp_path / "cut.jpg").open("r+b") as file:
        file.truncate(900)
    (tmp_path / "empty.png").write_bytes(b"")
    Image.fromarray(np.zeros([4, 4], np.float32)).save(str(tmp_path / "float.tif"))
    for name in ("text.jpg", "cut.jpg", "empty.png", "float.tif", "none.png"):
        with pytest.raises(images.ImageError, match=name):
            images.read_image(str(tmp_path / name))


def test_folders_are_listed_as_people_count(tmp_path):
    for name in ("10.jpg", "2.PNG", "1.jpeg", "notes.txt", ".hidden.png"):
        (tmp_path / name).write_bytes(b"")
    names = [os.path.basename(path) for path in images.list_images(str(tmp_path))]
    assert names == ["1.jpeg", "2.PNG", "10.jpg"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(images.ImageError, match="holds no picture"):
        images.list_images(str(tmp_path / "empty"))
    with pytest.raises(images.ImageError, match="there is no folder"):
        images.list_images(str(tmp_path / "missing"))


@pytest.mark.parametrize("channels", [1, 3])
def test_png_keeps_every_value(tmp_path, channels):
    pixels, path = _noise(5, 7, channels), str(tmp_path / "new" / "x.png")
    images.write_image(path, pixels)
    np.testing.assert_array_equal(images.read_image(path, channels), pixels)
    assert os.listdir(os.path.dirname(path)) == ["x.png"]


def test_a_grid_shows_every_picture_below_its_label():
    rows = [[_noise(6, 8, 3), _noise(6, 8, 1)], [255 - _noise(6, 8, 3), _noise(6, 8, 1)]]
    sheet = images.grid(rows, ["input", "output"])
    assert sheet.shape == (20 + 2 * 8, 2 * 10, 3)
    np.testing.assert_array_equal(sheet[20:26, 1:9], rows[0][0])
    np.testing.assert_array_equal(sheet[28:34, 1:9], rows[1][0])
    np.testing.assert_array_equal(sheet[20:26, 11:19, 2], rows[0][1][:, :, 0])
    assert sheet[:20].min() < 128  # there is text


def _write_half(path):
    with open(path, "w") as file:
        file.write("half")
    raise RuntimeError


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = str(tmp_path / "x.json")
    files.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="Out of range float"):
        files.write_json(path, {"a": float("nan")})
    with pytest.raises(RuntimeError), files.atomic_path(path) as temporary:
        _write_half(temporary)
    assert files.read_json(path) == {"a": 1}
    assert os.listdir(str(tmp_path)) == ["x.json"]


def test_a_half_written_last_line_is_left_out(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps({"step": 1}) + "\n" + '{"step": 2')
    assert files.read_jsonl(str(path)) == [{"step": 1}]


def test_a_log_goes_on_after_its_last_whole_line(tmp_path):
    path = str(tmp_path / "log.jsonl")
    with open(path, "w") as file:
        file.write('{"step": 1}\n{"st')
    files.keep_whole_lines(path, True)
    assert files.read_jsonl(path) == [{"step": 1}]
    files.keep_whole_lines(path, False)
    assert os.path.getsize(path) == 0


def test_work_ahead_gives_every_step_its_own_result_and_its_own_error():
    def double(step):
        if step == 4:
            raise UserError("step 4 cannot be read")
        return 2 * step

    with Ahead(double, last_step=9) as ahead:
        assert [ahead(step) for step in (1, 2, 3)] == [2, 4, 6]
        with pytest.raises(UserError, match="step 4"):
            ahead(4)
        assert ahead(5) == 10
        assert ahead.waited >= 0
