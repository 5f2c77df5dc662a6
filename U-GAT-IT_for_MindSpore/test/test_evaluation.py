# SPDX-License-Identifier: Apache-2.0
"""The measures against direct formulas, and eval.py as users call it."""

import dataclasses
import html.parser
import importlib.util
import os
import pathlib
import urllib.parse

import numpy as np
import pytest
from conftest import DATASET, TINY, run
from PIL import Image

from harness import fid
from harness.errors import UserError
from harness.files import read_json
from harness.images import read_image
from ugatit import data, device, measures
from ugatit.config import Config
from ugatit.pictures import to_uint8

HAS_MINDSPORE = bool(importlib.util.find_spec("mindspore"))
needs_mindspore = pytest.mark.skipif(not HAS_MINDSPORE, reason="MindSpore is not installed")
SURROGATE = measures.SURROGATE


@pytest.fixture(scope="module")
def tiny():
    config = Config(dataset=DATASET, light=True, img_size=32, ch=4, n_res=1, n_dis=4, device="CPU")
    device.prepare(config)
    device.connect(config)
    return config


@pytest.fixture
def trained(tiny, shapes, tmp_path):
    """A configuration with data and the initial weights of both generators."""
    config = dataclasses.replace(tiny, data_path=shapes, output_path=str(tmp_path / "results"))
    return write_weights(config)


def write_weights(config, names=("genA2B", "genB2A")):
    from ugatit import weights
    from ugatit.networks import build_generator

    for name in names:
        weights.write_weights(build_generator(config, name), weights.weights_path(config, name))
    return config


def evaluate(config, *words, cwd):
    return run(
        "eval.py",
        *TINY,
        "--data_path=" + config.data_path,
        "--output_path=" + config.output_path,
        *words,
        cwd=cwd,
    )


def listing(folder):
    return sorted(path.name for path in pathlib.Path(folder).iterdir())


