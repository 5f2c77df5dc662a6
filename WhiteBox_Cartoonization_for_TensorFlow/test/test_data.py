# SPDX-License-Identifier: Apache-2.0
"""The folders of photos and cartoons, what is wrong with them, batches as functions of a step."""

import os
import pathlib
import shutil

import numpy as np
import pytest
from conftest import draw_cartoon, draw_data, draw_photo
from PIL import Image

from harness.images import read_image
from whitebox import data
from whitebox.config import Config, PretrainConfig

FOLDERS = ("face_photo", "face_cartoon", "scenery_photo", "scenery_cartoon")


def options(path, **values):
    values = dict({"patch_size": 32, "batch_size": 2}, **values)
    return Config(data_path=str(path), **values)


def find(path, **values):
    return data.find_domains(options(path, **values))


def error(path, photos_only=False, **values):
    with pytest.raises(data.DataError) as caught:
        data.find_domains(options(path, **values), photos_only)
    return str(caught.value)


def steps_of(subject, domains, last):
    return [s for s in range(1, last + 1) if data.subject_of(s, domains)[0].subject == subject]


def as_seen(path):
    """Returns what a batch holds of a picture of the patch's size."""
    return data.to_float(read_image(path)).tobytes()


def place_of(patch, paths):
    """Returns (path, top, left) of the picture that the float BGR `patch` was cut from."""
    patch = data.to_uint8(patch)
    side = len(patch)
    for path in paths:
        pixels = read_image(path)
        rows, columns = np.nonzero(np.all(pixels == patch[0, 0], axis=2))
        for top, left in zip(rows, columns):
            if np.array_equal(pixels[top : top + side, left : left + side], patch):
                return path, top, left
    raise AssertionError("the patch is in none of the pictures")


@pytest.fixture
def exact(tmp_path):
    """The path of pictures that are exactly as large as the patches, 7 in each folder."""
    return draw_data(tmp_path / "data", count=7, size=(32, 32))


def test_both_naming_schemes_give_the_same_data_even_mixed(drawn):
    expected = find(drawn)
    assert [domain.subject for domain in expected] == ["face", "scenery"]
    for domain in expected:
        for kind, paths in (("photo", domain.photos), ("cartoon", domain.cartoons)):
            folder = os.path.join(drawn, "dataset", "%s_%s" % (domain.subject, kind))
            names = ["1.jpg", "2.png", "3.jpg", "4.png", "5.jpg", "6.png"]
            assert paths == [os.path.join(folder, name) for name in names]
    batch = data.photo_batch(expected, options(drawn), 1, 0, 1)
    fingerprint = data.fingerprint(expected)
    for name in FOLDERS:  # the first three rounds are mixtures
        os.rename(
            os.path.join(drawn, "dataset", name),
            os.path.join(drawn, "dataset", "_".join(reversed(name.split("_")))),
        )
        assert data.fingerprint(find(drawn)) == fingerprint
    renamed = find(drawn)
    assert os.path.dirname(renamed[0].photos[0]).endswith("photo_face")
    np.testing.assert_array_equal(data.photo_batch(renamed, options(drawn), 1, 0, 1), batch)


def test_the_root_is_the_folder_itself_or_its_dataset_or_real_path(drawn, tmp_path):
    inner = os.path.join(drawn, "dataset")
    assert data.find_root(options(drawn)) == inner
    assert data.find_root(options(inner)) == inner
    assert data.find_root(options("/nowhere", REAL_PATH=inner)) == inner
    other = draw_data(tmp_path / "other", count=2)
    assert data.find_root(options(other, REAL_PATH=inner)) == inner
    shutil.copytree(os.path.join(inner, "face_photo"), os.path.join(drawn, "photo_face"))
    assert data.find_root(options(drawn)) == drawn  # the nearer one
    assert data.find_root(options(drawn, subjects=("scenery",))) == inner


def test_a_root_without_the_folders_is_described(tmp_path):
    for name in ("faces", "b", "c", "d", "e", "a.zip"):
        (tmp_path / name).mkdir()
    message = error(tmp_path)
    assert "none of the folders face_photo, face_cartoon, scenery_photo, scenery_cartoon" in message
    assert "(or photo_face, cartoon_face, photo_scenery, cartoon_scenery)" in message
    assert "is in %s, which holds a.zip, b, c, d, e, ..., nor in" % tmp_path in message
    assert "%s, which is no folder; give --data_path" % (tmp_path / "dataset") in message
    message = error(tmp_path, REAL_PATH=str(tmp_path / "b"), subjects=("face",))
    assert "none of the folders face_photo, face_cartoon (or photo_face, cartoon_face)" in message
    assert "is in %s, which holds nothing; give --REAL_PATH" % (tmp_path / "b") in message


