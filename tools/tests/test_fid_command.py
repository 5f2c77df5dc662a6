# SPDX-License-Identifier: Apache-2.0
"""`python -m tools.fid` and `python -m tools.paired` as their users call them."""

import errno
import importlib
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
from tools.fid import distances, features, report, statistics
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
    key = "frechet_distance_" + result["network"]["name"]
    assert key.startswith("frechet_distance_net_maps_")
    assert "range -1 1" in result["network"]["settings"]
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
        (["a", "b"], "give one of --inception FILE, for FID and KID, and --network"),
        (["a", "b", "--network=random", "--inception=x"], "give one of --inception FILE"),
        (["a", "b", "--network=random", "--side=10"], "leave --input, --output and --side out"),
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
        (["real", "absent.npz"], "cannot read absent.npz: No such file"),
        (
            ["real", "fake", "--metrics=fid,is"],
            "--metrics is: choose from fid,kid,precision_recall",
        ),
        (["one.npz", "fake", "--metrics=kid"], "give the pictures for the rest"),
        (["one.npz", "fake", "--source", "real"], "give the pictures for the rest"),
        (["one.npz", "--save=x.npz"], "--features and --save take pictures, not"),
        (["real", "--save=fake"], "fake is a folder; name a file to write"),
        (["real", "fake", "--cache=one.npz"], "one.npz is no folder; name one"),
        (["real", "fake", "--metrics=precision_recall"], "4 pictures; precision_recall needs at"),
    ],
)
def test_wrong_input_is_told_before_tensorflow_loads(folders, tmp_path, words, sentence):
    statistics.write(str(tmp_path / "one.npz"), statistics.collect([np.eye(3)]))
    places = {name: str(tmp_path / name) for name in ("real", "fake", "one.npz")}
    for name, place in places.items():
        words = [word.replace("=" + name, "=" + place) for word in words]
    words = [places.get(word, word) for word in words] + ["--neighbours=4"]
    done = _run("tools.fid", *words, "--network=random")
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
    os.symlink(str(tmp_path), str(tmp_path / "b" / "again"))
    assert len(find_images(str(tmp_path))) == 3


def test_the_batch_size_changes_nothing(tmp_path, network):
    small = _pictures(tmp_path / "small", 6)
    paths, protocol = find_images(small), PROTOCOLS["clean"]
    streams = [features.Stream(network, protocol, size) for size in (1, 4, 100)]
    rows = [np.concatenate(list(stream(paths))) for stream in streams]
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-6)
    np.testing.assert_allclose(rows[0], rows[2], atol=1e-6)


def test_memory_does_not_grow_with_the_pictures(tmp_path, network, monkeypatch):
    monkeypatch.setattr(distances, "ROWS", 16)
    wide = np.random.RandomState(5).rand(64 * 64 * 3, 200).astype(np.float32)
    network = network._replace(side=64, run=lambda x: x.reshape(len(x), -1) @ wide)
    request = report.Request(("fid", "kid", "precision_recall"), subsets=2, subset_size=8)
    folder, peaks = _pictures(tmp_path / "few", 6), []
    for copies in (20, 120):
        for number in range(copies):
            link = os.path.join(folder, "link%d.png" % number)
            if not os.path.exists(link):
                os.symlink(os.path.join(folder, "0.png"), link)
        tracemalloc.start()
        one = report.describe(folder, network, request._replace(batch_size=4))
        report.measure(one, one, network, request)
        distances.author_mean(one.features, one.features, one.features)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert one.count == 6 + copies
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
    with pytest.raises(ZeroDivisionError):
        report.describe(folders[0], broken._replace(settings="range 0 1"), request)
    _pictures(folders[0], 1, seed=9)
    with pytest.raises(ZeroDivisionError):
        report.describe(folders[0], broken, request)


def test_statistics_of_another_protocol_or_network_are_refused(folders, tmp_path, network):
    path, request = str(tmp_path / "one.npz"), report.Request()
    statistics.write(path, report.describe(folders[0], network, request).statistics)
    assert report.describe(path, network, request).count == 5
    with pytest.raises(UserError, match="was made with clean, this is with legacy_pytorch"):
        report.describe(path, network, request._replace(protocol="legacy_pytorch"))
    with pytest.raises(UserError, match="was made with mean, this is with mean, range 0 1"):
        report.describe(path, network._replace(settings="range 0 1"), request)
    with np.load(path) as arrays:
        np.savez(path, mu=arrays["mu"], sigma=arrays["sigma"])
    foreign = report.describe(path, network, request)
    warnings = report.measure(foreign, foreign, network, request)["warnings"]
    assert "does not say its protocol" in warnings[0]


def test_features_that_are_not_finite_are_an_error(folders, network):
    broken = network._replace(run=lambda x: np.full((len(x), 3), np.nan))
    with pytest.raises(UserError, match="the network mean gives features that are not finite"):
        report.describe(folders[0], broken, report.Request())


def test_without_room_for_features_nothing_dies(monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match=r"no room for 48 bytes of features in .*; set TMPDIR"):
        features.store(iter([np.ones((2, 4), np.float32)]), 3)


def test_without_tensorflow_anywhere_there_is_one_sentence(monkeypatch):
    program = importlib.import_module("tools.fid.__main__")
    for place in (os.path.join(ROOT, "absent"), os.path.join(sys.prefix, "bin", "python")):
        monkeypatch.setattr(program, "WITH_TENSORFLOW", place)
        monkeypatch.setattr(os, "execv", lambda *_: pytest.fail("it calls itself for ever"))
        with pytest.raises(UserError, match="this Python has no TensorFlow"):
            program.run_elsewhere()


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
