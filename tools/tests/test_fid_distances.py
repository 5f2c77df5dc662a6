# SPDX-License-Identifier: Apache-2.0
"""Statistics and distances: the published tools' numbers, closed forms, few pictures, bad files.

The numbers are looked for beside the repository, in ../shared/reference; without them the tests of
agreement are skipped.
"""

import os
import zipfile

import numpy as np
import pytest
from conftest import TOOLS

from harness.errors import UserError
from tools.fid import distances, images, statistics
from tools.fid.statistics import Statistics

FILE = os.path.join(os.path.dirname(os.path.dirname(TOOLS)), "shared", "reference", "metrics.npz")


@pytest.fixture(scope="module")
def reference():
    if not os.path.exists(FILE):
        pytest.skip("no ../shared/reference beside the repository")
    with np.load(FILE) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _features(rng, n, width, shift, spread):
    """The recipe of the reference numbers."""
    u, v = rng.random_sample((n, width)), rng.random_sample((n, width))
    scale = spread + rng.random_sample((1, width))
    return (u * u * scale + 0.25 * np.roll(v, 1, axis=1) * u + shift).astype(np.float32)


def _pair(rng, counts, width):
    return [_features(rng, n, width, *s) for n, s in zip(counts, ((0, 0.5), (0.05, 0.6)))]


def _collect(features, size=64):
    return statistics.collect(features[i : i + size] for i in range(0, len(features), size))


def _random(seed, count=40, width=12):
    rng = np.random.RandomState(seed)
    return rng.standard_normal((count, width)) @ rng.standard_normal((width, width))


@pytest.mark.parametrize(
    ("name", "seed", "counts", "width"),
    [
        ("d256", 3141, (300, 260), 256),
        ("d2048_small", 3142, (150, 150), 2048),
        ("d2048_big", 3142, (2300, 2300), 2048),
    ],
)
def test_fid_is_that_of_the_published_tools(reference, name, seed, counts, width):
    rng = np.random.RandomState(seed)
    if name == "d2048_big":  # its numbers come after those of the small pair
        _pair(rng, (150, 150), width)
    a, b = _pair(rng, counts, width)
    found = [distances.frechet(_collect(a, 512), _collect(b, 512))]
    found += [distances.frechet_of_few(a, b)] if name == "d2048_small" else []
    for tool in ("pytorch_fid", "clean_fid_float32_means", "exact_symmetric_eigen"):
        value = float(reference["fid/%s/%s" % (name, tool)])
        assert found == pytest.approx([value] * len(found), rel=1e-7)


def test_kid_is_that_of_the_published_tools(reference):
    a, b = _pair(np.random.RandomState(3141), (300, 260), 256)
    value = float(reference["kid/full_unequal_unbiased_formula"])
    assert distances.kernel_distance(a, b) == pytest.approx(value, rel=1e-12)
    for draws, size, seed in ((100, 50, 123), (50, 100, 0), (10, 1000, 7)):
        name = "subsets%d_size%d_seed%d" % (draws, size, seed)
        found = distances.kernel_subsets(a, b, draws, size, seed)
        assert found.mean == pytest.approx(float(reference["kid/clean_fid_" + name]), rel=1e-12)
        wanted = reference["kid/per_subset_mean_std_" + name]
        np.testing.assert_allclose([found.mean, found.deviation], wanted, rtol=1e-12)
    own = distances.kernel_subsets(a, a, 50, 100, 5).mean
    assert own == pytest.approx(float(reference["kid/self_clean_fid_subsets50_size100_seed5"]))


@pytest.mark.parametrize(
    ("stored", "resize", "most"),
    [
        ("clean_pil_bicubic_299", images.resize_bicubic, 4e-5),
        ("legacy_pytorch_bilinear_299", images.resize_pytorch, 2e-3),
        ("tf1_legacy_bilinear_299", images.resize_tensorflow, 2e-4),
    ],
)
def test_pictures_are_resized_as_by_the_published_tools(reference, stored, resize, most):
    for number in range(3):
        resized = resize(reference["resize/img%d/input_rgb_uint8" % number], 299)
        assert resized.dtype == np.float32
        part = {
            n.split("/")[3]: v for n, v in reference.items() if "img%d/%s" % (number, stored) in n
        }
        for name, pixels in (
            ("crop_float32_top_left_12", resized[:12, :12]),
            ("crop_float32_bottom_right_12", resized[-12:, -12:]),
        ):
            assert np.abs(pixels - part[name]).max() <= most
        middle = part["crop_float16_rows100_164_cols120_184"].astype(np.float32)
        assert np.abs(resized[100:164, 120:184] - middle).max() <= 0.07
        found = [f((0, 1), dtype=np.float64) for f in (resized.mean, resized.std)]
        np.testing.assert_allclose(found, part["mean_std_per_channel"], atol=1e-4)


