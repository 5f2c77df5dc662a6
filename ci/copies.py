# SPDX-License-Identifier: Apache-2.0
"""Checks that each vendored file is identical to its one source in tools/shared.

A model folder must run alone, so it holds whole copies of what the folders share. Edit the source,
never a copy, then run `python ci/copies.py --write`. A stray file is reported, never deleted.
"""

import argparse
import difflib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TF = ("*_for_TensorFlow",)
ALL = (*TF, "*_for_MindSpore")

# Source file or directory -> (the model folders that get it, the destination inside each).
COPIES = {
    "tools/shared/harness": (ALL, "harness"),
    "tools/shared/tf_runtime": (TF, "tf_runtime"),
    "tools/shared/modelarts": (ALL, "."),
    "tools/shared/test": (ALL, "test"),
    "tools/shared/video": (("NEURAL-STYLE*", "WhiteBox*"), "harness"),
}
COPIES_ONLY = ("harness", "tf_runtime")  # directories of a model folder that hold nothing else
DIFF_LINES = 20
OWNER_EXECUTES = 0o100  # the permission bit that git records


def model_folders(root: Path, patterns: tuple[str, ...] = ALL) -> list[Path]:
    """Returns the model folders at the root of the repository whose names match a pattern."""
    return sorted(path for pattern in patterns for path in root.glob(pattern) if path.is_dir())


def files(top: Path) -> list[Path]:
    """Returns `top` if it is a file, else every file below it except compiled Python."""
    found = [top] if top.is_file() else sorted(top.rglob("*"))
    return [path for path in found if path.is_file() and path.suffix != ".pyc"]


def wanted(root: Path) -> Iterator[tuple[Path, Path]]:
    """Yields (source, copy) for every pair of files that must be identical."""
    for name, (patterns, destination) in COPIES.items():
        top = root / name
        base = top if top.is_dir() else top.parent
        for folder in model_folders(root, patterns):
            for source in files(top):
                yield source, folder / destination / source.relative_to(base)


def difference(source: Path, copy: Path) -> str:
    """Returns what is wrong with a copy, or an empty string."""
    if copy.resolve() != copy:
        return "is a symbolic link or lies behind one: it must be a file of its own"
    if not copy.is_file():
        return "is missing"
    if copy.read_bytes() != source.read_bytes():
        old, new = (p.read_bytes().decode("utf-8", "replace").split("\n") for p in (source, copy))
        diff = list(difflib.unified_diff(old, new, str(source), str(copy), lineterm=""))
        shown = diff if len(diff) <= DIFF_LINES else [*diff[:DIFF_LINES], "..."]
        return "\n    ".join(["differs from its source", *shown])
    if (copy.stat().st_mode ^ source.stat().st_mode) & OWNER_EXECUTES:
        return "differs from its source in the executable bit"
    return ""


def check(root: Path) -> list[str]:
    """Returns the problems of all copies; `root` is absolute and free of symbolic links."""
    problems = []
    for name, (patterns, _) in COPIES.items():  # a misspelt entry must not mean nothing to check
        if not files(root / name):
            problems.append(f"{name}: the source is missing or empty")
        if not model_folders(root, patterns):
            problems.append(f"{name}: no model folder matches {' or '.join(patterns)}")
    for source, copy in wanted(root):
        if wrong := difference(source, copy):
            problems.append(f"{copy.relative_to(root)}: {wrong}")
    found = {p for top in model_folders(root) for name in COPIES_ONLY for p in files(top / name)}
    strays = sorted(found - {copy for _, copy in wanted(root)})
    return problems + [f"{p.relative_to(root)}: a stray file, it has no source" for p in strays]


def repair(root: Path) -> None:
    """Writes the missing and the differing copies anew; leaves stray files and links alone."""
    for source, copy in wanted(root):
        if difference(source, copy) and copy.resolve() == copy:
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, copy)
            print(f"wrote {copy.relative_to(root)}")


def main() -> int:
    """Runs the check, after the repair if asked for, and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="write the copies from their sources")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository (default: this)")
    args = parser.parse_args()
    root = args.root.resolve()
    if args.write:
        repair(root)
    if problems := check(root):
        print(*problems, "Edit the source, then run: python ci/copies.py --write", sep="\n")
        return 1
    print(f"{len(list(wanted(root)))} copies agree with their sources")
    return 0


if __name__ == "__main__":
    sys.exit(main())
