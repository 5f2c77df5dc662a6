# SPDX-License-Identifier: Apache-2.0
"""ci/isolation.py finds imports that leave a model folder and runs the folder's tests alone."""

import os
import subprocess
import sys

import isolation
import pytest

NAME = "Toy_for_TensorFlow"
FILES = {
    "requirements.txt": "numpy==1.26.4\nPillow==10.4.0; python_version >= '3.8'\n# scipy==1\n",
    "main.py": "import os.path\nimport toy.training\nfrom harness import images\n",
    "harness/images.py": "import numpy as np\nfrom PIL import Image\n",
    "toy/__init__.py": "",
    "toy/training.py": "from . import losses\nfrom .losses import loss\nimport toy.losses\n",
    "toy/losses.py": "def loss():\n    return 1\n",
    "toy/device.py": "def npu():\n    from npu_bridge.npu_init import NPUOptimizer\n",
    "test/cases.py": "",
    "test/test_toy.py": "import cases\nimport pytest\n\ndef test_toy():\n    import toy.training\n",
}


def run(folder, *options, **environment):
    command = [sys.executable, isolation.__file__, "--root", folder.parent, *options]
    environment = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def folder(tmp_path):
    """A model folder that stands alone, outside a git checkout."""
    for name, text in FILES.items():
        write(tmp_path / NAME, name, text)
    return tmp_path / NAME


def test_a_folder_that_stands_alone_passes(folder):
    assert isolation.check_imports(folder) == []


@pytest.mark.parametrize(
    ("name", "line", "module"),
    [
        ("main.py", "import tools.fid", "tools"),
        ("main.py", "from ci import copies", "ci"),
        ("toy/data.py", "import stargan.networks", "stargan"),
        ("toy/data.py", "import Other_for_TensorFlow.main", "Other_for_TensorFlow"),
        ("toy/data.py", "import scipy", "scipy"),  # only a comment names it
        ("toy/data.py", "def read():\n    import scipy.ndimage", "scipy"),
        ("toy/data.py", "import losses", "losses"),  # a package's modules are not top-level
        ("toy/data.py", "import pytest", "pytest"),
        ("main.py", "import cases", "cases"),
    ],
)
def test_an_import_from_outside_is_named_with_file_and_line(folder, name, line, module):
    write(folder, name, f"import os\n{line}\n")
    number = 2 + line.count("\n")
    assert isolation.check_imports(folder) == [
        f"{NAME}/{name}:{number}: imports {module} from outside the standard library, "
        "requirements.txt and this folder"
    ]


@pytest.mark.parametrize("module", ["hccl.manage.api", "moxing", "npu_bridge.npu_init"])
def test_the_platform_is_imported_only_inside_functions(folder, module):
    write(folder, "toy/device.py", f"def npu():\n    import {module}\n")
    assert isolation.check_imports(folder) == []
    write(folder, "toy/device.py", f"import {module}\n")
    top = module.partition(".")[0]
    assert isolation.check_imports(folder) == [
        f"{NAME}/toy/device.py:1: imports {top} outside a function"
    ]


def test_distributions_are_known_by_their_import_names(folder):
    names = ["tensorflow", "opencv-python-headless", "scikit_image", "PyYAML", "Jinja2", "tqdm"]
    write(folder, "requirements.txt", "".join(f"{name}==1.0\n" for name in names))
    modules = {"tensorflow", "cv2", "skimage", "yaml", "jinja2", "tqdm"}
    assert isolation.required_modules(folder) == modules


@pytest.mark.parametrize("lacking", ["requirements.txt", "*.py"])
def test_a_folder_with_nothing_to_check_is_a_problem(folder, lacking):
    for path in folder.rglob(lacking):
        path.unlink()
    assert isolation.check_imports(folder) == [
        f"{NAME}: has no requirements.txt or no Python files"
    ]


def test_a_checkout_counts_what_git_tracks_or_would_add(folder):
    subprocess.run(["git", "init", "-q", folder.parent], check=True)
    (folder.parent / ".gitignore").write_text("*.local.py\n")
    write(folder, "toy/secret.local.py", "import tools\n")
    write(folder, "toy/new.py", "")
    names = {path.relative_to(folder).as_posix() for path in isolation.folder_files(folder)}
    assert names == {*FILES, "toy/new.py"}


def test_outside_a_checkout_output_and_compiled_files_do_not_count(folder):
    write(folder, "test/output/0/result.py", "import tools\n")
    write(folder, "toy/__pycache__/losses.py", "import tools\n")
    names = {path.relative_to(folder).as_posix() for path in isolation.folder_files(folder)}
    assert names == set(FILES)


def test_command_line_runs_the_tests_of_a_lone_copy(folder):
    write(folder, "toy/losses.py", "def loss():\n    import os\n    print(os.getcwd())\n")
    write(
        folder, "test/test_toy.py", "def test_toy():\n    from toy import losses; losses.loss()\n"
    )
    done = run(folder, "--run", sys.executable)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
    assert done.stdout.endswith("1 model folders stand alone\n")


def test_the_lone_copy_sees_neither_the_repository_nor_pythonpath(folder):
    write(folder.parent, "our_tools/__init__.py", "")
    write(folder, "test/test_toy.py", "import importlib\n\ndef test_toy():\n    import our_tools\n")
    done = run(folder, "--run", sys.executable, PYTHONPATH=str(folder.parent))
    assert done.returncode == 1
    assert f"{NAME}/test/test_toy.py:4: imports our_tools from outside" in done.stdout
    assert "No module named 'our_tools'" in done.stdout
    assert f"{NAME}: its tests fail when it is alone (pytest exit 1)" in done.stdout


@pytest.mark.parametrize(
    "test",
    ["", "import pytest\n\n@pytest.mark.skip\ndef test_toy():\n    pass\n"],
    ids=["none", "skipped"],
)
def test_a_folder_whose_tests_do_not_run_fails(folder, test):
    write(folder, "test/test_toy.py", test)
    assert isolation.check_run(folder, sys.executable) == [f"{NAME}: no test ran"]


def test_command_line_checks_only_the_named_folders(folder):
    write(folder.parent / "Bad_for_MindSpore", "main.py", "import tools\n")
    write(folder.parent / "Bad_for_MindSpore", "requirements.txt", "")
    assert run(folder, NAME + "/").returncode == 0
    for names in ([], [NAME, "Bad_for_MindSpore"]):
        done = run(folder, *names)
        assert done.returncode == 1
        assert done.stdout.startswith("Bad_for_MindSpore/main.py:1: imports tools from outside")


def test_a_repository_without_folders_fails(tmp_path):
    done = run(tmp_path / NAME)
    assert (done.returncode, done.stdout) == (1, f"{tmp_path.resolve()}: has no model folder\n")
