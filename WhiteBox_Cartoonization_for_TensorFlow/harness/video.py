# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/video/video.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""Video files, through ffmpeg: their frames one by one, and a video of pictures.

The only module that knows ffmpeg. Frames are uint8 [H, W, 3], RGB, at a constant rate: where a
video has none, frames are repeated or left out.
"""

import itertools
import os
import re
import shutil
import subprocess
import tempfile
from typing import Iterable, Iterator

import numpy as np
from PIL import Image

from harness.errors import UserError
from harness.files import atomic_path

EXTENSIONS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".gif")
RATE = 25.0  # frames per second of what does not say it
_COLOURS = ["-vf", "scale=out_color_matrix=bt709:out_range=tv", "-pix_fmt", "yuv420p"]
for _name in ("-colorspace", "-color_primaries", "-color_trc"):
    _COLOURS += [_name, "bt709"]
_H264 = ["-c:v", "libx264", "-crf", "17"] + _COLOURS
_VP9 = ["-c:v", "libvpx-vp9", "-crf", "24", "-b:v", "0"] + _COLOURS
_SOUNDS = {".webm": "libvorbis", ".avi": "libmp3lame"}  # encoders; AAC for the others
_PALETTES = "split[a][b];[a]palettegen=stats_mode=single[p];[b][p]paletteuse=new=1"


def find_ffmpeg() -> str:
    """Returns the path of ffmpeg: that of the package imageio-ffmpeg, else the system's.

    Raises:
      UserError: if there is none.
    """
    try:
        import imageio_ffmpeg  # here, as pictures do without it

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        path = shutil.which("ffmpeg")
    if not path:
        raise UserError("a video needs ffmpeg; pip install imageio-ffmpeg, or install ffmpeg")
    return path


class Frames:
    """The frames of a video file, one in memory at a time.

    Args:
      path: the file; it is read through once, to count.

    Attributes:
      rate: frames per second.
      count: how many there are.

    Raises:
      UserError: if it is no video or holds no frame.
    """

    def __init__(self, path: str):
        self._path, self.rate = path, _rate(path)
        self.count = sum(1 for _ in _decode(path, self.rate, "-vf", "scale=2:2"))
        if not self.count:
            raise UserError("%s holds no frame that can be read; give another video" % path)
        self._frames, self._next = None, 1

    def read(self, number: int) -> np.ndarray:
        """Returns frame `number`, uint8 [H, W, 3]; the first is 1.

        Reads on from the frame before; for an earlier one it begins again.

        Raises:
          UserError: if there is no such frame any more.
        """
        if self._frames is None or number < self._next:
            self._frames, self._next = _decode(self._path, self.rate), 1
        for pixels in self._frames:
            self._next += 1
            if self._next > number:
                return pixels
        text = "%s has no frame %d any more; give the video as it was"
        raise UserError(text % (self._path, number))


def encode(path: str, pictures: Iterable[np.ndarray], rate: float, sound: str = "") -> None:
    """Writes `pictures` as the video `path`, whole or not at all.

    H.264, in .webm VP9, in .gif 256 colours per picture. The first two need even sizes: the last
    row or column of an odd one is repeated.

    Args:
      path: ends in one of EXTENSIONS.
      pictures: one or more, uint8 [H, W, 3]; one of another size is scaled to that of the first.
      rate: frames per second.
      sound: a video whose sound, if it has any, goes with the pictures; a .gif has none.

    Raises:
      UserError: if ffmpeg fails; the message has its reason.
    """
    pictures = iter(pictures)
    first = next(pictures)
    height, width = first.shape[:2]
    extra = (0, 0) if _ending(path) == ".gif" else (height % 2, width % 2)
    size = "%dx%d" % (width + extra[1], height + extra[0])
    with atomic_path(path) as temporary, tempfile.TemporaryFile() as complaints:
        command = [find_ffmpeg(), "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24"]
        command += ["-s", size, "-r", repr(rate), "-i", "-"] + _encoders(path, sound)
        process = subprocess.Popen(
            command + ["file:" + temporary],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=complaints,
            start_new_session=True,  # Ctrl-C is for the program, which ends this
        )
        try:
            with process.stdin as pipe:
                for pixels in itertools.chain([first], pictures):
                    padding = ((0, extra[0]), (0, extra[1]), (0, 0))
                    pixels = np.pad(_resize(pixels, height, width), padding, mode="edge")
                    pipe.write(pixels.tobytes())
            process.wait()
        except BrokenPipeError:
            process.wait()
        finally:
            process.kill()
            process.wait()
        if process.returncode:
            complaints.seek(0)
            text = "cannot write the video %s: %s; mend it and run this again"
            raise UserError(text % (path, _last_line(complaints.read())))


def _encoders(path, sound):
    """Returns the words between the pictures' input and the output `path`."""
    ending = _ending(path)
    if ending == ".gif":
        return ["-vf", _PALETTES]
    words = _VP9 if ending == ".webm" else _H264
    if ending == ".avi":  # has no place for times: reordered frames would make all others late
        words = words + ["-bf", "0", "-avoid_negative_ts", "disabled"]
    if sound:
        sounds = ["-map", "0:v", "-map", "1:a?", "-c:a", _SOUNDS.get(ending, "aac")]
        words = ["-i", "file:" + sound] + sounds + words
    return words


def _ending(path) -> str:
    return os.path.splitext(path)[1].lower()


def _resize(pixels, height, width) -> np.ndarray:
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.BICUBIC))


def _rate(path) -> float:
    """Returns the frames per second of the video `path`."""
    command = [find_ffmpeg(), "-nostdin", "-hide_banner", "-i", "file:" + path]
    found = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    ).stdout
    line = re.search(rb"Stream #.* Video: .*", found)
    if not line:
        text = "%s cannot be read as a video: %s; give another one"
        raise UserError(text % (path, _last_line(found)))
    number = re.search(rb"([\d.]+) fps", line.group()) or re.search(rb"([\d.]+) tbr", line.group())
    rate = float(number.group(1)) if number else RATE
    for whole in (24, 30, 48, 60, 120):  # ffmpeg says 23.98 of 24000/1001
        if abs(rate - whole / 1.001) < 0.006:
            return whole / 1.001
    return rate or RATE


def _decode(path, rate, *options) -> Iterator[np.ndarray]:
    """Yields the frames of the video `path`; ffmpeg decodes them as they are asked for."""
    command = [find_ffmpeg(), "-v", "error", "-nostdin", "-i", "file:" + path, "-map", "0:v:0"]
    command += ["-r", repr(rate), *options, "-c:v", "ppm", "-pix_fmt", "rgb24", "-f", "image2pipe"]
    process = subprocess.Popen(
        command + ["-"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the program, which ends the frame at hand
    )
    try:
        while True:
            _, size, _ = (process.stdout.readline() for _ in range(3))  # P6, width height, 255
            width, height = map(int, size.split() or (0, 0))
            pixels = process.stdout.read(height * width * 3)
            if not pixels or len(pixels) < height * width * 3:
                return
            yield np.frombuffer(pixels, np.uint8).reshape(height, width, 3)
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def _last_line(text: bytes) -> str:
    lines = text.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip() if lines else "ffmpeg gives no reason"
