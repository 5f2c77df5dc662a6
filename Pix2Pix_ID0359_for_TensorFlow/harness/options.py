# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/harness/options.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""A frozen dataclass becomes a command line: one line declares name, type, default, range, help."""

import argparse
import dataclasses
import difflib
import os
import sys
from typing import List, Optional, Tuple


def option(default, text, choices=None, low=None, high=None, aliases=(), may_change=False):
    """Declares one option of a configuration dataclass.

    Args:
      default: value when the flag is not given; its field's annotation is the type
        (int, float, str, bool, or a tuple type for one or more words).
      text: what the option does, with its unit; shown by --help.
      choices: allowed values, or None for any.
      low: least allowed number.
      high: greatest allowed number.
      aliases: further flag names.
      may_change: whether a resumed run may have another value (step counts, periods, paths).
    """
    metadata = {"text": text, "choices": choices, "low": low, "high": high}
    metadata.update(aliases=tuple(aliases), may_change=may_change)
    return dataclasses.field(default=default, metadata=metadata)


class _Parser(argparse.ArgumentParser):
    """Answers a mistake in one sentence, without the usage of fifty options."""

    def error(self, message):
        self.exit(2, "%s: %s (--help lists every option)\n" % (self.prog, message))


def _word_to_bool(word: str) -> bool:
    if word.lower() in ("true", "yes", "on", "1"):
        return True
    if word.lower() in ("false", "no", "off", "0"):
        return False
    raise argparse.ArgumentTypeError("%r is neither True nor False" % word)


def _word_to_int(word: str) -> int:
    try:
        number = float(word)
    except ValueError:
        number = 0.5
    if number % 1 != 0:  # also true of inf and nan
        raise argparse.ArgumentTypeError("%r is not a whole number" % word)
    return int(number)


