# SPDX-License-Identifier: Apache-2.0
"""The test phase's files and measures, without a trained network."""

import os

import cases
import numpy as np
import pytest
from conftest import ATTRIBUTES

from harness.cases import Case
from harness.errors import UserError
from harness.files import read_json
from stargan import evaluation, labels, serving
from stargan.config import Config

SOURCES = serving.named_sources([{"kind": "celeba", "names": ATTRIBUTES}])


def _sources_and_config(celeba, **options):
    config = Config(data_path=celeba, selected_attrs=ATTRIBUTES, image_size=64, **options)
    return labels.find_sources(config), config


def _invert(images, wanted):
    """A stand-in for the networks: black hair darkens, anything else leaves the picture."""
    return np.where(wanted[:, :1, np.newaxis, np.newaxis] > 0, -0.9, images).astype(np.float32)


class _Judge:
    """Sees black hair where a picture is dark, and never anything else."""

    def __init__(self, names=ATTRIBUTES):
        self.names, self.accuracy = names, dict.fromkeys(names, 0.5)

    def see(self, pictures):
        dark = pictures.mean(axis=(1, 2, 3)) < 20
        return np.stack([dark, dark & False, dark & False], 1)


def test_measures_are_those_of_the_pictures_that_had_to_change(celeba, tmp_path):
    sources, config = _sources_and_config(celeba)
    jobs = evaluation.find_jobs(config, sources)
    folder = str(tmp_path / "results")
    metrics = evaluation.evaluate(config, jobs, sources, _invert, folder, _Judge())
    stored = read_json(os.path.join(folder, "metrics.json"))
    own = sources[0].test.labels
    black, blond, male = stored["targets"]
    assert black["changed"] == np.sum(own[:, 0] == 0)
    assert (black["accuracy"], black["accuracy_untranslated"]) == (1.0, 0.0)
    assert (blond["accuracy"], blond["accuracy_untranslated"]) == (0.0, 0.0)
    assert male["changed"] == len(own)
    assert stored["mean"] == metrics
    assert metrics["attribute_accuracy"] == np.mean([t["accuracy"] for t in stored["targets"]])
    assert black["reconstruction_l1"] > 0.3


def test_an_earlier_test_phase_is_cleared_and_nothing_else(tmp_path):
    mine = ("src_images/7-images.jpg", "generate3/8-images.jpg", "real1/2-images.png")
    others = ("photos/cat-images.png", "src_images/cat.jpg", "src_images/cat-images.jpg", "a.txt")
    for name in mine + others:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    evaluation.Outputs(Config(), str(tmp_path), [])
    assert all((tmp_path / name).exists() for name in mine)  # not a folder of the test phase
    (tmp_path / "metrics.json").write_text("{}")
    evaluation.Outputs(Config(), str(tmp_path), [])
    assert [name for name in mine if (tmp_path / name).exists()] == []
    assert [name for name in others if not (tmp_path / name).exists()] == []


def test_own_pictures_of_an_earlier_run_are_cleared_too(tmp_path):
    for name in ("own2/cat.png", "strips/cat.png", "generate1/3-images.jpg", "metrics.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    evaluation.Outputs(Config(input_dir="elsewhere"), str(tmp_path), [])
    assert not (tmp_path / "own2" / "cat.png").exists()
    assert not (tmp_path / "strips" / "cat.png").exists()
    assert (tmp_path / "generate1" / "3-images.jpg").exists()


def test_fid_is_refused_before_anything_is_translated(celeba, tmp_path, monkeypatch):
    options = {"inception": __file__, "test_concatenate": False}
    sources, config = _sources_and_config(celeba, **options)
    jobs, folder = evaluation.find_jobs(config, sources), str(tmp_path / "results")
    with monkeypatch.context() as alone:
        alone.setattr("harness.fid.REPOSITORY", str(tmp_path))
        with pytest.raises(UserError, match="in the whole repository only"):
            evaluation.evaluate(config, jobs, sources, _invert, folder)
    nobody = _sources_and_config(celeba, target=("Black_Hair=1 Blond_Hair=1",), **options)[1]
    _failing_tool(tmp_path, monkeypatch)
    with pytest.raises(UserError, match="at least 2 pictures of each set, not 0"):
        evaluation.evaluate(nobody, jobs, sources, _invert, folder)
    assert not os.path.exists(folder)


@pytest.mark.parametrize("options", [{}, {"test_concatenate": False, "input_dir": "photos"}])
def test_fid_needs_single_translations_of_the_test_pictures(options):
    with pytest.raises(ValueError, match="add --test_concatenate=False and leave --input_dir out"):
        Config(inception=__file__, **options)


def _failing_tool(folder, monkeypatch):
    (folder / "tools" / "fid").mkdir(parents=True)
    (folder / "tools" / "fid" / "__main__.py").write_text("raise SystemExit(1)")
    monkeypatch.setattr("harness.fid.REPOSITORY", str(folder))


def test_a_classifier_of_other_labels_is_refused(celeba, tmp_path):
    sources, config = _sources_and_config(celeba)
    judge = _Judge(("Male",))
    with pytest.raises(UserError, match="knows the labels Male, the checkpoint Black_Hair"):
        evaluation.evaluate(config, [], sources, _invert, str(tmp_path / "results"), judge)


def test_a_damaged_own_picture_is_named_before_any_work(tmp_path):
    (tmp_path / "x.png").write_text("no picture")
    with pytest.raises(labels.DataError, match=r"x\.png cannot be read as a picture"):
        evaluation.find_jobs(Config(input_dir=str(tmp_path)), SOURCES)


def test_a_case_checks_its_classifier_and_inception_before_it_trains(celeba, tmp_path, monkeypatch):
    words = {"preset": "full", "root": "", "data_path": celeba, "ranks": 1}
    words.update(output=str(tmp_path / "out"), settings={}, command=[])
    for name, text in (("nowhere.npz", "no such file"), ("out/classifier.npz", "would move to")):
        path = tmp_path / name
        if text != "no such file":
            path.parent.mkdir()
            path.write_bytes(b"x")
        config = Config(selected_attrs=ATTRIBUTES, batch_size=4, classifier=str(path))
        with pytest.raises(ValueError, match=text):
            cases.check_data(Case(config=config, **words))
    _failing_tool(tmp_path, monkeypatch)
    options = {"inception": "nowhere.pb", "test_concatenate": False, "batch_size": 4}
    config = Config(selected_attrs=ATTRIBUTES, **options)
    with pytest.raises(ValueError, match=r"--inception nowhere\.pb: there is no such file"):
        cases.check_data(Case(config=config, **words))


def test_real_pictures_for_fid_are_those_that_are_as_the_target_asks(celeba, tmp_path, monkeypatch):
    monkeypatch.setattr("harness.fid.fid", lambda real, *rest: float(len(real)))
    _failing_tool(tmp_path, monkeypatch)
    options = {"inception": __file__, "test_concatenate": False, "num_test": 18}
    sources, config = _sources_and_config(
        celeba, target=("Male=0", "Black_Hair=1 Male=0"), **options
    )
    own = sources[0].test.labels
    counts = [np.sum(own[:, 2] == 0), np.sum((own[:, 0] == 1) & (own[:, 2] == 0))]
    assert len(own) > counts[0] > counts[1] > 0
    jobs = evaluation.find_jobs(config, sources)
    evaluation.evaluate(config, jobs, sources, _invert, str(tmp_path / "results"))
    stored = read_json(str(tmp_path / "results" / "metrics.json"))
    assert [target["fid"] for target in stored["targets"]] == counts
