# SPDX-License-Identifier: Apache-2.0
"""What is stylised and where it goes: one picture, several, or the frames of a video.

Everything that can be checked is checked before the work begins. Pictures are uint8 [H, W, 3].
"""

import dataclasses
import functools
import glob
import json
import os
import shutil
from typing import Callable, List, NamedTuple, Optional, Set

import numpy as np

from harness import video
from harness.errors import UserError
from harness.files import read_json
from harness.images import EXTENSIONS, list_images, natural_key, read_image
from harness.options import must_agree
from stylize import outputs
from stylize.data import check_size, read_picture

_CHECKPOINTS = ("model-*", "checkpoint", "*/model-*", "*/checkpoint")  # also those of --scales
_METRICS = "metrics.json"  # is in the folder of a job that is done
_RECORDS = ("config.json", "log.jsonl", "training.json")
_MADE_FROM = ("styles", "network", "style_masks", "initial")
_NAMES = 10  # the last line names so many of those that failed


class Job(NamedTuple):
    """One picture to stylise.

    Attributes:
      name: what messages call it: its path, or "frame 12 of clip.mp4".
      read: returns the content, uint8 [H, W, 3], or raises UserError.
      output: the picture to write.
      folder: for the state of its run: the output and ".run".
    """

    name: str
    read: Callable[[], np.ndarray]
    output: str
    folder: str


class Plan(NamedTuple):
    """Everything that one call of the program does.

    Attributes:
      jobs: what to stylise, in order.
      is_single: whether it is one picture to one file.
      is_sequence: whether the jobs are frames, each of which starts from the result before it.
      skipped: the files of the folders that are no pictures.
      video: the video to make of the results at the end, or "".
      rate: frames per second.
    """

    jobs: List[Job]
    is_single: bool
    is_sequence: bool
    skipped: List[str]
    video: str
    rate: float


def make_plan(config) -> Plan:
    """Returns what the options ask for; makes the folder of the outputs.

    One picture goes to --output, or into it as <name>.jpg where it is a folder or ends with "/".
    Several go into the folder --output as <name>.jpg; where two have one name, it gets the ending
    of the content as well. Frames go into the folder --output as .png, which loses nothing; where
    --output is a video, into <output without ending>.frames until they have become that video.

    Raises:
      UserError: if --content or --output is missing, wrong or contradicts another option, or if
        an output or the state of an earlier run exists, is an input too, or cannot be written.
    """
    if not config.content:
        raise UserError("--content is missing; give pictures, a folder of pictures or a video")
    if not config.output:
        raise UserError("--output is missing; give a picture to write, or a folder for several")
    for path in config.content:
        if not os.path.exists(path):
            raise UserError("there is no content %s; give pictures, a folder or a video" % path)
    videos = [path for path in config.content if outputs.is_file_of(path, video.EXTENSIONS)]
    if videos and len(config.content) > 1:
        text = "--content has %d values and %s is a video; give one video alone, or pictures"
        raise UserError(text % (len(config.content), videos[0]))
    made = _plan_video(config, videos[0]) if videos else _plan_pictures(config)
    if made.video:
        video.find_ffmpeg()
    inputs = list(config.content) + [config.initial, config.network]
    inputs += list(config.styles) + list(config.style_masks)
    inputs += [] if videos else [job.name for job in made.jobs]
    may_exist = config.overwrite or config.continue_train
    places = [job.output for job in made.jobs]
    on_the_way = [path for place in places for path in outputs.list_on_the_way(config, place)]
    outputs.check(places, made.video, on_the_way, inputs, may_exist)
    for job in made.jobs:
        if not may_exist and _find(job.folder, _CHECKPOINTS + (_METRICS,)):
            text = "%s holds an earlier run; --continue_train goes on with it, --overwrite begins"
            raise UserError((text + " anew") % job.folder)
    return made


