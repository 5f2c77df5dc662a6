# SPDX-License-Identifier: Apache-2.0
"""Checks what all model folders have in common: files, README headings, pins, sizes, results.

A problem is one line, `path: problem`. `--result FILE` also checks a result.json that a run wrote.
"""

import argparse
import ast
import io
import json
import math
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

from copies import model_folders, wanted

ROOT = Path(__file__).resolve().parents[1]
REQUIRED = (
    "README.md README_CN.md requirements.txt modelzoo_level.txt test/cases.py test/speed.py "
    "modelarts_entry.py modelarts_entry_acc.py modelarts_entry_perf.py test/train_full_1p.sh "
    "test/train_full_8p.sh test/train_performance_1p.sh test/train_performance_8p.sh"
)
ENTRY_SCRIPTS = {  # how a folder's name begins -> the paths its users call
    "WhiteBox": "train_code/pretrain.py train_code/train.py test_code/cartoonize.py npu_train.sh "
    "test_code/preprocess.py test_code/process.py",
    "Pix2Pix": "main.py run_model.py frozen_graph.py",
    "NEURAL-STYLE": "neural_style.py",
    "StarGAN": "main.py frozen_graph.py img_process.py scripts/npu_set_env_1p.sh "
    "scripts/train_1p.sh scripts/test_1p.sh train_1p_ci.sh test/train_RT2_performance_1p.sh",
    "U-GAT-IT": "train.py eval.py export.py preprocess.py postprocess.py ascend310_infer "
    "scripts/run_standalone_train_910.sh scripts/run_distributed_train_910.sh "
    "scripts/run_eval_910.sh scripts/run_infer_310.sh",
}
MODULES = ("config.py", "data.py", "networks.py", "losses.py", "training.py", "serving.py")
NOT_SERVING = "NEURAL-STYLE"  # optimises a picture: there is no network to serve
NOT_THE_PACKAGE = {"harness", "tf_runtime", "test"}
HEADINGS = (
    "## Results, ## Quick start, ## Data, ## Train, ## Infer and export, ## On ModelArts, "
    "## How it works, ## Differences from the paper and from the reference code, ## Citation"
)
PIN = re.compile(r"[\w.-]+(\[[\w,-]+\])?==[\w.!+]+(\s*;\s*python_version\b.*)?")
MODULE_LINES, HARD_MODULE_LINES = 300, 400
FUNCTION_LINES, LONG_FUNCTION_LINES = 60, 100  # long: `train` and `build...`
ENTRY_SCRIPT_LINES, SHELL_LINES, README_LINES = 60, 25, 200
# Counted without docstrings, comments and blank lines, so that nobody saves on explaining.
VENDORED, VENDORED_LINES = ("tools/shared/harness", "tools/shared/tf_runtime"), 3200
# "file" or "file::function" -> why it may exceed its budget (no module its hard limit).
ALLOWED: dict[str, str] = {}
ISO_8601 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)?")
# A tuple lists alternatives, float is any finite number, {str: X} has any keys and X as values.
RESULT_SCHEMA = {
    "case": str,
    "model": str,
    "preset": ("full", "performance"),
    "device": str,
    "ranks": int,
    "batch": int,
    "images_per_second": (float, None),
    "seconds_per_step": (float, None),
    "first_step_seconds": (float, None),
    "losses": {str: float},
    "accuracy": ({"metric": str, "value": float, "protocol": str}, None),
    "metrics": {str: float},
    "seed": int,
    "steps": int,
    "versions": {str: str},
    "start": ISO_8601,
    "duration_seconds": float,
    "exit_status": int,
    "stopped": bool,
    "command": [str],
}


def entry_scripts(folder: Path) -> list[str]:
    """Returns the entry points of a model folder, relative to it."""
    return next((v.split() for k, v in ENTRY_SCRIPTS.items() if folder.name.startswith(k)), [])


def check_folder(folder: Path) -> list[str]:
    """Returns the problems of one model folder, sizes apart."""
    entries = entry_scripts(folder)
    missing = [name for name in REQUIRED.split() + entries if not (folder / name).exists()]
    problems = [f"{folder.name}/{name}: is missing" for name in missing]
    if not entries:
        problems.append(f"{folder.name}: has no line in ENTRY_SCRIPTS of ci/contract.py")
    for name, check in (("README.md", check_headings), ("requirements.txt", check_pins)):
        if (folder / name).is_file():
            lines = (folder / name).read_text("utf-8").splitlines()
            problems += [f"{folder.name}/{name}: {problem}" for problem in check(lines)]
    return problems + check_package(folder)


def check_package(folder: Path) -> list[str]:
    """Returns the problems of the package that holds the model."""
    names = {path.parent.name for path in folder.glob("*/__init__.py")} - NOT_THE_PACKAGE
    if len(names) != 1:
        has = ", ".join(sorted(names)) or "none"
        return [f"{folder.name}: must have one package that holds the model, it has {has}"]
    package = folder / names.pop()
    where = f"{folder.name}/{package.name}"
    modules = MODULES[: -1 if folder.name.startswith(NOT_SERVING) else None]
    problems = [f"{where}/{name}: is missing" for name in modules if not (package / name).is_file()]
    if not ast.get_docstring(ast.parse((package / "__init__.py").read_bytes())):
        problems.append(f"{where}/__init__.py: has no docstring")
    return problems


def check_headings(lines: list[str]) -> list[str]:
    """Returns what is wrong with the headings of a README."""
    headings = HEADINGS.split(", ")
    found = [line.rstrip() for line in lines if line.rstrip() in headings]
    missing = [heading for heading in headings if heading not in found]
    if not missing and found != headings:
        return [f"must have these headings once each in this order: {HEADINGS}"]
    return [f"has no heading {heading!r}" for heading in missing]


