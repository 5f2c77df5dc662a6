# SPDX-License-Identifier: Apache-2.0
"""Checks that a model folder runs alone: no import leaves it and, with --run, a lone copy trains.

`--run PYTHON` copies each folder to an empty directory and runs its tests there.
"""

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from copies import model_folders

ROOT = Path(__file__).resolve().parents[1]
IMPORT_NAMES = {  # of the distributions whose name is another
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "scikit-image": "skimage",
}
OPTIONAL = {"hccl", "moxing", "npu_bridge"}  # parts of the platform, which no index has
NOT_FOUND = "from outside the standard library, requirements.txt and this folder"
IGNORED = re.compile(r"(^|/)__pycache__/|^test/output/")


def folder_files(folder: Path) -> list[Path]:
    """Returns the files that git tracks or would add; outside a checkout, all files."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listing = subprocess.check_output(command, cwd=folder, stderr=subprocess.DEVNULL)
        names = os.fsdecode(listing).split("\0")
    except (OSError, subprocess.CalledProcessError):
        names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*"))]
    paths = [folder / name for name in names if not IGNORED.search(name)]
    return [path for path in paths if path.is_file() or path.is_symlink()]


def required_modules(folder: Path) -> set[str]:
    """Returns the import names of what requirements.txt lists."""
    lines = (folder / "requirements.txt").read_text("utf-8").splitlines()
    names = [re.match(r"[\w.-]*", line.strip())[0].lower().replace("_", "-") for line in lines]
    return {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in names if name}


def own_modules(directory: Path, python_files: list[Path]) -> set[str]:
    """Returns the modules and packages that `directory` on sys.path would provide."""
    inside = [path.relative_to(directory) for path in python_files if directory in path.parents]
    return {path.parts[0].removesuffix(".py") for path in inside}


def imports(path: Path) -> Iterator[tuple[int, str, bool]]:
    """Yields (line, module, whether inside a function) for each absolute import."""
    nodes = list(ast.walk(ast.parse(path.read_bytes(), filename=str(path))))
    functions = [n for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    deferred = {node for function in functions for node in ast.walk(function)}
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, node in deferred
        elif isinstance(node, ast.ImportFrom) and not node.level:  # "from ." cannot leave a folder
            yield node.lineno, node.module, node in deferred


def check_imports(folder: Path) -> list[str]:
    """Returns a problem with file and line for each import that a lone folder cannot resolve."""
    python_files = [path for path in folder_files(folder) if path.suffix == ".py"]
    if not python_files or not (folder / "requirements.txt").is_file():
        return [f"{folder.name}: has no requirements.txt or no Python files"]
    shared = own_modules(folder, python_files) | required_modules(folder) | sys.stdlib_module_names
    problems = []
    for path in python_files:
        known = shared | ({"pytest"} if folder / "test" in path.parents else set())
        if not (path.parent / "__init__.py").exists():  # a script finds its neighbours
            known |= own_modules(path.parent, python_files)
        for line, name, deferred in imports(path):
            top = name.partition(".")[0]
            if top not in known and not (deferred and top in OPTIONAL):
                reason = "outside a function" if top in OPTIONAL else NOT_FOUND
                problems.append(f"{path.relative_to(folder.parent)}:{line}: imports {top} {reason}")
    return problems


def check_run(folder: Path, python: str) -> list[str]:
    """Runs the tests of a lone copy of the folder; returns the problem if they do not pass."""
    with tempfile.TemporaryDirectory() as place:
        alone = Path(place) / folder.name
        for path in folder_files(folder):
            target = alone / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target, follow_symlinks=False)
        report = Path(place, "report.xml")
        command = [python, "-m", "pytest", "-q", "test", f"--junitxml={report}"]
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        print(f"{folder.name} alone: {' '.join(command)}", flush=True)
        status = subprocess.run(command, cwd=alone, env=environment).returncode
        if status not in (0, 5):
            return [f"{folder.name}: its tests fail when it is alone (pytest exit {status})"]
        suite = ElementTree.parse(report).getroot().find("testsuite")
        if suite.get("tests") == suite.get("skipped"):  # none collected, or all skipped
            return [f"{folder.name}: no test ran"]
    return []


def main() -> int:
    """Checks the folders and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="*", help="model folders (default: all)")
    parser.add_argument("--run", metavar="PYTHON", help="also run the tests with this interpreter")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository (default: this)")
    args = parser.parse_args()
    root = args.root.resolve()
    folders = [root / name for name in args.folders] or model_folders(root)
    problems = [] if folders else [f"{root}: has no model folder"]
    for folder in folders:
        problems += check_imports(folder)
        if args.run and folder.is_dir():
            problems += check_run(folder, os.path.abspath(shutil.which(args.run) or args.run))
    print(*problems or [f"{len(folders)} model folders stand alone"], sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
