# SPDX-License-Identifier: Apache-2.0
"""What is stylised, where it goes, and what happens when something fails, stops or goes on."""

import dataclasses
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import FOLDER

from harness.errors import UserError
from harness.files import write_json
from harness.images import read_image, write_image
from stylize import jobs
from stylize.config import Config


def draw(path, seed=0, height=24, width=32):
    """Writes a random picture; returns its path as str."""
    rng = np.random.RandomState(seed)
    write_image(str(path), rng.randint(0, 256, (height, width, 3)).astype(np.uint8))
    return str(path)


def draw_folder(folder, *names):
    """Writes random pictures into `folder`; returns it as str."""
    folder.mkdir()
    for seed, name in enumerate(names):
        draw(folder / name, seed)
    return str(folder)


def make(content, output, **options):
    """Returns (plan, config)."""
    contents = content if isinstance(content, tuple) else (content,)
    config = Config(content=tuple(map(str, contents)), output=str(output), **options)
    return jobs.make_plan(config), config


def said(capsys):
    """Returns the lines that were printed, without those that say which picture is begun."""
    lines = capsys.readouterr().out.splitlines()
    return [line for line in lines if not re.search(r", \d+ of \d+$", line)]


def refuse(match, content, output, **options):
    with pytest.raises(UserError, match=match):
        make(content, output, **options)


class Invert:
    """A stand-in for the optimisation: the inverse, and a tenth of the result before.

    Notes how it was called; `stop` is how many it does before it is asked to stop.
    """

    def __init__(self, stop=1000, broken=()):
        self.calls, self._stop, self._broken = [], stop, broken

    def __call__(self, content, output, folder, initial):
        if len(self.calls) == self._stop:
            return None
        self.calls.append((os.path.basename(output), initial))
        os.makedirs(os.path.join(folder, "1-64"), exist_ok=True)
        for name in ("checkpoint", "model-9.index", "1-64/model-9.index", "log.jsonl"):
            with open(os.path.join(folder, name), "w") as file:
                file.write("x")
        if os.path.basename(output) in self._broken:
            raise UserError("total is nan at step 3")
        result = 255 - content
        if initial is not None:
            result = (0.9 * result + 0.1 * initial).astype(np.uint8)
        write_image(output, result)
        write_json(os.path.join(folder, "metrics.json"), {"total": 1.0})
        return result

    def names(self):
        return [name for name, _ in self.calls]


def test_tensorflow_is_not_loaded():
    code = "import sys, stylize.jobs; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=FOLDER, check=True)


def test_one_picture_to_one_file(tmp_path, capsys):
    content = draw(tmp_path / "a.png")
    plan, config = make(content, tmp_path / "new" / "out.tiff")
    (job,) = plan.jobs
    assert plan.is_single
    assert not plan.is_sequence
    assert (plan.video, plan.skipped, job.name) == ("", [], content)
    assert job.folder == str(tmp_path / "new" / "out.tiff.run")
    assert os.listdir(os.path.dirname(job.output)) == []
    stylise = Invert()
    assert jobs.run(plan, config, stylise) == 0
    np.testing.assert_array_equal(read_image(job.output), 255 - read_image(content))
    assert stylise.calls == [("out.tiff", None)]
    assert os.path.exists(os.path.join(job.folder, "checkpoint"))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("is_there", [True, False])
def test_one_picture_into_a_folder(tmp_path, is_there):
    output = tmp_path / "results"
    if is_there:
        output.mkdir()
    plan, _ = make(draw(tmp_path / "a.b.png"), str(output) + os.sep * (not is_there))
    assert plan.is_single
    assert plan.jobs[0].output == str(output / "a.b.jpg")


def test_errors_of_one_picture_go_on_to_the_caller(tmp_path):
    (tmp_path / "broken.jpg").write_text("no picture")
    plan, config = make(tmp_path / "broken.jpg", tmp_path / "out.jpg")
    with pytest.raises(UserError, match=r"broken\.jpg cannot be read"):
        jobs.run(plan, config, Invert())
    plan, config = make(draw(tmp_path / "a.jpg"), tmp_path / "out.jpg")
    with pytest.raises(UserError, match="nan at step 3"):
        jobs.run(plan, config, Invert(broken=["out.jpg"]))