def test_a_missing_folder_is_named_and_the_other_subject_offered(drawn):
    root = os.path.join(drawn, "dataset")
    shutil.rmtree(os.path.join(root, "face_cartoon"))
    message = error(drawn)
    assert "there is neither face_cartoon nor cartoon_face in %s" % root in message
    assert "which holds face_photo, scenery_cartoon, scenery_photo;" in message
    assert message.endswith("or train without it: --subjects scenery")
    assert error(drawn, subjects=("face",)).endswith("; add one of them")
    (domain,) = find(drawn, subjects=("scenery",))
    assert (domain.subject, len(domain.photos), len(domain.cartoons)) == ("scenery", 6, 6)


def test_pretraining_needs_no_cartoons(drawn):
    complete = data.find_domains(options(drawn), photos_only=True)
    for name in ("face_cartoon", "scenery_cartoon"):
        shutil.rmtree(os.path.join(drawn, "dataset", name))
    config = PretrainConfig(data_path=drawn, patch_size=32, batch_size=2)
    domains = data.find_domains(config, photos_only=True)
    assert domains == complete
    assert [(len(d.photos), d.cartoons) for d in domains] == [(6, []), (6, [])]
    assert data.steps_per_epoch(domains, config, 1) == 6
    data.check_pictures(domains)
    assert data.photo_batch(domains, config, 1, 0, 1).shape == (2, 32, 32, 3)
    shutil.rmtree(os.path.join(drawn, "dataset", "scenery_photo"))
    assert "neither scenery_photo nor photo_scenery" in error(drawn, photos_only=True)


def test_two_names_of_one_folder_are_an_error(drawn):
    os.mkdir(os.path.join(drawn, "dataset", "photo_scenery"))
    assert "has both scenery_photo and photo_scenery, which are two names" in error(drawn)
    assert [domain.subject for domain in find(drawn, subjects=("face",))] == ["face"]


def test_other_files_are_ignored_and_a_folder_without_pictures_is_an_error(drawn):
    folder = pathlib.Path(drawn, "dataset", "scenery_cartoon")
    expected = find(drawn)
    for name in ("notes.txt", ".hidden.png", "Thumbs.db"):
        (folder / name).write_text("no picture")
    assert find(drawn) == expected
    for path in expected[1].cartoons:
        os.remove(path)
    message = error(drawn)
    assert "the folder %s holds no picture" % folder in message
    assert "training needs some" in message


def test_an_epoch_counts_the_photos_and_small_folders_are_named(drawn):
    root = os.path.join(drawn, "dataset")
    domains = find(drawn)
    for batch_size, ranks, steps in ((2, 1, 6), (4, 1, 2), (1, 3, 4), (3, 2, 2)):
        assert data.steps_per_epoch(domains, options(drawn, batch_size=batch_size), ranks) == steps
    os.remove(os.path.join(root, "face_cartoon", "2.png"))
    with pytest.raises(data.DataError) as caught:
        data.steps_per_epoch(find(drawn), options(drawn, batch_size=3), 2)
    text = "%s has 5 pictures, but --batch_size 3 on 2 device(s) takes 6 a step; lower it, or add"
    assert str(caught.value).startswith(text % os.path.join(root, "face_cartoon"))


def test_every_fifth_step_is_faces_and_none_is_left_out(drawn):
    domains = find(drawn)
    assert steps_of("face", domains, 20) == [1, 6, 11, 16]
    for subject, only in zip(("face", "scenery"), domains):
        steps = steps_of(subject, domains, 40)
        assert [data.subject_of(step, domains) for step in steps] == [
            (only, index) for index in range(len(steps))
        ]
        assert [data.subject_of(step, [only]) for step in (1, 2, 7)] == [
            (only, 0),
            (only, 1),
            (only, 6),
        ]


def test_an_epoch_shows_every_picture_once_in_a_new_order(exact):
    config = options(exact)
    domains, orders = data.find_domains(config), []
    for domain in domains:
        steps = steps_of(domain.subject, domains, 45)[:9]  # 3 epochs of 3 batches: 1 is left over
        for batch, paths in (
            (data.photo_batch, domain.photos),
            (data.cartoon_batch, domain.cartoons),
        ):
            numbers = {as_seen(path): number for number, path in enumerate(paths)}
            assert len(numbers) == 7
            shown = [
                numbers[patch.tobytes()]
                for step in steps
                for patch in batch(domains, config, step, 0, 1)
            ]
            epochs = [tuple(shown[first : first + 6]) for first in (0, 6, 12)]
            assert [len(set(epoch)) for epoch in epochs] == [6, 6, 6]
            orders += epochs
    assert len(set(orders)) == 12  # of the epochs and of the four folders


