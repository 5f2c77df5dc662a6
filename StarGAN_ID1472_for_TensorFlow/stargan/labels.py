# SPDX-License-Identifier: Apache-2.0
"""Labelled pictures on disk: the only module that knows how a data set lies on disk.

CelebA: a folder of pictures and one file of attributes; "classes": a folder of pictures per class.
Axes: M pictures of a data set, N of a batch, L labels.
"""

import difflib
import os
import random
import zlib
from typing import List, NamedTuple, Sequence, Tuple

import numpy as np

from harness.errors import UserError
from harness.images import ImageError, is_image, list_images

SPLIT_SEED = 1234  # the seed of the published code, which thus keeps the same pictures for testing
WHOLE_CELEBA = 20000  # from so many rows on, as many are kept as the paper keeps
KEPT_OF_CELEBA = 1999
MOST_SIZES = 5000  # above so many pictures the fingerprint does not ask for their sizes
LAYOUTS = (
    ("CelebA/Img/img_align_celeba", "CelebA/Anno/list_attr_celeba.txt"),
    ("CelebA_nocrop/images", "list_attr_celeba.txt"),
    ("Img/img_align_celeba", "Anno/list_attr_celeba.txt"),
)


class DataError(UserError):
    """A data set that cannot be used; the message says what is wrong with which files."""


class Labelled(NamedTuple):
    """Pictures and what they show: `labels` is float32 [M, L] of 0 and 1."""

    paths: List[str]
    labels: np.ndarray


class Source(NamedTuple):
    """One data set: its kind ("celeba" or "classes"), the names of its labels, its two parts."""

    kind: str
    names: Tuple[str, ...]
    train: Labelled
    test: Labelled


def find_sources(config) -> List[Source]:
    """Returns the data sets of `config.dataset`, CelebA first, and prints what they hold.

    Raises:
      DataError: if one is missing, contradicts itself or does not fit the options.
    """
    sources = []
    if config.dataset in ("celeba", "both"):
        sources.append(_find_celeba(config))
    if config.dataset in ("classes", "both"):
        sources.append(_find_classes(config))
    return sources


def _some(names) -> str:
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")


def _report(source, place, note) -> None:
    text = "%s in %s: %d pictures train, %d are kept for testing%s; labels: %s"
    counts = (len(source.train.paths), len(source.test.paths))
    print(text % ((source.kind, place) + counts + (note, " ".join(source.names))), flush=True)


def _check_c_dim(config, names, what) -> None:
    if config.c_dim not in (0, len(names)):
        text = "--c_dim %d does not match the %d %s (%s); leave --c_dim out"
        raise DataError(text % (config.c_dim, len(names), what, _some(names)))


