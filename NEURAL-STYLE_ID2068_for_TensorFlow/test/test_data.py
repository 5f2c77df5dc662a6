# SPDX-License-Identifier: Apache-2.0
"""Pictures of every kind, the sizes of a run, its start, and colours that are kept."""

import numpy as np
import pytest
from conftest import MEAN_PIXEL, draw_picture
from PIL import Image

from harness.images import ImageError, write_image
from stylize import data
from stylize.config import Config
from stylize.data import Pictures

MEAN = np.array(MEAN_PIXEL)


def _picture(seed=0, height=24, width=33):
    return draw_picture(np.random.RandomState(seed), height, width)


def _noise(seed, *shape):
    return np.random.RandomState(seed).randint(0, 256, shape).astype(np.uint8)


def _assert_near(found, wanted, most):
    assert found.dtype == np.uint8
    assert found.shape == wanted.shape
    assert np.abs(found.astype(float) - wanted).max() <= most


def _read(tmp_path, image, name="a.png", **words):
    image.save(str(tmp_path / name), **words)
    return data.read_picture(str(tmp_path / name))


def test_palette_and_grey(tmp_path):
    palette, indices = _noise(0, 256, 3), _noise(1, 20, 25)
    image = Image.fromarray(indices, "P")
    image.putpalette(palette.ravel().tolist())
    _assert_near(_read(tmp_path, image), palette[indices], 0)
    _assert_near(_read(tmp_path, image, "a.bmp"), palette[indices], 0)
    grey = np.repeat(indices[:, :, None], 3, 2)
    _assert_near(_read(tmp_path, Image.fromarray(indices)), grey, 0)
    black = np.where(_noise(2, 20, 25) > 99, 255, 0).astype(np.uint8)
    image = Image.fromarray(black).convert("1")
    _assert_near(_read(tmp_path, image), np.repeat(black[:, :, None], 3, 2), 0)


def test_cmyk(tmp_path):
    cmyk = _noise(3, 20, 25, 4)
    wanted = (255.0 - cmyk[:, :, :3]) * (255.0 - cmyk[:, :, 3:]) / 255
    _assert_near(_read(tmp_path, Image.fromarray(cmyk, "CMYK"), "a.tif"), wanted, 1.5)
    smooth = np.tile(cmyk[:1, :1], (20, 25, 1))  # which JPEG keeps
    wanted = (255.0 - smooth[:, :, :3]) * (255.0 - smooth[:, :, 3:]) / 255
    _assert_near(_read(tmp_path, Image.fromarray(smooth, "CMYK"), "a.jpg"), wanted, 4)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_grey_of_16_bits(tmp_path, name):
    values = np.random.RandomState(4).randint(0, 2**16, (20, 25)).astype(np.uint16)
    wanted = np.repeat(values[:, :, None] / 257.0, 3, 2)
    _assert_near(_read(tmp_path, Image.fromarray(values), name), wanted, 1)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_lies_on_white(tmp_path, mode):
    colours, alpha = _noise(5, 20, 25, 3), _noise(6, 20, 25, 1).astype(float)
    if mode == "P":
        palette, indices = _noise(7, 256, 3), _noise(8, 20, 25)
        image, colours = Image.fromarray(indices, "P"), palette[indices]
        image.putpalette(palette.ravel().tolist())
        alpha = np.where(indices[:, :, None] == 77, 0.0, 255.0)
        assert (alpha == 0).any()
        found = _read(tmp_path, image, transparency=77)
    else:
        colours = np.repeat(colours[:, :, :1], 3, 2) if mode == "LA" else colours
        parts = [colours[:, :, :1] if mode == "LA" else colours, alpha.astype(np.uint8)]
        found = _read(tmp_path, Image.fromarray(np.concatenate(parts, 2), mode))
    _assert_near(found, colours * alpha / 255 + 255 - alpha, 1.5)


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_a_camera_s_orientation_is_followed(tmp_path, orientation, turns):
    pixels, exif = _noise(9, 20, 25, 3), Image.Exif()
    exif[0x0112] = orientation
    found = _read(tmp_path, Image.fromarray(pixels), exif=exif)
    np.testing.assert_array_equal(found, np.rot90(pixels, turns))
    blocks = np.kron(_noise(10, 2, 3, 1), np.ones([16, 16, 3])).astype(np.uint8)
    found = _read(tmp_path, Image.fromarray(blocks), "a.jpg", exif=exif, quality=100)
    _assert_near(found, np.rot90(blocks, turns), 3)