def _plan_pictures(config) -> Plan:
    paths, skipped, to_video = [], [], ""
    for content in config.content:
        is_folder = os.path.isdir(content)
        paths += list_images(content) if is_folder else [content]
        skipped += _others(content) if is_folder else []
    if config.video and len(paths) == 1:
        raise UserError("--video: %s is one picture; give a folder of frames or a video" % paths[0])
    is_single = len(paths) == 1 and paths == list(config.content)
    if is_single:
        places = [outputs.output_of_one(config.output, paths[0])]
    else:
        folder, to_video = outputs.output_of_several(config.output, config.video)
        ending = ".png" if config.video else ".jpg"
        places = [os.path.join(folder, name + ending) for name in outputs.names_for(paths)]
    reads = [functools.partial(read_picture, path) for path in paths]
    jobs = [_job(*values) for values in zip(paths, reads, places)]
    return Plan(jobs, is_single, config.video, skipped, to_video, video.RATE)


def _plan_video(config, path) -> Plan:
    folder, to_video = outputs.output_of_several(config.output, is_sequence=True)
    frames, jobs = video.Frames(path), []
    for number in range(1, frames.count + 1):
        name = "frame %d of %s" % (number, os.path.basename(path))
        read = functools.partial(_read_frame, frames, number, name)
        jobs.append(_job(name, read, os.path.join(folder, "%06d.png" % number)))
    return Plan(jobs, False, True, [], to_video, frames.rate)


def _read_frame(frames, number, name) -> np.ndarray:
    pixels = frames.read(number)
    check_size(pixels, name)
    return pixels


def _job(name, read, output) -> Job:
    return Job(name, read, output, output + ".run")


def _others(folder) -> List[str]:
    """Returns the names of the visible files in `folder` that are no pictures by their endings."""
    names = [name for name in os.listdir(folder) if os.path.isfile(os.path.join(folder, name))]
    names = [n for n in names if not n.startswith(".") and not n.lower().endswith(EXTENSIONS)]
    return sorted(names, key=natural_key)


def run(plan: Plan, config, stylise: Callable, rank: int = 0, size: int = 1) -> int:
    """Does the jobs of `plan`; returns the exit status, 1 where something was left out.

    Of several jobs, one that fails is told and the others go on. A video shows the result before
    in its place, and its frames stay, so that --continue_train can try the missing ones again.

    Args:
      plan: from `make_plan`.
      config: the options.
      stylise: stylise(content, output=, folder=, initial=) writes the result to `output` and
        returns it, uint8 [H, W, 3], or returns None when it was asked to stop. `initial` is the
        result before, uint8 [H, W, 3], or None.
      rank: the jobs i with i % size == rank are done.
      size: how many share the jobs.

    Raises:
      UserError: if the jobs cannot be shared, the only picture fails, or the video cannot be made.
    """
    _check_shares(plan, size)
    if plan.is_single:
        job = plan.jobs[0]
        if config.overwrite and not config.continue_train:
            _forget(plan, [job])
        if stylise(job.read(), output=job.output, folder=job.folder, initial=None) is None:
            print("--continue_train goes on", flush=True)
        return 0
    jobs, skipped = plan.jobs[rank::size], [] if rank else plan.skipped
    for name in skipped:
        print("%s is no picture (%s)" % (name, " ".join(EXTENSIONS)), flush=True)
    failed = list(skipped)
    if config.continue_train and _is_complete(plan):
        print("%s is done already" % plan.video, flush=True)
        return 1 if failed else 0
    done = _find_done(jobs, config) if config.continue_train else _forget(plan, jobs)
    last, shown = None, []
    for job in jobs:
        if job.output not in done:
            print("%s, %d of %d" % (job.name, len(shown) + 1, len(jobs)), flush=True)
            went_well = _attempt(job, stylise, last if plan.is_sequence else None)
            if went_well is None:
                text = "stopped: %d of %d stylised; --continue_train goes on"
                if _find(job.folder, [_METRICS]):  # in its last step
                    done.add(job.output)
                print(text % (len(done), len(jobs)), flush=True)
                return 1 if failed else 0
            if went_well:
                done.add(job.output)
            else:
                failed.append(os.path.basename(job.name))
        last = job.output if job.output in done else last
        shown.append(last)
    if plan.video and last:
        _make_video(plan, [path for path in shown if path], keep=len(done) < len(jobs))
    summary = "stylised %d of %d" % (len(done), len(jobs) + len(skipped))
    if failed:
        more = " and %d more" % (len(failed) - _NAMES) if len(failed) > _NAMES else ""
        summary += "; not: " + ", ".join(failed[:_NAMES]) + more
    print(("rank %d: " % rank if size > 1 else "") + summary, flush=True)
    return 1 if failed else 0