def test_a_folder_goes_into_a_folder(tmp_path, capsys):
    photos = draw_folder(tmp_path / "photos", "2.png", "10.jpg")
    plan, config = make(photos, tmp_path / "out" / "deep")
    assert [os.path.basename(job.output) for job in plan.jobs] == ["2.jpg", "10.jpg"]
    assert not plan.is_single
    stylise = Invert()
    assert jobs.run(plan, config, stylise) == 0
    assert stylise.calls == [("2.jpg", None), ("10.jpg", None)]
    files = sorted(os.listdir(str(tmp_path / "out" / "deep")))
    assert files == ["10.jpg", "10.jpg.run", "2.jpg", "2.jpg.run"]
    for job in plan.jobs:  # without the checkpoints, which would fill the disk
        assert sorted(os.listdir(job.folder)) == ["1-64", "log.jsonl", "metrics.json"]
        assert os.listdir(os.path.join(job.folder, "1-64")) == []
    assert capsys.readouterr().out.splitlines() == [
        os.path.join(photos, "2.png") + ", 1 of 2",
        os.path.join(photos, "10.jpg") + ", 2 of 2",
        "stylised 2 of 2",
    ]


def test_a_folder_with_one_picture_still_needs_a_folder(tmp_path):
    photos = draw_folder(tmp_path / "photos", "a.jpg")
    plan, _ = make(photos, tmp_path / "out")
    assert not plan.is_single
    assert plan.jobs[0].output == str(tmp_path / "out" / "a.jpg")


def test_outputs_of_one_name_do_not_collide(tmp_path):
    draw_folder(tmp_path / "x", "a.jpg", "A.png", "b.jpg", "a_jpg.bmp")
    draw_folder(tmp_path / "y", "a.jpg")
    plan, _ = make((tmp_path / "x", tmp_path / "y" / "a.jpg"), tmp_path / "out")
    names = {os.path.relpath(job.name, str(tmp_path)): job.output for job in plan.jobs}
    names = {name: os.path.basename(output) for name, output in names.items()}
    assert names == {
        os.path.join("x", "a.jpg"): "a_jpg_2.jpg",
        os.path.join("x", "A.png"): "A_png.jpg",
        os.path.join("x", "b.jpg"): "b.jpg",
        os.path.join("x", "a_jpg.bmp"): "a_jpg.jpg",
        os.path.join("y", "a.jpg"): "a_jpg_3.jpg",
    }


def test_what_cannot_be_stylised_is_told_and_the_rest_goes_on(tmp_path, capsys):
    photos = draw_folder(tmp_path / "photos", "1.jpg", "2.jpg", "3.jpg")
    (tmp_path / "photos" / "notes.txt").write_text("x")
    (tmp_path / "photos" / ".hidden").write_text("x")
    (tmp_path / "photos" / "folder").mkdir()
    (tmp_path / "photos" / "broken.jpg").write_text("x")
    draw(tmp_path / "photos" / "small.png", height=3)
    plan, config = make(photos, tmp_path / "out")
    assert plan.skipped == ["notes.txt"]
    stylise = Invert(broken=["2.jpg"])
    assert jobs.run(plan, config, stylise) == 1
    assert stylise.names() == ["1.jpg", "2.jpg", "3.jpg"]
    lines = said(capsys)
    assert lines[0].startswith("notes.txt is no picture (.jpg ")
    assert lines[1] == "%s: total is nan at step 3" % os.path.join(photos, "2.jpg")
    assert "broken.jpg cannot be read as a picture" in lines[2]
    assert "small.png is 32 x 3 pixels" in lines[3]
    assert lines[4:] == ["stylised 2 of 6; not: notes.txt, 2.jpg, broken.jpg, small.png"]


def test_many_failures_are_counted(tmp_path, capsys):
    photos = draw_folder(tmp_path / "photos", *("%d.png" % number for number in range(13)))
    plan, config = make(photos, tmp_path / "out")
    assert jobs.run(plan, config, Invert(broken=os.listdir(photos) + ["0.jpg"])) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "stylised 12 of 13; not: 0.png"
    plan, config = make(photos, tmp_path / "other")
    broken = ["%d.jpg" % number for number in range(12)]
    assert jobs.run(plan, config, Invert(broken=broken)) == 1
    assert capsys.readouterr().out.splitlines()[-1].endswith("8.png, 9.png and 2 more")


