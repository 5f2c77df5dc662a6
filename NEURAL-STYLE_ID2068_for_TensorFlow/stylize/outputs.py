# SPDX-License-Identifier: Apache-2.0
"""Where results go: the names of the outputs, and whether they may and can be written."""

import collections
import os
import tempfile
from typing import List, Sequence, Tuple

from harness import video
from harness.errors import UserError
from harness.images import EXTENSIONS
from stylize.config import checkpoint_name


def is_one_picture(contents: Sequence[str]) -> bool:
    """Returns whether `contents` is one picture: no folder, no video, not several."""
    return len(contents) == 1 and is_file_of(contents[0], EXTENSIONS)


def on_the_way(config, output: str, step: int) -> str:
    """Returns the path of the picture after `step`; of several contents with `output`'s name."""
    path = checkpoint_name(config.checkpoint_output, step)
    if is_one_picture(config.content):
        return path
    stem = os.path.splitext(os.path.basename(output))[0]
    return os.path.join(os.path.dirname(path), "%s_%s" % (stem, os.path.basename(path)))


def stage_folders(config, folder: str) -> List[str]:
    """Returns the folder of each of `scales` below `folder`; of one run it is `folder` itself."""
    if len(config.scales) < 2:
        return [folder]
    return [os.path.join(folder, "%d-%d" % pair) for pair in enumerate(config.scales, 1)]


def list_on_the_way(config, output: str) -> List[str]:
    """Returns the paths of all pictures on the way to `output`."""
    if not config.checkpoint_output:
        return []
    before, paths = 0, []
    for last_step in config.steps:
        steps = set(range(0, last_step, config.checkpoint_iterations)) - {0} | {last_step}
        paths += [on_the_way(config, output, before + step) for step in sorted(steps)]
        before += last_step
    return paths


def is_file_of(path: str, endings: Tuple[str, ...]) -> bool:
    """Returns whether `path` names a file, there or not, with one of `endings`, and no folder."""
    return path.lower().endswith(endings) and not os.path.isdir(path)


def _is_folder(path) -> bool:
    return os.path.isdir(path) or path.endswith(os.sep)


def names_for(paths: Sequence[str]) -> List[str]:
    """Returns a name without ending for each of `paths`, no two alike whatever their case.

    It is the file's own. Where several have one, the ending becomes part of it (a_jpg and a_png),
    and where that is not enough a number (a_jpg_2).
    """
    parts = [os.path.splitext(os.path.basename(path)) for path in paths]
    counts = collections.Counter(stem.lower() for stem, _ in parts)
    names, taken = [], {stem for stem, count in counts.items() if count == 1}
    for stem, ending in parts:
        name, number = stem, 1
        if counts[stem.lower()] > 1:
            name = longer = stem + ending.replace(".", "_")
            while name.lower() in taken:
                number += 1
                name = "%s_%d" % (longer, number)
            taken.add(name.lower())
        names.append(name)
    return names


def output_of_one(output: str, content: str) -> str:
    """Returns the file for the one picture `content`; see `jobs.plan`.

    Raises:
      UserError: if `output` has not the ending of a picture and is no folder.
    """
    if _is_folder(output):
        return os.path.join(output, names_for([content])[0] + ".jpg")
    if not output.lower().endswith(EXTENSIONS):
        text = "--output %s: a picture ends in %s; a folder that is to be made ends in %s"
        raise UserError(text % (output, " ".join(EXTENSIONS), os.sep))
    return output


def output_of_several(output: str, is_sequence: bool) -> Tuple[str, str]:
    """Returns (folder for the pictures, video to make of them or ""); see `jobs.plan`.

    Raises:
      UserError: if `output` is a file, or a video and `is_sequence` is False.
    """
    if _is_folder(output):
        return output, ""
    if is_file_of(output, video.EXTENSIONS):
        if not is_sequence:
            text = "--output %s: pictures become a video with --video; add it, or name a folder"
            raise UserError(text % output)
        return os.path.splitext(output)[0] + ".frames", output
    if is_file_of(output, EXTENSIONS) or os.path.exists(output):
        other = " or a video (%s)" % " ".join(video.EXTENSIONS) if is_sequence else ""
        text = "--output %s is one file and there are several pictures; name a folder%s"
        raise UserError(text % (output, other))
    return output, ""


def check(
    paths: Sequence[str],
    to_video: str,
    on_the_way: Sequence[str],
    inputs: Sequence[str],
    may_exist: bool,
) -> None:
    """Makes the folder of the outputs and raises UserError unless they may and can be written.

    Args:
      paths: the pictures to write, all in one folder.
      to_video: the video to make of them, or "".
      on_the_way: further pictures to write.
      inputs: files and folders that must not be written to; "" is nothing.
      may_exist: whether the outputs may exist.
    """
    inputs = {os.path.realpath(path) for path in inputs if path}
    folder = os.path.dirname(paths[0])
    if os.path.realpath(folder) in inputs:
        text = "--output: the results would go into %s, among the content; choose another folder"
        raise UserError(text % (folder or os.curdir))
    for path in [to_video] * bool(to_video) + list(paths) + list(on_the_way):
        if os.path.realpath(path) in inputs:
            raise UserError("--output: %s is an input too; choose another place" % path)
        if os.path.isdir(path):
            raise UserError("--output: %s is a folder and not a file; choose another place" % path)
        if os.path.lexists(path) and not may_exist:
            text = "%s exists; --overwrite replaces it, --continue_train goes on with a stopped run"
            raise UserError(text % path)
    if to_video:
        _check_folder(os.path.dirname(to_video))
    if to_video and os.path.isdir(folder):
        names = os.listdir(folder)
        if names and not any(name.endswith(".run") for name in names):
            text = "--output: %s, which the frames would take, holds something else; move it"
            raise UserError(text % folder)
    if not to_video or os.path.lexists(folder):
        _check_folder(folder)
    for folder in {os.path.dirname(path) for path in on_the_way}:
        _check_folder(folder)


def _check_folder(folder) -> None:
    """Makes `folder` and raises UserError unless a file can be written into it."""
    folder = folder or os.curdir
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        text = "--output: cannot write into %s: %s; choose another place"
        raise UserError(text % (folder, error.strerror)) from error
