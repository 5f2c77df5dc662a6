# SPDX-License-Identifier: Apache-2.0
"""Tests of the synthetic facades: files, layout, determinism, palette and look."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SCRIPT = Path(__file__).resolve().parent.parent / "draw_facades.py"
sys.path.insert(0, str(SCRIPT.parent))

import draw_facades  # noqa: E402


def run(*words):
    """Run the script with words and return the finished process with its text output."""
    command = [sys.executable, str(SCRIPT), *[str(word) for word in words]]
    return subprocess.run(command, capture_output=True, text=True)


def read_tree(folder):
    """Return {relative path: bytes} of every file below folder."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def pairs():
    """Return eight pairs (photo, label), each uint8 (256, 256, 3)."""
    return [draw_facades.draw_pair(np.random.RandomState(number)) for number in range(8)]


def labelled(label, kind):
    """Return the bool (256, 256) mask of the pixels of a class in a label map."""
    return (label == draw_facades.PALETTE[kind]).all(-1)


def test_command_writes_pairs(tmp_path):
    """The command makes the folders and writes the asked numbers of 512x256 JPEG files."""
    done = run(tmp_path / "new" / "set", "--train", 3, "--val", 2)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    names = {"train/0001.jpg", "train/0002.jpg", "train/0003.jpg", "val/0001.jpg", "val/0002.jpg"}
    files = read_tree(tmp_path / "new" / "set")
    assert set(files) == names
    assert len(set(files.values())) == len(names), "train and val must not share a picture"
    with Image.open(str(tmp_path / "new" / "set" / "val" / "0002.jpg")) as image:
        assert (image.size, image.mode, image.format) == ((512, 256), "RGB", "JPEG")


def test_photo_is_left_and_label_right(tmp_path):
    """A stored file shows the pair that draw_pair returns: photo left, label map right."""
    draw_facades.main([str(tmp_path), "--train", "1", "--val", "1", "--seed", "4"])
    photo, label = draw_facades.draw_pair(np.random.RandomState([4, 1, 1]))
    with Image.open(str(tmp_path / "val" / "0001.jpg")) as image:
        stored = np.asarray(image).astype(int)
    assert abs(stored[:, :256] - photo).mean() < 4
    assert abs(stored[:, 256:] - label).mean() < 4


def test_seed_decides_the_bytes(tmp_path):
    """Equal seeds give equal bytes whatever the count; another seed gives other pictures."""
    for name, train, seed in (("a", 2, 7), ("b", 3, 7), ("c", 2, 8)):
        words = ["--train", str(train), "--val", "1", "--seed", str(seed)]
        draw_facades.main([str(tmp_path / name), *words])
    first, longer, other = (read_tree(tmp_path / name) for name in "abc")
    assert all(longer[name] == data for name, data in first.items())
    assert all(other[name] != data for name, data in first.items())


@pytest.mark.parametrize(
    ("option", "value"), [("--train", 0), ("--val", -3), ("--seed", -1), ("--train", 2**31)]
)
def test_bad_number_is_one_clear_sentence(tmp_path, option, value):
    """A number out of range ends with code 2 and one sentence, and nothing is written."""
    done = run(tmp_path / "set", option, value)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert f"{option} is {value}," in done.stderr
    assert "is allowed" in done.stderr
    assert "for example" in done.stderr
    assert not (tmp_path / "set").exists()


def test_labels_have_only_palette_colours(pairs):
    """Label maps hold the documented colours only, and most classes occur."""
    allowed = set(draw_facades.PALETTE.values())
    seen = set()
    for photo, label in pairs:
        assert photo.shape == label.shape == (256, 256, 3)
        assert photo.dtype == label.dtype == np.uint8
        colours = {tuple(colour) for colour in np.unique(label.reshape(-1, 3), axis=0).tolist()}
        assert colours <= allowed
        seen |= colours
    assert len(allowed) == 12
    assert len(seen) >= 10


def test_every_facade_has_its_main_parts(pairs):
    """Wall, background, windows, a door, a cornice and sills are in every picture."""
    for _, label in pairs:
        share = {kind: labelled(label, kind).mean() for kind in draw_facades.PALETTE}
        assert share["wall"] > 0.2
        assert share["background"] > 0.05
        assert min(share["window"], share["door"], share["cornice"], share["sill"]) > 0


def test_photo_is_not_flat_and_follows_the_label(pairs):
    """Photos have texture, and their classes differ in brightness and colour."""
    steps = []
    for photo, label in pairs:
        bright, warm = photo.mean(-1), photo[..., 0].astype(int) - photo[..., 2]
        wall, window, door = (labelled(label, kind) for kind in ("wall", "window", "door"))
        assert photo.std() > 25
        assert bright[wall].std() > 3
        assert warm[window].mean() < warm[wall].mean() - 10
        steps.append(bright[wall].mean() - [bright[window].mean(), bright[door].mean()])
        sky = labelled(label[:12], "background")
        assert warm[:12][sky].mean() < -5
    assert (np.mean(steps, 0) > 20).all(), "windows and doors are darker than walls"


def test_many_layouts_stay_in_the_picture():
    """No random layout puts a part outside of the picture or makes it tiny."""
    for number in range(200):
        for part in draw_facades.draw_layout(np.random.RandomState(number)):
            assert draw_facades.cut(np.zeros((256, 256, 3)), part).size > 0
            if part.kind in ("window", "door", "shop"):
                assert part.x0 >= 0
                assert part.x1 <= 256
                assert part.x1 - part.x0 >= 8
                assert part.y1 - part.y0 >= 12