def test_what_cannot_be_used_is_named(tmp_path):
    def refuse(read, name, sentence):
        with pytest.raises(ImageError) as caught:
            read(str(tmp_path / name))
        assert sentence % {"path": tmp_path / name} in str(caught.value)

    write_image(str(tmp_path / "1.png"), _noise(0, 1, 1, 3))
    write_image(str(tmp_path / "15.png"), _noise(0, 40, 15, 3))
    write_image(str(tmp_path / "16.png"), _noise(0, 16, 16, 3))
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty.png").write_text("")
    write_image(str(tmp_path / "cut.jpg"), _noise(0, 40, 40, 3))
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:900])
    write_image(str(tmp_path / "black.png"), np.zeros([9, 9, 1], np.uint8))
    too_small = "%%(path)s is %s pixels; each side needs 16 or more"
    refuse(data.read_picture, "1.png", too_small % "1 x 1")
    refuse(data.read_picture, "15.png", too_small % "15 x 40")
    assert data.read_picture(str(tmp_path / "16.png")).shape == (16, 16, 3)
    for read in (data.read_picture, data.read_mask):
        for name in ("text.jpg", "empty.png", "cut.jpg"):
            refuse(read, name, "%(path)s cannot be read as a picture: ")
        refuse(read, "none.png", "there is no picture %(path)s")
    refuse(data.read_mask, "black.png", "the mask %(path)s is black: its style would go nowhere")


def test_pictures_are_read_as_the_options_name_them(tmp_path):
    for seed, name in enumerate(("s0", "s1", "m0", "m1", "i")):
        pixels = _noise(seed, 20, 20 + seed, 1 if name[0] == "m" else 3)
        write_image(str(tmp_path / (name + ".png")), pixels)
    s0, s1, m0, m1, initial = (
        str(tmp_path / (name + ".png")) for name in ("s0", "s1", "m0", "m1", "i")
    )
    found = data.read_pictures(Config(styles=(s0, s1), style_masks=(m0, m1), initial=initial))
    assert found.content is None
    for style, path in zip(found.styles, (s0, s1)):
        np.testing.assert_array_equal(style, np.asarray(Image.open(path)))
    for mask, path in zip(found.masks, (m0, m1)):
        assert mask.dtype == np.float32
        np.testing.assert_allclose(mask, np.asarray(Image.open(path)) / 255.0, atol=1e-6)
    np.testing.assert_array_equal(found.initial, np.asarray(Image.open(initial)))
    found = data.read_pictures(Config(styles=(s0,)))
    assert (found.masks, found.initial) == ([], None)
    with pytest.raises(ImageError, match="no --styles: name a picture or more"):
        data.read_pictures(Config())


def test_sizes_are_rounded_down_and_keep_the_proportions():
    pictures = Pictures(_picture(0, 49, 64), [_picture(1, 50, 41), _picture(2, 60, 80)], [], None)
    sized = data.at_width(pictures, 33, ())
    assert sized.content.shape == (25, 33, 3)  # 25.3
    assert [style.shape for style in sized.styles] == [(40, 33, 3), (24, 33, 3)]  # 40.2, 24.75
    same = data.at_width(pictures, 0, ())
    assert same.content.shape == (49, 64, 3)
    np.testing.assert_array_equal(same.content, pictures.content)
    assert [style.shape for style in same.styles] == [(78, 64, 3), (48, 64, 3)]
    large = data.at_width(pictures, 100, (0.29, 0.555))  # 28.999999999999996 as a float
    assert large.content.shape == (76, 100, 3)
    assert [style.shape for style in large.styles] == [(35, 29, 3), (41, 55, 3)]
    assert large.content.std() > 10