def test_a_batch_is_a_function_of_seed_and_step(drawn):
    domains, config = find(drawn), options(drawn)
    for batch in (data.photo_batch, data.cartoon_batch):
        expected = batch(domains, config, 7, 0, 1)
        for step in (8, 400, 6):
            assert np.any(batch(domains, config, step, 0, 1) != expected)
        data._order.cache_clear()
        np.testing.assert_array_equal(batch(domains, config, 7, 0, 1), expected)
        assert np.any(batch(domains, options(drawn, seed=1), 7, 0, 1) != expected)
        assert (expected.shape, expected.dtype) == ((2, 32, 32, 3), np.float32)
        assert -1 <= expected.min() < -0.2 < 0.2 < expected.max() <= 1


@pytest.mark.parametrize("step", [1, 2, 4, 6, 9])
def test_the_ranks_share_the_batch_that_one_rank_would_have(drawn, step):
    domains, config = find(drawn), options(drawn, batch_size=2)
    for batch in (data.photo_batch, data.cartoon_batch):
        whole = batch(domains, options(drawn, batch_size=6), step, 0, 1)
        shares = [batch(domains, config, step, rank, 3) for rank in range(3)]
        np.testing.assert_array_equal(np.concatenate(shares), whole)
        assert np.any(shares[0] != shares[1])


def test_crops_lie_anywhere_in_a_picture_and_differ_between_epochs(drawn):
    config = options(drawn, subjects=("scenery",), batch_size=6)
    domains, places = data.find_domains(config), {}
    for epoch in range(8):
        batch = data.photo_batch(domains, config, 1 + epoch, 0, 1)
        found = [place_of(patch, domains[0].photos) for patch in batch]
        assert len({place[1:] for place in found}) > 3  # each picture has its own
        for path, top, left in found:
            places.setdefault(path, set()).add((top, left))
    assert sorted(places) == sorted(domains[0].photos)
    assert min(len(seen) for seen in places.values()) >= 7
    tops, lefts = zip(*set.union(*places.values()))
    assert 0 <= min(tops) < 8 < 24 < max(tops) <= 64 - 32  # the pictures are 72x64
    assert 0 <= min(lefts) < 8 < 32 < max(lefts) <= 72 - 32


def test_a_picture_of_the_size_of_the_patch_is_taken_as_it_is(tmp_path):
    path = draw_data(tmp_path, count=2, size=(256, 256))
    config = Config(data_path=path, batch_size=2)
    domains = data.find_domains(config)
    for batch, paths in (
        (data.photo_batch, domains[0].photos),
        (data.cartoon_batch, domains[0].cartoons),
    ):
        shown = data.to_uint8(batch(domains, config, 1, 0, 1))
        pictures = [read_image(path) for path in paths]
        assert sorted(p.tobytes() for p in shown) == sorted(p.tobytes() for p in pictures)
    photos = data.sample_photos(domains[1], config)
    np.testing.assert_array_equal(photos, [read_image(path) for path in domains[1].photos])


def test_pictures_of_any_size_and_mode_make_a_batch(drawn):
    folder, rng = pathlib.Path(drawn, "dataset", "scenery_photo"), np.random.RandomState(5)
    sizes = [(32, 32), (20, 300), (300, 33), (31, 16), (1, 1), (500, 2)]
    for number, size in enumerate(sizes, 1):
        ending = "jpg" if number % 2 else "png"
        pixels = np.clip(draw_photo(rng, (80, 80)), 60, 200)
        image = Image.fromarray(pixels).resize(size, Image.BILINEAR)
        modes = ("RGB", "L", "L", "RGBA", "CMYK", "P")
        image.convert(modes[number - 1]).save(str(folder / ("%d.%s" % (number, ending))))
    for load_size in (0, 32, 45):
        config = options(drawn, subjects=("scenery",), batch_size=6, load_size=load_size)
        domains = data.find_domains(config)
        data.check_pictures(domains)
        batch = data.photo_batch(domains, config, 1, 0, 1)
        assert batch.shape == (6, 32, 32, 3)
        assert 0.05 < np.mean(np.abs(batch)) < 0.6  # nothing is padded with black or white
        samples = data.sample_photos(domains[0], config)
        assert samples.shape == (6, 32, 32, 3)
        np.testing.assert_array_equal(samples[1, :, :, 0], samples[1, :, :, 1])  # grey


