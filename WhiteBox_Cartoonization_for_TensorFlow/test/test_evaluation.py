# SPDX-License-Identifier: Apache-2.0
"""Distances between sets of pictures, and what the evaluation writes."""

import json
import os
import types

import numpy as np
import pytest
from conftest import draw_cartoon, write_vgg
from PIL import Image, ImageFilter
from scipy import linalg

from harness.cases import Case
from harness.errors import UserError
from harness.images import list_images
from harness.options import parse
from whitebox import evaluation
from whitebox.config import EvaluateConfig
from whitebox.weights import WeightsError


def _by_definition(first, second):
    """Returns the Fréchet distance of two Gaussians, by the square root of a matrix."""
    means = [features.mean(0) for features in (first, second)]
    covariances = [np.cov(features, rowvar=False) for features in (first, second)]
    root = np.real(linalg.sqrtm(covariances[0] @ covariances[1]))
    spread = np.trace(covariances[0] + covariances[1] - 2 * root)
    return np.square(means[0] - means[1]).sum() + spread


def _features(count, width, seed):
    rng = np.random.RandomState(seed)
    mixture = rng.normal(size=(width, width))
    return rng.normal(size=(count, width)) @ mixture + rng.normal(size=width)


@pytest.mark.parametrize(
    ("count", "other", "width"), [(60, 45, 6), (200, 200, 12), (5, 9, 20), (7, 7, 30), (40, 4, 16)]
)
def test_the_distance_is_that_of_its_definition(count, other, width):
    first, second = _features(count, width, 1), _features(other, width, 2)
    expected = _by_definition(first, second)
    found = evaluation.frechet_distance(first, second)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert expected > 1
    np.testing.assert_allclose(evaluation.frechet_distance(second, first), found, rtol=1e-9)


@pytest.mark.parametrize("count", [50, 5])
def test_equal_sets_have_no_distance_and_moved_ones_that_of_their_means(count):
    features = _features(count, 12, 3)
    scale = np.square(features).sum()
    assert abs(evaluation.frechet_distance(features, features[::-1])) < 1e-9 * scale
    moved = features + np.arange(12)
    found = evaluation.frechet_distance(features, moved)
    np.testing.assert_allclose(found, np.square(np.arange(12)).sum(), rtol=1e-9)


def test_a_set_of_one_picture_has_a_mean_only():
    one, other = _features(1, 8, 4), _features(1, 8, 5)
    found = evaluation.frechet_distance(one, other)
    np.testing.assert_allclose(found, np.square(one - other).sum())


def _results(folder, pixels):
    folder.mkdir()
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(str(folder / ("%d.png" % number)))
    return folder


@pytest.fixture
def options(drawn, tmp_path):
    """A function from (results, further words) to an EvaluateConfig."""
    write_vgg(os.path.join(drawn, "dataset", "vgg19_no_fc.npz"))
    common = ["--data_path", drawn, "--output_path", str(tmp_path / "out"), "--device=cpu"]
    common += ["--precision_mode=force_fp32", "--batch_size=4"]

    def make(results, *words):
        return parse(EvaluateConfig, common + ["--results=%s" % results] + list(words))[0]

    return make


def test_flatter_pictures_vary_less_and_what_is_printed_is_written(options, tmp_path, capsys):
    config = options("x")
    photos = list_images(os.path.join(config.data_path, "dataset", "scenery_photo"))
    with_noise = [Image.open(path).convert("RGB") for path in photos]
    soft = [np.asarray(image.filter(ImageFilter.GaussianBlur(3))) for image in with_noise]
    folder = _results(tmp_path / "soft", soft[:5])  # not a whole number of batches
    flat = evaluation.evaluate(options(folder))
    printed = capsys.readouterr().out
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert written == flat
    around = json.loads((tmp_path / "out" / "tested.json").read_text())["surroundings"]
    assert (around["device"], around["precision"], around["ranks"]) == ("cpu", "float32", 1)
    assert around["data"].startswith("12 pictures, ")
    counts = {"pictures": 5, "photos": 6, "cartoons": 6}
    assert {name: flat.pop(name) for name in counts} == counts
    assert flat.pop("total_variation_ratio") < 0.6
    assert len(flat) == 3
    for value in flat.values():
        assert 0 < value < 1e6
        assert ": %.4f\n" % value in printed
    assert printed.startswith("5 pictures of ")
    assert (
        "VGG-19 Frechet distance to the cartoons: %.4f\n" % flat["vgg19_frechet_cartoon"] in printed
    )
    same = evaluation.evaluate(options(os.path.dirname(photos[0])))
    assert same["total_variation_ratio"] == 1
    assert abs(same["vgg19_frechet_photo"]) < 1e-6 * flat["vgg19_frechet_photo"]
    other = same["vgg19_frechet_cartoon"]
    np.testing.assert_allclose(other, same["vgg19_frechet_photo_to_cartoon"], rtol=1e-9)
    np.testing.assert_allclose(other, flat["vgg19_frechet_photo_to_cartoon"], rtol=1e-9)


