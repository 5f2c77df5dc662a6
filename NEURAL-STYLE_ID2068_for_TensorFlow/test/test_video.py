# SPDX-License-Identifier: Apache-2.0
"""Frames: read from a video, each starting from the result before, and made into a video."""

import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from test_jobs import Invert, draw, draw_folder, make, refuse, said

from harness import video
from harness.errors import UserError
from harness.images import read_image, write_image
from stylize import jobs


def clip(path, count=16, height=24, width=32, rate=12.0):
    """Writes a video whose frame i is one random colour; returns (path as str, the colours)."""
    colours = np.random.RandomState(0).randint(30, 226, (count, 1, 1, 3)).astype(np.uint8)
    video.encode(str(path), np.tile(colours, (1, height, width, 1)), rate)
    return str(path), colours


@pytest.mark.parametrize("ending", video.EXTENSIONS)
def test_a_video_keeps_frames_rate_and_colours(tmp_path, ending):
    path, colours = clip(tmp_path / ("a:b" + ending), count=8, height=33, width=47, rate=25.0)
    frames = video.Frames(path)
    assert (frames.count, frames.rate) == (8, 25.0)
    for number in range(1, 9):
        pixels = frames.read(number)
        assert pixels.shape == ((33, 47, 3) if ending == ".gif" else (34, 48, 3))
        assert np.abs(pixels.astype(int) - colours[number - 1]).max() <= 6
    np.testing.assert_array_equal(frames.read(8), pixels)
    np.testing.assert_array_equal(frames.read(3), video.Frames(path).read(3))
    with pytest.raises(UserError, match="has no frame 9 any more"):
        frames.read(9)


def test_an_odd_video_repeats_its_last_row_and_column(tmp_path):
    grey = np.random.RandomState(0).randint(0, 256, (3, 5, 1))
    picture = np.kron(grey, np.ones((9, 7, 3))).astype(np.uint8)
    video.encode(str(tmp_path / "a.mp4"), [picture] * 3, 25.0)
    pixels = video.Frames(str(tmp_path / "a.mp4")).read(2).astype(int)
    assert pixels.shape == (28, 36, 3)
    assert np.abs(pixels[:27, :35] - picture).mean() < 3
    assert np.abs(pixels[27, :35] - picture[26]).mean() < 3
    assert np.abs(pixels[:27, 35] - picture[:, 34]).mean() < 3


@pytest.mark.parametrize("rate", [24 / 1.001, 30 / 1.001, 12.5])
def test_rates_of_television_are_exact(tmp_path, rate):
    path, _ = clip(tmp_path / "a.mp4", count=3, rate=rate)
    assert video.Frames(path).rate == rate


def test_frames_of_another_size_are_scaled(tmp_path):
    pictures = [np.zeros((24, 32, 3), np.uint8), np.zeros((48, 16, 3), np.uint8)]
    pictures[1][:, 8:] = 200  # the right half
    video.encode(str(tmp_path / "a.mp4"), pictures, 25.0)
    frames = video.Frames(str(tmp_path / "a.mp4"))
    assert frames.count == 2
    second = frames.read(2).astype(int)
    assert second.shape == (24, 32, 3)
    assert second[:, :13].max() < 20
    assert np.abs(second[:, 19:] - 200).max() < 20


def ffmpeg(*words):
    """Runs ffmpeg; returns what it says, and what it writes to its standard output."""
    command = [video.find_ffmpeg(), "-hide_banner", "-nostdin", "-y"] + [str(w) for w in words]
    done = subprocess.run(command, capture_output=True, check=False)
    return done.stderr.decode("utf-8", "replace"), done.stdout


def sing(path, pitches):
    """Writes a video of one second with a sound track per pitch, in Hz; returns its path."""
    inputs, tracks = ["-f", "lavfi", "-i", "testsrc=size=32x24:rate=10:duration=1"], ["-map", 0]
    for number, pitch in enumerate(pitches, 1):
        inputs += ["-f", "lavfi", "-i", "sine=frequency=%d:duration=1" % pitch]
        tracks += ["-map", number]
    words, _ = ffmpeg(*inputs, *tracks, path)
    assert os.path.exists(str(path)), words
    return str(path)


def noise(count):
    """Returns `count` random pictures, uint8 [count, 24, 32, 3]."""
    return np.random.RandomState(0).randint(0, 256, (count, 24, 32, 3)).astype(np.uint8)


def heard(path, track=0):
    """Returns the (pitch in Hz, seconds) of a sound track of `path`; None where it has none."""
    rate = 16000
    words = ("-map", "0:a:%d" % track, "-ac", 1, "-ar", rate, "-f", "s16le", "-")
    samples = np.frombuffer(ffmpeg("-i", path, *words)[1], np.int16).astype(float)
    if not len(samples):
        return None
    loudness = np.abs(np.fft.rfft(samples))
    return np.argmax(loudness) * rate / len(samples), len(samples) / rate


