# SPDX-License-Identifier: Apache-2.0
"""ci/contract.py names each missing file, wrong heading, loose pin, long file and bad result."""

import json
import math
import subprocess
import sys

import contract
import pytest

NAME = "NEURAL-STYLE_ID2068_for_TensorFlow"
RESULT = {
    "case": "NEURAL-STYLE_ID2068_for_TensorFlow_bs1_1p_acc",
    "model": NAME,
    "preset": "full",
    "device": "cpu",
    "ranks": 1,
    "batch": 1,
    "images_per_second": 2.5,
    "seconds_per_step": None,
    "first_step_seconds": 3,
    "losses": {"total": 1.5, "style": 2},
    "accuracy": {"metric": "Gram distance", "value": 0.25, "protocol": "vgg19 relu1_1"},
    "metrics": {"total loss": 12.5},
    "stopped": False,
    "seed": 0,
    "steps": 100,
    "versions": {"python": "3.7.17"},
    "start": "2024-05-01T12:00:00+00:00",
    "duration_seconds": 12.5,
    "exit_status": 0,
    "command": ["python3", "neural_style.py"],
}


def run(root, *options):
    command = [sys.executable, contract.__file__, "--root", root, *options]
    return subprocess.run(command, capture_output=True, text=True)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def lines(count):
    return "X = 1\n" * count


def function(name, count):
    return f"def {name}():\n" + "    pass\n" * (count - 1)


@pytest.fixture
def folder(tmp_path):
    """A model folder that keeps the contract; its parent is the repository."""
    folder = tmp_path.resolve() / NAME
    for name in [*contract.REQUIRED.split(), "neural_style.py", "harness/__init__.py"]:
        write(folder / name, "")
    for name in contract.MODULES:
        write(folder / "stylize" / name, "")
    write(folder / "stylize/__init__.py", '"""The map of the package."""\n')
    write(folder / "README.md", contract.HEADINGS.replace(", ", "\n\n"))
    write(folder / "requirements.txt", "# pins\nnumpy==1.26.4\n")
    return folder


def test_a_folder_that_keeps_the_contract_passes(folder):
    assert contract.check_folder(folder) == []
    assert contract.check_sizes(folder.parent, {}) == []


@pytest.mark.parametrize(
    "name", ["README_CN.md", "test/cases.py", "neural_style.py", "stylize/losses.py"]
)
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    assert contract.check_folder(folder) == [f"{NAME}/{name}: is missing"]


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("WhiteBox_Cartoonization_for_TensorFlow", "test_code/cartoonize.py"),
        ("Pix2Pix_ID0359_for_TensorFlow", "run_model.py"),
        ("StarGAN_ID1472_for_TensorFlow", "scripts/npu_set_env_1p.sh"),
        ("U-GAT-IT_for_MindSpore", "ascend310_infer"),
    ],
)
def test_each_folder_has_its_own_entry_scripts(folder, name, entry):
    folder = folder.rename(folder.parent / name)
    assert f"{name}/{entry}: is missing" in contract.check_folder(folder)


def test_a_model_serves_its_network_unless_it_has_none(folder):
    (folder / "stylize/serving.py").unlink()
    assert contract.check_folder(folder) == []
    folder = folder.rename(folder.parent / "StarGAN_ID1472_for_TensorFlow")
    where = "StarGAN_ID1472_for_TensorFlow/stylize/serving.py"
    assert f"{where}: is missing" in contract.check_folder(folder)


def test_a_folder_without_known_entry_scripts_is_a_problem(folder):
    folder = folder.rename(folder.parent / "Sixth_for_MindSpore")
    assert contract.check_folder(folder) == [
        "Sixth_for_MindSpore: has no line in ENTRY_SCRIPTS of ci/contract.py"
    ]


def test_there_is_one_package_and_it_has_a_docstring(folder):
    (folder / "stylize/__init__.py").write_text("import os\n")
    assert contract.check_folder(folder) == [f"{NAME}/stylize/__init__.py: has no docstring"]
    write(folder / "models/__init__.py", "")
    message = f"{NAME}: must have one package that holds the model, it has "
    assert contract.check_folder(folder) == [message + "models, stylize"]
    (folder / "models/__init__.py").unlink()
    (folder / "stylize/__init__.py").unlink()
    assert contract.check_folder(folder) == [message + "none"]


def test_a_missing_heading_is_named(folder):
    text = (folder / "README.md").read_text().replace("## Train\n", "### Train\n")
    (folder / "README.md").write_text(text)
    assert contract.check_folder(folder) == [f"{NAME}/README.md: has no heading '## Train'"]


