# SPDX-License-Identifier: Apache-2.0
"""Segments of one colour, the merging of regions, and the processes that make them."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from harness.errors import UserError
from whitebox import selective_search, superpixels
from whitebox.superpixels import Flattener, flatten_adaptive, flatten_slic

FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
REFERENCE = os.path.join(FOLDER, "..", "..", "shared", "reference", "whitebox.npz")


def draw(seed=0, height=64, width=80, beyond=1.0):
    """Returns float32 [H, W, 3]: coloured discs and noise, in [-beyond, beyond]."""
    rng = np.random.RandomState(seed)
    rows, columns = np.mgrid[:height, :width]
    picture = np.zeros([height, width, 3]) + rng.uniform(-0.9, 0.9, 3)
    for _ in range(8):
        disc = np.hypot(rows - rng.randint(height), columns - rng.randint(width))
        picture[disc < rng.randint(6, 20)] = rng.uniform(-0.9, 0.9, 3)
    picture += rng.normal(0, 0.05, picture.shape)
    return (np.clip(picture, -1, 1) * beyond).astype(np.float32)


def colours_of(picture):
    return len(np.unique(picture.reshape(-1, 3), axis=0))


def variation(picture):
    return np.abs(np.diff(picture, axis=0)).mean() + np.abs(np.diff(picture, axis=1)).mean()


def is_running(pid):
    try:
        with open("/proc/%d/stat" % pid) as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children(pid=0, before=()):
    """Returns the processes that `pid`, or this process, started and that are not in `before`."""
    pid, found = pid or os.getpid(), []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % name) as file:
                parent = int(file.read().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid and int(name) not in before:
            found.append(int(name))
    return found


def test_segments_get_the_mean_of_their_pixels():
    picture = draw(beyond=1.7)
    labels = np.random.RandomState(1).randint(0, 30, picture.shape[:2])
    flat = superpixels.mean_colours(picture, labels)
    assert flat.dtype == np.float32
    for label in range(30):
        mean = picture[labels == label].astype(np.float64).mean(0)
        np.testing.assert_allclose(flat[labels == label] - mean, 0, atol=1e-6)


@pytest.mark.parametrize("count", [30, 120])
@pytest.mark.parametrize("legacy", [False, True])
def test_slic_makes_about_count_colours_and_smooths(count, legacy):
    picture = draw(2)
    flat = flatten_slic(picture, count, legacy)
    assert flat.dtype == np.float32
    assert flat.shape == picture.shape
    assert count / 2 <= colours_of(flat) <= count * 1.5
    assert variation(flat) < 0.7 * variation(picture)
    assert np.abs(flat - picture).mean() < np.abs(picture.mean((0, 1)) - picture).mean() / 2


def test_slic_sees_other_colours_in_legacy_mode():
    picture = draw(3)
    assert np.abs(flatten_slic(picture) - flatten_slic(picture, legacy=True)).mean() > 1e-3


def test_slic_clips_what_it_sees_but_not_what_it_means():
    picture = draw(4, beyond=2.0)
    clipped = np.clip(picture, -1, 1)
    labels = superpixels._slic((clipped[..., ::-1].astype(np.float64) + 1) / 2, 200)
    expected = superpixels.mean_colours(picture, labels)
    np.testing.assert_array_equal(flatten_slic(picture), expected)
    assert np.abs(expected).max() > 1.2


@pytest.mark.parametrize("name", ["simple_superpixel", "slic_labels_rgb01"])
def test_slic_agrees_with_the_version_the_weights_were_trained_with(name):
    if not os.path.isfile(REFERENCE):
        pytest.skip("there is no ../shared/reference/whitebox.npz beside the repository")
    with np.load(REFERENCE) as stored:
        picture = stored["in/slic_crop_bgr_uint8"].astype(np.float32) / 127.5 - 1
        expected = stored["out/%s_skimage_0.14.5" % name]
    if name == "slic_labels_rgb01":
        expected = superpixels.mean_colours(picture, expected)
    flat = flatten_slic(picture, 200, legacy=name == "simple_superpixel")
    difference = np.abs(flat - expected.reshape(flat.shape)).mean()
    assert difference < 1e-3  # between versions of scikit-image 0.0215 and 0.0063


@pytest.mark.parametrize("value", [-1.0, 0.3, 1.0])
@pytest.mark.parametrize("size", [(16, 16), (16, 50), (33, 17)])
def test_pictures_of_one_colour_stay_so(value, size):
    picture = np.full(size + (3,), value, np.float32)
    for legacy in (False, True):
        np.testing.assert_allclose(flatten_slic(picture, 200, legacy), value, atol=1e-6)
    expected = -1.0 if value == -1.0 else 1.0  # divided by its own maximum
    np.testing.assert_allclose(flatten_adaptive(picture), expected, atol=1e-6)


@pytest.mark.parametrize("beyond", [1.0, 3.0])
def test_adaptive_colours_stay_in_range_and_reach_one(beyond):
    picture = draw(5, beyond=beyond)
    flat = flatten_adaptive(picture, 20)
    assert flat.dtype == np.float32
    assert np.isfinite(flat).all()
    assert flat.min() >= -1
    assert flat.max() == 1
    assert 3 < colours_of(flat) <= 20
    assert variation(flat) < 0.7 * variation(picture)


def test_adaptive_colours_are_brightened_by_the_documented_power():
    picture = draw(6)
    rgb = (np.clip(picture, -1, 1)[..., ::-1].astype(np.float64) + 1) / 2
    labels = selective_search.find_regions(rgb, 15)
    expected = ((superpixels.adaptive_colours(picture, labels) + 1) / 2) ** 1.2
    flat = flatten_adaptive(picture, 15)
    np.testing.assert_allclose((flat + 1) / 2, expected / expected.max(), atol=1e-6)


def test_values_that_are_not_finite_are_refused():
    for value in (np.nan, np.inf):
        picture = draw(7)
        picture[3, 4, 1] = value
        for flatten in (flatten_slic, flatten_adaptive):
            with pytest.raises(UserError, match=r"not finite.*--adv_train_lr"):
                flatten(picture)


def test_median_counts_by_deviation_with_closed_bounds():
    deviations = np.array([0.0, 19.999, 20.0, 30.0, 40.0, 40.001, 90.0])
    assert superpixels.median_share(deviations).tolist() == [0, 0, 0.5, 0.5, 0.5, 1, 1]


@pytest.mark.parametrize(("step", "share"), [(20, 0.0), (60, 0.5), (110, 1.0)])
def test_region_colour_is_mean_mixture_or_median(step, share):
    # A quarter of the left region is higher by `step` of 255: a deviation of 0.433 step.
    rng = np.random.RandomState(step)
    labels = np.zeros([8, 12], int)
    labels[:, 8:] = 1
    picture = np.zeros([8, 12, 3]) + rng.uniform(-0.6, -0.4, 3)
    picture[:2, :8] += step / 127.5
    picture[:, 8:] = rng.normal(0.5, 0.02, [8, 4, 3])
    picture = picture.astype(np.float32)
    left, right = picture[:, :8].reshape(-1, 3), picture[:, 8:].reshape(-1, 3)
    expected = (1 - share) * left.mean(0) + share * np.median(left, 0)
    coloured = superpixels.adaptive_colours(picture, labels)
    np.testing.assert_allclose(coloured[:, :8] - expected, 0, atol=1e-6)
    np.testing.assert_allclose(coloured[:, 8:] - right.mean(0), 0, atol=1e-6)


def test_deviation_is_the_root_mean_square_over_channels():
    # One channel deviates by 55, two not at all: 55 / sqrt(3) = 31.8, so half of each.
    picture = np.random.RandomState(0).uniform(-0.5, 0.5, 3) + np.zeros([16, 16, 3])
    picture[:4, :, 1] += 55 / 127.5 / np.sqrt(3 / 16.0)
    picture = picture.astype(np.float32)
    expected = (picture.mean((0, 1)) + np.median(picture, (0, 1))) / 2
    coloured = superpixels.adaptive_colours(picture, np.zeros([16, 16], int))
    np.testing.assert_allclose(coloured - expected, 0, atol=1e-6)


def test_medians_are_those_of_numpy():
    rng = np.random.RandomState(8)
    values, labels = rng.rand(500), np.append(rng.randint(0, 20, 499), 20)
    expected = [np.median(values[labels == label]) for label in range(21)]
    np.testing.assert_allclose(superpixels._medians(values, labels), expected)


def stripes(lightness):
    """Returns (labels, lab, texture): stripes of 8 columns, each of one lightness."""
    labels = np.repeat(np.arange(len(lightness)), 8)[None, :] + np.zeros([32, 1], int)
    lab = np.stack([np.array(lightness)[labels], np.full(labels.shape, 3.0), labels * 0.0], 2)
    return labels, lab, np.random.RandomState(9).randint(0, 10, labels.shape)


def test_the_most_similar_neighbours_are_merged_first():
    # Stripes 0 and 3 are equal, but no neighbours; 1 and 2 are equal and beside each other.
    labels, lab, texture = stripes([20.0, 60.0, 60.0, 20.0, 90.0])
    merged = selective_search.merge_regions(labels, lab, texture, 4)
    assert merged[0, 8] == merged[0, 16]
    assert len({merged[0, 0], merged[0, 8], merged[0, 24], merged[0, 32]}) == 4
    np.testing.assert_array_equal(merged, merged[:1] + np.zeros([32, 1], int))


def test_merging_goes_on_with_merged_regions_until_count_is_left():
    labels, lab, texture = stripes([60.0, 60.0, 60.0, 20.0, 20.0, 90.0])
    merged = selective_search.merge_regions(labels, lab, texture, 3)
    stripe = merged[0, ::8]
    assert stripe[0] == stripe[1] == stripe[2]
    assert stripe[3] == stripe[4]
    assert len(set(stripe)) == 3
    for count in (1, 2, 5, 6, 9):
        left = selective_search.merge_regions(labels, lab, texture, count)
        assert np.unique(left).tolist() == list(range(min(count, 6)))


def test_merging_is_what_a_full_search_before_each_merge_gives():
    rng = np.random.RandomState(15)
    labels = np.kron(np.arange(20).reshape(4, 5), np.ones([6, 6], int))
    lab = rng.uniform([20, -40, -40], [80, 40, 40], [20, 3])[labels]
    lab += rng.normal(0, 8, lab.shape)
    texture = rng.randint(0, 10, labels.shape)
    expected = labels
    while expected.max() >= 6:
        count = expected.max() + 1
        regions = selective_search._Regions(expected, lab, texture, count)
        right = zip(expected[:, :-1].ravel(), expected[:, 1:].ravel())
        down = zip(expected[:-1].ravel(), expected[1:].ravel())
        i, j = np.array([pair for pair in list(right) + list(down) if pair[0] != pair[1]]).T
        best = regions.similarity(i, j).argmax()
        joined = np.where(expected == j[best], i[best], expected)
        expected = np.unique(joined, return_inverse=True)[1].reshape(labels.shape)
    merged = selective_search.merge_regions(labels, lab, texture, 6)
    # Equal but for the numbers: as many pairs of numbers as there are regions.
    assert len(np.unique(merged * 100 + expected)) == 6 == merged.max() + 1


def test_similarity_is_the_sum_of_the_four_parts():
    rng = np.random.RandomState(10)
    labels = np.zeros([20, 30], int)
    labels[:, 12:], labels[14:, 20:] = 1, 2
    lab = rng.uniform([0, -80, -100], [100, 90, 90], [20, 30, 3])
    texture = rng.randint(0, 10, labels.shape)

    def histogram(values, low, high, bins, label):
        counts, _ = np.histogram(values[labels == label], bins, (low, high))
        return counts / float(counts.sum())

    def intersection(values, low, high, bins):
        return np.minimum(*[histogram(values, low, high, bins, label) for label in (1, 2)]).sum()

    low, high = selective_search.LAB_LOW, selective_search.LAB_HIGH
    colour = np.mean([intersection(lab[..., c], low[c], high[c], 25) for c in range(3)])
    texture_part = intersection(texture, 0, 10, 10)
    size = 1 - 20 * 18 / 600.0
    fill = 1.0  # together they fill their bounding box
    regions = selective_search._Regions(labels, lab, texture, 3)
    found = regions.similarity(np.array([1]), np.array([2]))
    np.testing.assert_allclose(found, colour + texture_part + size + fill, rtol=1e-12)


def test_merged_regions_know_what_their_pixels_say():
    rng = np.random.RandomState(11)
    labels = np.repeat(np.arange(4), 6)[None, :] + np.zeros([10, 1], int)
    lab = rng.uniform([0, -80, -100], [100, 90, 90], [10, 24, 3])
    texture = rng.randint(0, 10, labels.shape)
    merged = selective_search._Regions(labels, lab, texture, 4)
    merged.merge(1, 2, 4)
    again = selective_search._Regions(np.array([0, 1, 1, 2])[labels], lab, texture, 3)
    for name in ("sizes", "histograms", "low", "high"):
        np.testing.assert_allclose(getattr(merged, name)[4], getattr(again, name)[1], rtol=1e-12)


def test_processes_give_the_same_as_direct_calls_in_order():
    pictures, before = np.stack([draw(seed, 48, 48) for seed in range(5)]), children()
    with Flattener(40, use_enhance=False, legacy=True, workers=2) as flattener:
        first, second = flattener.submit(pictures), flattener.submit(pictures[::-1])
        expected = np.stack([flatten_slic(picture, 40, True) for picture in pictures])
        np.testing.assert_array_equal(first.result(), expected)
        np.testing.assert_array_equal(second.result(), expected[::-1])
        started = children(before=before)
        assert 1 <= len([pid for pid in started if is_running(pid)]) <= 2
    assert not any(is_running(pid) for pid in started)


def test_processes_enhance_tell_errors_and_ignore_requests_to_stop():
    picture, broken, before = draw(12, 48, 48), draw(13, 48, 48), children()
    broken[0, 0, 0] = np.nan
    with Flattener(10, use_enhance=True, workers=1) as flattener:
        with pytest.raises(UserError, match="not finite"):
            flattener.submit(broken[None]).result()
        (worker,) = children(before=before)
        os.kill(worker, signal.SIGTERM)
        os.kill(worker, signal.SIGINT)
        flat = flattener.submit(picture[None]).result()[0]
        assert children(before=before) == [worker]
    np.testing.assert_array_equal(flat, flatten_adaptive(picture, 10))


@pytest.mark.parametrize(
    ("workers", "advice"), [(1, "lower --batch_size"), (2, "--superpixel_workers less than 2")]
)
def test_a_process_that_was_killed_is_told_in_one_sentence(workers, advice):
    picture, before = draw(14, 256, 256)[None], children()
    with Flattener(40, workers=workers) as flattener:
        flattener.submit(picture).result()
        (worker,) = children(before=before)
        os.kill(worker, signal.SIGKILL)
        with pytest.raises(UserError, match=r"ended \(status -9\).*" + advice):
            flattener.submit(picture).result()


def test_processes_end_with_the_one_that_started_them():
    code = (
        "import os, sys, time\n"
        "import numpy as np\n"
        "from whitebox.superpixels import Flattener\n"
        "assert 'tensorflow' not in sys.modules\n"
        "flattener = Flattener(40, workers=2)\n"
        "pictures = np.random.RandomState(0).rand(4, 64, 64, 3).astype('float32')\n"
        "flattener.submit(pictures).result()\n"
        "working = flattener.submit(np.tile(pictures, [20, 4, 4, 1]))\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code]
    parent = subprocess.Popen(command, cwd=FOLDER, stdout=subprocess.PIPE)
    try:
        assert parent.stdout.readline() == b"ready\n"
        workers = children(parent.pid)
        assert len(workers) == 2
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    end = time.time() + 5
    while time.time() < end and any(is_running(pid) for pid in workers):
        time.sleep(0.05)
    assert not any(is_running(pid) for pid in workers)
