# SPDX-License-Identifier: Apache-2.0
"""Pairs on disk, the check before training, and batches as functions of (seed, step)."""

import os
import shutil

import numpy as np
import pytest
from conftest import draw_pair, draw_set
from PIL import Image

from pix2pix import data
from pix2pix.config import Config

SMALL = Config(fine_size=256, load_size=286)


def test_side_by_side_pairs_are_read_in_both_directions(dataset):
    pair = data.find_pairs(dataset, "train")[0]
    with Image.open(pair.a) as image:
        whole = np.asarray(image)
    b_to_a = data.read_pair(pair, Config(which_direction="BtoA"))
    a_to_b = data.read_pair(pair, Config(which_direction="AtoB"))
    np.testing.assert_array_equal(b_to_a[0], whole[:, 64:])
    np.testing.assert_array_equal(b_to_a[1], whole[:, :64])
    np.testing.assert_array_equal(a_to_b[0], whole[:, :64])
    np.testing.assert_array_equal(a_to_b[1], whole[:, 64:])


def test_names_are_sorted_as_numbers_and_jpg_and_png_may_be_mixed(tmp_path):
    draw_set(tmp_path / "set", train=11)
    names = [os.path.basename(pair.a) for pair in data.find_pairs(str(tmp_path / "set"), "train")]
    assert names == ["1.png", "2.jpg"] + [
        "%d.%s" % (i, "png" if i % 2 else "jpg") for i in range(3, 12)
    ]


@pytest.mark.parametrize(
    ("a", "b"), [("trainA", "trainB"), ("train/A", "train/B"), ("A/train", "B/train")]
)
def test_two_folders_give_the_same_pairs_as_side_by_side(tmp_path, a, b):
    rng = np.random.RandomState(0)
    for folder in (a, b):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("x", "y"):
        picture = draw_pair(rng)
        Image.fromarray(picture[:, :64]).save(str(tmp_path / a / (name + ".png")))
        Image.fromarray(picture[:, 64:]).save(str(tmp_path / b / (name + ".png")))
    pairs = data.find_pairs(str(tmp_path), "train")
    data.check_pairs(pairs)
    assert [os.path.basename(pair.b) for pair in pairs] == ["x.png", "y.png"]
    condition, target = data.read_pair(pairs[1], SMALL)
    np.testing.assert_array_equal(target, picture[:, :64])
    np.testing.assert_array_equal(condition, picture[:, 64:])


def test_grey_on_either_side(dataset):
    pair = data.find_pairs(dataset, "train")[0]
    condition, target = data.read_pair(pair, Config(input_nc=1, output_nc=3))
    assert condition.shape == (64, 64, 1)
    assert target.shape == (64, 64, 3)


def test_a_batch_is_a_function_of_seed_and_step(dataset):
    pairs = data.find_pairs(dataset, "train")
    one, again = (data.training_batch(pairs, SMALL, 7, 0, 1) for _ in range(2))
    other_step = data.training_batch(pairs, SMALL, 8, 0, 1)
    other_seed = data.training_batch(pairs, Config(seed=1), 7, 0, 1)
    for mine, same in zip(one, again):
        np.testing.assert_array_equal(mine, same)
    assert np.any(one[0] != other_step[0])
    assert np.any(one[0] != other_seed[0])
    assert one[0].dtype == np.float32
    assert one[0].shape == (1, 256, 256, 3)
    assert -1 <= one[0].min() < -0.2 < 0.2 < one[0].max() <= 1


def test_ranks_share_the_batch_that_one_rank_would_have(dataset):
    pairs = data.find_pairs(dataset, "train")
    whole = data.training_batch(pairs, Config(batch_size=4), 3, 0, 1)
    shares = [data.training_batch(pairs, Config(batch_size=2), 3, rank, 2) for rank in (0, 1)]
    for side in (0, 1):
        np.testing.assert_array_equal(whole[side], np.concatenate([s[side] for s in shares]))


def test_an_epoch_shows_every_pair_once_in_a_new_order(dataset):
    pairs = data.find_pairs(dataset, "train")
    seen = []
    for epoch in (0, 1, 2):
        steps = range(1 + 5 * epoch, 6 + 5 * epoch)
        calm = Config(load_size=256, flip=False, seed=5)
        seen.append([data.training_batch(pairs, calm, s, 0, 1)[0].tobytes() for s in steps])
    assert len(set(seen[0])) == 5
    assert set(seen[0]) == set(seen[1]) == set(seen[2])
    assert len({tuple(order) for order in seen}) > 1


def test_serial_batches_keep_the_order_of_the_names(dataset):
    pairs = data.find_pairs(dataset, "train")
    calm = Config(load_size=256, flip=False, serial_batches=True, serial_batch_iter=2)
    for step, index in ((1, 1), (2, 2), (5, 0), (6, 1)):
        expected = data.to_float(data.resize(data.read_pair(pairs[index], calm)[0], 256, 256))
        np.testing.assert_array_equal(data.training_batch(pairs, calm, step, 0, 1)[0][0], expected)


def test_jitter_treats_both_pictures_alike_and_mirrors_about_half():
    picture = np.random.RandomState(0).randint(0, 255, (64, 64, 3)).astype(np.uint8)
    resized, mirrored, offsets = data.resize(picture, 286, 286), 0, set()
    for seed in range(40):
        a, b = data.jitter(picture, picture, SMALL, np.random.RandomState(seed))
        np.testing.assert_array_equal(a, b)
        rng = np.random.RandomState(seed)
        top, left = rng.randint(0, 31, 2)
        crop = resized[top : top + 256, left : left + 256]
        mirrored += not np.array_equal(a, crop)
        np.testing.assert_array_equal(a, crop[:, ::-1] if not np.array_equal(a, crop) else crop)
        offsets.add((top, left))
    assert 8 < mirrored < 32
    assert len(offsets) > 30


