# SPDX-License-Identifier: Apache-2.0
"""Cartoonizing files: where cartoons go, what stops the work, and what does not."""

import contextlib
import errno
import io
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import FOLDER
from PIL import Image

from harness import video
from harness.errors import UserError
from whitebox import cartoonizing, pictures
from whitebox.cartoonizing import cartoonize
from whitebox.config import CartoonizeConfig
from whitebox.generators import GENERATOR_SHAPES, write_generator

PROGRAM = os.path.join(FOLDER, "test_code", "cartoonize.py")


class Invert:
    """A network that inverts; `calls` are the shapes of what it was given."""

    def __init__(self, stop=None):
        self.calls, self._stop = [], stop

    @contextlib.contextmanager
    def load(self, config):
        yield self

    def __call__(self, images):
        assert images.dtype == np.uint8
        self.calls.append(images.shape)
        if len(self.calls) == self._stop:
            raise KeyboardInterrupt
        return 255 - images


def go(source, output="", network=None, **options):
    """Cartoonizes with a network that inverts; returns the exit status."""
    config = CartoonizeConfig(input=str(source), output=str(output), **options)
    return cartoonize(config, (network or Invert()).load)


def refuse(sentence, source, output="", **options):
    """Asserts that nothing is begun, and why."""
    network = Invert()
    network.load = None  # is not called
    with pytest.raises(UserError, match=sentence):
        go(source, output, network, **options)


def noise(height=12, width=16, channels=3, seed=0):
    """Returns uint8 [H, W, C]."""
    return np.random.RandomState(seed).randint(0, 256, (height, width, channels)).astype(np.uint8)


def draw(path, pixels=None, **options):
    """Writes a picture, of noise unless given; returns its pixels."""
    pixels = noise() if pixels is None else pixels
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.squeeze()).save(str(path), **options)
    return pixels


def pixels_of(path, mode="RGB"):
    with Image.open(str(path)) as image:
        assert image.mode == mode
        return np.asarray(image)


def files_of(folder):
    """Returns the names of all files below `folder`, hidden ones too, sorted."""
    found = [os.path.join(top, name) for top, _, names in os.walk(str(folder)) for name in names]
    return sorted(os.path.relpath(path, str(folder)) for path in found)


