# SPDX-License-Identifier: Apache-2.0
"""Labelled pictures on disk, what is wrong with them, and batches as functions of (seed, step)."""

import os
import pathlib
import random
import shutil

import numpy as np
import pytest
from conftest import ATTRIBUTES, draw_celeba, draw_classes
from PIL import Image

from stargan import data, labels
from stargan.config import Config

IMAGES = os.path.join("CelebA", "Img", "img_align_celeba")
TABLE = os.path.join("CelebA", "Anno", "list_attr_celeba.txt")
NAMES = ["%06d.jpg" % number for number in range(1, 25)]


def options(path, **values):
    values = dict({"selected_attrs": ATTRIBUTES, "image_size": 64, "batch_size": 4}, **values)
    return Config(data_path=str(path), **values)


def find(path, **values):
    return labels.find_sources(options(path, **values))[0]


def error(path, **values):
    with pytest.raises(labels.DataError) as caught:
        find(path, **values)
    return str(caught.value)


def bases(paths):
    return [os.path.basename(path) for path in paths]


def shuffled(items):
    items = list(items)
    random.Random(1234).shuffle(items)
    return items


def read_table(path):
    return pathlib.Path(path, TABLE).read_text().splitlines()


def write_table(path, lines, end="\n"):
    pathlib.Path(path, TABLE).write_bytes("".join(line + end for line in lines).encode())


@pytest.fixture
def classes(tmp_path):
    # "train" is also the name of a split
    return draw_classes(tmp_path / "data", classes=("train", "happy", "angry"), count=11)


def test_celeba_has_the_labels_of_the_file_and_the_documented_split(celeba, capsys):
    source = find(celeba)
    assert (source.kind, source.names) == ("celeba", ATTRIBUTES)
    assert bases(source.test.paths) + bases(source.train.paths) == shuffled(NAMES)
    assert bases(source.test.paths) == ["000018.jpg", "000005.jpg"]  # on every Python
    rows = {line.split()[0]: line.split()[1:] for line in read_table(celeba)[2:]}
    for part in (source.train, source.test):
        expected = [[float(word == "1") for word in rows[name]] for name in bases(part.paths)]
        np.testing.assert_array_equal(part.labels, expected)
        assert part.labels.dtype == np.float32
        assert all(os.path.isfile(path) for path in part.paths)
    said = capsys.readouterr().out
    assert "22 pictures train, 2 are kept for testing (a tenth: fewer than 20000 rows" in said
    assert "--num_test changes it); labels: Black_Hair Blond_Hair Male\n" in said
    assert said.count("\n") == 1


def test_every_place_of_celeba_gives_the_same_data(celeba, tmp_path):
    expected = labels.fingerprint([find(celeba)])
    old, images = tmp_path / "数据 集", os.path.join(celeba, IMAGES)
    shutil.copytree(images, str(old / "CelebA_nocrop" / "images"))
    table = shutil.copy(os.path.join(celeba, TABLE), str(old))
    elsewhere = find(tmp_path / "nowhere", image_root=images, metadata_path=table)
    inside, half = find(os.path.join(celeba, "CelebA")), find(celeba, metadata_path=table)
    for source in (find(old), inside, elsewhere, half):
        assert labels.fingerprint([source]) == expected
    assert os.path.dirname(elsewhere.train.paths[0]) == images
    assert data.training_batch(find(old), options(old), 1, 0, 1)[0].std() > 0


def test_a_missing_celeba_says_what_was_looked_for(celeba):
    os.rename(os.path.join(celeba, TABLE), os.path.join(celeba, "attributes.txt"))
    message = error(celeba)
    for part in (IMAGES, TABLE, "CelebA_nocrop/images", "--image_root and --metadata_path"):
        assert part in message
    message = error(celeba, image_root="/pictures", metadata_path="/table")
    assert "looked for /pictures with /table; give" in message


@pytest.mark.parametrize("words", ["Male Black_Hair", "Male,Black_Hair", "Male|Black_Hair"])
def test_selected_attributes_select_and_keep_their_order(celeba, words):
    whole, source = find(celeba), find(celeba, selected_attrs=words.split("|"))
    assert source.names == ("Male", "Black_Hair")
    np.testing.assert_array_equal(source.train.labels, whole.train.labels[:, [2, 0]])


