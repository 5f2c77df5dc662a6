# SPDX-License-Identifier: Apache-2.0
"""Pictures of all kinds: what belongs to them besides their colours stays with them."""

import numpy as np
import pytest
from PIL import Image, ImageCms
from test_cartoonize import Invert, draw, files_of, go, noise, pixels_of

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
TAGS = {0x010F: "Maker", 0x0132: "2020:02:02 20:20:20"}  # of EXIF: Make, DateTime
TAKEN = {0x9003: "2020:02:02 02:02:02"}  # of the EXIF in it: DateTimeOriginal


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".tiff"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_orientation_is_applied_and_other_exif_and_profile_are_kept(tmp_path, ending, orientation):
    upright = np.kron(noise(3, 4), np.ones((16, 16, 1))).astype(np.uint8)
    stored = {
        1: upright,
        3: upright[::-1, ::-1],
        6: np.rot90(upright),  # to be turned clockwise
        7: upright.transpose(1, 0, 2)[::-1, ::-1],  # about the other diagonal
    }[orientation]
    exif = Image.Exif()
    exif.update({**TAGS, 0x0112: orientation, 0x8769: TAKEN})
    words = {"quality": 100} if ending in (".jpg", ".webp") else {}
    draw(tmp_path / ("a" + ending), stored, exif=exif.tobytes(), icc_profile=PROFILE, **words)
    assert go(tmp_path / ("a" + ending), str(tmp_path / "out") + "/") == 0
    with Image.open(str(tmp_path / "out" / ("a" + ending))) as image:
        assert image.size == (64, 48)
        error = np.abs(np.asarray(image).astype(int) - (255 - upright)).mean()
        assert error < (10 if words else 1e-9)
        found = image.getexif()
        assert found.get(0x0112, 1) == 1
        assert {tag: found[tag] for tag in TAGS} == TAGS
        assert {tag: found.get_ifd(0x8769)[tag] for tag in TAKEN} == TAKEN
        assert image.info["icc_profile"] == PROFILE


def test_damaged_exif_and_foreign_profiles_do_not_travel(tmp_path):
    wrong = PROFILE[:16] + b"CMYK" + PROFILE[20:]
    draw(tmp_path / "a.png", exif=b"Exif\0\0II*\0\xff\xff\xff\x7fbroken", icc_profile=wrong)
    cmyk = Image.fromarray(noise()).convert("CMYK")
    cmyk.save(str(tmp_path / "b.jpg"), icc_profile=wrong)
    for name in ("a.png", "b.jpg"):
        assert go(tmp_path / name, tmp_path / ("made-" + name)) == 0
        with Image.open(str(tmp_path / ("made-" + name))) as image:
            assert (image.mode, image.size) == ("RGB", (16, 12))
            assert "icc_profile" not in image.info
            assert not image.getexif()


def transparent():
    """Returns {name: image} whose second half is transparent, of 16 x 12 pixels."""
    alpha = np.full((12, 16), 255, np.uint8)
    alpha[:, 8:] = 0
    colours = np.full((12, 16, 3), (200, 100, 50), np.uint8)
    rgba = Image.fromarray(np.dstack([colours, alpha]))
    grey = Image.merge("LA", [Image.fromarray(colours[:, :, 0]), Image.fromarray(alpha)])
    palette = Image.frombytes("P", (16, 12), (alpha // 255).tobytes())  # 1 is opaque, 0 is not
    palette.putpalette([0, 0, 0, 200, 100, 50])
    palette.info["transparency"] = 0
    return {"rgba": rgba, "la": grey, "p": palette}


@pytest.mark.parametrize("ending", [".png", ".webp", ".tiff", ".jpg", ".bmp"])
@pytest.mark.parametrize("kind", ["rgba", "la", "p"])
def test_alpha_is_kept_or_laid_over_white(tmp_path, ending, kind):
    transparent()[kind].save(str(tmp_path / "a.png"))
    assert go(tmp_path / "a.png", tmp_path / ("b" + ending), max_side=6) == 0
    has_alpha = ending not in (".jpg", ".bmp")
    pixels = pixels_of(tmp_path / ("b" + ending), "RGBA" if has_alpha else "RGB").astype(int)
    assert pixels.shape[:2] == (6, 8)
    colour = (55, 55, 55) if kind == "la" else (55, 155, 205)
    assert np.abs(pixels[:, :3, :3] - colour).max() <= 12
    if has_alpha:
        assert (pixels[:, :4, 3] == 255).all()
        assert (pixels[:, 4:, 3] == 0).all()
    else:
        assert pixels[:, 5:].min() >= 243


def test_grey_and_16_bit_pictures_become_rgb(tmp_path):
    grey = draw(tmp_path / "grey.png", noise(channels=1))
    deep = (grey[:, :, 0].astype(np.uint16) * 257 + 30).clip(0, 65535)
    Image.fromarray(deep).save(str(tmp_path / "deep.png"))
    Image.fromarray(grey[:, :, 0] > 127).save(str(tmp_path / "bits.png"))
    for name, expected in (("grey", 255 - grey), ("deep", 255 - grey), ("bits", None)):
        assert go(tmp_path / (name + ".png"), tmp_path / "made.png") == 0
        expected = np.where(grey > 127, 0, 255) if expected is None else expected
        made = pixels_of(tmp_path / "made.png")
        np.testing.assert_array_equal(made, np.broadcast_to(expected, made.shape))


@pytest.mark.parametrize(("size", "reduced"), [((8, 30), (4, 15)), ((30, 8), (15, 4))])
def test_larger_pictures_are_reduced_by_means(tmp_path, size, reduced):
    pixels = draw(tmp_path / "a.png", noise(*size))
    network = Invert()
    assert go(tmp_path / "a.png", tmp_path / "b.png", network, max_side=4) == 0
    assert network.calls == [(1, *reduced, 3)]
    means = pixels.reshape(reduced[0], 2, reduced[1], 2, 3).mean((1, 3))
    assert np.abs(pixels_of(tmp_path / "b.png") - (255 - means)).max() <= 1
    for max_side in (0, 8):
        assert go(tmp_path / "a.png", tmp_path / "b.png", max_side=max_side) == 0
        np.testing.assert_array_equal(pixels_of(tmp_path / "b.png"), 255 - pixels)


def test_what_a_format_cannot_hold_fails_alone(tmp_path, capsys):
    draw(tmp_path / "in" / "1.webp", noise(4, 8))
    draw(tmp_path / "in" / "2.png", noise(4, 8))
    draw(tmp_path / "in" / "3.png", noise(2, 16384))  # one column more than WebP has
    (tmp_path / "in" / "3.png").rename(tmp_path / "in" / "3.webp")
    assert go(tmp_path / "in", tmp_path / "out", max_side=0) == 1
    assert files_of(tmp_path / "out") == ["1.webp", "2.png"]
    assert "3.webp cannot be written as WEBP: " in capsys.readouterr().out