def test_a_set_has_no_distance_to_itself():
    one = _collect(_random(0))
    assert distances.frechet(one, one) == pytest.approx(0, abs=1e-9)


def test_equal_covariances_leave_the_distance_of_the_means():
    one, shift = _collect(_random(1)), np.random.RandomState(2).standard_normal(12)
    moved = Statistics(one.mean + shift, one.covariance, one.count)
    assert distances.frechet(one, moved) == pytest.approx(float(shift @ shift))


def test_diagonal_gaussians_have_their_closed_form():
    rng = np.random.RandomState(3)
    means, deviations = rng.standard_normal((2, 9)), rng.rand(2, 9) + 0.1
    sets = [Statistics(m, np.diag(d**2), 99) for m, d in zip(means, deviations)]
    wanted = np.square(means[0] - means[1]).sum() + np.square(deviations[0] - deviations[1]).sum()
    assert distances.frechet(*sets) == pytest.approx(wanted)
    assert distances.frechet(*sets[::-1]) == pytest.approx(wanted)


def test_singular_covariances_are_no_trouble():
    few, other = _random(4, count=5, width=30), _random(5, count=7, width=30)
    value = distances.frechet(_collect(few), _collect(other))
    assert np.isfinite(value)
    assert value == pytest.approx(distances.frechet_of_few(few, other), rel=1e-7)
    alike = np.repeat(few[:1], 6, axis=0)  # no spread at all
    wanted = np.square(few[0] - other.mean(0)).sum() + np.trace(np.cov(other.T))
    assert distances.frechet(_collect(alike), _collect(other)) == pytest.approx(wanted)


