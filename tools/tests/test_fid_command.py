# SPDX-License-Identifier: Apache-2.0
"""`python -m tools.fid` and `python -m tools.paired` as their users call them."""

import json
import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import TOOLS
from PIL import Image

from harness.errors import UserError
from harness.files import read_json
from tools import paired
from tools.fid import features, report, statistics
from tools.fid.features import Network
from tools.fid.images import PROTOCOLS, find_images

ROOT = os.path.dirname(TOOLS)


def _pictures(folder, count, seed=0, size=(40, 30)):
    """Writes smooth random pictures in folders, formats and sizes of several kinds."""
    rng = np.random.RandomState(seed)
    for number in range(count):
        ending = (".png", ".jpg", ".bmp")[number % 3]
        inner = os.path.join(str(folder), "inner" if number % 2 else "")
        os.makedirs(inner, exist_ok=True)
        noise = Image.fromarray(rng.randint(0, 256, (4, 5, 3)).astype(np.uint8))
        picture = noise.resize((size[0] + number, size[1]), Image.BICUBIC)
        picture.save(os.path.join(inner, "%d%s" % (number, ending)))
    return str(folder)


@pytest.fixture
def folders(tmp_path):
    return _pictures(tmp_path / "real", 5), _pictures(tmp_path / "fake", 4, seed=1)


@pytest.fixture
def network():
    """Describes a picture by its mean colour and that of its upper half."""
    return Network(
        "mean", "", 8, lambda x: np.concatenate([x.mean((1, 2)), x[:, :4].mean((1, 2))], 1)
    )


def _run(module, *words):
    command = [sys.executable, "-m", module, *words]
    environment = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3")
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def _graph(path):
    """Writes a network that describes a picture by eight random sums of its pixels."""
    kernel = np.random.RandomState(2).rand(5, 5, 3, 8).astype(np.float32)
    with tf.Graph().as_default() as graph:
        images = tf.placeholder(tf.float32, [None, 16, 16, 3], "images")
        tf.nn.relu(tf.nn.conv2d(images, kernel, [1, 2, 2, 1], "VALID"), "maps")
    with open(path, "wb") as file:
        file.write(graph.as_graph_def().SerializeToString())
    return ["--network", path, "--input=images", "--output=maps"]


def test_a_pair_gives_json_and_a_line_for_parsers(folders, tmp_path):
    words = _graph(str(tmp_path / "net.pb")) + ["--subsets=5", "--neighbours=1", "--bootstrap=9"]
    metrics = "--metrics=fid,kid,precision_recall"
    done = _run("tools.fid", *folders, *words, metrics, "--source", folders[0])
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    result = json.loads(lines[0])
    key = "frechet_distance_net_maps_" + result["network"]["sha256"][:8]
    assert lines[1] == "%s:  %s" % (key, result[key])
    assert not any(name.lower().startswith(("fid", "kid")) for name in result)
    assert result[key] > 0
    assert result[key + "_bootstrap"]["low"] < result[key + "_bootstrap"]["high"]
    kid = key.replace("frechet", "kernel")
    assert {kid, kid + "_subset_std", kid + "_seed", kid + "_author_mean"} <= set(result)
    assert (result["real"]["images"], result["fake"]["images"]) == (5, 4)
    assert result["protocol"].endswith("clean")
    assert "below 2048" in result["warnings"][0]
    assert "warning: only 4 pictures" in done.stderr


def test_statistics_and_features_go_to_files_and_come_back(folders, tmp_path):
    words = _graph(str(tmp_path / "net.pb"))
    table, saved = str(tmp_path / "out.npy"), str(tmp_path / "out.npz")
    done = _run("tools.fid", folders[0], *words, "--features", table, "--save", saved)
    assert done.returncode == 0, done.stderr
    found = np.load(table)
    assert found.shape == (5, 8)
    np.testing.assert_allclose(statistics.read(saved).mean, found.mean(0), rtol=1e-6)
    pairs = [saved, folders[1], folders[0], folders[1]]
    done = _run("tools.fid", *pairs, *words)
    assert done.returncode == 0, done.stderr
    values = [float(line.split()[-1]) for line in done.stdout.splitlines()[1::2]]
    assert len(values) == 2
    assert values[0] == pytest.approx(values[1])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["a"], "1 paths: give pairs REAL FAKE"),
        (["a", "b"], "give --inception FILE for FID and KID, or --network"),
        (["a", "b", "--network=random", "--inception=x"], "give --inception FILE"),
        (["a", "b", "--network=random", "--batch_size=0"], "--batch_size 0: it must be at least 1"),
        (["a", "b", "--network=random", "--range", "1", "1"], "black must be below white"),
        (["a", "b", "--save=x.npz", "--network=random"], "--features and --save take one path"),
    ],
)
def test_contradictions_are_told_in_one_sentence(words, sentence):
    done = _run("tools.fid", *words)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["absent", "b"], "there is no folder absent"),
        (
            ["real", "fake", "--metrics=fid,is"],
            "--metrics is: choose from fid,kid,precision_recall",
        ),
        (["one.npz", "fake", "--metrics=kid"], "give the pictures for the rest"),
        (["one.npz", "fake", "--source", "real"], "give the pictures for the rest"),
    ],
)
def test_wrong_input_is_told_before_tensorflow_loads(folders, tmp_path, words, sentence):
    statistics.write(str(tmp_path / "one.npz"), statistics.collect([np.eye(3)]))
    places = {name: str(tmp_path / name) for name in ("real", "fake", "one.npz")}
    done = _run("tools.fid", *[places.get(word, word) for word in words], "--network=random")
    assert done.returncode == 1
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_unreadable_pictures_are_listed_or_left_out(folders, network):
    for name in ("bad.png", "inner/worse.jpg"):
        with open(os.path.join(folders[0], name), "wb") as file:
            file.write(b"\x89PNG\r\n\x1a\n no picture")
    calls = []
    counted = network._replace(run=lambda x: calls.append(len(x)) or network.run(x))
    with pytest.raises(UserError, match=r"2 of 7 pictures cannot be read; .*bad.png.*worse.jpg"):
        report.describe(folders[0], counted, report.Request(batch_size=2))
    request = report.Request(skip_bad=True, batch_size=2)
    found = report.describe(folders[0], network, request)
    assert found.count == 5
    assert len(found.skipped) == 2
    for name in ("bad.png", "inner/worse.jpg"):
        os.remove(os.path.join(folders[0], name))
    whole = report.describe(folders[0], network, request)
    np.testing.assert_allclose(whole.statistics.covariance, found.statistics.covariance, rtol=1e-6)