def test_faces_are_compared_with_faces(options, tmp_path):
    config = options("x")
    faces = os.path.join(config.data_path, "dataset", "face_cartoon")
    found = evaluation.evaluate(options(faces, "--subjects", "face"))
    assert abs(found["vgg19_frechet_cartoon"]) < 1e-6 * found["vgg19_frechet_photo"]


@pytest.mark.parametrize(
    ("results", "words", "error", "sentence"),
    [
        ("nothing", [], UserError, "there is no folder .*nothing; give a folder of pictures"),
        ("empty", [], UserError, "the folder .*empty holds no picture"),
        ("some", ["--vgg=no.npz"], WeightsError, r"no\.npz cannot be opened: No such file"),
        ("some", ["--data_path=none"], UserError, "none of the folders face_photo, .* is in none"),
        ("some", ["--inception=no.npz"], UserError, r"--inception no\.npz: there is no such file"),
        ("some", ["--inception=" + __file__], UserError, "at least 2 pictures of each set, not 1"),
    ],
)
def test_what_is_missing_is_told_before_anything_is_computed(
    options, tmp_path, monkeypatch, results, words, error, sentence
):
    _stand_in(tmp_path, "", monkeypatch)
    (tmp_path / "empty").mkdir()
    _results(tmp_path / "some", [draw_cartoon(np.random.RandomState(0))])
    monkeypatch.setattr(evaluation, "_variation", lambda paths: pytest.fail("it computes"))
    with pytest.raises(error, match=sentence):
        evaluation.evaluate(options(tmp_path / results, *words))
    assert not (tmp_path / "out").exists()


def _stand_in(folder, body, monkeypatch):
    """Puts a program in the place of tools/fid."""
    (folder / "tools" / "fid").mkdir(parents=True)
    (folder / "tools" / "fid" / "__main__.py").write_text("import json, os, sys\n" + body)
    monkeypatch.setattr("harness.fid.REPOSITORY", str(folder))


def test_fid_is_that_of_the_repositorys_tool(options, tmp_path, monkeypatch, capsys):
    import cases

    body = "sets = [[os.path.realpath(os.path.join(folder, name)) for name in os.listdir(folder)]"
    body += " for folder in sys.argv[1:3]] + sys.argv[3:]\n"
    body += "open('calls', 'a').write(json.dumps(sets) + chr(10))\n"
    body += "print('FID:  %.1f' % (len(open('calls').readlines()) + 0.5))\n"
    _stand_in(tmp_path, body, monkeypatch)
    results = _results(tmp_path / "r", [draw_cartoon(np.random.RandomState(i)) for i in (0, 1)])
    (tmp_path / "i n.npz").write_bytes(b"x")
    config = options(results, "--inception=%s" % (tmp_path / "i n.npz"))
    found = evaluation.evaluate(config)
    assert (found["fid_photo"], found["fid_cartoon"]) == (1.5, 2.5)
    path = os.path.join(config.output_path, "report.html")
    said = "\nFID:  1.5000\nFID:  2.5000\nreport: %s\n" % path
    assert capsys.readouterr().out.endswith(said)
    calls = [json.loads(line) for line in (tmp_path / "calls").open()]
    folders = [
        os.path.join(config.data_path, "dataset", "scenery_" + k) for k in ("photo", "cartoon")
    ]
    made = [str(results / name) for name in ("0.png", "1.png")]
    for (real, fake, *rest), folder in zip(calls, folders):
        assert (sorted(real), sorted(fake)) == (sorted(list_images(folder)), made)
        assert rest == [
            "--inception",
            str(tmp_path / "i n.npz"),
            "--protocol",
            "legacy_pytorch",
        ]
    assert len(calls) == 2
    accuracy = cases.accuracy(types.SimpleNamespace(output=str(tmp_path / "out")))
    assert (accuracy["metric"], accuracy["value"]) == ("FID to cartoon", 2.5)
    assert (
        accuracy["protocol"]
        == "tools/fid, legacy_pytorch; 2 cartoonized training photos, 6 cartoons"
    )


def test_a_folder_that_stands_alone_has_no_fid(options, tmp_path, monkeypatch):
    monkeypatch.setattr("harness.fid.REPOSITORY", str(tmp_path))
    results = _results(tmp_path / "r", [draw_cartoon(np.random.RandomState(0))])
    with pytest.raises(UserError, match=r"--inception: .* in the whole repository only"):
        evaluation.evaluate(options(results, "--inception=x"))


def test_a_case_checks_the_inception_file_before_it_trains(drawn, tmp_path, monkeypatch):
    import cases

    _stand_in(tmp_path, "", monkeypatch)
    words = {"preset": "full", "root": "", "data_path": drawn, "ranks": 1, "settings": {}}
    words.update(output=str(tmp_path / "out"), command=[])
    config = parse(cases.Config, ["--inception=nowhere.pb", "--batch_size=2"])[0]
    with pytest.raises(ValueError, match=r"--inception nowhere\.pb: there is no such file"):
        cases.check_data(Case(config=config, **words))