def test_neither_order_nor_batches_matter_and_one_outlier_does():
    features = _random(6, count=101)
    one = _collect(features, 7)
    np.testing.assert_allclose(one.covariance, np.cov(features.T), rtol=1e-10, atol=1e-12)
    shuffled = features[np.random.RandomState(7).permutation(101)]
    for other in (_collect(features, 1), _collect(features, 101), _collect(shuffled, 32)):
        np.testing.assert_allclose(other.mean, one.mean, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(other.covariance, one.covariance, rtol=1e-9, atol=1e-11)
    with_outlier = np.concatenate([features, 50 + features[:1]])
    far = _collect(with_outlier)
    np.testing.assert_allclose(far.covariance, np.cov(with_outlier.T), rtol=1e-10)
    assert distances.frechet(one, far) > 100


def test_a_covariance_of_large_numbers_keeps_its_digits():
    features = _random(8) + 1e6
    found = _collect(features, 3).covariance
    np.testing.assert_allclose(found, np.cov(features.T), rtol=1e-6, atol=1e-6)


def test_different_widths_and_one_picture_are_refused():
    with pytest.raises(UserError, match="one set has 12 features a picture, the other 5"):
        distances.frechet(_collect(_random(9)), _collect(_random(9, width=5)))
    with pytest.raises(UserError, match="1 pictures: a covariance needs at least 2"):
        _collect(_random(10, count=1))


def test_kid_is_the_plain_formula_and_blocks_change_nothing(monkeypatch):
    a, b = _random(11, count=9), _random(12, count=6)

    def kernel(x, y):
        return (sum(x * y) / 12 + 1) ** 3

    own = [
        np.mean([kernel(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j])
        for s in (a, b)
    ]
    wanted = sum(own) - 2 * np.mean([kernel(x, y) for x in a for y in b])
    assert distances.kernel_distance(a, b) == pytest.approx(wanted)
    monkeypatch.setattr(distances, "ROWS", 4)
    assert distances.kernel_distance(a, b) == pytest.approx(wanted)


def test_the_authors_mean_takes_blocks_in_order():
    source, target, fake = (_random(seed, count) for seed, count in ((13, 23), (14, 20), (15, 23)))
    cuts = [(7, 15), (7, 15), (6, 13)]  # 23 = 7 + 8 + 8, 20 = 6 + 7 + 7
    blocks = [np.split(x, cut) for x, cut in zip((source, fake, target), cuts)]
    far = np.mean([distances.kernel_distance(*pair) for pair in zip(blocks[0], blocks[1])])
    near = np.mean([distances.kernel_distance(*pair) for pair in zip(blocks[2], blocks[1])])
    wanted = 100 * (0.98 * far + 0.02 * near) / 2
    assert distances.author_mean(source, target, fake) == pytest.approx(wanted)


def test_precision_and_recall_count_what_is_covered(monkeypatch):
    real = np.array([[0.0, 0], [1, 0], [0, 1], [9, 9]])
    fake = np.array([[0.4, 0.4], [0.5, 0.1], [30, 30], [8.5, 8.5], [31, 30]])
    found = distances.precision_recall(real, fake, neighbours=1)

    def covered(of_set, others):
        radius = [sorted(np.linalg.norm(of_set - x, axis=1))[1] for x in of_set]
        near = [[np.linalg.norm(x - y) <= r for x, r in zip(of_set, radius)] for y in others]
        return np.mean(np.any(near, axis=1))

    assert found == {"precision": covered(real, fake), "recall": covered(fake, real)}
    assert found["precision"] == 0.6
    for rows in (1, 2, 3):
        monkeypatch.setattr(distances, "ROWS", rows)
        assert distances.precision_recall(real, fake, neighbours=1) == found
    with pytest.raises(UserError, match="with 4 neighbours need more pictures than that, not 4"):
        distances.precision_recall(real, fake, neighbours=4)


def test_the_interval_is_seeded_and_holds_the_middle():
    a, b = _random(16, count=60, width=4), _random(17, count=50, width=4)
    low, high = distances.bootstrap(a, b, 40, seed=1)
    assert low < distances.frechet_of_few(a, b) < high
    assert (low, high) == distances.bootstrap(a, b, 40, seed=1)
    few = distances.bootstrap(a[:3], b[:3], 10, seed=1)  # fewer than they have numbers
    assert np.isfinite(few).all()


def test_statistics_are_read_as_others_write_them(tmp_path):
    one, path = _collect(_random(18)), str(tmp_path / "new" / "one.npz")
    statistics.write(path, one._replace(protocol="clean", network="mean"))
    found = statistics.read(path)
    np.testing.assert_array_equal(found.covariance, one.covariance)
    assert (found.count, found.protocol, found.network) == (40, "clean", "mean")
    np.savez(path, mu=one.mean.astype(np.float32), sigma=one.covariance)
    foreign = statistics.read(path)
    assert (foreign.count, foreign.protocol, foreign.network) == (None, "", "")
    assert os.listdir(str(tmp_path / "new")) == ["one.npz"]


def _zip_bomb(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, shape in (("mu", (2**17,)), ("sigma", (2**17, 2**17))):
            head = "{'descr': '<f8', 'fortran_order': False, 'shape': %r, }" % (shape,)
            head = head.ljust(117) + "\n"
            begin = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode()
            archive.writestr(name + ".npy", begin + bytes(2**20))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: open(path, "wb").close(), "is damaged"),
        (lambda path: np.savez(path, mu=np.ones(3)), r"mu \(3,\) and sigma None"),
        (lambda path: np.savez(path, mu=np.ones(3), sigma=np.ones((3, 2))), r"sigma \(3, 2\)"),
        (lambda path: np.savez(path, mu=np.ones(2), sigma=np.full((2, 2), np.nan)), "not finite"),
        (lambda path: np.savez(path, mu=[{}, {}], sigma=np.ones((2, 2))), "no array of numbers"),
        (lambda path: np.savez(path, mu=np.ones(2), sigma=-np.eye(2)), "no covariance"),
        (lambda path: np.savez(path, mu=np.ones(2), sigma=np.arange(4.0).reshape(2, 2)), "no cov"),
        (lambda path: np.savez(path, mu=np.ones(2), sigma=np.eye(2), count=[1, 2]), "its count is"),
        (lambda path: np.savez(path, mu=np.ones(9000), sigma=np.ones((2, 2))), "D at most 8192"),
        (_zip_bomb, r"has the shape \(131072, 131072\) and 104\d+ bytes"),
    ],
)
def test_what_are_no_statistics_is_refused_in_a_sentence(tmp_path, make, sentence):
    path = str(tmp_path / "bad.npz")
    make(path)
    with pytest.raises(UserError, match=sentence):
        statistics.read(path)


def test_a_digest_is_of_the_contents_only(tmp_path):
    for name, content in (("a", b"1"), ("b", b"2"), ("c", b"1"), ("d", b"3")):
        (tmp_path / name).write_bytes(content)
    a, b, c, d = (str(tmp_path / name) for name in "abcd")
    assert statistics.digest_files([a, b]) == statistics.digest_files([b, c])
    assert statistics.digest_files([a, b]) != statistics.digest_files([a, d])
    assert statistics.cached_path("x", [a], "clean") != statistics.cached_path("x", [a], "legacy")