@pytest.mark.parametrize(("num_test", "kept"), [(-1, 2), (0, 0), (1, 1), (7, 7), (23, 23)])
def test_num_test_says_how_many_are_kept(celeba, num_test, kept):
    source = find(celeba, num_test=num_test)
    assert bases(source.test.paths) == shuffled(NAMES)[:kept]
    assert bases(source.train.paths) == shuffled(NAMES)[kept:]
    assert len(source.train.labels) == 24 - kept
    assert source.test.labels.shape == (kept, 3)
    message = error(celeba, num_test=24)
    assert "24 rows and 24 are to be kept for testing; give --num_test less than 24" in message


@pytest.mark.parametrize(("count", "kept"), [(5, 1), (19990, 1999), (20000, 1999), (20100, 1999)])
def test_a_tenth_is_kept_below_20000_rows(tmp_path, monkeypatch, capsys, count, kept):
    draw_celeba(tmp_path, count=1)
    names = ["%06d.jpg" % number for number in range(count)]
    write_table(str(tmp_path), ["%d" % count, "Male"] + [name + " 1" for name in names])
    monkeypatch.setattr(os, "listdir", lambda folder: names)
    source = find(tmp_path, selected_attrs=("Male",))
    assert (len(source.test.paths), len(source.train.paths)) == (kept, count - kept)
    assert ("fewer than 20000" in capsys.readouterr().out) == (count < 20000)


@pytest.mark.parametrize(("blank", "end"), [(" ", "\r\n"), ("\t", "\n"), ("   ", " \t\r\n")])
def test_blanks_tabs_line_ends_and_a_bom_do_not_matter(celeba, blank, end):
    expected = labels.fingerprint([find(celeba)])
    lines = [blank.join(line.split()) for line in read_table(celeba)] + ["", "", ""]
    for start in ("", "\ufeff"):
        write_table(celeba, [start + lines[0]] + lines[1:], end)
        assert labels.fingerprint([find(celeba)]) == expected


@pytest.mark.parametrize(
    ("first", "last", "text", "words"),
    [
        (25, 26, [], "line 1 says 24 rows and there are 23;"),
        (26, 26, ["x.jpg 1 1 1"], "line 1 says 24 rows and there are 25;"),
        (0, 1, [], "line 1 is 'Black_Hair Blond_Hair Male'; it must be the number of rows"),
        (0, 26, ["0", "Male"], "line 1 says 0 rows and there are 0; it takes a row per picture"),
        (0, 26, [], "line 1 is ''; it must be the number of rows"),
        (4, 5, ["3.jpg 1 1"], "line 5 has 2 values after the file name, but line 2 has 3 names"),
        (6, 7, ["5.jpg 1 0 1"], "line 7 has the value 0; allowed are 1 (yes) and -1 (no)"),
        (9, 10, ["000002.jpg 1 1 1"], "names 000002.jpg in line 4 and in line 10; remove one"),
    ],
)
def test_a_wrong_attribute_file_is_named_with_its_line(celeba, first, last, text, words):
    lines = read_table(celeba)
    lines[first:last] = text
    write_table(celeba, lines)
    message = error(celeba, selected_attrs=("Male",))
    assert message.startswith(os.path.join(celeba, TABLE))
    assert words in message


def test_a_binary_is_not_an_attribute_file(celeba):
    for content in (
        b"\xff\xd8\xff\xe0\0\x10JFIF",
        b"1\nMale\n\xff.jpg 1\n",
        "24\nMale\n".encode("utf-16-le"),
    ):
        pathlib.Path(celeba, TABLE).write_bytes(content)
        assert "%s is not a text file" % os.path.join(celeba, TABLE) in error(celeba)


def test_rows_without_a_picture_are_counted_and_named(celeba):
    for name in NAMES[2:9]:
        os.remove(os.path.join(celeba, IMAGES, name))
    message = error(celeba)
    assert "7 of 24 rows of %s have no picture in" % os.path.join(celeba, TABLE) in message
    assert ": %s ...; add the pictures" % ", ".join(NAMES[2:7]) in message