def test_resize_averages_areas():
    picture = np.random.RandomState(0).randint(0, 255, (8, 12, 3)).astype(np.uint8)
    expected = picture.reshape(4, 2, 4, 3, 3).mean(axis=(1, 3))
    assert np.abs(data.resize(picture, 4, 4) - expected).max() <= 1


def test_enlarging_shares_pixels_by_the_area_they_cover():
    picture = np.array([[[0], [100], [200]]], np.uint8)
    enlarged = data.resize(picture, 1, 4).ravel()
    np.testing.assert_array_equal(enlarged, [0, 67, 133, 200])  # 3/4 0; 1/4 + 2/4 of 0, 100; ...


def test_eight_bits_survive_the_way_to_floats_and_back():
    values = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    np.testing.assert_array_equal(data.to_uint8(data.to_float(values)), values)
    np.testing.assert_array_equal(data.to_uint8(np.array([-9.0, 9.0])), [0, 255])


def _error(call, *arguments):
    with pytest.raises(data.DataError) as caught:
        call(*arguments)
    return str(caught.value)


def test_a_missing_folder_is_named(tmp_path):
    missing = str(tmp_path / "nowhere")
    assert "there is no folder " + missing in _error(data.find_pairs, missing, "train")


def test_a_missing_or_empty_train_folder_is_named(tmp_path):
    assert os.path.join(str(tmp_path), "train") in _error(data.find_pairs, str(tmp_path), "train")
    (tmp_path / "train").mkdir()
    assert "holds no picture" in _error(data.find_pairs, str(tmp_path), "train")


def test_different_counts_name_the_pictures_without_a_partner(tmp_path):
    for folder, names in (("trainA", "abc"), ("trainB", "ab")):
        (tmp_path / folder).mkdir()
        for name in names:
            Image.fromarray(draw_pair(np.random.RandomState(0))).save(
                str(tmp_path / folder / (name + ".png"))
            )
    message = _error(data.find_pairs, str(tmp_path), "train")
    assert "3 pictures" in message
    assert "without a partner: c" in message


def test_a_text_file_and_a_truncated_jpeg_are_named(dataset):
    folder = os.path.join(dataset, "train")
    with open(os.path.join(folder, "6.jpg"), "w") as file:
        file.write("not a picture")
    rng = np.random.RandomState(0)
    Image.fromarray(rng.randint(0, 255, (64, 128, 3)).astype(np.uint8)).save(
        os.path.join(folder, "7.jpg")
    )
    with open(os.path.join(folder, "7.jpg"), "r+b") as file:
        file.truncate(os.path.getsize(file.name) // 2)
    message = _error(data.check_pairs, data.find_pairs(dataset, "train"))
    assert "2 of 7 pairs in %s" % folder in message
    assert "6.jpg cannot be read as a picture" in message
    assert "7.jpg" in message
    assert "truncated" in message


@pytest.mark.parametrize(
    ("size", "words"), [((65, 32), "must be even"), ((32, 64), "higher than wide")]
)
def test_odd_width_and_wrong_orientation_are_named(dataset, size, words):
    path = os.path.join(dataset, "train", "9.png")
    Image.new("RGB", size, "red").save(path)
    message = _error(data.check_pairs, data.find_pairs(dataset, "train"))
    assert "%s is %dx%d" % ((path,) + size) in message
    assert words in message


def test_a_turned_photograph_is_not_taken_for_a_standing_pair(dataset, monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = 6
    standing = Image.new("RGB", (32, 64), "red")
    standing.save(os.path.join(dataset, "train", "9.jpg"), exif=exif.tobytes())
    pairs = data.find_pairs(dataset, "train")
    for limit in (data.FULL_CHECK, 0):
        monkeypatch.setattr(data, "FULL_CHECK", limit)
        data.check_pairs(pairs)


def test_one_name_twice_in_a_folder_is_an_error(tmp_path):
    for folder, names in (("trainA", ("1.png", "1.jpg")), ("trainB", ("1.png",))):
        (tmp_path / folder).mkdir()
        for name in names:
            Image.new("RGB", (8, 8)).save(str(tmp_path / folder / name))
    assert "have one name" in _error(data.find_pairs, str(tmp_path), "train")


def test_partners_of_different_size_are_named(tmp_path):
    for folder, size in (("trainA", (64, 64)), ("trainB", (32, 64))):
        (tmp_path / folder).mkdir()
        Image.new("RGB", size, "blue").save(str(tmp_path / folder / "1.png"))
    assert "its partner is 32x64" in _error(
        data.check_pairs, data.find_pairs(str(tmp_path), "train")
    )


def test_a_batch_larger_than_the_data_set_is_an_error(dataset):
    pairs = data.find_pairs(dataset, "train")
    message = _error(data.steps_per_epoch, pairs, Config(batch_size=3), 2)
    assert "--batch_size 3 on 2 device(s)" in message


def test_a_data_set_in_a_folder_with_spaces_and_chinese_letters(dataset, tmp_path):
    place = str(tmp_path / "数据 集")
    shutil.copytree(dataset, place)
    pairs = data.find_pairs(place, "train")
    data.check_pairs(pairs)
    assert data.training_batch(pairs, SMALL, 1, 0, 1)[0].std() > 0
