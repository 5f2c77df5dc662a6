# SPDX-License-Identifier: Apache-2.0
"""Stands in for the platform's moxing: obs://NAME/... and s3://NAME/... are folders of $BUCKETS.

Every call is a line in $BUCKETS/calls. A file $BUCKETS/trouble_in or trouble_out holds words for
the copies into or out of this machine, the next one first: `fail` fails half-way, `hang` copies
nothing until there is a file $BUCKETS/go, `ok` is well; the last word stays for all that follow.
"""

import os
import shutil
import time

_BUCKETS = os.environ["BUCKETS"]
_LIMIT_SECONDS = 600  # of a copy that hangs; only a test that has failed leaves one


def _place(url):
    scheme, separator, rest = url.partition("://")
    assert scheme in ("obs", "s3") or not separator, url
    return os.path.join(_BUCKETS, rest) if separator else url


def _trouble(kind):
    """Returns the next word of a file of troubles."""
    path = os.path.join(_BUCKETS, "trouble_" + kind)
    if not os.path.exists(path):
        return "ok"
    with open(path) as stream:
        words = stream.read().split()
    with open(path, "w") as stream:
        stream.write(" ".join(words[1:] or words))
    return words[0]


def _hang(word):
    end = time.monotonic() + _LIMIT_SECONDS
    while word == "hang" and not os.path.exists(os.path.join(_BUCKETS, "go")):
        if time.monotonic() > end:
            raise OSError("nobody said go")
        time.sleep(0.01)


class file:  # noqa: N801 - its name there
    """The calls that the project makes."""

    @staticmethod
    def exists(url):
        """Returns whether there is a file or folder."""
        return os.path.exists(_place(url))

    @staticmethod
    def remove(url):
        """Removes a file."""
        with open(os.path.join(_BUCKETS, "calls"), "a") as calls:
            calls.write("remove %s\n" % url)
        os.remove(_place(url))

    @staticmethod
    def copy_parallel(source, target):
        """Copies what is in a folder into another one, file by file, over what is there."""
        kind = "out" if "://" in target else "in"
        word = _trouble(kind)
        with open(os.path.join(_BUCKETS, "calls"), "a") as calls:
            calls.write("%s %s %s %d\n" % (kind, source, target, os.getpid()))
        _hang(word)
        found = []
        for where, _, names in os.walk(_place(source)):
            found += [os.path.relpath(os.path.join(where, name), _place(source)) for name in names]
        assert os.path.isdir(_place(source)), source
        for number, name in enumerate(sorted(found)):
            if number >= len(found) // 2 and word == "fail":
                raise OSError("errno 104,\nthe connection was reset")
            path = os.path.join(_place(target), name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            shutil.copyfile(os.path.join(_place(source), name), path)
