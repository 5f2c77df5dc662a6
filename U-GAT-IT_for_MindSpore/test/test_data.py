# SPDX-License-Identifier: Apache-2.0
"""Two domains on disk, what is wrong with them, and batches as functions of (seed, step, rank)."""

import os
import pathlib
import shutil

import numpy as np
import pytest
from conftest import DATASET, draw_domains
from PIL import Image

from harness.errors import UserError
from harness.images import read_image
from ugatit import data
from ugatit.config import Config
from ugatit.pictures import resize, to_float, to_uint8


def options(path, **values):
    values = dict({"dataset": DATASET, "img_size": 32, "n_dis": 4}, **values)
    return Config(data_path=str(path), **values)


def error(path, **values):
    with pytest.raises(UserError) as caught:
        data.find_domains(options(path, **values))
    return str(caught.value)


def draw_numbered(folder, count_a, count_b):
    """Draws pictures of one colour each, which tells domain (green) and number (red); finds them.

    Flips, sizes and crops leave the colour as it is.
    """
    for domain, count, green in (("trainA", count_a, 50), ("trainB", count_b, 200)):
        (folder / DATASET / domain).mkdir(parents=True)
        for number in range(count):
            size = (20 + number, 40 - number)
            picture = Image.new("RGB", size, (10 * number, green, 7))
            picture.save(str(folder / DATASET / domain / ("%d.png" % number)))
    return data.find_domains(options(folder))


