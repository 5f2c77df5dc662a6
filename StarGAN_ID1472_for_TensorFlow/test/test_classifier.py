# SPDX-License-Identifier: Apache-2.0
"""The attribute classifier: what it learns, its file, its command line."""

import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ATTRIBUTES, FOLDER, draw_celeba, draw_classes, draw_face

from harness.errors import UserError
from stargan import classifier
from stargan.config import Config

OPTIONS = ["--device=cpu", "--precision_mode=force_fp32", "--image_size=64"]
OPTIONS += ["--selected_attrs"] + list(ATTRIBUTES)
CONFIG = Config(device="cpu", precision_mode="force_fp32", selected_attrs=ATTRIBUTES)
RNG = np.random.RandomState(5)
PICTURES = RNG.randint(0, 256, (10, 64, 64, 3)).astype(np.uint8)
TRUTH = RNG.randint(0, 2, (10, 3)).astype(np.float32)


def start(cwd, *words):
    command = [sys.executable, "-m", "stargan.classifier"] + [str(word) for word in words]
    return subprocess.run(
        command,
        cwd=str(cwd),
        env=dict(os.environ, PYTHONPATH=FOLDER),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(the file of a classifier of drawn faces, what the program printed)."""
    folder = tmp_path_factory.mktemp("trained")
    path = folder / "out" / "faces.npz"
    words = ["--data_path=" + draw_celeba(folder / "data", 60), "--output", path]
    words += ["--classifier_steps=60", "--classifier_batch=16", "--num_test=12"]
    done = start(folder, *(words + OPTIONS))
    assert done.returncode == 0, done.stdout
    assert os.listdir(str(folder / "out")) == ["faces.npz"]
    return str(path), done.stdout


@pytest.fixture(scope="module")
def strangers():
    """Twenty faces that the classifier has not seen: (uint8 [20, 64, 64, 3], bool [20, 3])."""
    rng = np.random.RandomState(77)
    truth = [(i % 3 == 0, i % 3 == 1, i % 2 == 0) for i in range(20)]
    faces = [draw_face(rng, labels)[10:99] for labels in truth]
    return np.stack([classifier.resize(face) for face in faces]), np.array(truth)


def test_it_learns_hair_and_male_and_says_so(trained, strangers):
    path, printed = trained
    with classifier.Classifier(path) as judge:
        assert (judge.names, judge.kind) == (ATTRIBUTES, "celeba")
        probabilities = judge.predict(strangers[0])
        assert min(judge.accuracy.values()) > 0.8
        assert min(judge.balanced_accuracy.values()) > 0.7
        for name in ATTRIBUTES:
            figures = "%9.4f %9.4f" % (judge.accuracy[name], judge.balanced_accuracy[name])
            assert "%-20s %s" % (name, figures) in printed
    assert probabilities.shape == (20, 3)
    assert probabilities.dtype == np.float32
    accuracy, _ = classifier.score(probabilities > 0.5, strangers[1], "celeba")
    assert accuracy.min() > 0.85
    assert "step 60 of 60, loss: " in printed
    assert "12 held-out pictures" in printed


def test_a_prediction_does_not_depend_on_the_other_pictures(trained, strangers):
    pictures = np.concatenate([strangers[0]] * 4)[:70]  # more than one batch
    with classifier.Classifier(trained[0], device_threads=1) as judge:
        together = judge.predict(pictures)
        np.testing.assert_allclose(judge.predict(pictures[3:4])[0], together[3], atol=1e-5)
        np.testing.assert_allclose(judge.predict(pictures[::-1])[::-1], together, atol=1e-5)
        assert judge.predict(pictures[:0]).shape == (0, 3)


def test_pictures_of_any_size_are_judged(trained, strangers):
    with classifier.Classifier(trained[0]) as judge:
        large = judge.predict(strangers[0].repeat(2, 1).repeat(2, 2))
        shown = classifier.decide(large, judge.kind)
        assert np.mean(shown == classifier.decide(judge.predict(strangers[0]), judge.kind)) > 0.95


def test_the_seed_decides_the_weights():
    options = classifier.ClassifierOptions(classifier_steps=3, classifier_batch=4)

    def weights(seed):
        config = Config(device="cpu", precision_mode="force_fp32", threads=1, seed=seed)
        return classifier.train(PICTURES, TRUTH, "celeba", options, config)

    first, again, other = weights(1), weights(1), weights(2)
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    assert np.any(first["classifier/kernel_1"] != other["classifier/kernel_1"])
    names = ["classifier/kernel_%d" % layer for layer in (3, 5)]
    starts = [first[name].ravel()[:5] / first[name].std() for name in names]
    assert np.any(np.abs(starts[0] - starts[1]) > 0.1)  # each has its own random numbers


def test_a_batch_is_a_function_of_seed_and_step():
    batch, truth = classifier.training_batch(PICTURES, TRUTH, 4, CONFIG, 7)
    again, same = classifier.training_batch(PICTURES, TRUTH, 4, CONFIG, 7)
    np.testing.assert_array_equal(batch, again)
    np.testing.assert_array_equal(truth, same)
    assert batch.shape == (4, 64, 64, 3)
    assert batch.dtype == np.float32
    assert np.any(batch != classifier.training_batch(PICTURES, TRUTH, 4, CONFIG, 8)[0])
    assert classifier.training_batch(PICTURES, TRUTH, 30, CONFIG, 1)[1].shape == (30, 3)


def test_labels_stay_with_their_pictures():
    pictures = np.stack([np.full((64, 64, 3), 60 * i, np.uint8) for i in range(5)])
    truth = np.eye(5, dtype=np.float32)
    batch, labels = classifier.training_batch(pictures, truth, 5, CONFIG, 1)
    difference = batch.mean((1, 2, 3)) - (labels.argmax(1) * 60 / 127.5 - 1.0)
    assert np.abs(difference).max() <= 0.151  # the brightness added; contrast keeps the mean


@pytest.mark.parametrize("flip", [True, False])
def test_only_flip_mirrors(flip):
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[:, np.newaxis] * 2, (2, 64, 64, 3))
    config = Config(flip=flip)
    batches = [classifier.training_batch(ramp, TRUTH[:2], 2, config, s)[0] for s in range(1, 9)]
    slopes = [picture[32, 40, 0] > picture[32, 20, 0] for batch in batches for picture in batch]
    assert (False in slopes) == flip
    assert True in slopes


def test_classes_exclude_each_other():
    options = classifier.ClassifierOptions(classifier_steps=30, classifier_batch=8)
    faces = [draw_face(RNG, (i % 2 == 0, i % 2 == 1, False)) for i in range(12)]
    pictures = np.stack([classifier.resize(face[10:99]) for face in faces])
    truth = np.eye(2, dtype=np.float32)[np.arange(12) % 2]
    arrays = classifier.train(pictures, truth, "classes", options, CONFIG)
    assert arrays["classifier/bias"].shape == (2,)
    shown = classifier.decide(np.array([[0.4, 0.3, 0.3], [0.1, 0.2, 0.7]]), "classes")
    np.testing.assert_array_equal(shown, [[1, 0, 0], [0, 0, 1]])


def test_scores_by_hand():
    shown = np.array([[1, 1], [0, 1], [0, 1], [0, 1]], bool)
    truth = np.array([[1, 1], [1, 1], [0, 1], [0, 1]], np.float32)
    accuracy, balanced = classifier.score(shown, truth, "celeba")
    np.testing.assert_allclose(accuracy, [0.75, 1.0])
    np.testing.assert_allclose(balanced, [0.75, 1.0])  # without the other value: of the one
    shown, truth = np.zeros((4, 1), bool), np.array([[1], [0], [0], [0]], np.float32)
    np.testing.assert_allclose(classifier.score(shown, truth, "celeba"), [[0.75], [0.5]])


def test_of_classes_the_share_of_each_class_counts():
    truth = np.eye(4, dtype=np.float32).repeat(2, 0)
    shown = np.eye(4, dtype=bool)[[0, 1, 1, 1, 2, 2, 0, 0]]
    accuracy, _ = classifier.score(shown, truth, "classes")
    np.testing.assert_allclose(accuracy, [0.5, 1.0, 1.0, 0.0])


def _write_bad(path, kind, good):
    arrays = dict(np.load(good))
    if kind == "text":
        with open(path, "w") as file:
            file.write("not a file of arrays")
        return
    if kind == "cut":
        with open(good, "rb") as file, open(path, "wb") as short:
            short.write(file.read()[:-4000])
        return
    if kind == "empty":
        open(path, "w").close()
        return
    if kind == "npy":
        with open(path, "wb") as file:
            np.save(file, np.zeros(3))
        return
    if kind == "other":
        arrays = {"weights": np.zeros(3)}
    elif kind == "fewer":
        del arrays["classifier/kernel_1"]
    elif kind == "shape":
        arrays["classifier/kernel_1"] = np.zeros((3, 3, 3, 8), np.float32)
    elif kind == "names":
        arrays["names"] = np.array(["Male"])
    elif kind == "pickle":
        arrays["names"] = np.array([["Male"], "Young", None], object)
    np.savez(path, **arrays)


BAD = {"text": "is no classifier", "cut": "is no classifier", "empty": "is no classifier"}
BAD.update(npy="is no classifier", other="holds other arrays", fewer="holds other arrays")
BAD.update(shape="holds other arrays", names="holds other arrays", pickle="is no classifier")


@pytest.mark.parametrize("kind", sorted(BAD))
def test_a_bad_file_is_named_in_one_sentence(kind, trained, tmp_path):
    path = str(tmp_path / "bad.npz")
    _write_bad(path, kind, trained[0])
    with pytest.raises(UserError) as caught:
        classifier.Classifier(path)
    text = str(caught.value)
    assert text.startswith(path)
    assert BAD[kind] in text
    assert text.endswith("make one with python3 -m stargan.classifier")


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "none.npz", tmp_path):
        with pytest.raises(UserError, match="cannot read %s: .*; make one with" % path):
            classifier.Classifier(str(path))


def main(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["classifier.py"] + [str(word) for word in words] + OPTIONS)
    return classifier.main()


def test_what_cannot_be_trained_is_said_at_once(monkeypatch, tmp_path, celeba):
    with pytest.raises(UserError, match="train one with --dataset celeba, one with classes"):
        main(monkeypatch, "--dataset=both", "--data_path=" + celeba)
    with pytest.raises(UserError, match="--num_test 0 keeps no picture"):
        main(monkeypatch, "--num_test=0", "--data_path=" + celeba)
    with pytest.raises(UserError, match=r"name an \.npz file that can be written"):
        main(monkeypatch, "--output", tmp_path, "--data_path=" + celeba)
    with pytest.raises(UserError, match="no CelebA"):
        main(monkeypatch, "--data_path", tmp_path / "nowhere")


def test_a_failed_training_leaves_the_old_file(monkeypatch, tmp_path, celeba):
    path = tmp_path / "old.npz"
    path.write_text("old")
    monkeypatch.setattr(classifier, "HIGHEST_RATE", float("nan"))
    words = ["--output", path, "--data_path=" + celeba, "--classifier_batch=2"]
    with pytest.raises(UserError, match="the loss is nan at step 2"):
        main(monkeypatch, "--classifier_steps=3", *words)
    assert path.read_text() == "old"


def test_many_pictures_are_thinned_evenly(tmp_path):
    config = Config(dataset="classes", data_path=draw_classes(tmp_path, count=8), image_size=64)
    part = classifier.labels.find_sources(config)[0].train  # 7 of each class, in order
    pictures, truth = classifier.read_pictures(part, 4, "classes", config)
    assert pictures.shape == (4, 64, 64, 3)
    np.testing.assert_array_equal(truth.argmax(1), [0, 0, 1, 1])
    assert len(classifier.read_pictures(part, 99, "classes", config)[1]) == 14