def _check_shares(plan, size) -> None:
    """Raises UserError if the jobs cannot be shared among `size` ranks."""
    if plan.is_sequence and size > 1:
        text = "frames follow each other and cannot be divided among %d devices; use one"
        raise UserError(text % size)
    if len(plan.jobs) < size:
        text = "%d pictures cannot be divided among %d devices; give a folder with at least %d"
        raise UserError(text % (len(plan.jobs), size, size))


def _is_complete(plan) -> bool:
    """Returns whether the video is there and its frames, which go when it is complete, are not."""
    frames = os.path.dirname(plan.jobs[0].output)
    return bool(plan.video) and os.path.exists(plan.video) and not os.path.exists(frames)


def _find_done(jobs, config) -> Set[str]:
    """Returns the outputs of the jobs that an earlier call has finished.

    Raises:
      UserError: if one was made with other settings.
    """
    finished = [j for j in jobs if os.path.exists(j.output) and _find(j.folder, [_METRICS])]
    names = list(must_agree(config)) + list(_MADE_FROM)
    now = json.loads(json.dumps(dataclasses.asdict(config)))
    for job in finished:
        for path in _find(job.folder, ("config.json", "1-*/config.json")):  # of the first scale
            then = read_json(path)["options"]
            changed = ["--" + name for name in names if then.get(name) != now[name]]
            if changed:
                text = "%s was made with other settings (%s); give those, or --overwrite instead"
                raise UserError((text + " of --continue_train") % (job.output, " ".join(changed)))
    if finished:
        print("%d of %d are done already" % (len(finished), len(jobs)), flush=True)
    return {job.output for job in finished}


def _forget(plan, jobs) -> Set[str]:
    """Removes the state of earlier calls, so that none of it passes for that of this one."""
    for job in jobs:
        _remove(job.folder, _CHECKPOINTS + (_METRICS,) + _RECORDS)
        _remove(job.folder, ["*/" + name for name in _RECORDS])
    if plan.video:
        os.makedirs(jobs[0].folder, exist_ok=True)  # a video that is there is not this one
    return set()


def _attempt(job, stylise, before) -> Optional[bool]:
    """Stylises one of several; returns whether it went well, or None when it was stopped.

    `before` is the file to start from, or None. Always the file, so that a resumed sequence sees
    what an uninterrupted one does.
    """
    try:
        initial = read_image(before) if before else None
        result = stylise(job.read(), output=job.output, folder=job.folder, initial=initial)
    except UserError as error:
        text = str(error) if job.name in str(error) else "%s: %s" % (job.name, error)
        print(text, flush=True)
        return False
    if result is None:
        return None
    _remove(job.folder, _CHECKPOINTS)  # or a thousand frames would fill the disk
    return True


def _find(folder, patterns) -> List[str]:
    places = [os.path.join(glob.escape(folder), pattern) for pattern in patterns]
    return [path for place in places for path in glob.glob(place)]


def _remove(folder, patterns) -> None:
    for path in _find(folder, patterns):
        os.remove(path)


def _make_video(plan, paths, keep) -> None:
    """Makes the video of the pictures `paths`; removes the folder of the frames unless `keep`."""
    video.encode(plan.video, map(read_image, paths), plan.rate)
    print("wrote %s" % plan.video, flush=True)
    if not keep:
        shutil.rmtree(os.path.dirname(plan.jobs[0].output))