def test_a_folder_keeps_its_tree_and_formats(tmp_path, capsys):
    names = "a.png b/c/d.webp b/e.tiff f.bmp g.JPG h.jpeg"
    drawn = {name: draw(tmp_path / "in" / name) for name in names.split()}
    draw(tmp_path / "in" / "i.ppm")
    for name in (".hidden.png", ".cache/j.png"):
        draw(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    assert go(tmp_path / "in", tmp_path / "out") == 0
    assert files_of(tmp_path / "out") == sorted(list(drawn) + ["i.jpg"])
    for name in ("a.png", "b/e.tiff", "f.bmp"):
        np.testing.assert_array_equal(pixels_of(tmp_path / "out" / name), 255 - drawn[name])
    last = capsys.readouterr().out.splitlines()[-1]
    number = r"\d+\.\d+"
    pattern = r"7 pictures in %s s \(%s per second\), written to %s"
    assert re.fullmatch(pattern % (number, number, re.escape(str(tmp_path / "out"))), last)


@pytest.mark.parametrize("names", ["scenery_photo", "photo_scenery", "dataset/scenery_photo"])
def test_the_photos_of_the_data_are_the_default(tmp_path, names):
    draw(tmp_path / names / "1.png")
    words = {"data_path": str(tmp_path), "output_path": str(tmp_path / "output")}
    assert go("", "", save_folder="made", **words) == 0
    assert files_of(tmp_path / "output") == ["made/1.png"]
    refuse("no scenery_photo or photo_scenery in .*--input", "", data_path=str(tmp_path / "x"))


def test_one_picture_to_a_file_or_a_folder(tmp_path):
    pixels = draw(tmp_path / "a.png")
    assert go(tmp_path / "a.png", tmp_path / "new" / "b.bmp") == 0
    assert go(tmp_path / "a.png", str(tmp_path / "made") + "/") == 0
    assert go(tmp_path / "a.png", tmp_path / "made" / "c.JPEG") == 0
    assert files_of(tmp_path / "made") == ["a.png", "c.JPEG"]
    np.testing.assert_array_equal(pixels_of(tmp_path / "new" / "b.bmp"), 255 - pixels)
    with Image.open(str(tmp_path / "made" / "c.JPEG")) as image:
        assert image.format == "JPEG"
    refuse(r"--output \S*b: a picture ends in .jpg", tmp_path / "a.png", tmp_path / "b")
    refuse("a picture ends in", tmp_path / "a.png", tmp_path / "b.mp4")
    refuse("ends in .png with --raw", tmp_path / "a.png", tmp_path / "b.jpg", raw=True)


def test_raw_pictures_are_exact(tmp_path):
    draw(tmp_path / "in" / "a.jpg")
    draw(tmp_path / "in" / "b.bmp")
    assert go(tmp_path / "in", tmp_path / "out", raw=True) == 0
    assert files_of(tmp_path / "out") == ["a.png", "b.png"]
    expected = 255 - pixels_of(tmp_path / "in" / "a.jpg")
    np.testing.assert_array_equal(pixels_of(tmp_path / "out" / "a.png"), expected)


def test_two_inputs_never_become_one_output(tmp_path):
    draw(tmp_path / "in" / "a.jpg")
    draw(tmp_path / "in" / "a.ppm")
    refuse(r"in/a\.jpg and \S*in/a\.ppm would both become \S*out/a\.jpg", tmp_path / "in", "out")


def test_the_input_is_never_written_to(tmp_path):
    draw(tmp_path / "in" / "a.png")
    before = (tmp_path / "in" / "a.png").read_bytes()
    for output in ("in", "in/out", "in/../in/", "link"):
        if output == "link":
            (tmp_path / "link").symlink_to(tmp_path / "in")
        refuse("is the input .* or in it", tmp_path / "in", str(tmp_path) + "/" + output)
    for output in (tmp_path / "in" / "a.png", tmp_path / "in", tmp_path / "link" / "a.png"):
        refuse(r"a\.png is an input too", tmp_path / "in" / "a.png", output)
    draw(tmp_path / "in" / "in" / "a.png")  # would become in/a.png
    refuse(r"in/a\.png is an input too", tmp_path / "in", tmp_path)
    assert (tmp_path / "in" / "a.png").read_bytes() == before
    assert go(tmp_path / "in", tmp_path / "in" / ".out") == 0  # no walk meets it
    assert go(tmp_path / "in" / "a.png", tmp_path / "in" / "b.png") == 0


def test_what_cannot_be_input_or_output_is_told_before_the_network_is_loaded(tmp_path):
    draw(tmp_path / "in" / "a.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    refuse(r"there is no \S*missing.png; give a picture", tmp_path / "missing.png", "out.png")
    refuse("holds no picture .*, nor do the folders", tmp_path / "empty", tmp_path / "out")
    refuse("file is a file and no folder", tmp_path / "in", tmp_path / "file")
    refuse("file is a file and no folder", tmp_path / "in" / "a.png", tmp_path / "file" / "b.png")
    refuse("is a folder and stdout takes one picture", tmp_path / "in", "-")
    assert not (tmp_path / "out").exists()


def test_a_damaged_picture_does_not_stop_the_others(tmp_path, capsys):
    for name in ("1.png", "3.png"):
        draw(tmp_path / "in" / name)
    (tmp_path / "in" / "2.png").write_bytes((tmp_path / "in" / "1.png").read_bytes()[:200])
    (tmp_path / "in" / "4.jpg").write_text("no picture")
    (tmp_path / "out" / "3.png").mkdir(parents=True)  # cannot be written
    assert go(tmp_path / "in", tmp_path / "out") == 1
    assert files_of(tmp_path / "out") == ["1.png"]
    lines = capsys.readouterr().out.splitlines()
    where = str(tmp_path / "in") + "/"
    failed = ["cartoonize %s failed" % (where + name) for name in ("2.png", "3.png", "4.jpg")]
    assert sorted(lines[:3]) == failed
    assert lines[3].startswith("1 picture in ")
    assert lines[4] == "3 of 4 pictures could not be cartoonized:"
    assert len(lines) == 8
    for name in ("2.png cannot be read as a pic", "3.png: Is a dir", "4.jpg cannot be read as a"):
        assert sum(where + name in line for line in lines[5:]) == 1


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_a_full_or_forbidden_disk_stops_at_once(tmp_path, monkeypatch, code):
    for number in range(30):
        draw(tmp_path / "in" / ("%d.png" % number))
    real, network = pictures.atomic_path, Invert()

    @contextlib.contextmanager
    def full(path):
        with real(path) as temporary:
            yield temporary
            if not path.endswith("/0.png"):
                raise OSError(code, os.strerror(code))

    monkeypatch.setattr(pictures, "atomic_path", full)
    sentence = r"cannot write \S*\.png, the cartoon of \S*: %s; make room" % os.strerror(code)
    with pytest.raises(UserError, match=sentence):
        go(tmp_path / "in", tmp_path / "out", network, batch_size=1)
    assert files_of(tmp_path / "out") == ["0.png"]
    assert len(network.calls) < 30


def test_existing_outputs_are_replaced_or_skipped(tmp_path, capsys):
    drawn = [draw(tmp_path / "in" / (name + ".png"), noise(seed=i)) for i, name in enumerate("ab")]
    old = draw(tmp_path / "out" / "a.png", noise(seed=9))
    network = Invert()
    assert go(tmp_path / "in", tmp_path / "out", network, overwrite=False) == 0
    assert network.calls == [(1, 12, 16, 3)]
    assert "1 of 2 pictures are there already and are skipped\n" in capsys.readouterr().out
    np.testing.assert_array_equal(pixels_of(tmp_path / "out" / "a.png"), old)
    np.testing.assert_array_equal(pixels_of(tmp_path / "out" / "b.png"), 255 - drawn[1])
    network.load = None  # is not called when nothing is left
    assert go(tmp_path / "in", tmp_path / "out", network, overwrite=False) == 0
    assert go(tmp_path / "in", tmp_path / "out") == 0
    np.testing.assert_array_equal(pixels_of(tmp_path / "out" / "a.png"), 255 - drawn[0])


def test_pictures_of_one_size_go_together(tmp_path, monkeypatch):
    widths = [16, 16, 16, 16, 16, 20, 20, 16]
    drawn = [
        draw(tmp_path / "in" / ("%d.png" % i), noise(12, w, seed=i)) for i, w in enumerate(widths)
    ]
    network = Invert()
    assert go(tmp_path / "in", tmp_path / "out", network, batch_size=3) == 0
    assert network.calls == [(3, 12, 16, 3), (2, 12, 16, 3), (2, 12, 20, 3), (1, 12, 16, 3)]
    for i, pixels in enumerate(drawn):
        np.testing.assert_array_equal(pixels_of(tmp_path / "out" / ("%d.png" % i)), 255 - pixels)
    monkeypatch.setattr(cartoonizing, "BATCH_PIXELS", 2 * 12 * 16)
    network = Invert()
    assert go(tmp_path / "in", tmp_path / "out", network, batch_size=3) == 0
    assert [shape[0] for shape in network.calls] == [2, 2, 1, 1, 1, 1]


def test_no_more_than_a_few_pictures_are_in_memory(tmp_path, monkeypatch):
    for number in range(60):
        draw(tmp_path / "in" / ("%d.png" % number))
    real_read, real_write, begun, written, held = pictures.read, pictures.write, [], [], []

    def read(*words):
        begun.append(words)
        return real_read(*words)

    def write(*words):
        real_write(*words)
        written.append(words)

    monkeypatch.setattr(pictures, "read", read)
    monkeypatch.setattr(pictures, "write", write)
    network = Invert()
    invert = network.__call__

    def watch(images):
        held.append(len(begun) - len(written))
        return invert(images)

    network.load = contextlib.contextmanager(lambda config: iter([watch]))
    assert go(tmp_path / "in", tmp_path / "out", network, batch_size=2) == 0
    assert len(written) == 60
    assert 4 <= max(held) <= 2 * 2 + 2 + 2 + cartoonizing.WAITING + cartoonizing.WRITERS


def clip(path, count=6, rate=12.0, sound=""):
    """Writes a video whose frames have one random colour each; returns the colours."""
    colours = np.random.RandomState(0).randint(30, 226, (count, 1, 1, 3)).astype(np.uint8)
    video.encode(str(path), np.tile(colours, (1, 24, 32, 1)), rate, sound=str(sound))
    return colours


def test_a_video_becomes_a_video_with_its_sound(tmp_path, capsys):
    song = [video.find_ffmpeg(), "-v", "error", "-f", "lavfi", "-i", "sine=duration=0.5"]
    subprocess.run(song + [str(tmp_path / "song.mkv")], check=True)
    colours = clip(tmp_path / "clip.mp4", sound=tmp_path / "song.mkv")
    network = Invert()
    output = tmp_path / "new" / "out.mkv"
    assert go(tmp_path / "clip.mp4", output, network, max_side=12) == 0
    assert network.calls == [(4, 12, 16, 3), (2, 12, 16, 3)]
    frames = video.Frames(str(output))
    assert (frames.rate, frames.count) == (12.0, 6)
    for number in range(1, 7):
        error = frames.read(number).astype(int) - (255 - colours[number - 1].astype(int))
        assert np.abs(error).max() <= 12
    told = subprocess.run(
        [video.find_ffmpeg(), "-i", str(output)], capture_output=True, check=False
    )
    assert b"Audio: aac" in told.stderr
    assert files_of(tmp_path / "new") == ["out.mkv"]
    assert capsys.readouterr().out.startswith("6 pictures in ")
    assert go(tmp_path / "clip.mp4", output, None, overwrite=False) == 0
    assert "6 of 6 pictures are there already" in capsys.readouterr().out


def test_a_video_becomes_a_folder_of_frames(tmp_path):
    colours = clip(tmp_path / "clip.avi", count=3)
    assert go(tmp_path / "clip.avi", tmp_path / "out") == 0
    assert files_of(tmp_path / "out") == ["frame_%06d.png" % number for number in (1, 2, 3)]
    made = pixels_of(tmp_path / "out" / "frame_000003.png").astype(int)
    assert np.abs(made - (255 - colours[2].astype(int))).max() <= 10


def test_a_video_that_is_stopped_or_holds_nothing_leaves_nothing(tmp_path):
    clip(tmp_path / "clip.mp4")
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "clip.mp4", tmp_path / "out.mp4", Invert(stop=2), batch_size=2)
    (tmp_path / "broken.mp4").write_bytes((tmp_path / "clip.mp4").read_bytes()[:100])
    refuse("broken.mp4 cannot be read as a video", tmp_path / "broken.mp4", tmp_path / "out.mp4")
    words = [video.find_ffmpeg(), "-v", "error", "-i", str(tmp_path / "clip.mp4"), "-t", "0"]
    subprocess.run(words + [str(tmp_path / "none.mkv")], check=True)
    refuse(r"none\.mkv", tmp_path / "none.mkv", tmp_path / "out.mp4")
    refuse("is a video; name a video", tmp_path / "clip.mp4", tmp_path / "out.jpg")
    refuse("is a video; name a video", tmp_path / "clip.mp4", "-")
    refuse("clip.mp4 is an input too", tmp_path / "clip.mp4", tmp_path / "clip.mp4")
    assert files_of(tmp_path) == ["broken.mp4", "clip.mp4", "none.mkv"]


def program(*words, **options):
    """Runs the entry script; returns the finished process, its output as bytes."""
    command = [sys.executable, PROGRAM, "--device=cpu"] + [str(word) for word in words]
    options.setdefault("cwd", FOLDER)
    return subprocess.run(command, capture_output=True, check=False, timeout=120, **options)


@pytest.fixture
def weights(tmp_path):
    rng = np.random.RandomState(0)
    arrays = {
        n: rng.uniform(-0.05, 0.05, s).astype(np.float32) for n, s in GENERATOR_SHAPES.items()
    }
    write_generator(str(tmp_path / "random.npz"), arrays)
    return str(tmp_path / "random.npz")


def test_a_folder_and_a_pipe_give_the_same_cartoon(tmp_path, weights, capsys):
    draw(tmp_path / "in" / "a.png", noise(30, 21))
    config = CartoonizeConfig(input=str(tmp_path / "in"), output=str(tmp_path), weights=weights)
    assert cartoonize(config) == 0
    assert "1 picture in " in capsys.readouterr().out
    with open(str(tmp_path / "in" / "a.png"), "rb") as file:
        piped = program("--input=-", "--output=-", "--weights", weights, stdin=file)
    assert piped.returncode == 0, piped.stderr
    assert b"device: cpu" in piped.stderr
    assert b", written to stdout\n" in piped.stderr
    with Image.open(io.BytesIO(piped.stdout)) as image:
        assert image.format == "PNG"
        made = np.asarray(image)
    np.testing.assert_array_equal(made, pixels_of(tmp_path / "a.png"))
    assert made.shape == (30, 21, 3)
    assert made.std() > 1


def test_mistakes_are_told_before_tensorflow_is_loaded(tmp_path):
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text("raise SystemExit(99)")
    options = {"env": dict(os.environ, PYTHONPATH=str(tmp_path)), "cwd": str(tmp_path)}
    for words, sentence in (
        (["--input=missing.png"], b"cartoonize.py: error: there is no missing.png; give "),
        (["--input=-", "--output=-"], b"error: --input -: nothing comes from stdin; give "),
        (["--tile=3"], b"--tile 3: it must be a multiple of 4"),
    ):
        done = program(*words, stdin=subprocess.DEVNULL, **options)
        assert sentence in done.stderr
        assert (done.returncode in (1, 2), done.stdout) == (True, b"")
    draw(tmp_path / "a.png")
    assert program("--input=a.png", **options).returncode == 99