def test_pictures_are_found_in_all_folders_in_natural_order(tmp_path):
    for name in ("b/10.png", "b/9.jpg", "a.png", ".hidden/1.png", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    found = [os.path.relpath(path, str(tmp_path)) for path in find_images(str(tmp_path))]
    assert found == ["a.png", "b/9.jpg", "b/10.png"]


def test_the_batch_size_changes_nothing_and_memory_does_not_grow(tmp_path, network):
    small = _pictures(tmp_path / "small", 6)
    paths, protocol = find_images(small), PROTOCOLS["clean"]
    streams = [features.Stream(network, protocol, size) for size in (1, 4, 100)]
    rows = [np.concatenate(list(stream(paths))) for stream in streams]
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-6)
    np.testing.assert_allclose(rows[0], rows[2], atol=1e-6)
    peaks, large = [], network._replace(side=64)
    for times in (4, 40):
        stream = features.Stream(large, protocol, 4)
        tracemalloc.start()
        for _ in stream(paths * times):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_the_cache_is_used_until_a_picture_changes(folders, tmp_path, network):
    cache = str(tmp_path / "cache")
    request = report.Request(cache=cache)
    first = report.describe(folders[0], network, request)
    broken = network._replace(run=lambda x: 1 / 0)
    again = report.describe(folders[0], broken, request)
    np.testing.assert_array_equal(again.statistics.covariance, first.statistics.covariance)
    assert len(os.listdir(cache)) == 1
    with pytest.raises(ZeroDivisionError):
        report.describe(folders[0], broken, request._replace(protocol="legacy_pytorch"))
    _pictures(folders[0], 1, seed=9)
    with pytest.raises(ZeroDivisionError):
        report.describe(folders[0], broken, request)


def test_only_inception_measures_under_the_names_fid_and_kid(network):
    assert report.key_names(network)["fid"] == "frechet_distance_mean"
    inception = network._replace(name="inception-2015-12-05")
    assert report.key_names(inception)["fid"] == "fid"
    rng = np.random.RandomState(3)
    sets = []
    for _ in range(2):
        rows = rng.rand(9, 4)
        sets.append(report.Set("x", statistics.collect([rows]), rows, []))
    result = report.measure(*sets, inception, report.Request(("fid", "kid"), subsets=3))
    assert {"fid", "kid", "kid_subset_mean", "kid_subset_std"} <= set(result)


def test_paired_measures_are_tensorflows(tmp_path):
    rng = np.random.RandomState(4)
    a = rng.randint(0, 256, (20, 24, 3)).astype(np.uint8)
    b = np.clip(a + rng.randint(-40, 40, a.shape), 0, 255).astype(np.uint8)
    found = paired.compare(a, b)
    with tf.Graph().as_default(), tf.Session() as session:
        x, y = (tf.constant(p[np.newaxis]) for p in (a, b))
        ssim, psnr = session.run([tf.image.ssim(x, y, 255), tf.image.psnr(x, y, 255)])
    assert found["ssim"] == pytest.approx(float(ssim[0]), abs=1e-5)
    assert found["psnr"] == pytest.approx(float(psnr[0]), abs=1e-4)
    assert found["l1"] == pytest.approx(np.abs(a / 127.5 - b / 127.5).mean())
    assert paired.compare(a, a) == {"l1": 0.0, "psnr": pytest.approx(100), "ssim": 1.0}


def test_paired_takes_pictures_by_name(tmp_path):
    target = _pictures(tmp_path / "target", 4)
    output = tmp_path / "output"
    for path in find_images(target):
        place = output / os.path.splitext(os.path.relpath(path, target))[0]
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).convert("RGB").save(str(place) + ".png")
    each = str(tmp_path / "each.json")
    done = _run("tools.paired", target, str(output), "--each", each)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["l1"], result["pictures"]) == (0, 4)
    assert sorted(read_json(each)) == ["0", "2", "inner/1", "inner/3"]
    os.remove(str(output / "0.png"))
    with pytest.raises(UserError, match=r"1 pictures are in one of .* only, such as 0"):
        paired.pairs(target, str(output))
    Image.new("RGB", (9, 9)).save(str(output / "0.png"))
    with pytest.raises(UserError, match="they must have one size, at least 11 x 11"):
        list(paired.scores(paired.pairs(target, str(output))))
