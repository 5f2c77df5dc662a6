# SPDX-License-Identifier: Apache-2.0
"""What pictures are translated to: by default, and as --target says."""

import numpy as np
import pytest

from harness.errors import UserError
from stargan.labels import Labelled, Source
from stargan.targets import Target, default_targets, labels_for, parse_targets

NAMES = ("Black_Hair", "Blond_Hair", "Male", "Gray_Hair", "Brown_Hair", "Young")
CLASSES = ("angry", "happy", "sad")


def _source(kind, names):
    nothing = Labelled([], np.zeros([0, len(names)], np.float32))
    return Source(kind, names, nothing, nothing)


CELEBA, FACES = _source("celeba", NAMES), _source("classes", CLASSES)
BOTH = [CELEBA, FACES]
OWN = np.random.RandomState(3).randint(0, 2, (12, len(NAMES))).astype(np.float32)
OWN_CLASSES = np.eye(3, dtype=np.float32)[[1, 0, 2, 2]]


def _changed(labels, **columns):
    """Returns a copy of the CelebA `labels` with other columns."""
    labels = labels.copy()
    for name, values in columns.items():
        labels[:, NAMES.index(name)] = values
    return labels


def _wanted(text, sources, number, labels):
    (target,) = parse_targets([text], sources)
    return labels_for(target, sources, number, labels)


def test_the_default_sets_hair_colours_and_turns_the_rest_over():
    targets = default_targets([CELEBA])
    assert [target.title for target in targets] == list(NAMES)
    values = dict.fromkeys(NAMES, 1)
    values.update(Male=None, Young=None)
    assert targets == [Target(name, 0, {name: values[name]}) for name in NAMES]


def test_the_default_of_classes_is_each_class_and_of_both_is_all():
    expected = [Target(name, 0, {name: 1}) for name in CLASSES]
    assert default_targets([FACES]) == expected
    targets = default_targets(BOTH)
    assert targets[: len(NAMES)] == default_targets([CELEBA])
    assert targets[len(NAMES) :] == [target._replace(source=1) for target in expected]


@pytest.mark.parametrize("colour", ["Black_Hair", "Blond_Hair", "Gray_Hair", "Brown_Hair"])
def test_a_hair_colour_clears_the_others(colour):
    (target,) = [one for one in default_targets([CELEBA]) if one.title == colour]
    hair = dict.fromkeys(("Black_Hair", "Blond_Hair", "Gray_Hair", "Brown_Hair"), 0)
    expected = _changed(OWN, **dict(hair, **{colour: 1}))
    result = labels_for(target, [CELEBA], 0, OWN)
    np.testing.assert_array_equal(result, expected)
    assert result.dtype == np.float32


@pytest.mark.parametrize("name", ["Male", "Young"])
def test_anything_else_is_turned_over_and_nothing_else_changes(name):
    (target,) = [one for one in default_targets([CELEBA]) if one.title == name]
    before = OWN.copy()
    result = labels_for(target, [CELEBA], 0, OWN)
    np.testing.assert_array_equal(result, _changed(OWN, **{name: 1 - OWN[:, NAMES.index(name)]}))
    np.testing.assert_array_equal(OWN, before)  # the pictures' own labels stay as they are


def test_classes_are_one_hot():
    for column, target in enumerate(default_targets([FACES])):
        expected = np.repeat(np.eye(3)[[column]], len(OWN_CLASSES), axis=0)
        np.testing.assert_array_equal(labels_for(target, [FACES], 0, OWN_CLASSES), expected)


def test_the_user_sets_labels_to_0_and_1():
    targets = parse_targets(["Blond_Hair=1 Male=0", "Young=0"], [CELEBA])
    assert targets[0] == Target("Blond_Hair=1 Male=0", 0, {"Blond_Hair": 1, "Male": 0})
    assert targets[1] == Target("Young=0", 0, {"Young": 0})
    expected = _changed(OWN, Black_Hair=0, Blond_Hair=1, Gray_Hair=0, Brown_Hair=0, Male=0)
    np.testing.assert_array_equal(labels_for(targets[0], [CELEBA], 0, OWN), expected)
    expected = _changed(OWN, Young=0)
    np.testing.assert_array_equal(labels_for(targets[1], [CELEBA], 0, OWN), expected)


