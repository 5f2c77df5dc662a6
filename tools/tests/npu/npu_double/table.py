# SPDX-License-Identifier: Apache-2.0
"""What the chosen release of npu_bridge has: modules, names, signatures, session keys."""

import ast
import functools
import inspect
import json
import os

PATH = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "releases.json")
_Parameter = inspect.Parameter


@functools.lru_cache()
def _load() -> dict:
    with open(PATH, encoding="utf-8") as file:
        return json.load(file)


def releases() -> list:
    """Returns the names of the releases, oldest first."""
    return list(_load()["releases"])


def release() -> str:
    """Returns the release that NPU_BRIDGE_RELEASE names.

    Raises:
      ImportError: if the table does not have it.
    """
    name = os.environ.get("NPU_BRIDGE_RELEASE") or "master"
    if name not in releases():
        text = "NPU_BRIDGE_RELEASE=%s: it must be one of %s"
        raise ImportError(text % (name, ", ".join(releases())))
    return name


def _of_release(group: dict, name: str) -> dict:
    """Returns {name: entry} of one release."""
    found = {}
    for key, entry in group.items():
        if isinstance(entry, dict):
            fitting = [e for names, e in entry.items() if name in names.split()]
        else:
            fitting = [entry]
        found.update((key, e) for e in fitting)
    return found


@functools.lru_cache()
def modules(name: str) -> dict:
    """Returns {module: {dotted name: entry}} of a release."""
    everything = {m: _of_release(group, name) for m, group in _load()["modules"].items()}
    return {module: group for module, group in everything.items() if "" in group}


@functools.lru_cache()
def exports(name: str) -> dict:
    """Returns {module: [names that it re-exports]} of a release."""
    return {m: sorted(_of_release(group, name)) for m, group in _load()["exports"].items()}


@functools.lru_cache()
def keys(name: str) -> dict:
    """Returns {session key: (AttrValue field, checked values as text)} of a release."""
    found = _of_release(_load()["keys"], name)
    return {key: (entry.split()[0], entry.split()[1:]) for key, entry in found.items()}


class Expression:
    """A default value that has to be computed; equal to nothing."""

    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return self.text


def signature(entry: str) -> inspect.Signature:
    """Returns the signature of an entry such as "(tensor, root_rank, fusion=2)"."""
    text = entry[entry.index("(") :]
    words = ast.parse("def f%s: pass" % text).body[0].args
    names = [argument.arg for argument in words.args]
    defaults = [_source(text, node) for node in words.defaults]
    missing = [_Parameter.empty] * (len(names) - len(defaults))
    found = [
        _Parameter(name, _Parameter.POSITIONAL_OR_KEYWORD, default=default)
        for name, default in zip(names, missing + defaults)
    ]
    if words.vararg:
        found.append(_Parameter(words.vararg.arg, _Parameter.VAR_POSITIONAL))
    if words.kwarg:
        found.append(_Parameter(words.kwarg.arg, _Parameter.VAR_KEYWORD))
    return inspect.Signature(found)


def _source(text, node):
    """Returns the value of a default, or its text where it is no literal."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        rest, depth = text[node.col_offset - len("def f") :], 0
        for end, letter in enumerate(rest):
            if letter in ",)" and depth == 0:
                return Expression(rest[:end])
            depth += {"(": 1, ")": -1}.get(letter, 0)
        return Expression(rest)
