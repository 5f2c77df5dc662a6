# SPDX-License-Identifier: Apache-2.0
"""What is cartoonized and where it goes: a picture, a folder of them, the frames of a video.

All that can be checked is checked here, before the network is loaded.
"""

import os
import sys
from typing import List, NamedTuple, Optional, Union

from harness import video
from harness.errors import UserError
from harness.images import EXTENSIONS, is_image, natural_key
from whitebox import pictures
from whitebox.pictures import FORMATS

PHOTOS = ("scenery_photo", "photo_scenery")  # folders of DATA_PATH, cartoonized by default


class Job(NamedTuple):
    """One picture.

    Attributes:
      name: what messages call it.
      source: its path, what is in its file, or the number of a frame.
      target: the file to write, or "-" for stdout.
      ending: of the format to write, a key of FORMATS.
    """

    name: str
    source: Union[str, bytes, int]
    target: str
    ending: str


class Plan(NamedTuple):
    """All that one call of the program does.

    Attributes:
      jobs: the pictures, in order.
      place: where they go, for the last line.
      frames: of the video that the sources count in, or None.
      to_video: the video to make of the cartoons, or "".
    """

    jobs: List[Job]
    place: str
    frames: Optional[video.Frames] = None
    to_video: str = ""


def make_plan(config) -> Plan:
    """Returns what the options ask for.

    Raises:
      UserError: if there is nothing to cartoonize, if the input would be written to, or if the
        output cannot be written.
    """
    source = config.input or _find_photos(config.data_path)
    output = config.output or os.path.join(config.output_path, config.save_folder)
    if source != "-" and not os.path.exists(source):
        text = "there is no %s; give a picture, a folder of pictures, a video, or - for stdin"
        raise UserError(text % source)
    is_folder = os.path.isdir(output) or output.endswith(os.sep) or not config.output
    if os.path.isdir(source):
        plan = _plan_folder(config, source, output)
    elif source.lower().endswith(video.EXTENSIONS):
        plan = _plan_video(source, output, is_folder)
    else:
        plan = _plan_picture(config, source, output, is_folder)
    _check_targets(plan, source)
    return plan


def _find_photos(data_path) -> str:
    for folder in (data_path, os.path.join(data_path, "dataset")):
        for name in PHOTOS:
            if os.path.isdir(os.path.join(folder, name)):
                return os.path.join(folder, name)
    text = "there is no %s in %s or in its folder dataset; say with --input what to cartoonize"
    raise UserError(text % (" or ".join(PHOTOS), data_path))


def _plan_folder(config, source, output) -> Plan:
    """The pictures in `source` and in the folders below it, under their names in `output`."""
    if output == "-":
        raise UserError("--output -: %s is a folder and stdout takes one picture" % source)
    inside = os.path.relpath(os.path.realpath(output), os.path.realpath(source)).split(os.sep)
    if inside[0] != os.pardir and (inside == [os.curdir] or not _is_hidden(inside)):
        text = "--output %s is the input %s or in it; choose a folder outside"
        raise UserError(text % (output, source))
    jobs, names = [], {}
    for folder, below, files in os.walk(source):
        below[:] = sorted((n for n in below if not n.startswith(".")), key=natural_key)
        for file in sorted(files, key=natural_key):
            path = os.path.join(folder, file)
            if is_image(file):
                place = os.path.join(output, os.path.relpath(folder, source))
                job = _job_for(config, path, path, file, os.path.normpath(place))
                if job.target in names:
                    text = "%s and %s would both become %s; rename one of them"
                    raise UserError(text % (names[job.target], path, job.target))
                names[job.target] = path
                jobs.append(job)
    if not jobs:
        text = "%s holds no picture (%s), nor do the folders in it"
        raise UserError(text % (source, " ".join(EXTENSIONS)))
    return Plan(jobs, output)


def _is_hidden(parts) -> bool:
    return any(part.startswith(".") for part in parts)


def _plan_video(source, output, is_folder) -> Plan:
    """The frames of `source`, to the video `output` or into the folder."""
    ending = os.path.splitext(output)[1].lower()
    to_video = output if ending in video.EXTENSIONS and not is_folder else ""
    if output == "-" or (ending in EXTENSIONS and not is_folder):
        text = "--output %s: %s is a video; name a video (%s), or a folder for its frames"
        raise UserError(text % (output, source, " ".join(video.EXTENSIONS)))
    frames, jobs = video.Frames(source), []
    for number in range(1, frames.count + 1):
        name = "frame %d of %s" % (number, source)
        target = os.path.join(output, "frame_%06d.png" % number)
        jobs.append(Job(name, number, target, ".png"))
    return Plan(jobs, output, frames, to_video)


def _plan_picture(config, source, output, is_folder) -> Plan:
    name, file = source, os.path.basename(source)
    if source == "-":
        name, file, source = "stdin", "stdin", sys.stdin.buffer.read()
        if not source:
            raise UserError("--input -: nothing comes from stdin; give it the bytes of a picture")
    if is_folder:
        return Plan([_job_for(config, name, source, file, output)], output)
    ending = os.path.splitext(output)[1].lower()
    if output == "-":
        is_png = config.raw or pictures.ending_for(source, name) == ".png"
        return Plan([Job(name, source, output, ".png" if is_png else ".jpg")], "stdout")
    if ending not in FORMATS or (config.raw and ending != ".png"):
        endings = ".png with --raw" if config.raw else " ".join(FORMATS)
        text = "--output %s: a picture ends in %s; a folder that is to be made ends in %s"
        raise UserError(text % (output, endings, os.sep))
    return Plan([Job(name, source, output, ending)], output)


def _job_for(config, name, source, file, folder) -> Job:
    """Returns the job that writes the cartoon of `file` into `folder`."""
    stem, before = os.path.splitext(file)
    ending = ".png" if config.raw else pictures.ending_for(source, name)
    kept = before if before.lower() == ending else ending  # .JPG stays .JPG
    return Job(name, source, os.path.join(folder, stem + kept), ending)


def _check_targets(plan, source) -> None:
    """Raises UserError if an output is an input too, or can surely not be written."""
    if plan.place == "stdout":
        return
    targets = [plan.to_video] if plan.to_video else [job.target for job in plan.jobs]
    inputs = {os.path.realpath(job.source) for job in plan.jobs if isinstance(job.source, str)}
    inputs.add(os.path.realpath(source))
    for target in targets:
        if os.path.realpath(target) in inputs:
            raise UserError("--output: %s is an input too; choose another place" % target)
    folder = os.path.dirname(os.path.abspath(targets[0]))
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
        what = "cannot be written to" if os.path.isdir(folder) else "is a file and no folder"
        raise UserError("--output %s: %s %s; choose another place" % (plan.place, folder, what))