def test_inputs_and_outputs_that_are_missing_or_wrong(tmp_path):
    a, b = draw(tmp_path / "a.jpg"), draw(tmp_path / "b.jpg")
    out = tmp_path / "out"
    (tmp_path / "empty").mkdir()
    (tmp_path / "clip.mp4").write_text("x")
    refuse("--content is missing", (), out)
    refuse("--output is missing", a, "")
    refuse("there is no content nowhere", "nowhere", out)
    refuse("empty holds no picture", tmp_path / "empty", out)
    refuse("a picture ends in .jpg", a, out)
    refuse("a picture ends in .jpg", a, "out.mp4")
    refuse("one file and there are several", (a, b), str(out) + ".png")
    refuse("one file and there are several", (a, b), FOLDER + "/pytest.ini")
    refuse("become a video with --video", (a, b), "out.mp4")
    refuse("is one picture", a, "out.mp4", video=True)
    refuse("clip.mp4 is a video; give one video alone", (a, tmp_path / "clip.mp4"), out)
    refuse("clip.mp4 cannot be read as a video", tmp_path / "clip.mp4", out)
    assert sorted(os.listdir(str(tmp_path))) == ["a.jpg", "b.jpg", "clip.mp4", "empty"]


def test_outputs_are_not_replaced_unless_asked_to(tmp_path):
    a, b = draw(tmp_path / "a.jpg"), draw(tmp_path / "b.jpg")
    (tmp_path / "out").mkdir()
    old = draw(tmp_path / "out" / "b.jpg")
    for content, output in ((b, old), ((a, b), tmp_path / "out")):
        refuse(r"b\.jpg exists; --overwrite replaces it", content, output)
        make(content, output, overwrite=True)
        make(content, output, continue_train=True)


def test_inputs_are_never_replaced(tmp_path):
    a, b = draw(tmp_path / "a.jpg"), draw(tmp_path / "b.jpg")
    photos = draw_folder(tmp_path / "photos", "c.png")
    os.symlink(a, str(tmp_path / "link.jpg"))
    os.symlink(photos, str(tmp_path / "linked"))
    refuse("a.jpg is an input too", a, a, overwrite=True)
    refuse("link.jpg is an input too", a, tmp_path / "link.jpg", overwrite=True)
    refuse("a.jpg is an input too", tmp_path / "link.jpg", a, overwrite=True)
    refuse("a.jpg is an input too", (a, b), tmp_path, overwrite=True)
    refuse("b.jpg is an input too", a, b, styles=(b,), overwrite=True)
    refuse("c.png is an input too", a, photos + "/c.png", initial=photos + "/c.png", overwrite=True)
    refuse("results would go into .*photos", photos, photos)
    refuse("results would go into .*linked", photos, tmp_path / "linked")


def test_places_that_cannot_be_written_are_refused(tmp_path, monkeypatch):
    a = draw(tmp_path / "a.jpg")
    (tmp_path / "file").write_text("x")
    (tmp_path / "out" / "a.jpg").mkdir(parents=True)
    refuse("cannot write into .*file", a, tmp_path / "file" / "out.jpg")
    refuse("a.jpg is a folder and not a file", a, tmp_path / "out", overwrite=True)

    def deny(**words):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", deny)
    refuse("cannot write into .*: Permission denied", a, tmp_path / "out.jpg")


def test_a_stopped_folder_goes_on(tmp_path, capsys):
    photos = draw_folder(tmp_path / "photos", "1.png", "2.png", "3.png")
    plan, config = make(photos, tmp_path / "out")
    assert jobs.run(plan, config, Invert(stop=2)) == 0
    assert said(capsys) == ["stopped: 2 of 3 stylised; --continue_train goes on"]
    draw(plan.jobs[2].output)  # the picture on the way, without metrics.json
    plan, config = make(photos, tmp_path / "out", continue_train=True)
    stylise = Invert()
    assert jobs.run(plan, config, stylise) == 0
    assert stylise.names() == ["3.jpg"]
    assert said(capsys) == ["2 of 3 are done already", "stylised 3 of 3"]
    os.remove(plan.jobs[1].output)
    stylise = Invert()
    jobs.run(plan, config, stylise)
    assert stylise.names() == ["2.jpg"]