def numbers(domains, config, steps, **ranks):
    """Returns (numbers of A, numbers of B) that the steps show."""
    shown = ([], [])
    for step in steps:
        batch = data.read_batch(domains, config, step, **ranks)
        for domain, tensors in enumerate(batch):
            colours = [to_uint8(tensor)[5, 9] for tensor in tensors]
            assert all(colour[1] == (50, 200)[domain] for colour in colours)
            shown[domain].extend(int(colour[0]) // 10 for colour in colours)
    return shown


def crops(path, size, side):
    """Returns {tensor as bytes: (mirrored, top, left)} of all that can become of a picture."""
    pixels, found = read_image(path), {}
    for mirrored in (False, True):
        whole = resize(np.ascontiguousarray(pixels[:, ::-1] if mirrored else pixels), side)
        for top, left in np.ndindex(side - size + 1, side - size + 1):
            tensor = to_float(whole[top : top + size, left : left + size])
            found[tensor.tobytes()] = (mirrored, top, left)
    return found


@pytest.mark.parametrize("below", [DATASET, os.path.join("dataset", DATASET), ""])
def test_every_layout_gives_the_same_pictures(shapes, tmp_path, below):
    expected = data.find_domains(options(shapes))
    place = os.path.join(str(tmp_path / "moved 数"), below)
    shutil.copytree(os.path.join(shapes, DATASET), place)
    config = options(tmp_path / "moved 数")
    assert os.path.normpath(data.find_root(config)) == os.path.normpath(place)
    domains = data.find_domains(config)
    assert [len(paths) for paths in domains] == [4, 5, 2, 2]
    assert data.fingerprint(domains) == data.fingerprint(expected)
    for name, paths in zip(("trainA", "trainB", "testA", "testB"), domains):
        assert paths == [os.path.join(place, name, "%d.png" % n) for n in range(len(paths))]


def test_the_named_data_set_goes_before_the_folder_itself(shapes):
    for name in ("trainA", "trainB"):
        shutil.copytree(os.path.join(shapes, DATASET, name), os.path.join(shapes, name))
    assert data.find_root(options(shapes)) == os.path.join(shapes, DATASET)
    assert os.path.normpath(data.find_root(options(shapes, dataset="others"))) == shapes


def test_a_place_without_domains_names_all_places(tmp_path):
    message = error(tmp_path / "absent", dataset="cats")
    for place in ("absent/cats,", "absent/dataset/cats,", "absent;"):
        assert str(tmp_path / place) in message
    assert "give --data_path and --dataset" in message


@pytest.mark.parametrize("name", ["trainA", "trainB"])
def test_a_missing_domain_is_named(shapes, name):
    folder = os.path.join(shapes, DATASET, name)
    shutil.rmtree(folder)
    assert error(shapes).startswith("there is no folder %s; " % folder)


@pytest.mark.parametrize("name", ["trainA", "trainB"])
@pytest.mark.parametrize("count", [0, 1])
def test_a_domain_needs_two_pictures(shapes, name, count):
    folder = pathlib.Path(shapes, DATASET, name)
    for path in sorted(folder.iterdir())[count:]:
        path.rename(path.with_suffix(".txt"))
    start = "the number of pictures in %s is %d and must be at least 2; add" % (folder, count)
    assert error(shapes).startswith(start)
    shutil.copy(str(folder / "1.txt"), str(folder / "1.png"))
    shutil.copy(str(folder / "2.txt"), str(folder / "2.png"))
    assert len(data.find_domains(options(shapes))[name == "trainB"]) == 2 + count


def test_test_pictures_are_optional(shapes):
    shutil.rmtree(os.path.join(shapes, DATASET, "testA"))
    for name in ("0.png", "1.png"):
        os.remove(os.path.join(shapes, DATASET, "testB", name))
    assert [len(paths) for paths in data.find_domains(options(shapes))] == [4, 5, 0, 0]


def test_folders_below_count_and_what_is_hidden_or_no_picture_does_not(shapes):
    folder = pathlib.Path(shapes, DATASET, "trainA")
    names = ["0.png", "1.png", "2.png", "3.png", "10.PGM", "more/x2.JPG", "more/x10.webp"]
    for name in names[4:] + [".cache/4.png", "._5.png", "6.gif", "7"]:
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(str(folder / "0.png"), str(folder / name))
    assert data.find_domains(options(shapes)).train_a == [str(folder / name) for name in names]


def test_a_folder_that_cannot_be_read_is_not_passed_over(shapes, monkeypatch):
    folder, scandir = os.path.join(shapes, DATASET, "trainA", "locked"), os.scandir
    os.mkdir(folder)

    def refuse(path):
        if path == folder:
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert "the folder %s cannot be read: Permission denied; " % folder in error(shapes)


def test_broken_pictures_are_counted_and_three_are_named(shapes):
    domains = data.find_domains(options(shapes))
    paths = domains.train_a + domains.train_b
    data.check_pictures(paths)
    half = pathlib.Path(paths[0])
    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])
    os.remove(paths[1])
    with pytest.raises(UserError) as caught:
        data.check_pictures(paths)
    start = "2 of 9 pictures cannot be used, mend or remove them: %s cannot be read as a picture: "
    assert str(caught.value).startswith(start % paths[0])
    assert str(caught.value).endswith("; there is no picture %s" % paths[1])
    for path in paths[2:6]:
        pathlib.Path(path).write_text("not a picture")
    with pytest.raises(UserError) as caught:
        data.check_pictures(paths)
    assert str(caught.value).startswith("6 of 9 pictures cannot be used")
    assert [path for path in paths if path in str(caught.value)] == paths[:3]
    assert str(caught.value).endswith("; ...")


def test_no_error_of_a_decoder_escapes(shapes, monkeypatch):
    paths = data.find_domains(options(shapes)).train_a

    def fail(self):
        raise KeyError("a tag")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with pytest.raises(UserError, match=r"^4 of 4 .*0\.png cannot .* picture: KeyError\('a tag'"):
        data.check_pictures(paths)


