#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes releases.json, the names, signatures and session keys of npu_bridge by release.

The source is a full description of the releases: {"releases": {name: {"modules", "exports",
"session_config_keys", ...}}}. What is the same in all releases is stored once; what is not, as an
object whose keys are the releases that agree, {"r1.5": ..., "r1.10 master": ...}. An entry is

  "(tensor, root_rank, fusion=2)"          a function or method
  "class (optimizer, name=None)", "class"  a class with and without an __init__ of its own
  "property", "= 'v1.15.0'", "= ..."       a property, a constant, one that has to be computed
  "s", "i 0 1"                             a session key's AttrValue field and its checked values
"""

import argparse
import json
import sys


def arguments(pairs) -> str:
    """Returns [[name, default], ...] as the text of a Python signature."""
    words = []
    for name, default in pairs:
        bare = default in ("REQUIRED", "VARARGS", "KWARGS", "KEYWORD_ONLY")
        words.append(name if bare else "%s=%s" % (name, default))
    return "(%s)" % ", ".join(words)


def entries(name, description) -> dict:
    """Returns {dotted name: entry} of a function, constant, or class and its methods."""
    if description["kind"] == "function":
        return {name: arguments(description["args"])}
    if description["kind"] == "constant":
        value = description.get("value", "EXPRESSION")
        return {name: "= ..." if value == "EXPRESSION" else "= " + value}
    init = description.get("new", description.get("init"))
    own = isinstance(init, list)
    found = {name: "class " + arguments(init) if own else "class"}
    for method, words in description["methods"].items():
        is_value = any(
            "property" in word or "setter" in word for word in words.get("decorators", ())
        )
        found["%s.%s" % (name, method)] = "property" if is_value else arguments(words["args"])
    for attribute, value in description.get("attributes", {}).items():
        found["%s.%s" % (name, attribute)] = "= " + value
    return found


def session_key(description) -> str:
    """Returns the entry of a session key."""
    values = description.get("values", ())
    known = values if isinstance(values, list) else ()
    return " ".join([description["type"]] + [str(value) for value in known])


def merged(by_release: dict, releases):
    """Returns {release: entry} in its short form: the entry where all releases agree."""
    groups = {}
    for release in releases:
        if release in by_release:
            groups.setdefault(by_release[release], []).append(release)
    if len(groups) == 1 and len(by_release) == len(releases):
        return next(iter(groups))
    return {" ".join(names): entry for entry, names in groups.items()}


def table_of(description: dict) -> dict:
    """Returns what releases.json holds."""
    sources = description["releases"]
    releases = list(sources)
    modules, exports, keys = {}, {}, {}
    for release, source in sources.items():
        for module, names in source["modules"].items():
            modules.setdefault(module, {}).setdefault("", {})[release] = "module"
            for name, words in names.items():
                for dotted, entry in entries(name, words).items():
                    modules[module].setdefault(dotted, {})[release] = entry
        for module, names in source["exports"].items():
            for name in names:
                exports.setdefault(module, {}).setdefault(name, {})[release] = "export"
        for key, words in source["session_config_keys"].items():
            keys.setdefault(key, {})[release] = session_key(words)

    def short(group):
        return {name: merged(group[name], releases) for name in sorted(group)}

    table = {"releases": releases, "keys": short(keys)}
    for title, groups in (("exports", exports), ("modules", modules)):
        table[title] = {name: short(groups[name]) for name in sorted(groups)}
    return table


def main() -> int:
    """Reads the description and writes the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("description", help="JSON with the full description of the releases")
    parser.add_argument("table", help="path of the releases.json to write")
    options = parser.parse_args()
    with open(options.description, encoding="utf-8") as file:
        table = table_of(json.load(file))
    text = json.dumps(table, indent=1, sort_keys=True)
    with open(options.table, "w", encoding="utf-8") as file:
        file.write(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