def test_pictures_without_a_row_are_noted_and_not_used(celeba, capsys):
    expected = find(celeba)
    for name in ("a.jpg", "b.PNG", ".hidden.jpg", "notes.txt"):
        shutil.copy(expected.train.paths[0], os.path.join(celeba, IMAGES, name))
    assert find(celeba).train.paths == expected.train.paths
    said = capsys.readouterr().out
    assert "2 pictures have no row in" in said
    assert "are not used: a.jpg, b.PNG\n" in said


def test_an_unknown_attribute_names_the_nearest_or_all(celeba):
    message = error(celeba, selected_attrs=("Blonde_Hair", "Male"))
    assert "has no attribute Blonde_Hair: nearest are Blond_Hair" in message
    assert "Male" not in message
    message = error(celeba, selected_attrs=("Xyz",))
    assert "has no attribute Xyz: it has Black_Hair, Blond_Hair, Male;" in message


def test_classes_are_the_sorted_folders_and_a_tenth_of_each_is_kept(classes, capsys):
    os.mkdir(os.path.join(classes, "RaFD", ".ipynb_checkpoints"))
    source = find(classes, dataset="classes", c_dim=3)
    assert (source.kind, source.names) == ("classes", ("angry", "happy", "train"))
    names = ["%d.png" % number for number in range(11)]  # sorted as numbers: 10.png is the last
    kept = shuffled(names)[0]
    assert bases(source.test.paths) == 3 * [kept]
    assert bases(source.train.paths) == 3 * [name for name in names if name != kept]
    for part, count in ((source.train, 10), (source.test, 1)):
        np.testing.assert_array_equal(part.labels, np.repeat(np.eye(3), count, axis=0))
        folders = [os.path.basename(os.path.dirname(path)) for path in part.paths]
        assert folders == [source.names[index] for index in part.labels.argmax(axis=1)]
    assert "30 pictures train, 3 are kept for testing (a tenth" in capsys.readouterr().out


@pytest.mark.parametrize(("num_test", "kept"), [(0, 0), (1, 3), (9, 9), (10, 9), (30, 30)])
def test_num_test_is_shared_out_over_the_classes(classes, num_test, kept):
    source = find(classes, dataset="classes", num_test=num_test)
    assert not set(source.test.paths) & set(source.train.paths)
    assert len(source.train.paths) == 33 - kept
    assert source.test.labels.sum(axis=0).tolist() == [kept / 3] * 3
    assert "keeps all 11 pictures" in error(classes, dataset="classes", num_test=33)


def test_a_test_folder_beside_train_is_the_test_set(tmp_path, capsys):
    root = tmp_path / "data" / "RaFD"
    for part, count in (("train", 3), ("test", 1)):
        drawn = draw_classes(tmp_path / part, count=count)
        shutil.copytree(os.path.join(drawn, "RaFD"), str(root / part))
    kept = [str(root / "test" / name / "0.png") for name in ("angry", "happy")]
    train = str(root / "train")
    for path, given in ((root.parent, ""), (root, ""), (tmp_path, train), (tmp_path, train + "/")):
        source = find(path, dataset="classes", class_root=given)
        assert source.test.paths == kept
        assert os.path.commonpath(source.train.paths) == train
        assert "6 pictures train, 2 are kept for testing (those" in capsys.readouterr().out
    os.rename(str(root / "test" / "happy"), str(root / "test" / "merry"))
    words = "has the classes angry, happy, but %s has angry, merry;" % (root / "test")
    assert words in error(root, dataset="classes")


def test_wrong_class_folders_are_named(classes):
    root, both = os.path.join(classes, "RaFD"), {"dataset": "classes"}
    missing = error(classes, class_root="/nowhere", **both)
    assert "there is no folder /nowhere; give --class_root" in missing
    message = error(classes, c_dim=5, **both)
    assert "--c_dim 5 does not match the 3 class folders of %s" % root in message
    assert "(angry, happy, train); leave --c_dim out" in message
    empty = os.path.join(root, "bored")
    os.mkdir(empty)
    assert "the folder %s holds no picture" % empty in error(classes, **both)
    shutil.copy(os.path.join(root, "train", "1.png"), empty)
    message = error(classes, **both)
    assert "%s has 1 picture and needs at least 2: one to train, one to test" % empty in message
    assert len(find(classes, num_test=0, **both).train.paths) == 34
    for name in ("bored", "angry", "happy"):
        shutil.rmtree(os.path.join(root, name))
    assert "%s has 1 class folder (train), but it takes at least 2" % root in error(classes, **both)