@pytest.mark.parametrize(
    ("load_size", "by_hand"), [(0, (72, 64)), (64, (72, 64)), (40, (45, 40)), (128, (144, 128))]
)
def test_the_shorter_side_gets_the_load_size_as_pil_scales(drawn, load_size, by_hand):
    config = options(drawn, load_size=load_size)
    (_, scenery), (left, top) = find(drawn), [(side - 32) // 2 for side in by_hand]
    samples = data.sample_photos(scenery, config, 2)
    assert (samples.dtype, samples.shape) == (np.uint8, (2, 32, 32, 3))
    for path, sample in zip(scenery.photos, samples):
        image = Image.fromarray(read_image(path)).resize(by_hand, Image.BICUBIC)
        expected = np.asarray(image, int)[top : top + 32, left : left + 32]
        assert np.abs(expected - sample).max() <= 1  # rounding


def test_a_small_picture_is_enlarged_until_the_patch_fits(drawn):
    (_, scenery), config = find(drawn), options(drawn, patch_size=96)
    image = Image.fromarray(read_image(scenery.photos[0])).resize((108, 96), Image.BICUBIC)
    (sample,) = data.sample_photos(scenery, config, 1)
    assert np.abs(np.asarray(image, int)[:, 6:102] - sample).max() <= 1


def test_channels_are_bgr_between_minus_one_and_one_and_come_back_exactly():
    pixels = np.random.RandomState(3).randint(0, 256, (2, 16, 24, 3)).astype(np.uint8)
    values = data.to_float(pixels)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values[..., 0], pixels[..., 2] / 127.5 - 1, atol=1e-6)
    np.testing.assert_allclose(values[..., 2], pixels[..., 0] / 127.5 - 1, atol=1e-6)
    back = data.to_uint8(values)
    np.testing.assert_array_equal(back, pixels)
    assert back.dtype == np.uint8
    assert back.flags.c_contiguous
    every = np.arange(256, dtype=np.uint8).reshape(-1, 1) * np.ones(3, np.uint8)
    assert (data.to_float(every).min(), data.to_float(every).max()) == (-1, 1)
    np.testing.assert_array_equal(data.to_uint8(data.to_float(every)), every)
    np.testing.assert_array_equal(data.to_uint8(np.array([-9.0, 0.001, 9.0])), [255, 128, 0])


def test_files_that_are_no_pictures_are_named(drawn, monkeypatch):
    domains = find(drawn)
    paths = [path for domain in domains for path in domain.photos + domain.cartoons]
    data.check_pictures(domains)
    with open(paths[0], "r+b") as file:
        file.truncate(os.path.getsize(file.name) // 2)
    texts = paths[1:5] + paths[22:]
    assert all(pathlib.Path(path).write_text("not a picture") for path in texts)
    for limit, bad in ((24, paths[:1] + texts), (23, texts)):  # above: headers only
        monkeypatch.setattr(data, "FULL_CHECK", limit)
        with pytest.raises(data.DataError) as caught:
            data.check_pictures(domains)
        start = "%d of 24 pictures cannot be used, mend them or remove them: %s"
        assert str(caught.value).startswith(start % (len(bad), bad[0]))
        assert str(caught.value).count("cannot be read as a picture") == 5
        assert str(caught.value).endswith("; and %d more" % (len(bad) - 5))


def test_the_fingerprint_changes_with_names_sizes_and_subjects(drawn, tmp_path, monkeypatch):
    domains = find(drawn)
    faces, scenery = domains
    sets = [domains, [faces], [scenery], [faces, scenery._replace(cartoons=[])]]
    sets.append([faces._replace(subject="scenery"), scenery._replace(subject="face")])
    sets.append([faces._replace(photos=faces.photos[1:]), scenery])
    texts = {data.fingerprint(one) for one in sets}
    picture = Image.fromarray(draw_cartoon(np.random.RandomState(9), (200, 200)))
    picture.save(faces.photos[1])
    texts.add(data.fingerprint(domains))
    assert len(texts) == 7
    assert data.fingerprint(domains).startswith("24 pictures, ")
    moved = str(tmp_path / "数据 集")
    shutil.move(drawn, moved)
    assert data.fingerprint(find(moved)) in texts
    monkeypatch.setattr(data, "MOST_SIZES", 23)
    without_sizes = data.fingerprint(find(moved))
    picture.save(find(moved)[0].photos[3])
    assert data.fingerprint(find(moved)) == without_sizes not in texts