def test_masks_and_start_take_the_size_of_the_content():
    masks = [_noise(seed, 48, 64).astype("f") / 255 for seed in (3, 4)]
    pictures = Pictures(_picture(0, 48, 64), [_picture(1)], masks, _picture(2, 90, 50))
    half = data.at_width(pictures, 32, ())
    assert half.initial.shape == (24, 32, 3)
    for mask, before in zip(half.masks, masks):
        assert mask.dtype == np.float32
        np.testing.assert_allclose(mask, before.reshape(24, 2, 32, 2).mean((1, 3)), atol=1e-6)
    dot = np.zeros([200, 200], np.float32)
    dot[150, 20] = 1  # so small that nothing but a mean would see it
    for size in ((25, 30), (7, 9), (1, 1)):
        assert 0.9 < data.resize_mask(dot, *size).sum() * 40000 / (size[0] * size[1]) < 1.1


def test_a_picture_that_becomes_too_small_is_refused():
    pictures = Pictures(_picture(0, 48, 64), [_picture(1, 60, 80)], [], None)
    with pytest.raises(ImageError, match="the content at its --width is 21 x 15 pixels; each side"):
        data.at_width(pictures, 21, (2.0,))
    with pytest.raises(ImageError, match=r"a style, scaled to .*, is 16 x 12 pixels"):
        data.at_width(pictures, 0, (0.25,))
    assert data.at_width(pictures, 22, (1.0,)).content.shape == (16, 22, 3)


def _start(share, initial=None, seed=3):
    pictures = Pictures(_picture(0), [], [], initial)
    return data.starting_image(pictures, share, seed, MEAN)


def test_the_start_is_noise_by_default():
    start = _start(-1.0)
    assert start.shape == (1, 24, 33, 3)
    assert start.dtype == np.float32
    assert abs(start.std() / 0.256 - 1) < 0.05
    assert abs(start.mean()) < 0.02
    np.testing.assert_array_equal(start, _start(1.0))
    np.testing.assert_array_equal(start, _start(1.0, _picture(1)))
    np.testing.assert_array_equal(start, _start(-1.0))
    assert np.abs(start - _start(-1.0, seed=4)).max() > 0.5


@pytest.mark.parametrize("has_initial", [False, True])
def test_the_start_is_a_blend(has_initial):
    initial = _picture(1) if has_initial else None
    picture = _picture(1 if has_initial else 0) - MEAN
    np.testing.assert_allclose(_start(0.0, initial)[0], picture, atol=1e-4)
    noise = _start(1.0)[0]
    np.testing.assert_allclose(_start(0.5, initial)[0], (picture + noise) / 2, atol=1e-4)
    wanted = 0.8 * picture + 0.2 * noise
    np.testing.assert_allclose(_start(0.2, initial)[0], wanted, atol=1e-4)
    if has_initial:
        np.testing.assert_array_equal(_start(-1.0, initial), _start(0.0, initial))


def test_network_input_and_back():
    pixels = np.arange(256).repeat(9).reshape(-1, 48, 3).astype(np.uint8)
    images = data.to_input(pixels, MEAN)
    assert images.dtype == np.float32
    assert images.shape == (1,) + pixels.shape
    np.testing.assert_allclose(images[0], pixels - MEAN, atol=1e-4)
    np.testing.assert_array_equal(data.to_uint8(images, MEAN), pixels)
    np.testing.assert_array_equal(data.to_uint8(images + 0.4, MEAN), pixels)  # rounded, not cut
    np.testing.assert_array_equal(data.to_uint8(images - 0.4, MEAN), pixels)
    for shift in (300, -300, 1e30, 40):
        found = data.to_uint8(images + np.float32(shift), MEAN)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, np.clip(pixels + np.rint(shift), 0, 255))


def test_kept_colours_are_the_contents_and_the_luminance_is_the_results():
    content = np.random.RandomState(5).randint(110, 146, (24, 33, 3)).astype(np.uint8)
    result = np.random.RandomState(6).randint(90, 166, (24, 33, 3)).astype(np.uint8)
    kept = data.keep_colors(result, content)  # no value of which leaves 0..255
    matrix = np.array(  # ITU-R BT.601
        [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
    )
    luminances, colours = zip(*((p @ matrix[0], p @ matrix[1:].T) for p in (content, result, kept)))
    assert kept.dtype == np.uint8
    assert np.abs(luminances[2] - luminances[1]).max() <= 2
    assert np.abs(colours[2] - colours[0]).max() <= 2
    assert np.abs(luminances[1] - luminances[0]).max() > 20  # it would be seen
    assert np.abs(colours[1] - colours[0]).max() > 20