def test_the_fingerprint_changes_with_names_sizes_and_domains(shapes):
    domains = data.find_domains(options(shapes))
    texts = [data.fingerprint(domains)]
    assert texts[0].startswith("4 and 5 pictures, ")
    last_a, first_b = domains.train_a[-1:], domains.train_b[:1]
    texts.append(data.fingerprint(domains._replace(train_a=domains.train_a + first_b)))
    moved = (domains.train_a[:-1], last_a + domains.train_b)
    texts.append(data.fingerprint(domains._replace(train_a=moved[0], train_b=moved[1])))
    shutil.copy(domains.train_b[1], domains.train_b[2])
    texts.append(data.fingerprint(domains))
    os.rename(domains.train_b[1], domains.train_b[1] + ".bmp")
    texts.append(data.fingerprint(data.find_domains(options(shapes))))
    assert len(set(texts)) == 5
    shutil.copy(domains.train_a[0], domains.test_a[0])
    assert data.fingerprint(data.find_domains(options(shapes))) == texts[-1]


@pytest.mark.parametrize(
    ("repeats", "batch_size", "ranks", "steps"),
    [(3, 1, 1, 15), (1, 2, 1, 2), (3, 2, 2, 3), (1, 3, 2, 1), (1, 1, 8, 1)],
)
def test_an_epoch_shows_the_larger_domain_repeatedly(shapes, repeats, batch_size, ranks, steps):
    config = options(shapes, repeats=repeats, batch_size=batch_size)
    domains = data.find_domains(config)
    assert data.steps_per_epoch(domains, config, ranks) == steps
    swapped = domains._replace(train_a=domains.train_b, train_b=domains.train_a)
    assert data.steps_per_epoch(swapped, config, ranks) == steps


def test_a_batch_is_a_function_of_seed_and_step(shapes):
    config = options(shapes, batch_size=3)
    domains = data.find_domains(config)
    one = data.read_batch(domains, config, 7)
    np.random.seed(5)
    data.read_batch(domains, config, 8)
    for mine, same in zip(one, data.read_batch(domains, config, 7)):
        np.testing.assert_array_equal(mine, same)
        assert (mine.dtype, mine.shape) == (np.float32, (3, 3, 32, 32))
        assert -1 <= mine.min() < -0.5 < 0.2 < mine.max() <= 1
    others = [
        data.read_batch(domains, config, 8),
        data.read_batch(domains, options(shapes, batch_size=3, seed=2), 7),
    ]
    for other in others:
        assert not any(np.array_equal(mine, theirs) for mine, theirs in zip(one, other))


def test_the_order_is_the_same_on_every_python(tmp_path):
    domains = draw_numbered(tmp_path, 5, 7)
    a, b = numbers(domains, options(tmp_path), range(1, 11))
    assert a == [2, 1, 4, 0, 3, 4, 0, 2, 1, 3]
    assert b == [1, 3, 4, 5, 6, 0, 2, 5, 3, 2]


def test_every_picture_comes_once_before_any_comes_again(tmp_path):
    domains = draw_numbered(tmp_path, 6, 9)
    shown = numbers(domains, options(tmp_path, batch_size=4), range(1, 10))
    for count, order in zip((6, 9), shown):
        rounds = [tuple(order[first : first + count]) for first in range(0, 36, count)]
        assert all(sorted(part) == list(range(count)) for part in rounds)
        assert len(set(rounds)) == len(rounds)


def test_the_domains_have_orders_of_their_own(tmp_path):
    domains = draw_numbered(tmp_path / "equal", 4, 4)
    a, b = numbers(domains, options(tmp_path), range(1, 81))
    assert len(set(zip(a, b))) == 16  # every picture of A meets every picture of B
    larger = draw_numbered(tmp_path / "larger", 4, 7)
    assert numbers(larger, options(tmp_path), range(1, 81))[0] == a


@pytest.mark.parametrize("step", [1, 2, 3, 5, 11])
@pytest.mark.parametrize(("batch_size", "ranks"), [(1, 4), (2, 2)])
def test_ranks_share_the_batch_that_one_rank_would_have(shapes, step, batch_size, ranks):
    domains = data.find_domains(options(shapes))
    whole = data.read_batch(domains, options(shapes, batch_size=4), step)
    config = options(shapes, batch_size=batch_size)
    shares = [data.read_batch(domains, config, step, rank, ranks) for rank in range(ranks)]
    for expected, parts in zip(whole, zip(*shares)):
        np.testing.assert_array_equal(expected, np.concatenate(parts))
        assert len({picture.tobytes() for picture in expected}) == 4