@pytest.mark.parametrize(
    ("ending", "codec"),
    [(".mp4", "aac"), (".MOV", "aac"), (".mkv", "aac"), (".webm", "vorbis"), (".avi", "mp3")],
)
def test_the_sound_of_another_video_goes_with_the_pictures(tmp_path, ending, codec):
    source = sing(tmp_path / "a:source.mp4", [440])
    path = str(tmp_path / ("made" + ending))
    video.encode(path, noise(10), 10.0, sound=source)
    assert re.search(r"Audio: %s\b" % codec, ffmpeg("-i", path)[0])
    pitch, seconds = heard(path)
    assert abs(pitch - 440) < 5
    assert abs(seconds - 1) < 0.15
    assert (video.Frames(path).count, video.Frames(path).rate) == (10, 10.0)


def test_every_sound_track_goes_with_the_pictures(tmp_path):
    source = sing(tmp_path / "source.mkv", [300, 900])
    path = str(tmp_path / "made.mp4")
    video.encode(path, noise(10), 10.0, sound=source)
    assert [round(heard(path, track)[0], -2) for track in (0, 1)] == [300, 900]


@pytest.mark.parametrize("ending", [".mp4", ".webm", ".avi", ".gif"])
def test_a_silent_video_has_no_sound_to_go_with_the_pictures(tmp_path, ending):
    source = sing(tmp_path / "source.mp4", [440] if ending == ".gif" else [])
    path = str(tmp_path / ("made" + ending))
    video.encode(path, noise(10), 10.0, sound=source)
    assert heard(path) is None
    assert video.Frames(path).count == 10


def test_a_video_is_whole_or_absent(tmp_path, monkeypatch):
    path = str(tmp_path / "a.mp4")

    def fail():
        yield np.zeros((24, 32, 3), np.uint8)
        raise UserError("the next picture is broken")

    with pytest.raises(UserError, match="next picture is broken"):
        video.encode(path, fail(), 25.0)
    monkeypatch.setattr(video, "_H264", ["-c:v", "no_such_codec"])
    with pytest.raises(UserError, match=r"cannot write the video .*a\.mp4: .*; mend it and run"):
        video.encode(path, [np.zeros((640, 640, 3), np.uint8)] * 3, 25.0)
    assert os.listdir(str(tmp_path)) == []


def test_without_ffmpeg_a_video_is_refused(tmp_path, monkeypatch):
    photos = draw_folder(tmp_path / "photos", "1.png", "2.png")
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    refuse("pip install imageio-ffmpeg", photos, tmp_path / "out.mp4", video=True)
    make(photos, tmp_path / "out", video=True)


def test_a_video_becomes_a_video(tmp_path, capsys):
    path, colours = clip(tmp_path / "clip.mp4")
    output = str(tmp_path / "new" / "out.mkv")
    plan, config = make(path, output)
    assert (plan.is_sequence, plan.is_single) == (True, False)
    assert (plan.video, plan.rate, len(plan.jobs)) == (output, 12.0, 16)
    assert plan.jobs[11].name == "frame 12 of clip.mp4"
    assert plan.jobs[11].output == str(tmp_path / "new" / "out.frames" / "000012.png")
    assert plan.jobs[11].folder == str(tmp_path / "new" / "out.frames" / "000012.png.run")
    stylise = Invert()
    assert jobs.run(plan, config, stylise) == 0
    assert stylise.calls[0][1] is None
    assert all(initial.shape == (24, 32, 3) for _, initial in stylise.calls[1:])
    made = video.Frames(output)
    assert (made.rate, made.count) == (12.0, 16)
    assert np.abs(made.read(1).astype(int) - (255 - colours[0].astype(int))).max() <= 10
    assert os.listdir(str(tmp_path / "new")) == ["out.mkv"]
    assert said(capsys) == ["wrote %s" % output, "stylised 16 of 16"]
    plan, config = make(path, output, continue_train=True)
    assert jobs.run(plan, config, Invert(stop=0)) == 0
    assert capsys.readouterr().out == "%s is done already\n" % output


def test_a_video_becomes_a_folder_of_frames(tmp_path):
    path, _ = clip(tmp_path / "clip.avi", count=3)
    plan, config = make(path, tmp_path / "frames")
    assert jobs.run(plan, config, Invert()) == 0
    names = sorted(name for name in os.listdir(str(tmp_path / "frames")) if "run" not in name)
    assert names == ["000001.png", "000002.png", "000003.png"]
    refuse("000001.png exists", path, tmp_path / "frames")
    refuse("is one file and there are several pictures", path, tmp_path / "out.jpg")