@pytest.mark.parametrize(
    "headings", [["## Citation", "## Results"], ["## Results", "## Results", "## Citation"]]
)
def test_headings_in_another_order_or_repeated_are_a_problem(folder, headings):
    rest = contract.HEADINGS.split(", ")[1:-1]
    (folder / "README.md").write_text("\n".join([headings[0], *rest, *headings[1:]]))
    (problem,) = contract.check_folder(folder)
    assert problem.startswith(f"{NAME}/README.md: must have these headings once each in this order")


@pytest.mark.parametrize(
    "pin",
    ["numpy>=1.2", "numpy", "numpy==1.*", "-r other.txt", 'numpy==1.2; sys_platform == "linux"'],
)
def test_a_line_that_is_no_exact_pin_is_named(folder, pin):
    (folder / "requirements.txt").write_text(f"tqdm==4.66.5\n{pin}\n")
    assert contract.check_folder(folder) == [f"{NAME}/requirements.txt: is not an exact pin: {pin}"]


def test_pins_may_have_markers_extras_and_comments():
    text = """
        # what the trial run used
        numpy==1.18.5 ; python_version < "3.8"
        numpy==1.26.4; python_version>="3.8" and python_version<"3.12"
        opencv-python-headless==4.10.0.84  # no display
        pillow[xmp]==10.4.0.post1+local
    """
    assert contract.check_pins(text.splitlines()) == []


@pytest.mark.parametrize(
    ("name", "text", "budget"),
    [
        (f"{NAME}/stylize/vgg.py", lines(301), 300),
        (f"{NAME}/test/test_vgg.py", lines(401), 400),
        (f"{NAME}/neural_style.py", lines(61), 60),
        (f"{NAME}/any_script.py", lines(61), 60),
        (f"{NAME}/test/more.sh", lines(26), 25),
        (f"{NAME}/README_CN.md", lines(201), 200),
        ("tools/fid/images.py", lines(301), 300),
        ("tools/tests/test_fid.py", lines(401), 400),
        ("tools/shared/modelarts/modelarts_entry.py", lines(61), 60),
        ("ci/check.py", lines(301), 300),
        ("ci/check.sh", lines(26), 25),
    ],
)
def test_a_file_has_a_budget_of_lines(folder, name, text, budget):
    path = folder.parent / name
    write(path, text)
    problems = contract.check_sizes(folder.parent, {})
    assert problems == [f"{name}: {budget + 1} lines, the budget is {budget}"]
    write(path, text.removesuffix("X = 1\n"))
    assert contract.check_sizes(folder.parent, {}) == []


@pytest.mark.parametrize(
    ("name", "budget"), [("read", 60), ("train", 100), ("train_step", 60), ("build_graph", 100)]
)
def test_a_function_has_a_budget_of_lines(folder, name, budget):
    module = f"{NAME}/stylize/training.py"
    write(folder.parent / module, function(name, budget))
    assert contract.check_sizes(folder.parent, {}) == []
    write(folder.parent / module, function(name, budget + 1))
    assert contract.check_sizes(folder.parent, {}) == [
        f"{module}::{name}: {budget + 1} lines, the budget is {budget}"
    ]


def test_an_entry_script_in_a_subfolder_is_short_too(folder):
    folder = folder.rename(folder.parent / "WhiteBox_Cartoonization_for_TensorFlow")
    write(folder / "train_code/train.py", lines(61))
    assert contract.check_sizes(folder.parent, {}) == [
        f"{folder.name}/train_code/train.py: 61 lines, the budget is 60"
    ]


def test_the_vendored_layer_has_a_budget_of_code_and_its_copies_do_not_count(folder):
    code = '"""Docstrings,\n\nmore of them,\n"""\n# comments and blank lines do not count\n\n'
    for name in ("tf_runtime/a.py", *(f"harness/{letter}.py" for letter in "bcdefhijklmnopq")):
        write(folder.parent / "tools/shared" / name, code + "x = 1\n" * 200)
        write(folder / name, code + "x = 1\n" * 200)
    assert contract.check_sizes(folder.parent, {}) == []
    write(folder.parent / "tools/shared/tf_runtime/g.py", 'def f():\n    """Text."""\n')
    assert contract.check_sizes(folder.parent, {}) == [
        "tools/shared/harness + tools/shared/tf_runtime: 3201 lines, the budget is 3200"
    ]


