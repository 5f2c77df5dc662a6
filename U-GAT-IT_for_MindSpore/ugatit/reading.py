# SPDX-License-Identifier: Apache-2.0
"""The command line and the YAML file become a `Config`: the command line goes first."""

import dataclasses
import difflib
import os
from typing import List, Optional

import yaml

from harness import options
from harness.errors import UserError
from ugatit.config import Config

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DEFAULT_FILE = os.path.join(ROOT, "default_config.yaml")


@dataclasses.dataclass(frozen=True)
class Words(Config):
    """The command line alone: options that depend on each other may be in the file."""

    def __post_init__(self):
        pass


def names() -> dict:
    """Returns {name or alias: field} of all options."""
    fields = dataclasses.fields(Config)
    return {name: f for f in fields for name in (f.name,) + f.metadata["aliases"]}


def read_yaml(path: str) -> dict:
    """Returns {option name: value} of a YAML file.

    Raises:
      UserError: if it is missing or no YAML, or has an unknown key or a value of another type.
    """
    try:
        with open(path, encoding="utf-8") as file:
            content = yaml.safe_load(file)
    except FileNotFoundError:
        raise UserError("--config_path %s: there is no such file" % path) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(
            "%s cannot be read as YAML: %s" % (path, " ".join(str(error).split()))
        ) from error
    if not isinstance(content, (dict, type(None))):
        raise UserError("%s must hold lines such as `light: True`" % path)
    known, values = names(), {}
    for key, value in (content or {}).items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = "; did you mean %s?" % near[0] if near else "; train.py --help lists all"
            raise UserError("%s: unknown key %s%s" % (path, key, hint))
        values[known[key].name] = _typed(path, key, value, known[key])
    return values


def _typed(path, key, value, field):
    kind, choices = field.type, field.metadata["choices"]
    if isinstance(value, (int, float)) and not isinstance(value, bool) and kind is str:
        value = str(value)
    if kind in (int, float) and not isinstance(value, bool):  # YAML 1.1 reads 1e-4 as a text
        try:
            number = float(value)
            value = number if kind is float or number % 1 else int(number)
        except (TypeError, ValueError, OverflowError):
            pass
    if type(value) is not kind:
        expected = {bool: "True or False", int: "a whole number", float: "a number", str: "a text"}
        raise UserError("%s: %s is %r; it must be %s" % (path, key, value, expected[kind]))
    if choices and value not in choices:
        raise UserError(
            "%s: %s is %r; it must be one of %s" % (path, key, value, ", ".join(choices))
        )
    return value


def read(argv: Optional[List[str]] = None, description=None, phase: str = "", prog=None):
    """Returns (Config, names given): the command line goes before the YAML file.

    Args:
      argv: words of the command line; None takes sys.argv.
      description: first lines of --help.
      phase: what the program is for, if it does one thing only.
      prog: the program's name in messages.

    Raises:
      UserError: if the YAML file is wrong; a wrong command line ends the program.
    """
    (_,), (given,) = options.parse_several([Words], argv, prog, description)
    return combine(given, {"phase": phase} if phase else {})


def combine(given: dict, fixed: Optional[dict] = None, preset: Optional[dict] = None):
    """Returns (Config, names that were given) of options from several places.

    Args:
      given: {option name: value} of the command line; goes before --config_path.
      fixed: what the program itself says; goes before the command line.
      preset: goes before default_config.yaml, but not before --config_path.

    Raises:
      UserError: if the YAML file is wrong, or options do not go together.
    """
    path = given.get("config_path")
    named = dict(read_yaml(path) if path else {}, **given)
    values = dict({} if path else read_yaml(DEFAULT_FILE), **(preset or {}))
    values = dict(dict(values, **named), **(fixed or {}))
    try:
        config = Config(**values)
        options.check(config)
    except ValueError as error:
        raise UserError(str(error)) from error
    return config, set(named)