def draw_photos(folder, names, seed=0):
    folder.mkdir()
    rng = np.random.RandomState(seed)
    for name in names:
        pixels = rng.randint(0, 256, (24, 50, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(str(folder / name))
    return folder


def direct_mmd(x, y):
    """Returns the unbiased squared MMD as sums over all pairs."""

    def kernel(p, q):
        return (sum(a * b for a, b in zip(p, q)) / len(p) + 1) ** 3

    m, n = len(x), len(y)
    of_x = sum(kernel(x[i], x[j]) for i in range(m) for j in range(m) if i != j)
    of_y = sum(kernel(y[i], y[j]) for i in range(n) for j in range(n) if i != j)
    across = sum(kernel(p, q) for p in x for q in y)
    return of_x / (m * (m - 1)) + of_y / (n * (n - 1)) - 2 * across / (m * n)


@pytest.mark.parametrize(
    ("m", "n", "cuts"),  # where the blocks of both sets begin: the longer blocks are the last
    [
        (10, 8, [(0, 10), (0, 8)]),
        (7, 11, [(0, 3, 7), (0, 5, 11)]),
        (23, 20, [(0, 7, 15, 23), (0, 6, 13, 20)]),
        (3, 25, [(0, 3), (0, 25)]),
    ],
)
def test_kid_is_the_direct_sum_over_blocks(m, n, cuts):
    rng = np.random.RandomState(m)
    x, y = rng.standard_normal((m, 5)), rng.standard_normal((n, 5)) + 0.5
    (of_x, of_y), values = cuts, []
    for first, last, start, stop in zip(of_x, of_x[1:], of_y, of_y[1:]):
        values.append(100 * direct_mmd(x[first:last], y[start:stop]))
    found = measures.kid(x, y)
    assert found.blocks == len(values)
    assert found.mean == pytest.approx(np.mean(values), rel=1e-9)
    if len(values) == 1:
        assert found.deviation is None
    else:
        expected = np.sqrt(np.var(values, ddof=1) / len(values))
        assert found.deviation == pytest.approx(expected, rel=1e-9)


def test_kid_is_near_zero_for_one_distribution_only():
    rng = np.random.RandomState(0)
    x, y = rng.standard_normal((2, 300, 16))
    same, other = measures.kid(x, y), measures.kid(x, y + 0.5)
    assert abs(same.mean) < 3 * same.deviation
    assert other.mean > 20 * same.deviation
    assert measures.kid(x, x).mean < 0  # unbiased, but these samples are not independent


def test_authors_mean_is_apart_from_the_distance_to_the_target():
    rng = np.random.RandomState(1)
    source, target, fake = (rng.standard_normal((30, 8)) + shift for shift in (0, 1, 0.7))
    near, far = measures.kid(target, fake), measures.kid(source, fake)
    found = measures.distances(source, target, fake, True)
    assert (found["kid"], found["kid_std"]) == near[:2]
    for key, i in (("kid_author_mean", 0), ("kid_author_mean_std", 1)):
        assert found[key] == pytest.approx((0.98 * far[i] + 0.02 * near[i]) / 2)
    named = measures.distances(source, target, fake, False)
    assert list(named.values()) == list(found.values())
    assert all(key.startswith(SURROGATE) for key in named)


def test_random_features_are_fixed_and_tell_pictures_apart(shapes):
    folder = pathlib.Path(shapes) / DATASET
    a, b = (sorted(map(str, (folder / name).iterdir())) for name in ("trainA", "trainB"))
    features = measures.features(a + b)
    assert features.shape == (len(a) + len(b), 256)
    assert np.isfinite(features).all()
    assert np.allclose(features[1:3], measures.features(a[1:3]), rtol=1e-4, atol=1e-5)
    assert np.abs(features[0] - features[1]).max() > 0.01


def test_random_features_are_those_of_three_convolutions():
    picture = np.random.RandomState(3).uniform(-1, 1, (3, 64, 64)).astype(np.float32)
    x = picture.astype(np.float64)
    for kernel in measures._kernels():
        weights = kernel.reshape(3, 3, x.shape[0], -1)
        side = (x.shape[1] - 1) // 2
        y = np.zeros((weights.shape[3], side, side))
        for i in range(side):
            for j in range(side):
                patch = x[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
                y[:, i, j] = np.einsum("cuv,uvco->o", patch, weights)
        x = np.maximum(y, 0)
    expected = np.concatenate([x.mean((1, 2)), x.max((1, 2))])
    found = measures._random_features(picture, measures._kernels())
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_inception_needs_the_tool_and_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(fid, "REPOSITORY", str(tmp_path))
    with pytest.raises(UserError, match="whole repository only"):
        fid.check(str(tmp_path / "inception.pb"))
    tool = tmp_path / "tools" / "fid"
    tool.mkdir(parents=True)
    (tool / "__main__.py").write_text("raise SystemExit('bad weights')")
    with pytest.raises(UserError, match="there is no such file"):
        fid.check(str(tmp_path / "inception.pb"))
    (tmp_path / "inception.pb").write_text("x")
    fid.check(str(tmp_path / "inception.pb"))
    photos = draw_photos(tmp_path / "photos", ["a.png", "b.png"])
    paths = [str(photos / name) for name in ("b.png", "a.png")]
    with pytest.raises(UserError, match="bad weights"):
        measures.features(paths, str(tmp_path / "inception.pb"))
    (tool / "__main__.py").write_text(TOOL)
    found = measures.features(paths, str(tmp_path / "inception.pb"))
    assert found.tolist() == [[read_image(path).mean()] * 4 for path in paths]


# A stand-in for tools/fid: the "features" are four times the mean level.
TOOL = """
import os, sys
import numpy as np
from PIL import Image
folder, output = sys.argv[1], sys.argv[sys.argv.index("--features") + 1]
assert sys.argv[-2:] == ["--protocol", "clean"]
names = sorted(os.listdir(folder))
means = [np.asarray(Image.open(os.path.join(folder, name))).mean() for name in names]
np.save(output, np.array(means)[:, None].repeat(4, 1))
"""


@needs_mindspore
def test_eval_translates_both_ways_and_measures(trained, tmp_path):
    from ugatit.serving import Translator, find_weights

    folder = pathlib.Path(trained.folder) / "test"
    (folder / "heat").mkdir(parents=True)
    for name in ("A_3.png", "A2B_7.png", "notes.png", "heat/B2A_9.png"):
        (folder / name).write_text("of an earlier test")
    done = evaluate(trained, "--compute_metrics", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert lines.index(" [*] Load SUCCESS") < lines.index(" [*] Testing finished!")
    pictures = ["%s_%d.png" % (kind, i) for kind in ("A", "A2B", "B", "B2A") for i in (1, 2)]
    rest = ["heat", "index.html", "metrics.json", "notes.png", "report.html", "tested.json"]
    assert listing(folder) == sorted(pictures + rest)
    around = read_json(str(folder / "tested.json"))["surroundings"]
    assert (around["device"], around["data"].split(",")[0]) == ("cpu", "4 pictures")
    assert listing(folder / "heat") == ["A2B_1.png", "A2B_2.png", "B2A_1.png", "B2A_2.png"]
    domains, metrics = data.find_domains(trained), read_json(str(folder / "metrics.json"))
    generators = {n: Translator(trained, n, find_weights(trained, n)) for n in ("genA2B", "genB2A")}
    for name, paths in (("A2B", domains.test_a), ("B2A", domains.test_b)):
        there, back = generators["gen" + name], generators["gen" + name[::-1]]
        x = np.stack([data.read_test(path, trained) for path in paths])
        made = there(x)[0]
        for number in (1, 2):
            source = read_image(str(folder / ("%s_%d.png" % (name[0], number))))
            assert np.array_equal(source, to_uint8(x[number - 1]))
            written = read_image(str(folder / ("%s_%d.png" % (name, number)))).astype(int)
            assert np.abs(written - to_uint8(made[number - 1])).max() <= 1
        found = metrics[name]
        assert found["pictures"] == 2
        assert found["cycle_l1"] == pytest.approx(np.abs(back(made)[0] - x).mean(), rel=1e-3)
        assert found["identity_l1"] == pytest.approx(np.abs(back(x)[0] - x).mean(), rel=1e-3)
        kinds = ([str(folder / ("%s_%d.png" % (k, i))) for i in (1, 2)] for k in (name[2], name))
        near = measures.kid(*map(measures.features, kinds))
        assert found[SURROGATE] == pytest.approx(near.mean, rel=1e-6)
        assert found[SURROGATE + "_std"] is None
    assert "seed 1234" in metrics["protocol"]["features"]
    assert "KID" not in done.stdout
    assert "a surrogate, no Inception" in done.stdout


@needs_mindspore
def test_one_direction_needs_one_generator(tiny, shapes, tmp_path):
    config = dataclasses.replace(tiny, data_path=shapes, output_path=str(tmp_path / "results"))
    write_weights(config, ["genB2A"])
    done = evaluate(config, "--direction=B2A", "--compute_metrics", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "cycles and identities are not measured: there are no weights" in done.stdout
    folder = pathlib.Path(config.folder) / "test"
    metrics = read_json(str(folder / "metrics.json"))
    assert sorted(metrics) == ["B2A", "protocol"]
    assert "cycle_l1" not in metrics["B2A"]
    assert abs(metrics["B2A"][SURROGATE]) > 0
    assert (folder / "A_2.png").exists()  # what the translations are compared with
    assert not (folder / "A2B_1.png").exists()
    failed = evaluate(config, cwd=tmp_path)
    assert failed.returncode == 1
    assert " [*] Load FAILURE" in failed.stdout.splitlines()


@needs_mindspore
def test_weights_of_the_full_network_are_an_error(trained, tmp_path):
    done = evaluate(trained, "--light=False", cwd=tmp_path)
    assert done.returncode == 1
    assert " [*] Load FAILURE" in done.stdout.splitlines()
    (sentence,) = [line for line in done.stdout.splitlines() if line.startswith("eval.py: error")]
    assert "does not fit" in sentence
    assert sentence.endswith("those weights are of --light=True --ch=4")
    assert "Traceback" not in done.stdout
    assert not os.path.exists(os.path.join(trained.folder, "test"))


class _Sources(html.parser.HTMLParser):
    """Collects the addresses of a page's pictures."""

    def __init__(self):
        super().__init__()
        self.found, self.tags = [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.found += [urllib.parse.unquote(value) for key, value in attrs if key == "src"]


@needs_mindspore
def test_own_pictures_keep_their_names_and_broken_ones_are_reported(trained, tmp_path):
    names = ["cat.png", "cat_A2B.png", "<b>&'x%s.bmp"]
    photos = draw_photos(tmp_path / "photos", names)
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    done = evaluate(trained, "--input_dir", photos, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.count("left out: ") == 1
    assert "broken.jpg" in done.stdout
    assert " [*] Testing finished!" in done.stdout
    assert "Traceback" not in done.stdout
    folder = pathlib.Path(trained.folder) / "test" / "own"
    stems = ["cat", "cat_A2B", "<b>&'x%s"]
    made = [stem + end for stem in stems for end in ("_A2B.png", "_B2A.png")]
    rest = ["heat", "index.html", "input", "report.html", "tested.json"]
    assert listing(folder) == sorted(made + rest)
    assert listing(folder / "heat") == sorted(made)
    for name, stem in zip(names, stems):
        shown = read_image(str(folder / "input" / (stem + ".png")))
        assert np.array_equal(shown, to_uint8(data.read_test(str(photos / name), trained)))
    page = _Sources()
    page.feed((folder / "index.html").read_text(encoding="utf-8"))
    assert "b" not in page.tags
    assert len(page.found) == 2 * 3 * 3
    assert all((folder / place).is_file() for place in page.found)
    assert not os.path.exists(str(folder.parent / "metrics.json"))


@needs_mindspore
def test_own_pictures_go_one_way_if_asked(trained, tmp_path):
    photos = draw_photos(tmp_path / "photos", ["cat.png"])
    done = evaluate(trained, "--input_dir", photos, "--direction=A2B", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    folder = pathlib.Path(trained.folder) / "test" / "own"
    rest = ["heat", "index.html", "input", "report.html", "tested.json"]
    assert listing(folder) == ["cat_A2B.png", *rest]


def refuse(finder, *words, **options):
    """Returns the sentence that finding the pictures ends with."""
    from ugatit import evaluation

    with pytest.raises(UserError) as caught:
        getattr(evaluation, finder)(
            Config(dataset=DATASET, img_size=32, n_dis=4, **options), *words
        )
    return str(caught.value)


@needs_mindspore
def test_what_cannot_be_evaluated_is_refused_before_any_work(tiny, shapes, tmp_path):
    root = pathlib.Path(shapes) / DATASET
    (root / "testB" / "0.png").unlink()
    text = refuse("find_tests", data_path=shapes, compute_metrics=True)
    assert "at least 2 pictures in %s, there are 1" % (root / "testB") in text
    (root / "testA" / "0.png").write_bytes(b"no picture")
    assert "1 of 3 pictures cannot be used" in refuse("find_tests", data_path=shapes)
    for path in (root / "testA").iterdir():
        path.unlink()
    assert str(root / "testA") in refuse("find_tests", data_path=shapes, direction="A2B")
    (root / "testB" / "1.png").unlink()
    both = "%s and %s" % (root / "testA", root / "testB")
    assert both in refuse("find_tests", data_path=shapes)
    photos, out = draw_photos(tmp_path / "photos", ["a.png", "a.bmp"]), str(tmp_path / "out")
    assert "both be written as a" in refuse("find_own", out, input_dir=str(photos))
    text = refuse("find_own", out, input_dir=str(photos), compute_metrics=True)
    assert "leave --input_dir" in text
    assert "written to" in refuse("find_own", str(photos), input_dir=str(photos))
    (photos / "a.bmp").unlink()
    (photos / "a.png").write_bytes(b"no picture")
    assert "none of the 1 pictures" in refuse("find_own", out, input_dir=str(photos))


@needs_mindspore
def test_inception_without_its_tool_stops_before_the_weights(trained, tmp_path):
    words = ["--compute_metrics", "--inception_ckpt_path=no_such_file"]
    done = evaluate(trained, *words, cwd=tmp_path)
    assert done.returncode == 1
    assert "Load" not in done.stdout
    assert "eval.py: error: --inception" in done.stdout


@needs_mindspore
def test_kid_has_the_published_lines_only_with_inception():
    from ugatit.evaluation import describe

    values = [0.5, 0.25, 11.5, None, 1, 1]
    keys = ["", "_std", "_author_mean", "_author_mean_std", "_blocks", "_source_blocks"]
    real = describe("A2B", {"kid" + key: value for key, value in zip(keys, values)}, True)
    assert real.splitlines()[1:] == ["mean_KID_mean :  11.5000", "mean_KID_stddev :  not known"]
    other = describe("A2B", {SURROGATE + key: value for key, value in zip(keys, values)}, False)
    assert "11.5000" in other
    assert "kid" not in other.lower()