def _word_to_float(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise argparse.ArgumentTypeError("%r is not a number" % word) from None


_READERS = {bool: _word_to_bool, int: _word_to_int, float: _word_to_float, str: str}


def _names(field) -> Tuple[str, ...]:
    return (field.name,) + field.metadata["aliases"]


def _help(field) -> str:
    metadata, notes = field.metadata, []
    default = field.default
    if isinstance(default, tuple):
        default = " ".join(map(str, default))
    if default not in ("", None):
        notes.append("default %s" % default)
    if metadata["low"] is not None:
        notes.append("at least %s" % metadata["low"])
    if metadata["high"] is not None:
        notes.append("at most %s" % metadata["high"])
    return (metadata["text"] + (" (%s)" % ", ".join(notes) if notes else "")).replace("%", "%%")


def _add(group, field) -> None:
    kind, metadata = field.type, field.metadata
    words = {
        "help": _help(field),
        "dest": field.name,
        "default": argparse.SUPPRESS,
        "choices": metadata["choices"],
    }
    if kind not in _READERS:  # a tuple type: Tuple[float, ...]
        words.update(nargs="+", type=_READERS[kind.__args__[0]], metavar="VALUE")
    elif kind is bool:
        words.update(nargs="?", const=True, type=_word_to_bool, metavar="True|False")
    else:
        words.update(type=_READERS[kind])
        kinds = {int: "INTEGER", float: "NUMBER", str: "TEXT"}
        words["metavar"] = "|".join(map(str, metadata["choices"] or [kinds[kind]]))
    group.add_argument(*("--" + name for name in _names(field)), **words)


def _parser(classes, prog, description):
    parser = _Parser(
        prog=prog or os.path.basename(sys.argv[0]),
        usage="%(prog)s [options]",
        description=description,
        allow_abbrev=False,
        epilog="--a_b is --a-b, --k=v is --k v, and --no_switch is --switch=False.",
    )
    seen = set()
    for cls in classes:
        for owner in cls.__mro__[:-1]:  # the model's own options first, then those it inherits
            title = (owner.__doc__ or owner.__name__).splitlines()[0].rstrip(".")
            group = parser.add_argument_group(title)
            for field in dataclasses.fields(cls):
                if (
                    field.name in owner.__dict__.get("__annotations__", {})
                    and field.name not in seen
                ):
                    seen.add(field.name)
                    _add(group, field)
    return parser


def _normalise(argv, fields) -> List[str]:
    """Turns --a-b=c into --a_b=c and --no_switch into --switch=False."""
    switches = {name for field in fields if field.type is bool for name in _names(field)}
    words = []
    for word in argv:
        if word.startswith("--"):
            flag, equals, value = word[2:].partition("=")
            flag = flag.replace("-", "_")
            if flag.startswith("no_") and flag[3:] in switches and not equals:
                flag, equals, value = flag[3:], "=", "False"
            word = "--" + flag + equals + value
        words.append(word)
    return words


def unknown_flags(words: List[str], fields) -> str:
    """Returns one sentence that names each unknown flag and the nearest known one."""
    known = ["--" + name for field in fields for name in _names(field)]
    parts = []
    for word in words:
        near = (
            difflib.get_close_matches(word.split("=")[0], known, n=1)
            if word.startswith("--")
            else []
        )
        parts.append("unknown option %s%s" % (word, "; did you mean %s?" % near[0] if near else ""))
    return ", ".join(parts)


def check(config) -> None:
    """Raises ValueError for a number outside the range that its option declares."""
    for field in dataclasses.fields(config):
        value, low, high = (
            getattr(config, field.name),
            field.metadata["low"],
            field.metadata["high"],
        )
        for number in value if isinstance(value, tuple) else (value,):
            if low is not None and not number >= low:
                raise ValueError(
                    "--%s %s is too small; it must be at least %s" % (field.name, number, low)
                )
            if isinstance(number, float) and number in (float("inf"), float("-inf")):
                raise ValueError("--%s %s: it must be finite" % (field.name, number))
            if high is not None and not number <= high:
                raise ValueError(
                    "--%s %s is too large; it must be at most %s" % (field.name, number, high)
                )


def parse(cls, argv: Optional[List[str]] = None, prog=None, description=None):
    """Reads the command line into `cls`; ends the program with one sentence when it is wrong.

    Returns:
      (config, given): an instance of `cls` and the set of the option names that were given.
    """
    configs, given = parse_several([cls], argv, prog, description)
    return configs[0], set(given[0])


def parse_several(classes, argv=None, prog=None, description=None, extras=None):
    """As `parse` for several dataclasses at once; a name both have goes to the first.

    Args:
      classes: dataclasses whose fields were made by `option`.
      argv: words of the command line without the program's name; None takes sys.argv.
      prog: the program's name in messages.
      description: first lines of --help.
      extras: a list that takes unknown words instead of an error, or None.

    Returns:
      ([config, ...], [{name: value given}, ...]), in the order of `classes`.
    """
    fields = [field for cls in classes for field in dataclasses.fields(cls)]
    parser = _parser(classes, prog, description)
    words = _normalise(sys.argv[1:] if argv is None else argv, fields)
    namespace, unknown = parser.parse_known_args(words)
    if unknown and extras is None:
        parser.error(unknown_flags(unknown, fields))
    elif unknown:
        extras.extend(unknown)
    configs, given, left = [], [], dict(vars(namespace))
    try:
        for cls in classes:
            names = [field.name for field in dataclasses.fields(cls) if field.name in left]
            values = {name: left.pop(name) for name in names}
            values = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
            configs.append(cls(**values))
            given.append(values)
            check(configs[-1])
    except ValueError as error:
        parser.error(str(error))
    return configs, given


def words_for(values: dict) -> List[str]:
    """Returns the command-line words that give `values`, {option name: value}."""
    words = []
    for name, value in values.items():
        if isinstance(value, tuple):
            words.extend(["--" + name] + [str(item) for item in value])
        else:
            words.append("--%s=%s" % (name, value))
    return words


def must_agree(config) -> dict:
    """Returns {name: value} of the options that a resumed run may not change."""
    return {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if not field.metadata["may_change"]
    }