def test_both_are_encoded_with_a_mask(celeba, tmp_path):
    draw_classes(tmp_path / "data")
    sources = labels.find_sources(options(celeba, dataset="both", c_dim=3))
    assert [source.kind for source in sources] == ["celeba", "classes"]
    assert labels.label_names(sources) == list(ATTRIBUTES) + ["angry", "happy"]
    first = labels.encode(sources, 0, np.array([[1, 0, 1]]))
    second = labels.encode(sources, 1, np.array([[0, 1], [1, 0]]))
    np.testing.assert_array_equal(first, [[1, 0, 1, 0, 0, 1, 0]])
    np.testing.assert_array_equal(second, [[0, 0, 0, 0, 1, 0, 1], [0, 0, 0, 1, 0, 0, 1]])
    assert first.dtype == second.dtype == np.float32
    alone = labels.encode(sources[:1], 0, sources[0].train.labels)
    np.testing.assert_array_equal(alone, sources[0].train.labels)
    message = error(celeba, dataset="both", c_dim=2)
    assert "--c_dim 2 does not match the 3 of --selected_attrs" in message


def test_the_fingerprint_changes_with_names_sizes_and_labels(celeba, monkeypatch):
    source = find(celeba)
    other = source.train._replace(labels=1 - source.train.labels)
    sets = [[source], [source, source], [source._replace(train=other)], [find(celeba, num_test=3)]]
    texts = {labels.fingerprint(sources) for sources in sets}
    texts.add(labels.fingerprint([find(celeba, selected_attrs=("Male",))]))
    shutil.copy(source.train.paths[0], source.train.paths[1])
    assert labels.fingerprint([source]) == labels.fingerprint([source]) not in texts
    assert len(texts) == 5
    monkeypatch.setattr(labels, "MOST_SIZES", 21)
    without_sizes = labels.fingerprint([source])
    shutil.copy(source.train.paths[0], source.train.paths[2])
    assert labels.fingerprint([source]) == without_sizes


@pytest.mark.parametrize(
    ("size", "kind", "crop_size", "square"),
    [
        ((178, 218), "celeba", 178, (0, 20, 178)),
        ((89, 109), "celeba", 178, (0, 10, 89)),
        ((178, 218), "celeba", 100, (39, 59, 100)),
        ((128, 128), "celeba", 178, (12, 12, 105)),  # 178 * 128 / 218 = 104.5
        ((178, 218), "celeba", 0, (0, 20, 178)),
        ((681, 1024), "classes", 178, (0, 172, 681)),  # 171.5 is rounded to the even number
        ((3, 4), "celeba", 1, (1, 2, 1)),
    ],
)
def test_the_square_in_the_centre(size, kind, crop_size, square):
    assert data.centre_square(size[0], size[1], kind, Config(crop_size=crop_size)) == square


def test_pictures_are_cropped_and_resized_as_pil_does(celeba):
    path = find(celeba).train.paths[3]
    with Image.open(path) as image:
        by_hand = image.crop((0, 10, 89, 99)).resize((64, 64), Image.BILINEAR)
    picture = data.read_picture(path, "celeba", options(celeba))
    assert (picture.dtype, picture.shape) == (np.uint8, (64, 64, 3))
    np.testing.assert_array_equal(picture, np.asarray(by_hand))


def test_eight_bits_survive_the_way_to_floats_and_back():
    values = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    np.testing.assert_array_equal(data.to_uint8(data.to_float(values)), values)
    np.testing.assert_array_equal(data.to_uint8(np.array([-9.0, 9.0])), [0, 255])


