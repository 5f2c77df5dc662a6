# SPDX-License-Identifier: Apache-2.0
"""A ModelArts job: folders or buckets in, results out, whatever happens in between.

A platform of environment variables, folders and a moxing that copies them runs a training in numpy
(tests/modelarts), and a small Pix2Pix where there is TensorFlow.
"""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import TOOLS
from PIL import Image

from harness.buckets import LocalCopy, scan
from harness.files import read_json
from harness.uploads import Uploads
from tools.folders import find_folder

PLATFORM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "modelarts")
ENDS = "[CANN-Modelzoo] train_full_1p.sh ended with status %d"
needs_tensorflow = pytest.mark.skipif(
    not importlib.util.find_spec("tensorflow"), reason="there is no TensorFlow"
)
RANKS = ("RANK_ID", "RANK_SIZE", "DEVICE_ID", "ASCEND_DEVICE_ID", "JOB_ID", "MA_VJ_NAME")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model folder as those of the repository, whose training is numpy."""
    folder = str(tmp_path_factory.mktemp("models") / "Toy_for_NumPy")
    shutil.copytree(os.path.join(PLATFORM, "model"), folder)
    shutil.copytree(os.path.join(TOOLS, "shared", "harness"), os.path.join(folder, "harness"))
    source = os.path.join(TOOLS, "shared", "modelarts")
    for name in os.listdir(source):
        shutil.copy(os.path.join(source, name), folder)
    return folder


class Platform:
    """A container at work on jobs: its buckets, its cache, and what a job printed.

    Args:
      root: where all that is.
      model: the model folder.
    """

    def __init__(self, root, model):
        self.root, self.model = root, model
        self.buckets, self.cache = root / "buckets", root / "cache"
        (self.buckets / "data" / "set").mkdir(parents=True)
        (self.buckets / "data" / "set" / "a.txt").write_text("a")
        (self.buckets / "data" / "b.txt").write_text("b")

    def start(self, *words, entry="modelarts_entry.py", moxing=True, **variables):
        """Starts a job from a bucket to a bucket, with further options and variables."""
        environment = {k: v for k, v in os.environ.items() if k not in RANKS}
        environment.update(variables, BUCKETS=str(self.buckets))
        environment["PYTHONPATH"] = os.path.join(PLATFORM, "platform") if moxing else ""
        command = [sys.executable, os.path.join(self.model, entry), "--cache_path=%s" % self.cache]
        command += ["--upload_pause=0.01", "--data_url=obs://data", "--train_url=obs://out/run"]
        return subprocess.Popen(
            command + [str(word) for word in words],
            cwd=str(self.root),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True,
        )

    def run(self, *words, **options):
        """Runs a job; returns (status, what it printed)."""
        process = self.start(*words, **options)
        printed = process.communicate(timeout=120)[0]
        return process.returncode, printed

    def trouble(self, kind, words):
        """Makes copies `in` or `out` fail or hang; see the moxing of tests/modelarts."""
        (self.buckets / ("trouble_" + kind)).write_text(words)

    def calls(self, kind):
        """Returns what moxing was asked for since the start, of one kind."""
        lines = (self.buckets / "calls").read_text().splitlines()
        return [line.split() for line in lines if line.startswith(kind)]

    def left(self):
        """Returns the names in the cache that are no locks."""
        return [name for name in os.listdir(str(self.cache)) if not name.endswith(".lock")]


@pytest.fixture
def platform(tmp_path, model):
    return Platform(tmp_path, model)


def states(folder):
    """Returns {step: the state saved in `folder`}."""
    paths = (folder / "checkpoint").glob("model-*.index")
    return {int(path.stem.split("-")[1]): json.loads(path.read_text()) for path in paths}


def wait_for(condition, process):
    """Waits until `condition()`, which must come before the process ends."""
    end = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.02)


def test_folders_are_used_where_they_are_without_moxing(platform, tmp_path):
    folders = ["--data_url=buckets/data", "--train_url=out put/"]
    extras = ["--num_gpus", "8", "--init_method=tcp://a:1", "--total-iter", "3"]
    status, printed = platform.run(*(folders + extras), moxing=False)
    assert status == 0, printed
    assert ENDS % 0 in printed
    words = "left out, not options of this model: --num_gpus 8 --init_method=tcp://a:1\n"
    assert "[CANN-Modelzoo] " + words in printed
    assert read_json(str(tmp_path / "out put" / "result.json"))["steps"] == 3
    assert not platform.cache.exists()
    by_hand = ["--data_path=buckets/data", "--output_path=by hand"]
    status, printed = platform.run(*by_hand, entry="modelarts_entry_perf.py", moxing=False)
    assert status == 0, printed
    assert read_json(str(tmp_path / "by hand" / "result.json"))["preset"] == "performance"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "buckets (obs://...) need ModelArts' moxing, which is not here: "),
        (["--train_url=out"], "buckets (obs://...) need ModelArts' moxing, which is not here: "),
        (["--data_url=http://data"], "http://data: it must be a folder or a bucket (obs://..., s3"),
        (["--upload_minutes=-1"], "--upload_minutes -1.0 is too small"),
        (["--seed=x"], "argument --seed: 'x' is not a whole number"),
    ],
)
def test_what_cannot_work_is_told_before_any_work(platform, tmp_path, words, sentence):
    status, printed = platform.run(*words, moxing=False)
    assert status in (1, 2)
    assert sentence in printed
    assert len(printed.splitlines()) == 1
    assert os.listdir(str(tmp_path)) == ["buckets"]


def test_buckets_are_copied_in_and_out_and_nothing_stays_in_the_container(platform):
    status, printed = platform.run("--data_url=s3://data/", "--rank_size=2")
    assert status == 0, printed
    assert "rank 0 of 2 with ['b.txt', 'set']" in printed
    out = platform.buckets / "out" / "run"
    assert sorted(states(out)) == [2, 4]
    for name in ("case.json", "result.json", "train_0.log", "rank_1/train_1.log"):
        assert (out / name).exists(), name
    hidden = [name for _, _, names in os.walk(str(out)) for name in names if name[0] == "."]
    assert hidden == []
    assert platform.left() == []
    for text in ("Dataset downloaded: %s/dataset-", "Start to copy output directory %s/workspace-"):
        assert "\n[CANN-Modelzoo] " + text % platform.cache in "\n" + printed


def test_results_of_a_training_that_fails_are_uploaded_and_its_status_stays(platform):
    status, printed = platform.run("--fail_at=3")
    assert status == 1
    assert "train.py: error: step 3 fails" in printed
    assert ENDS % 1 in printed
    out = platform.buckets / "out" / "run"
    assert list(states(out)) == [2]
    assert read_json(str(out / "result.json"))["exit_status"] == 1
    assert "step 3 fails" in (out / "train_0.log").read_text()
    status, printed = platform.run("--data_url=obs://nothing")
    assert status == 1
    assert "there is no obs://nothing; give the folder that holds the data" in printed
    assert platform.left() == []


def test_copies_that_fail_at_first_are_tried_again(platform):
    platform.trouble("in", "fail fail ok")
    platform.trouble("out", "fail fail fail ok")
    status, printed = platform.run()
    assert status == 0, printed
    line = "[CANN-Modelzoo] the copy of obs://data failed (attempt 2 of 4): errno 104, the "
    assert line in printed
    assert "the upload to obs://out/run failed (attempt 3 of 4): " in printed
    assert sorted(states(platform.buckets / "out" / "run")) == [2, 4]


def test_results_that_cannot_be_uploaded_stay_and_the_job_fails(platform):
    platform.trouble("out", "fail")
    status, printed = platform.run()
    assert status == 1
    assert ENDS % 1 in printed
    marker = "the results are not in obs://out/run; they stay in "
    (line,) = [line for line in printed.splitlines() if marker in line]
    kept = platform.root / line.split(marker)[1]
    assert sorted(states(kept)) == [2, 4]
    assert len(platform.calls("out")) == 4
    shutil.rmtree(str(platform.buckets / "out"))
    platform.trouble("out", "ok")
    status, printed = platform.run("--total_iter=2")
    assert status == 0
    assert "were not uploaded stay in %s\n" % kept in printed
    assert sorted(states(kept)) == [2, 4]
    assert list(states(platform.buckets / "out" / "run")) == [2]
    platform.trouble("in", "fail")
    status, printed = platform.run()
    assert status == 1
    assert "modelarts_entry.py: error: the copy of obs://data failed (attempt 4 of 4)" in printed


def test_a_terminated_job_is_uploaded_and_the_next_ends_as_one_in_one_go(platform):
    words = ["--total_iter=60", "--save_steps=1", "--upload_minutes=0.001"]
    platform.run("--train_url=obs://whole", *words)
    process = platform.start("--step_seconds=0.1", *words)
    out = platform.buckets / "out" / "run"
    wait_for(lambda: platform.calls("remove obs://out/run"), process)
    process.send_signal(signal.SIGTERM)
    printed = process.communicate()[0]
    assert process.returncode == 0, printed
    assert "uploaded " in printed
    assert "stopped at step" in printed
    found = states(out)
    assert max(found) < 60
    assert len(found) == 2  # what the training removed has left the bucket
    status, printed = platform.run(*words)
    assert status == 0, printed
    assert "has a checkpoint: going on from it (--continue_train=False begins anew)\n" in printed
    assert "continuing after step %d" % max(found) in printed
    assert states(out) == states(platform.buckets / "whole")
    again = platform.run(*words)[1]
    assert "is complete: 60 steps" in again
    assert states(out) == states(platform.buckets / "whole")
    platform.trouble("in", "30")
    process = platform.start(*words)  # SIGTERM while the data come in
    wait_for(lambda: len(platform.calls("in obs://data")) == 5, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 128 + signal.SIGTERM
    assert platform.left() == []


def test_uploads_on_the_way_that_fail_or_take_long_do_not_end_the_training(platform):
    platform.trouble("out", "fail 0.3 fail ok")
    words = ["--upload_minutes=0.003", "--total_iter=30", "--step_seconds=0.1", "--save_steps=1"]
    status, printed = platform.run(*words)
    assert status == 0, printed
    text = "the upload to obs://out/run failed: errno 104, the connection was reset; the next one "
    assert text + "is in 0.003 minutes" in printed
    assert "stopped" not in printed
    assert len(platform.calls("out")) > 4
    assert sorted(states(platform.buckets / "out" / "run")) == [29, 30]


@pytest.mark.parametrize("bucket", [True, False])
def test_only_a_full_case_goes_on_and_only_from_a_full_case(platform, bucket):
    out = platform.buckets / "out" / "run"
    words = [] if bucket else ["--train_url=%s" % out]
    perf = {"entry": "modelarts_entry_perf.py"}
    assert "has a checkpoint" not in platform.run("--total_iter=2", *words, **perf)[1]
    for options, steps, previous in (({}, 4, [2]), (perf, 3, [2, 4]), ({}, 4, [2, 3])):
        status, printed = platform.run("--total_iter=%d" % steps, *words, **options)
        assert status == 0, printed
        reason = "this is" if options else "that was"
        assert "beginning anew, as %s a performance case\n" % reason in printed
        assert sorted(states(out)) == [2, steps]
        assert sorted(states(out / "previous")) == previous
    status, printed = platform.run("--total_iter=6", "--continue_train=False", *words)
    assert status == 0, printed
    assert "has a checkpoint" not in printed
    assert sorted(states(out)) == [4, 6]
    assert sorted(states(out / "previous")) == [2, 4]


def _ranks(platform, *words, **variables):
    """Starts the two processes of a job, a moment apart."""
    for rank in (0, 1):
        own = dict(RANK_ID=str(rank), RANK_SIZE="2", DEVICE_ID=str(4 + rank), **variables)
        yield platform.start(*words, **own)


def test_the_ranks_of_a_platform_share_what_one_of_them_has_copied(platform):
    platform.trouble("in", "0.5")
    outputs = [process.communicate()[0] for process in list(_ranks(platform, JOB_ID="7"))]
    assert "rank 0 of 2 with ['b.txt', 'set']" in outputs[0]
    assert "another process of the job copies obs://data\n" in "".join(outputs)
    out = platform.buckets / "out" / "run"
    assert len(platform.calls("in")) == 1
    assert sorted(states(out)) == [2, 4]
    assert "rank 1 of 2" in (out / "rank_1" / "train_5.log").read_text()
    assert "rank 0 of 2" in (out / "train_4.log").read_text()
    assert platform.left() == []
    (platform.buckets / "data" / "new.txt").write_text("new")  # the next job sees what is new
    printed = platform.run(JOB_ID="7")[1]
    assert "with ['b.txt', 'new.txt', 'set']" in printed


def test_when_the_process_that_copies_is_killed_the_next_one_copies(platform):
    platform.trouble("in", "30 ok")
    first = platform.start(RANK_ID="1", RANK_SIZE="2", DEVICE_ID="1")
    wait_for((platform.buckets / "calls").exists, first)
    second = platform.start(RANK_ID="0", RANK_SIZE="2", DEVICE_ID="0")
    for line in second.stdout:
        if "another process" in line:
            break
    first.kill()
    printed = second.communicate(timeout=60)[0]
    assert second.returncode == 0, printed
    first.communicate()
    assert len({call[3] for call in platform.calls("in obs://data")}) == 2
    assert "rank 0 of 2 with ['b.txt', 'set']" in printed
    assert platform.left() == []


def test_a_job_does_not_take_the_data_of_another_one_that_is_at_work(platform):
    first = platform.start("--step_seconds=0.1", "--total_iter=600", JOB_ID="1")
    for line in first.stdout:
        if line.startswith("rank 0 of 1"):
            break
    (platform.buckets / "data" / "new.txt").write_text("new")
    printed = platform.run("--train_url=obs://other", JOB_ID="2")[1]
    assert "with ['b.txt', 'new.txt', 'set']" in printed
    assert len(platform.left()) == 2  # the first job's data and results
    first.send_signal(signal.SIGTERM)
    first.communicate()
    assert platform.left() == []


def test_a_bucket_becomes_equal_to_the_visible_files_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.setenv("BUCKETS", str(tmp_path / "buckets"))
    monkeypatch.syspath_prepend(os.path.join(PLATFORM, "platform"))
    monkeypatch.delitem(sys.modules, "moxing", raising=False)
    out = tmp_path / "buckets" / "out"
    (out / "old").mkdir(parents=True)
    (out / "old" / "model-1.index").write_text("1")
    found = []
    with LocalCopy("obs://out", str(tmp_path / "cache"), "Workspace", 0, may_miss=True) as copy:
        rank0, rank1 = (Uploads(copy, "obs://out/", 0, 0, rank, 2) for rank in (0, 1))
        rank0.start()
        for name in ("a/b.txt", ".1-half.json", "a/.saving/model", "rank_1/log", "rank_12/log"):
            os.makedirs(os.path.dirname(os.path.join(copy.folder, name)), exist_ok=True)
            with open(os.path.join(copy.folder, name), "w") as stream:
                stream.write(name)
        os.remove(os.path.join(copy.folder, "old", "model-1.index"))
        for uploads in (rank0, rank1, rank1):
            found.append((uploads.upload(), sorted(scan(str(out)))))
        assert found == [(1, ["a/b.txt"])] + [(n, ["a/b.txt", "rank_1/log"]) for n in (1, 0)]
        with open(os.path.join(copy.folder, "a", "b.txt"), "a") as stream:
            stream.write(" and more")
        assert rank0.finish()
    assert (out / "a" / "b.txt").read_text() == "a/b.txt and more"
    assert [name[-5:] for name in os.listdir(str(tmp_path / "cache"))] == [".lock"]


def _draw_pairs(folder):
    """Writes five pairs of 64 pixels, left a picture and right its coarse map."""
    folder.mkdir(parents=True)
    for number in range(5):
        coarse = np.random.RandomState(number).randint(0, 255, (4, 4, 3)).astype(np.uint8)
        label = np.asarray(Image.fromarray(coarse).resize((64, 64), Image.NEAREST))
        Image.fromarray(np.hstack([255 - label, label])).save(str(folder / ("%d.png" % number)))


def _weights(folder):
    """Returns {name: bytes} of the newest checkpoint in `folder`."""
    import tensorflow.compat.v1 as tf

    reader = tf.train.NewCheckpointReader(tf.train.latest_checkpoint(str(folder)))
    return {n: reader.get_tensor(n).tobytes() for n in reader.get_variable_to_shape_map()}


@needs_tensorflow
def test_a_terminated_pix2pix_job_goes_on_to_the_weights_of_one_in_one_go(tmp_path):
    platform = Platform(tmp_path, find_folder("Pix2Pix"))
    _draw_pairs(platform.buckets / "pairs" / "train")
    words = "--data_url=obs://pairs --ngf=4 --ndf=4 --device=cpu --precision_mode=force_fp32"
    words += " --train_steps=15 --print_freq=1 --save_latest_freq=1 --sample_freq=0"
    words = words.split() + ["--upload_minutes=0.01"]
    status, printed = platform.run("--train_url=obs://whole", *words)
    assert status == 0, printed
    process, printed = platform.start(*words), []
    for line in process.stdout:
        printed.append(line)
        if line.startswith("Epoch: [ 0] [   1/"):
            process.send_signal(signal.SIGTERM)
    assert process.wait() == 0, printed
    folder = platform.buckets / "out" / "run" / "ckpt" / "facades_1_256"
    assert _weights(folder)
    assert not (folder / "pix2pix.model-15.index").exists()
    shutil.rmtree(str(platform.cache))  # another container
    status, printed = platform.run(*words)
    assert status == 0, printed
    assert "continuing after step" in printed
    found, whole = _weights(folder), _weights(platform.buckets / "whole/ckpt/facades_1_256")
    assert [name for name in whole if whole[name] != found[name]] == []
    steps = [int(path.stem.split("-")[1]) for path in folder.glob("pix2pix.model-*.index")]
    assert sorted(steps) == [13, 14, 15]  # as many as the training keeps
