# SPDX-License-Identifier: Apache-2.0
"""What a picture is translated to: one target per label, or what the user asks for.

Axes: M pictures, L labels of one data set.
"""

import difflib
from typing import Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from harness.errors import UserError
from stargan.labels import encode

HAIR_COLOURS = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair")  # a face has one of them


class Target(NamedTuple):
    """One translation: its title, whose labels it changes, and to which values.

    Attributes:
      title: for column headers and file names.
      source: number of the data set that has these labels.
      values: {label: 1 or 0, or None for the opposite of what the picture has}.
    """

    title: str
    source: int
    values: Dict[str, Optional[int]]


def default_targets(sources) -> List[Target]:
    """Returns one target per label: a hair colour or class is set, anything else is turned over."""
    targets = []
    for number, source in enumerate(sources):
        for name in source.names:
            is_choice = source.kind == "classes" or name in HAIR_COLOURS
            targets.append(Target(name, number, {name: 1 if is_choice else None}))
    return targets


def parse_targets(texts: Sequence[str], sources) -> List[Target]:
    """Returns the targets that --target asks for; each text is one, such as "Male=1 Young=0".

    A name alone means 1.

    Raises:
      UserError: for an unknown name, another value than 0 or 1, or a class that is not set to 1.
    """
    targets = []
    for text in texts:
        values, owners = {}, set()
        for word in text.replace(",", " ").split():
            name, equals, value = word.partition("=")
            owners.add(_owner(name, sources))
            if equals and value not in ("0", "1"):
                raise UserError("--target %s: a label is 0 or 1, such as %s=1" % (word, name))
            values[name] = int(value or 1)
        if not values:
            raise UserError('--target "": name at least one label, such as "Male=1"')
        if len(owners) > 1:
            raise UserError("--target %s: its labels belong to different data sets" % text)
        number = owners.pop()
        if sources[number].kind == "classes" and list(values.values()) != [1]:
            raise UserError("--target %s: name one class, such as %s" % (text, next(iter(values))))
        targets.append(Target(text, number, values))
    return targets


def _owner(name, sources) -> int:
    known = [label for source in sources for label in source.names]
    for number, source in enumerate(sources):
        if name in source.names:
            return number
    near = difflib.get_close_matches(name, known, n=3) or known
    raise UserError("--target %s: there is no such label; there are %s" % (name, ", ".join(near)))


def labels_for(target: Target, sources, number: int, labels: np.ndarray) -> np.ndarray:
    """Returns the labels to translate to, float32 [M, all labels], as the networks see them.

    A hair colour that is set clears the other ones, unless the target names them too. Labels of a
    data set that the pictures are not from are unknown and start as 0.

    Args:
      target: the translation.
      sources: the data sets.
      number: that of the pictures' own data set.
      labels: the pictures' own labels, [M, L].
    """
    source = sources[target.source]
    wanted = np.zeros([len(labels), len(source.names)], np.float32)
    if source.kind != "classes" and target.source == number:
        wanted[:] = labels
    hair = [name for name in HAIR_COLOURS if target.values.get(name)]
    for column, name in enumerate(source.names):
        if name in target.values:
            value = target.values[name]
            wanted[:, column] = 1 - wanted[:, column] if value is None else value
        elif hair and name in HAIR_COLOURS:
            wanted[:, column] = 0
    return encode(sources, target.source, wanted)