def test_a_name_alone_means_1_and_commas_are_blanks():
    np.testing.assert_array_equal(
        _wanted("Male", [CELEBA], 0, OWN), _wanted("Male=1", [CELEBA], 0, OWN)
    )
    np.testing.assert_array_equal(_wanted("Male", [CELEBA], 0, OWN), _changed(OWN, Male=1))
    result = _wanted("Male,Young=0", [CELEBA], 0, OWN)
    np.testing.assert_array_equal(result, _changed(OWN, Male=1, Young=0))


def test_two_hair_colours_that_are_named_both_stay():
    expected = _changed(OWN, Black_Hair=1, Blond_Hair=1, Gray_Hair=0, Brown_Hair=0)
    result = _wanted("Black_Hair=1 Blond_Hair=1", [CELEBA], 0, OWN)
    np.testing.assert_array_equal(result, expected)


def test_a_hair_colour_that_is_taken_away_leaves_the_others():
    expected = _changed(OWN, Black_Hair=0)
    np.testing.assert_array_equal(_wanted("Black_Hair=0", [CELEBA], 0, OWN), expected)


def test_no_text_is_no_target():
    assert parse_targets((), [CELEBA]) == []


def _parts(encoded, count):
    """Splits labels of both data sets into (CelebA's, the classes', the mask)."""
    assert encoded.shape == (count, len(NAMES) + len(CLASSES) + 2)
    assert encoded.dtype == np.float32
    return np.split(encoded, [len(NAMES), len(NAMES) + len(CLASSES)], axis=1)


def test_both_within_a_data_set_only_the_other_labels_are_zero():
    attributes, classes, mask = _parts(_wanted("Male=0", BOTH, 0, OWN), len(OWN))
    np.testing.assert_array_equal(attributes, _changed(OWN, Male=0))
    assert not classes.any()
    np.testing.assert_array_equal(mask, [[1, 0]] * len(OWN))
    attributes, classes, mask = _parts(_wanted("sad", BOTH, 1, OWN_CLASSES), 4)
    assert not attributes.any()
    np.testing.assert_array_equal(classes, [[0, 0, 1]] * 4)
    np.testing.assert_array_equal(mask, [[0, 1]] * 4)


def test_both_across_data_sets_what_is_not_known_starts_as_zero():
    attributes, classes, mask = _parts(_wanted("happy", BOTH, 0, OWN), len(OWN))
    assert not attributes.any()
    np.testing.assert_array_equal(classes, [[0, 1, 0]] * len(OWN))
    np.testing.assert_array_equal(mask, [[0, 1]] * len(OWN))
    (male,) = [one for one in default_targets(BOTH) if one.title == "Male"]
    attributes, classes, mask = _parts(labels_for(male, BOTH, 1, OWN_CLASSES), 4)
    np.testing.assert_array_equal(attributes, _changed(np.zeros([4, 6]), Male=1))
    assert not classes.any()
    np.testing.assert_array_equal(mask, [[1, 0]] * 4)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("Mael", "--target Mael: there is no such label; there are Male"),
        ("Male=1 blond_hair=1", "--target blond_hair: there is no such label; there are Blond_"),
        ("zzz=1", "--target zzz: there is no such label; there are " + ", ".join(NAMES + CLASSES)),
        ("Male=2", "--target Male=2: a label is 0 or 1, such as Male=1"),
        ("Male=", "--target Male=: a label is 0 or 1, such as Male=1"),
        ("Young Male=-1", "--target Male=-1: a label is 0 or 1, such as Male=1"),
        ("Male=True", "--target Male=True: a label is 0 or 1, such as Male=1"),
        (" , ", '--target "": name at least one label, such as "Male=1"'),
        ("Male=1 happy", "--target Male=1 happy: its labels belong to different data sets"),
        ("happy=0", "--target happy=0: name one class, such as happy"),
        ("sad angry", "--target sad angry: name one class, such as sad"),
    ],
)
def test_what_cannot_be_understood_is_answered_in_one_sentence(text, sentence):
    with pytest.raises(UserError) as caught:
        parse_targets(["Young=1", text], BOTH)
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)
