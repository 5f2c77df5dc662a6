# SPDX-License-Identifier: Apache-2.0
"""SSIM; FID in the test phase and in a case, with a program in the place of tools/fid."""

import json

import cases
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import draw_set, run

from harness.cases import Case
from harness.errors import UserError
from harness.files import read_json
from pix2pix import evaluation
from pix2pix.config import Config

RECORD = "sets = [[os.path.realpath(os.path.join(folder, name)) for name in os.listdir(folder)]"
RECORD += " for folder in sys.argv[1:3]] + sys.argv[3:]\n"
RECORD += "open('calls', 'a').write(json.dumps(sets) + chr(10))\nprint('FID:  12.5')\n"


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """The place that tools/fid is called in."""
    folder = tmp_path / "repository" / "tools" / "fid"
    folder.mkdir(parents=True)
    (folder / "__main__.py").write_text("import json, os, sys\n" + RECORD)
    monkeypatch.setattr("harness.fid.REPOSITORY", str(tmp_path / "repository"))
    return tmp_path / "repository"


def _case(dataset, folder, **options):
    words = {"preset": "full", "root": "", "data_path": dataset, "ranks": 1, "settings": {}}
    return Case(config=Config(**options), output=str(folder), command=[], **words)


def test_fid_is_that_of_the_translations_to_the_targets(dataset, tool, tmp_path, capsys):
    folder = tmp_path / "out" / "test"
    folder.mkdir(parents=True)
    (folder / "test_0003.png").write_bytes(b"of an earlier test phase")
    config = Config(data_path=dataset, test_dir=str(folder), inception=__file__)
    jobs = evaluation.find_jobs(config)
    metrics = evaluation.evaluate(config, jobs, lambda batch: -batch)
    (call,) = [json.loads(line) for line in (tool / "calls").open()]
    names = ("test_0001.png", "test_0002.png")
    assert sorted(call[0]) == [str(folder / "targets" / name) for name in names]
    assert sorted(call[1]) == [str(folder / name) for name in names]
    assert call[2:] == ["--inception", __file__, "--protocol", "clean"]
    assert metrics["fid"] == 12.5
    assert read_json(str(folder / "metrics.json"))["mean"] == metrics
    assert ", FID 12.50; see " in capsys.readouterr().out
    assert ", FID 12.50</p>" in (folder / "index.html").read_text()
    case = _case(dataset, tmp_path / "out")
    assert cases.metrics(case)["fid"] == 12.5
    protocol = (
        "tools/fid, clean; outputs against targets over 2 pictures at 256 pixels, dropout off"
    )
    assert cases.accuracy(case) == {"metric": "FID", "value": 12.5, "protocol": protocol}


def test_without_an_inception_file_the_accuracy_stays_l1(dataset, tmp_path):
    config = Config(data_path=dataset, test_dir=str(tmp_path / "out" / "test"))
    metrics = evaluation.evaluate(config, evaluation.find_jobs(config), lambda batch: -batch)
    accuracy = cases.accuracy(_case(dataset, tmp_path / "out"))
    assert (accuracy["metric"], accuracy["value"]) == ("L1", metrics["l1"])
    assert accuracy["protocol"].startswith("mean |output - target| in [-1, 1] over 2 pictures at")
    assert cases.accuracy(_case(dataset, tmp_path / "nothing")) is None


def test_the_words_of_a_case_reach_the_test_phase(dataset, tmp_path):
    case = _case(dataset, tmp_path)._replace(settings={"inception": "i n.pb"})
    ((program, phase, *words),) = cases.following(case)
    assert (program, phase) == ("main.py", "--phase=test")
    assert "--inception=i n.pb" in words


@pytest.mark.parametrize(
    ("inception", "val", "sentence"),
    [
        ("nowhere.pb", 2, r"--inception nowhere\.pb: there is no such file"),
        (__file__, 1, "at least 2 pictures of each set, not 1"),
    ],
)
def test_what_fid_needs_is_told_before_any_work(
    tmp_path, tool, monkeypatch, inception, val, sentence
):
    dataset = draw_set(tmp_path / "pairs", val=val)
    monkeypatch.setattr("pix2pix.data.check_pairs", lambda pairs: pytest.fail("it reads pictures"))
    with pytest.raises(UserError, match=sentence):
        evaluation.find_jobs(Config(data_path=dataset, inception=inception))
    with pytest.raises(UserError, match=sentence):
        cases.check_data(_case(dataset, tmp_path / "out", inception=inception))


def test_a_folder_that_stands_alone_has_no_fid(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("harness.fid.REPOSITORY", str(tmp_path))
    with pytest.raises(UserError, match=r"--inception: .* in the whole repository only"):
        evaluation.find_jobs(Config(data_path=dataset, inception=__file__))


def test_own_pictures_have_no_targets_for_fid(tmp_path):
    done = run("main.py", "--phase=test", "--inception=x", "--input_dir=photos", cwd=tmp_path)
    assert done.returncode == 2
    assert "which own pictures do not have; leave --inception or --input_dir photos" in done.stdout
    assert len(done.stdout.splitlines()) == 1


def test_a_case_without_test_pairs_trains_without_the_tool(tmp_path, monkeypatch):
    monkeypatch.setattr("harness.fid.REPOSITORY", str(tmp_path))
    dataset = draw_set(tmp_path / "pairs", val=0)
    (tmp_path / "pairs" / "val").rmdir()
    case = _case(dataset, tmp_path / "out", inception="nowhere.pb")
    cases.check_data(case)
    assert cases.following(case) == []


def test_ssim_is_that_of_tensorflow():
    rng = np.random.RandomState(0)
    a = rng.randint(0, 256, [37, 52, 3]).astype(np.uint8)
    b = np.clip(a + rng.normal(0, 40, a.shape), 0, 255).astype(np.uint8)
    with tf.Graph().as_default(), tf.Session() as session:
        expected = session.run(tf.image.ssim(tf.constant(a), tf.constant(b), max_val=255))
    np.testing.assert_allclose(evaluation.ssim(a, b), expected, atol=1e-5)
    assert evaluation.ssim(a, a) == 1.0