def test_a_batch_is_a_function_of_seed_and_step(celeba):
    source, config = find(celeba), options(celeba)
    one, again = (data.training_batch(source, config, 7, 0, 1) for _ in range(2))
    other_step = data.training_batch(source, config, 8, 0, 1)
    other_seed = data.training_batch(source, options(celeba, seed=1), 7, 0, 1)
    for mine, same in zip(one, again):
        np.testing.assert_array_equal(mine, same)
        assert mine.dtype == np.float32
    assert np.any(one[0] != other_step[0])
    assert np.any(one[0] != other_seed[0])
    assert [part.shape for part in one] == [(4, 64, 64, 3), (4, 3), (4, 3)]
    assert -1 <= one[0].min() < -0.2 < 0.2 < one[0].max() <= 1


def test_an_epoch_shows_every_picture_once_in_a_new_order_with_its_labels(celeba):
    config = options(celeba, num_test=4, batch_size=5, flip=False)
    source, labels_of, orders = find(celeba, num_test=4), {}, set()
    assert data.steps_per_epoch([source], config, 1) == 4
    for path, row in zip(*source.train):
        picture = data.to_float(data.read_picture(path, "celeba", config))
        labels_of[picture.tobytes()] = row.tolist()
    for epoch in range(3):
        seen = []
        for step in range(1 + 4 * epoch, 5 + 4 * epoch):
            images, shown, _ = data.training_batch(source, config, step, 0, 1)
            seen += [image.tobytes() for image in images]
            assert [labels_of[key] for key in seen[-5:]] == shown.tolist()
        assert sorted(seen) == sorted(labels_of)
        orders.add(tuple(seen))
    assert len(orders) == 3


@pytest.mark.parametrize("step", [1, 2, 3, 6, 11])
def test_ranks_share_pictures_and_targets_of_the_batch_that_one_rank_would_have(celeba, step):
    source, half = find(celeba), options(celeba, batch_size=5)  # 22 pictures: 2 batches of 10
    whole = data.training_batch(source, options(celeba, batch_size=10), step, 0, 1)
    shares = [data.training_batch(source, half, step, rank, 2) for rank in (0, 1)]
    for part in range(3):
        np.testing.assert_array_equal(whole[part], np.concatenate([s[part] for s in shares]))
    mixed = np.random.RandomState([0, 2, step]).permutation(10)  # over both ranks
    np.testing.assert_array_equal(whole[2], whole[1][mixed])
    assert np.any(whole[1] != whole[2])


def test_about_half_of_the_pictures_are_mirrored(celeba):
    source, mirrored = find(celeba), 0
    for step in range(1, 11):
        images = data.training_batch(source, options(celeba), step, 0, 1)[0]
        plain = data.training_batch(source, options(celeba, flip=False), step, 0, 1)[0]
        for image, as_it_is in zip(images, plain):
            turned = not np.array_equal(image, as_it_is)
            np.testing.assert_array_equal(image[:, ::-1] if turned else image, as_it_is)
            mirrored += turned
    assert 10 < mirrored < 30


def test_a_batch_larger_than_a_source_is_an_error(celeba, tmp_path):
    draw_classes(tmp_path / "data")
    config = options(celeba, dataset="both", batch_size=6)
    sources = labels.find_sources(config)
    assert data.steps_per_epoch(sources, config, 1) == 3
    with pytest.raises(labels.DataError) as caught:
        data.steps_per_epoch(sources, config, 2)
    text = "--batch_size 6 on 2 device(s) needs more than the 10 training pictures; lower it"
    assert str(caught.value) == text


def test_files_that_are_no_pictures_are_named(celeba, monkeypatch):
    source = find(celeba)
    paths = source.train.paths + source.test.paths
    data.check_pictures(paths)
    with open(source.train.paths[0], "r+b") as file:
        file.truncate(os.path.getsize(file.name) // 2)
    texts = [pathlib.Path(path) for path in paths[1:6] + source.test.paths[1:]]
    assert all(path.write_text("not a picture") for path in texts)
    for limit, bad in ((24, paths[:1] + texts), (23, texts)):  # above: headers only
        monkeypatch.setattr(data, "FULL_CHECK", limit)
        with pytest.raises(labels.DataError) as caught:
            data.check_pictures(paths)
        start = "%d of 24 pictures cannot be used, mend them or remove them (and their rows): "
        assert str(caught.value).startswith(start % len(bad) + str(bad[0]))
        assert str(caught.value).count("cannot be read as a picture") == 5
        assert str(caught.value).endswith("; and %d more" % (len(bad) - 5))
