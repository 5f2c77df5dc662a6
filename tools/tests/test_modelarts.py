# SPDX-License-Identifier: Apache-2.0
"""A ModelArts job: folders or buckets in, results out, whatever happens in between.

The platform of tests/modelarts runs a training in numpy, and a small Pix2Pix where there is
TensorFlow.
"""

import importlib.util
import os
import shutil
import signal

import numpy as np
import pytest
from conftest import TOOLS
from modelarts.job import PLATFORM, Platform, end, read_until, states, wait_for
from PIL import Image

from harness.files import read_json
from tools.folders import find_folder

ENDS = "[CANN-Modelzoo] train_full_1p.sh ended with status %d"
needs_tensorflow = pytest.mark.skipif(
    not importlib.util.find_spec("tensorflow"), reason="there is no TensorFlow"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model folder as those of the repository, whose training is numpy."""
    folder = str(tmp_path_factory.mktemp("models") / "Toy_for_NumPy")
    shutil.copytree(os.path.join(os.path.dirname(PLATFORM), "model"), folder)
    shutil.copytree(os.path.join(TOOLS, "shared", "harness"), os.path.join(folder, "harness"))
    source = os.path.join(TOOLS, "shared", "modelarts")
    for name in os.listdir(source):
        shutil.copy(os.path.join(source, name), folder)
    return folder


@pytest.fixture
def platform(tmp_path, model):
    platform = Platform(tmp_path, model)
    yield platform
    platform.close()


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
    process = platform.start(platform.allow(5), *words)
    out = platform.buckets / "out" / "run"
    wait_for((out / "checkpoint" / "model-5.index").exists, process)
    platform.allow(10)
    wait_for(lambda: platform.calls("remove obs://out/run"), process)
    process.send_signal(signal.SIGTERM)
    printed = end(process)
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
    platform.trouble("in", "hang")
    process = platform.start(*words)  # SIGTERM while the data come in
    wait_for(lambda: len(platform.calls("in obs://data")) == 5, process)
    process.send_signal(signal.SIGTERM)
    end(process)
    assert process.returncode == 128 + signal.SIGTERM
    assert platform.left() == []


def test_uploads_on_the_way_that_fail_or_take_long_do_not_end_the_training(platform):
    platform.trouble("out", "fail hang fail ok")
    words = ["--upload_minutes=0.001", "--total_iter=30", "--save_steps=1"]
    process = platform.start(platform.allow(10), *words)
    wait_for(lambda: len(platform.calls("out")) == 2, process)
    platform.allow(20)
    results = "workspace-*/files/checkpoint/model-20.index"  # written while the second one hangs
    wait_for(lambda: list(platform.cache.glob(results)), process)
    platform.go()
    wait_for((platform.buckets / "out/run/checkpoint/model-20.index").exists, process)
    platform.allow(30)
    printed = end(process)
    assert process.returncode == 0, printed
    text = "the upload to obs://out/run failed: errno 104, the connection was reset; the next one "
    assert text + "is in 0.001 minutes" in printed
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


def _start_rank(platform, rank, *words, **variables):
    """Starts one of the two processes of a job."""
    own = dict(RANK_ID=str(rank), RANK_SIZE="2", DEVICE_ID=str(4 + rank), **variables)
    return platform.start(*words, **own)


def test_the_ranks_of_a_platform_share_what_one_of_them_has_copied(platform):
    platform.trouble("in", "hang")
    first = _start_rank(platform, 0, platform.allow(0), JOB_ID="7")
    wait_for(lambda: platform.calls("in"), first)
    second = _start_rank(platform, 1, platform.allow(0), JOB_ID="7")
    read_until(second, "another process of the job copies obs://data\n")
    platform.go()
    read_until(second, "rank 1 of 2")  # it has the data and the results too
    platform.allow(4)
    printed = end(first)
    assert "rank 0 of 2 with ['b.txt', 'set']" in printed
    assert (first.returncode, second.wait()) == (0, 0), printed + end(second)
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
    platform.trouble("in", "hang ok")
    first = _start_rank(platform, 1)
    wait_for(lambda: platform.calls("in"), first)
    second = _start_rank(platform, 0)
    read_until(second, "another process")
    first.kill()
    printed = end(second)
    assert second.returncode == 0, printed
    end(first)
    assert len({call[3] for call in platform.calls("in obs://data")}) == 2
    assert "rank 0 of 2 with ['b.txt', 'set']" in printed
    assert platform.left() == []


def test_a_job_does_not_take_the_data_of_another_one_that_is_at_work(platform):
    first = platform.start(platform.allow(1), JOB_ID="1")
    read_until(first, "rank 0 of 1")
    (platform.buckets / "data" / "new.txt").write_text("new")
    printed = platform.run("--train_url=obs://other", JOB_ID="2")[1]
    assert "with ['b.txt', 'new.txt', 'set']" in printed
    assert len(platform.left()) == 2  # the first job's data and results
    first.send_signal(signal.SIGTERM)
    end(first)
    assert platform.left() == []


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


def _steps(folder):
    """Returns the steps that have a checkpoint."""
    return sorted(int(path.stem.split("-")[1]) for path in folder.glob("pix2pix.model-*.index"))


@needs_tensorflow
def test_a_terminated_pix2pix_job_goes_on_to_the_weights_of_one_in_one_go(tmp_path):
    platform = Platform(tmp_path, find_folder("Pix2Pix"))
    _draw_pairs(platform.buckets / "pairs" / "train")
    words = "--data_url=obs://pairs --ngf=4 --ndf=4 --device=cpu --precision_mode=force_fp32"
    words += " --print_freq=1 --save_latest_freq=1 --sample_freq=0 --upload_minutes=0.01"
    process = platform.start("--train_steps=1000000", *words.split())
    printed = read_until(process, "Epoch: [ 0] [   1/")
    process.send_signal(signal.SIGTERM)
    printed += end(process)
    assert process.returncode == 0, printed
    folder = platform.buckets / "out" / "run" / "ckpt" / "facades_1_256"
    last = max(_steps(folder))
    shutil.rmtree(str(platform.cache))  # another container
    words += " --train_steps=%d" % (last + 2)
    status, printed = platform.run(*words.split())
    assert status == 0, printed
    assert "continuing after step %d\n" % last in printed
    assert _steps(folder) == [last, last + 1, last + 2]  # as many as the training keeps
    status, printed = platform.run("--train_url=obs://whole", *words.split())
    assert status == 0, printed
    found, whole = _weights(folder), _weights(platform.buckets / "whole/ckpt/facades_1_256")
    assert [name for name in whole if whole[name] != found[name]] == []