def check_pins(lines: list[str]) -> list[str]:
    """Returns the lines of a requirements.txt that are not `name==version`."""
    pins = [re.sub(r"(^|\s)#.*", "", line).strip() for line in lines]
    return [f"is not an exact pin: {pin}" for pin in pins if pin and not PIN.fullmatch(pin)]


def count_lines(path: Path) -> int:
    """Returns the number of lines of a text file."""
    return len(path.read_text("utf-8").splitlines())


def count_code_lines(path: Path) -> int:
    """Returns the number of lines of a Python file that hold code, docstrings left out."""
    text = path.read_text("utf-8")
    kinds = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in (*kinds, tokenize.ENDMARKER):
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        is_documented = ast.Module | ast.ClassDef | ast.FunctionDef
        if isinstance(node, is_documented) and ast.get_docstring(node) is not None:
            lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return len(lines)


def sizes(root: Path) -> Iterator[tuple[str, int, int]]:
    """Yields (name, lines, budget) of all that has a budget; a copy counts at its source."""
    folders = model_folders(root)
    entries = {folder / name for folder in folders for name in entry_scripts(folder)}
    entries |= {source for source, copy in wanted(root) if copy.parent in folders}
    copies = {copy for _, copy in wanted(root)}
    tops = [*folders, root / "tools", root / "ci"]
    for path in sorted({path for top in tops for path in top.rglob("*.py")} - copies):
        name = path.relative_to(root).as_posix()
        budget = HARD_MODULE_LINES if path.name.startswith("test_") else MODULE_LINES
        is_entry = path in entries or path.parent in folders
        yield name, count_lines(path), ENTRY_SCRIPT_LINES if is_entry else budget
        for node in ast.walk(ast.parse(path.read_bytes(), filename=str(path))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                is_long = node.name == "train" or node.name.startswith("build")
                budget = LONG_FUNCTION_LINES if is_long else FUNCTION_LINES
                yield f"{name}::{node.name}", node.end_lineno - node.lineno + 1, budget
    for path in sorted({path for top in tops for path in top.rglob("*.sh")} - copies):
        yield path.relative_to(root).as_posix(), count_lines(path), SHELL_LINES
    for path in (path for folder in folders for path in sorted(folder.glob("README*.md"))):
        yield path.relative_to(root).as_posix(), count_lines(path), README_LINES
    vendored = [path for name in VENDORED for path in (root / name).rglob("*.py")]
    yield " + ".join(VENDORED), sum(map(count_code_lines, vendored)), VENDORED_LINES


def check_sizes(root: Path, allowed: dict[str, str]) -> list[str]:
    """Returns what exceeds its budget without a reason, and the reasons without a need."""
    over = [(name, lines, budget) for name, lines, budget in sizes(root) if lines > budget]
    problems = []
    for name, lines, budget in over:
        if name not in allowed or (name.endswith(".py") and lines > HARD_MODULE_LINES):
            problems.append(f"{name}: {lines} lines, the budget is {budget}")
    for name in sorted(allowed.keys() - {name for name, _, _ in over}):
        problems.append(f"{name}: is within its budget, its entry in ALLOWED is not needed")
    blank = [name for name, reason in allowed.items() if not reason.strip()]
    return problems + [f"{name}: its entry in ALLOWED has no reason" for name in blank]


def fits(value: object, kind: object) -> bool:
    """Returns whether a value read from JSON is what an entry of RESULT_SCHEMA asks for."""
    if isinstance(kind, tuple):
        return any(fits(value, choice) for choice in kind)
    if isinstance(kind, list):
        return isinstance(value, list) and all(fits(item, kind[0]) for item in value)
    if isinstance(kind, dict):
        if not isinstance(value, dict):
            return False
        want = dict.fromkeys(value, kind[str]) if str in kind else kind
        return value.keys() == want.keys() and all(fits(value[key], want[key]) for key in want)
    if isinstance(kind, re.Pattern):
        return isinstance(value, str) and kind.fullmatch(value) is not None
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is kind or value == kind


def check_result(result: dict[str, object]) -> list[str]:
    """Returns the problems of the content of a result.json."""
    if not isinstance(result, dict):
        return ["is not an object"]
    problems = [f"has no {key}" for key in RESULT_SCHEMA if key not in result]
    problems += [f"has the unknown key {key}" for key in result if key not in RESULT_SCHEMA]
    for key, kind in RESULT_SCHEMA.items():
        if key in result and not fits(result[key], kind):
            wants = re.sub(r"<class '(\w+)'>", r"\1", str(kind))
            problems.append(f"{key} is {result[key]!r}, it must be {wants}")
    return problems


def check_result_file(path: Path) -> list[str]:
    """Returns the problems of a result.json."""
    try:
        result = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        return [f"{path}: cannot be read: {error}"]
    return [f"{path}: {problem}" for problem in check_result(result)]


def main() -> int:
    """Checks the repository and the given results, and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository (default: this)")
    parser.add_argument("--result", type=Path, nargs="+", action="extend", default=[])
    args = parser.parse_args()
    root = args.root.resolve()
    folders = model_folders(root)
    problems = [] if folders else [f"{root}: has no model folder"]
    problems += [problem for folder in folders for problem in check_folder(folder)]
    problems += check_sizes(root, ALLOWED)
    problems += [problem for path in args.result for problem in check_result_file(path)]
    print(*problems or [f"{len(folders)} model folders keep the contract"], sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