@pytest.mark.parametrize("stop", [1, 4])
def test_a_resumed_video_is_that_of_one_run(tmp_path, capsys, stop):
    path, _ = clip(tmp_path / "clip.mp4", count=6)
    once, again = str(tmp_path / "once.gif"), str(tmp_path / "again.gif")
    jobs.run(*make(path, once), stylise=Invert())
    assert jobs.run(*make(path, again), stylise=Invert(stop=stop)) == 0
    assert not os.path.exists(again)
    refuse("000001.png exists; .*--continue_train", path, again)
    capsys.readouterr()
    stylise = Invert()
    assert jobs.run(*make(path, again, continue_train=True), stylise=stylise) == 0
    assert capsys.readouterr().out.startswith("%d of 6 are done already\n" % stop)
    assert stylise.names() == ["%06d.png" % number for number in range(stop + 1, 7)]
    assert stylise.calls[0][1] is not None
    with open(once, "rb") as first, open(again, "rb") as second:
        assert first.read() == second.read()


def test_an_older_video_does_not_pass_for_done(tmp_path):
    path, _ = clip(tmp_path / "clip.mp4", count=3)
    output = tmp_path / "out.mp4"
    jobs.run(*make(path, output), stylise=Invert())
    jobs.run(*make(path, output, overwrite=True), stylise=Invert(stop=0))
    assert output.exists()
    stylise = Invert()
    jobs.run(*make(path, output, continue_train=True), stylise=stylise)
    assert len(stylise.calls) == 3


def test_a_folder_of_frames_with_one_that_fails(tmp_path, capsys):
    photos = draw_folder(tmp_path / "photos", *("%d.jpg" % number for number in (1, 2, 4, 5)))
    (tmp_path / "photos" / "3.jpg").write_text("broken")
    output = str(tmp_path / "out.mp4")
    plan, config = make(photos, output, video=True)
    assert (plan.rate, plan.video, plan.is_sequence) == (25.0, output, True)
    stylise = Invert(broken=["1.png"])
    assert jobs.run(plan, config, stylise) == 1
    assert stylise.names() == ["1.png", "2.png", "4.png", "5.png"]
    assert [call[1] is None for call in stylise.calls] == [True, True, False, False]
    before = read_image(str(tmp_path / "out.frames" / "2.png"))
    np.testing.assert_array_equal(stylise.calls[2][1], before)
    last_line = capsys.readouterr().out.splitlines()[-1]
    assert last_line == "stylised 3 of 5; not: 1.jpg, 3.jpg"
    assert video.Frames(output).count == 4  # nothing for 1, and 2 again for 3
    draw(tmp_path / "photos" / "3.jpg")
    stylise = Invert()
    assert jobs.run(*make(photos, output, video=True, continue_train=True), stylise=stylise) == 0
    assert stylise.names() == ["1.png", "3.png"]
    assert video.Frames(output).count == 5
    assert not (tmp_path / "out.frames").exists()


def test_no_video_is_made_of_nothing(tmp_path):
    photos = draw_folder(tmp_path / "photos", "1.jpg", "2.jpg")
    stylise = Invert(broken=["1.png", "2.png"])
    assert jobs.run(*make(photos, tmp_path / "out.mp4", video=True), stylise=stylise) == 1
    assert not (tmp_path / "out.mp4").exists()


def test_small_frames_are_told_by_their_number(tmp_path, capsys):
    path, _ = clip(tmp_path / "clip.mp4", count=2, height=10)
    assert jobs.run(*make(path, tmp_path / "out"), stylise=Invert()) == 1
    assert "frame 2 of clip.mp4 is 32 x 10 pixels" in capsys.readouterr().out


def test_the_place_of_the_frames_must_be_free(tmp_path):
    photos = draw_folder(tmp_path / "out.frames", "1.jpg", "2.jpg")
    path, _ = clip(tmp_path / "clip.mp4", count=2)
    output = tmp_path / "out.mp4"
    refuse("results would go into", photos, output, video=True)
    refuse("out.frames, which the frames would take, holds something else", path, output)
    assert len(os.listdir(photos)) == 2
    refuse("clip.mp4 is an input too", path, path, overwrite=True)
    refuse("cannot write into .*clip", path, os.path.join(path, "out.mp4"))
    (tmp_path / "folder.mp4").mkdir()
    assert make(path, tmp_path / "folder.mp4")[0].video == ""


def test_frames_start_from_the_very_pixels_of_the_result_before(tmp_path):
    photos = draw_folder(tmp_path / "photos", "1.jpg", "2.jpg")
    plan, config = make(photos, tmp_path / "out", video=True)
    results = []

    def stylise(content, output, folder, initial):
        results.append(255 - content)
        if initial is not None:
            np.testing.assert_array_equal(initial, results[0])
        write_image(output, results[-1])
        return results[-1]

    assert jobs.run(plan, config, stylise) == 0
    assert [os.path.basename(job.output) for job in plan.jobs] == ["1.png", "2.png"]