def _find_celeba(config) -> Source:
    wanted = config.selected_attrs
    _check_c_dim(config, wanted, "of --selected_attrs")
    folder, table = _celeba_files(config)
    names, labels = read_attributes(table, wanted)
    _compare(folder, table, names)
    count, kept, note = len(names), config.num_test, ""
    if kept < 0 and count >= WHOLE_CELEBA:
        kept = KEPT_OF_CELEBA
    elif kept < 0:
        kept = max(1, count // 10)
        note = " (a tenth: fewer than %d rows; --num_test changes it)" % WHOLE_CELEBA
    if kept >= count:
        text = "%s has %d rows and %d are to be kept for testing; give --num_test less than %d"
        raise DataError(text % (table, count, kept, count))
    order = list(range(count))
    random.Random(SPLIT_SEED).shuffle(order)
    train, test = (
        Labelled([os.path.join(folder, names[row]) for row in rows], labels[rows])
        for rows in (order[kept:], order[:kept])
    )
    source = Source("celeba", tuple(wanted), train, test)
    _report(source, folder, note)
    return source


def _celeba_files(config) -> Tuple[str, str]:
    """Returns the folder of the pictures and the attribute file."""
    looked = []
    for folder, table in LAYOUTS:
        folder = config.image_root or os.path.join(config.data_path, folder)
        table = config.metadata_path or os.path.join(config.data_path, table)
        if os.path.isdir(folder) and os.path.isfile(table):
            return folder, table
        looked.append("%s with %s" % (folder, table))
    text = "no CelebA: looked for %s; give --data_path, or --image_root and --metadata_path"
    raise DataError(text % ", or ".join(dict.fromkeys(looked)))


def read_attributes(path: str, wanted: Sequence[str]) -> Tuple[List[str], np.ndarray]:
    """Reads an attribute file: the number of rows, the attributes' names, then `file 1 -1 ...`.

    Returns:
      The file names in the order of the rows, and float32 [M, L]: 1 where the picture has the
      attribute; the columns are in the order of `wanted`.

    Raises:
      DataError: if the file is not such a file; the message names the line.
    """
    lines = _text_lines(path)
    names = lines[1].split() if len(lines) > 1 else []
    _check_count(path, lines)
    for name in wanted:
        if name not in names:
            near = difflib.get_close_matches(name, names, 3, 0.5)
            listing = ("nearest are " if near else "it has ") + ", ".join(near or names)
            text = "%s has no attribute %s: %s; mend --selected_attrs"
            raise DataError(text % (path, name, listing))
    columns = [1 + names.index(name) for name in wanted]
    line_of, labels, allowed = {}, [], frozenset(("1", "-1"))
    for number, line in enumerate(lines[2:], 3):
        words = line.split()
        if not words:
            continue
        if len(words) != 1 + len(names):
            text = "%s line %d has %d values after the file name, but line 2 has %d names; mend it"
            raise DataError(text % (path, number, len(words) - 1, len(names)))
        if not allowed.issuperset(words[1:]):
            wrong = next(word for word in words[1:] if word not in allowed)
            text = "%s line %d has the value %s; allowed are 1 (yes) and -1 (no), mend it"
            raise DataError(text % (path, number, wrong))
        if words[0] in line_of:
            text = "%s names %s in line %d and in line %d; remove one of them"
            raise DataError(text % (path, words[0], line_of[words[0]], number))
        line_of[words[0]] = number
        labels.append([words[column] == "1" for column in columns])
    return list(line_of), np.array(labels, np.float32)


def _text_lines(path) -> List[str]:
    with open(path, "rb") as file:
        content = file.read().decode("utf-8-sig", "replace")
    if "\0" in content or "\ufffd" in content:  # the latter replaces what is not UTF-8
        text = "%s is not a text file (UTF-8); give a file such as list_attr_celeba.txt"
        raise DataError(text % path)
    return content.splitlines()


def _check_count(path, lines) -> None:
    first, rows = (lines or [""])[0].strip(), sum(1 for line in lines[2:] if line.strip())
    if not first.isdecimal():
        text = "%s line 1 is %r; it must be the number of rows (%d), and line 2 the names; mend it"
        raise DataError(text % (path, first[:60], rows))
    if int(first) != rows or not rows:
        text = "%s line 1 says %d rows and there are %d; it takes a row per picture, mend the file"
        raise DataError(text % (path, int(first), rows))


def _compare(folder, table, names) -> None:
    """Raises DataError for rows without a picture; says which pictures have no row."""
    present = set(os.listdir(folder))
    missing = [name for name in names if name not in present]
    if missing:
        text = "%d of %d rows of %s have no picture in %s: %s; add the pictures or remove the rows"
        raise DataError(text % (len(missing), len(names), table, folder, _some(missing)))
    spare = sorted(present.difference(names))
    unused = [name for name in spare if is_image(name)]
    if unused:
        text = "%s: %d pictures have no row in %s and are not used: %s"
        print(text % (folder, len(unused), table, _some(unused)), flush=True)


def _find_classes(config) -> Source:
    root, test_root = _class_roots(config)
    names = _classes(root)
    if len(names) < 2:
        text = "%s has %d class folder (%s), but it takes at least 2; add one, or give --class_root"
        raise DataError(text % (root, len(names), " ".join(names) or "none"))
    if config.dataset == "classes":  # "both" counts the attributes
        _check_c_dim(config, names, "class folders of " + root)
    train = [_pictures(os.path.join(root, name)) for name in names]
    if test_root:
        others = _classes(test_root)
        if others != names:
            text = "%s has the classes %s, but %s has %s; both need the same"
            raise DataError(text % (root, _some(names), test_root, _some(others) or "none"))
        test = [_pictures(os.path.join(test_root, name)) for name in names]
        note = " (those in %s)" % test_root
    else:
        total = sum(map(len, train))
        train, test = zip(*[_keep(paths, config.num_test, total) for paths in train])
        note = " (a tenth of each class; --num_test changes it)" if config.num_test < 0 else ""
    source = Source("classes", tuple(names), _one_hot(train), _one_hot(test))
    _report(source, root, note)
    return source


def _class_roots(config) -> Tuple[str, str]:
    """Returns the folder of the training classes and that of the test classes, or ""."""
    root = config.class_root or os.path.join(config.data_path, "RaFD")
    if not config.class_root and not os.path.isdir(root):
        root = config.data_path
    if not os.path.isdir(root):
        text = "there is no folder %s; give --class_root, a folder with one folder per class"
        raise DataError(text % root)
    inner = os.path.join(root, "train")
    if os.path.isdir(inner) and _classes(inner):  # a class called "train" holds no folders
        root = inner
    above, name = os.path.split(os.path.abspath(root))
    test_root = os.path.join(above, "test")
    return root, test_root if name == "train" and os.path.isdir(test_root) else ""


def _classes(root) -> List[str]:
    with os.scandir(root) as entries:
        names = [entry.name for entry in entries if entry.is_dir()]
    return sorted(name for name in names if not name.startswith("."))


def _pictures(folder) -> List[str]:
    try:
        return list_images(folder)
    except ImageError as error:
        text = "%s, but each class needs some; add pictures or remove the folder"
        raise DataError(text % error) from error


def _keep(paths, num_test, total) -> Tuple[List[str], List[str]]:
    """Splits one class into training and test pictures, each in the order of the names."""
    if num_test == 0:
        return paths, []
    if len(paths) < 2:
        text = "the class folder %s has 1 picture and needs at least 2: one to train, one to test"
        raise DataError(text % os.path.dirname(paths[0]) + "; add pictures, or give --num_test 0")
    share = max(1, round(num_test * len(paths) / total) if num_test > 0 else len(paths) // 10)
    if share >= len(paths):
        text = "--num_test %d keeps all %d pictures of %s; give less than the %d of all classes"
        raise DataError(text % (num_test, len(paths), os.path.dirname(paths[0]), total))
    order = list(range(len(paths)))
    random.Random(SPLIT_SEED).shuffle(order)
    train, test = sorted(order[share:]), sorted(order[:share])
    return [paths[row] for row in train], [paths[row] for row in test]


def _one_hot(groups) -> Labelled:
    paths = [path for group in groups for path in group]
    classes = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    return Labelled(paths, np.eye(len(groups), dtype=np.float32)[classes])


def label_names(sources: List[Source]) -> List[str]:
    """Returns the names of all labels in the order of `encode`, without the mask."""
    return [name for source in sources for name in source.names]


def encode(sources: List[Source], index: int, labels: np.ndarray) -> np.ndarray:
    """Returns labels [N, L] of source number `index` as the networks see them, float32.

    One source: as they are. Several: [N, L of all + number of sources], the labels of each source,
    0 for the others, then a mask, 1 at `index` (Choi et al. 2018, section 3.3, "mask vector").
    """
    labels = np.asarray(labels, np.float32)
    if len(sources) == 1:
        return labels
    first, total = len(label_names(sources[:index])), len(label_names(sources))
    encoded = np.zeros((len(labels), total + len(sources)), np.float32)
    encoded[:, first : first + labels.shape[1]] = labels
    encoded[:, total + index] = 1
    return encoded


def fingerprint(sources: List[Source]) -> str:
    """Returns a short text that changes with the names, sizes and labels of what trains."""
    paths = [path for source in sources for path in source.train.paths]
    words = label_names(sources) + [os.path.basename(path) for path in paths]
    if len(paths) <= MOST_SIZES:
        words += [str(os.path.getsize(path)) for path in paths]
    value = zlib.crc32("\n".join(words).encode())
    for source in sources:
        value = zlib.crc32(source.train.labels.tobytes(), value)
    return "%d pictures, %08x" % (len(paths), value)
