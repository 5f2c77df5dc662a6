# SPDX-License-Identifier: Apache-2.0
"""ci/environments.py: which requirements an environment has, and when it is made anew."""

import os
import sys

import environments
import pytest

TENSORFLOW = ["A_for_TensorFlow/requirements.txt", "B_for_TensorFlow/requirements.txt"]


def write(root, name, text=""):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository with two TensorFlow folders and one for MindSpore, which require nothing."""
    monkeypatch.setattr(environments, "ROOT", tmp_path)
    for name in ("B_for_TensorFlow", "A_for_TensorFlow", "C_for_MindSpore", "ci"):
        write(tmp_path, f"{name}/requirements.txt", f"# {name}\n")
    write(tmp_path, "C_for_MindSpore/requirements_lite.txt", "# lite\n")
    for name in ("requirements.txt", "requirements_mindspore.txt"):
        write(tmp_path, f"tools/{name}", "# tools\n")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("tf1", [*TENSORFLOW, "tools/requirements.txt"]),
        ("tf2", [*TENSORFLOW, "tools/requirements.txt"]),
        ("ms", ["C_for_MindSpore/requirements.txt", "tools/requirements_mindspore.txt"]),
        ("lite", ["C_for_MindSpore/requirements_lite.txt"]),
    ],
)
def test_each_environment_has_the_requirements_of_its_framework(root, name, files):
    found = [path.relative_to(root).as_posix() for path in environments.requirement_files(name)]
    assert found == [*files, "ci/requirements.txt"]


@pytest.mark.parametrize("name", sorted(environments.VERSIONS))
def test_every_environment_of_this_repository_has_requirements(name):
    files = environments.requirement_files(name)
    assert len(files) >= 2
    assert all("==" in path.read_text() for path in files)


def test_an_environment_is_made_anew_when_a_requirement_changed(root):
    python = environments.make("ms", sys.executable)
    assert python == root / ".venv" / "ms" / "bin" / "python"
    assert python.exists()
    mark = write(root, ".venv/ms/mark")
    write(root, "C_for_MindSpore/requirements_lite.txt", "# another environment's\n")
    assert environments.make("ms", sys.executable) == python
    assert mark.exists()
    write(root, "C_for_MindSpore/requirements.txt", "# changed\n")
    assert environments.make("ms", sys.executable) == python
    assert not mark.exists()


def test_an_environment_first_on_the_path_is_not_what_others_are_made_with(root, monkeypatch):
    version = "%d.%d" % sys.version_info[:2]
    ours = root / ".venv" / "tf2" / "bin"
    ours.mkdir(parents=True)
    (ours / f"python{version}").symlink_to(environments.find_python(version))
    monkeypatch.setenv("PATH", f"{ours}:{os.environ['PATH']}")
    assert environments._is_version(ours / f"python{version}", version)
    found = environments.find_python(version)
    assert environments._is_version(found, version)
    assert not found.startswith(str(root))


def test_a_python_is_found_by_its_version(tmp_path):
    version = "%d.%d" % sys.version_info[:2]
    assert environments._is_version(environments.find_python(version), version)
    assert not environments._is_version(sys.executable, "3.0")
    assert not environments._is_version(tmp_path / "absent", version)