def test_a_reason_allows_more_but_never_more_than_the_hard_limit(folder):
    module = f"{NAME}/stylize/vgg.py"
    write(folder.parent / module, lines(400))
    assert contract.check_sizes(folder.parent, {module: "one table of layers"}) == []
    write(folder.parent / module, lines(401))
    assert contract.check_sizes(folder.parent, {module: "one table of layers"}) == [
        f"{module}: 401 lines, the budget is 300"
    ]


def test_a_reason_for_a_file_does_not_cover_its_functions(folder):
    module = f"{NAME}/stylize/vgg.py"
    write(folder.parent / module, lines(300) + function("read", 61))
    allowed = {module: "one table of layers"}
    assert contract.check_sizes(folder.parent, allowed) == [
        f"{module}::read: 61 lines, the budget is 60"
    ]
    allowed[f"{module}::read"] = "one branch for each layer"
    assert contract.check_sizes(folder.parent, allowed) == []


def test_a_reason_that_is_empty_or_no_longer_needed_is_a_problem(folder):
    module = f"{NAME}/stylize/vgg.py"
    write(folder.parent / module, lines(301))
    assert contract.check_sizes(folder.parent, {module: " ", "ci/gone.py": "was long"}) == [
        "ci/gone.py: is within its budget, its entry in ALLOWED is not needed",
        f"{module}: its entry in ALLOWED has no reason",
    ]


def test_a_complete_result_passes():
    assert contract.check_result(RESULT) == []
    assert contract.check_result({**RESULT, "accuracy": None, "losses": {}}) == []
    assert contract.check_result({**RESULT, "start": "2024-05-01T12:00:00.5Z"}) == []


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("case", 1, "str"),
        ("preset", "quick", "('full', 'performance')"),
        ("ranks", 1.0, "int"),
        ("batch", True, "int"),
        ("images_per_second", "2.5", "(float, None)"),
        ("seconds_per_step", math.nan, "(float, None)"),
        ("duration_seconds", math.inf, "float"),
        ("duration_seconds", None, "float"),
        ("losses", {"total": math.nan}, "{str: float}"),
        ("losses", [1.5], "{str: float}"),
        ("versions", {"python": 3.7}, "{str: str}"),
        ("command", "python3 main.py", "[str]"),
        ("command", ["python3", 1], "[str]"),
        ("accuracy", {"metric": "FID", "value": 1.0}, "({'metric': str,"),
        ("accuracy", {"metric": "FID", "value": math.inf, "protocol": "x"}, "({'metric': str,"),
        ("start", "yesterday", "re.compile("),
    ],
)
def test_a_wrong_value_is_named(key, value, wanted):
    (problem,) = contract.check_result({**RESULT, key: value})
    assert problem.startswith(f"{key} is {value!r}, it must be {wanted}")


def test_missing_and_unknown_keys_are_named():
    result = {key: value for key, value in RESULT.items() if key != "seed"}
    assert contract.check_result({**result, "fps": 1}) == ["has no seed", "has the unknown key fps"]
    assert contract.check_result([RESULT]) == ["is not an object"]


def test_command_line_passes(folder):
    good = folder.parent / "result.json"
    good.write_text(json.dumps(RESULT))
    done = run(folder.parent, "--result", good)
    # What this repository allows itself cannot be needed in a temporary one.
    stale = [f"{key}: is within its budget, its entry" for key in sorted(contract.ALLOWED)]
    for line, start in zip(done.stdout.splitlines(), stale or ["1 model folders"], strict=True):
        assert line.startswith(start)
    assert done.returncode == (1 if stale else 0)


def test_command_line_prints_one_line_for_each_problem(folder):
    (folder / "README_CN.md").unlink()
    write(folder / "stylize/vgg.py", lines(301))
    bad, broken = folder.parent / "bad.json", folder.parent / "broken.json"
    bad.write_text(json.dumps({**RESULT, "seed": math.nan}))
    broken.write_text("{")
    done = run(folder.parent, "--result", bad, "--result", broken, folder.parent / "none.json")
    assert done.returncode == 1
    printed = done.stdout.splitlines()
    assert f"{NAME}/README_CN.md: is missing" in printed
    assert f"{NAME}/stylize/vgg.py: 301 lines, the budget is 300" in printed
    assert f"{bad}: seed is nan, it must be int" in printed
    assert printed[-2].startswith(f"{broken}: cannot be read: ")
    assert printed[-1].startswith(f"{folder.parent / 'none.json'}: cannot be read: ")


def test_a_repository_without_folders_fails(tmp_path):
    done = run(tmp_path)
    assert done.returncode == 1
    assert f"{tmp_path.resolve()}: has no model folder" in done.stdout