def test_results_of_an_earlier_call_do_not_pass_for_done(tmp_path):
    photos = draw_folder(tmp_path / "photos", "1.png", "2.png", "3.png")
    jobs.run(*make(photos, tmp_path / "out"), stylise=Invert())
    jobs.run(*make(photos, tmp_path / "out", overwrite=True), stylise=Invert(stop=1))
    stylise = Invert()
    options = {"overwrite": True, "continue_train": True}
    jobs.run(*make(photos, tmp_path / "out", **options), stylise=stylise)
    assert stylise.names() == ["2.jpg", "3.jpg"]


def test_the_state_of_an_earlier_run_is_not_taken_for_this_one(tmp_path):
    content = draw(tmp_path / "a.png")
    state = tmp_path / "out.jpg.run"
    state.mkdir()
    (state / "model-2.index").write_text("x")
    with pytest.raises(UserError, match=r"out\.jpg\.run holds an earlier run; --continue_train"):
        make(content, tmp_path / "out.jpg")
    make(content, tmp_path / "out.jpg", continue_train=True)
    assert (state / "model-2.index").exists()
    plan, config = make(content, tmp_path / "out.jpg", overwrite=True)
    jobs.run(plan, config, Invert())
    assert not (state / "model-2.index").exists()


def test_what_was_done_with_other_settings_is_not_done(tmp_path):
    photos = draw_folder(tmp_path / "photos", "1.png", "2.png")
    plan, config = make(photos, tmp_path / "out")
    jobs.run(plan, config, Invert())
    then = {"options": dict(dataclasses.asdict(config), style_weight=7.0, styles=["old.jpg"])}
    (tmp_path / "out" / "2.jpg.run" / "config.json").write_text(json.dumps(then))
    plan, config = make(photos, tmp_path / "out", continue_train=True)
    with pytest.raises(
        UserError, match=r"2.jpg was made with other settings \(--style_weight --st"
    ):
        jobs.run(plan, config, Invert())


def test_a_stop_in_the_last_step_ends_the_batch_and_counts_the_picture(tmp_path, capsys):
    photos = draw_folder(tmp_path / "photos", "1.png", "2.png", "3.png")
    (tmp_path / "photos" / "notes.txt").write_text("x")
    plan, config = make(photos, tmp_path / "out")

    def stylise(content, output, folder, initial):
        Invert()(content, output=output, folder=folder, initial=initial)

    assert jobs.run(plan, config, stylise) == 1  # notes.txt
    assert capsys.readouterr().out.splitlines()[-1].startswith("stopped: 1 of 3 stylised")


def test_a_single_picture_always_runs_and_may_be_stopped(tmp_path, capsys):
    content = draw(tmp_path / "a.png")
    assert jobs.run(*make(content, tmp_path / "out.jpg"), stylise=Invert(stop=0)) == 0
    for _ in range(2):
        stylise = Invert()
        jobs.run(*make(content, tmp_path / "out.jpg", continue_train=True), stylise=stylise)
        assert stylise.names() == ["out.jpg"]
    assert said(capsys) == ["--continue_train goes on"]


def test_ranks_divide_the_pictures(tmp_path, capsys):
    photos = draw_folder(tmp_path / "photos", "1.png", "2.png", "3.png")
    (tmp_path / "photos" / "notes.txt").write_text("x")
    plan, config = make(photos, tmp_path / "out")
    parts = (Invert(), Invert())
    statuses = [jobs.run(plan, config, parts[rank], rank, size=2) for rank in range(2)]
    assert [part.names() for part in parts] == [["1.jpg", "3.jpg"], ["2.jpg"]]
    assert statuses == [1, 0]
    lines = said(capsys)[1:]
    assert lines == ["rank 0: stylised 2 of 3; not: notes.txt", "rank 1: stylised 1 of 1"]
    with pytest.raises(UserError, match="divided among 4 devices; give a folder with at least 4"):
        jobs.run(plan, config, Invert(), 0, size=4)
    plan, config = make(photos, tmp_path / "frames", video=True)
    with pytest.raises(UserError, match="cannot be divided among 2 devices; use one"):
        jobs.run(plan, config, Invert(), 1, size=2)