def test_pictures_are_mirrored_resized_and_cropped_at_random(shapes):
    domains, config = data.find_domains(options(shapes)), options(shapes, batch_size=60)
    seen = []
    for paths, batch in zip(domains[:2], data.read_batch(domains, config, 1)):
        possible = {}
        for path in paths:
            possible.update(crops(path, 32, 36))  # 32 * 286 / 256 = 35.75
        seen.append([possible[picture.tobytes()] for picture in batch])
        mirrored, tops, lefts = zip(*seen[-1])
        assert 15 < sum(mirrored) < 45
        assert set(tops) == set(lefts) == {0, 1, 2, 3, 4}
    assert sum(a == b for a, b in zip(*seen)) < 10  # 1.2 of 60 by chance


def test_another_seed_crops_a_picture_elsewhere(shapes):
    domains = data.find_domains(options(shapes))
    domains = domains._replace(train_a=domains.train_a[:1], train_b=domains.train_b[:1])
    batches = [
        data.read_batch(domains, options(shapes, batch_size=8, seed=seed), 1) for seed in (1, 2)
    ]
    for one, other in zip(*batches):
        assert not np.array_equal(one, other)


def test_the_default_size_is_cropped_from_286_pixels(tmp_path):
    paths = data.find_domains(options(draw_domains(tmp_path, train=2))).train_a
    pixels = read_image(paths[0])
    result = data.augment(pixels, 256, np.random.RandomState(3))
    whole = [resize(part, 286) for part in (pixels, np.ascontiguousarray(pixels[:, ::-1]))]
    matches = [
        np.array_equal(result, picture[top : top + 256, left : left + 256])
        for picture in whole
        for top, left in np.ndindex(31, 31)
    ]
    assert sum(matches) == 1


def test_grey_pictures_have_one_channel(shapes):
    config = options(shapes, img_ch=1, batch_size=5)
    domains = data.find_domains(config)
    a, b = data.read_batch(domains, config, 1)
    assert a.shape == b.shape == (5, 1, 32, 32)
    for grey, colour in zip((a, b), data.read_batch(domains, options(shapes, batch_size=5), 1)):
        weights = np.float32([0.299, 0.587, 0.114]).reshape(1, 3, 1, 1)
        expected = (colour * weights).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(grey, expected, atol=0.02)  # two and a half levels
    with Image.open(domains.test_a[0]) as image:
        by_hand = np.asarray(image.convert("L").resize((32, 32), Image.BILINEAR))
    grey = data.read_test(domains.test_a[0], config)
    np.testing.assert_array_equal(grey, to_float(by_hand[:, :, np.newaxis]))


@pytest.mark.parametrize("size", [(1, 1), (9, 300), (32, 32), (701, 50)])
def test_pictures_of_any_size_are_resized_both_ways(shapes, tmp_path, size):
    pixels = np.random.RandomState(4).randint(0, 256, size[::-1] + (3,)).astype(np.uint8)
    path = str(tmp_path / "picture.png")
    Image.fromarray(pixels).save(path)
    tensor = data.read_test(path, options(shapes))
    assert (tensor.dtype, tensor.shape) == (np.float32, (3, 32, 32))
    by_hand = np.asarray(Image.fromarray(pixels).resize((32, 32), Image.BILINEAR))
    np.testing.assert_array_equal(to_uint8(tensor), by_hand)
    domains = data.find_domains(options(shapes))._replace(train_a=[path, path])
    a = data.read_batch(domains, options(shapes), 1)[0]
    assert a[0].tobytes() in crops(path, 32, 36)


def test_a_test_picture_that_is_broken_is_named(tmp_path):
    path = tmp_path / "broken.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(UserError, match=r"broken\.png cannot be read as a picture"):
        data.read_test(str(path), options(tmp_path))
