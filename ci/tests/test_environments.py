# SPDX-License-Identifier: Apache-2.0
"""ci/environments.py: which requirements an environment has, and when it is made anew."""

import os
import subprocess
import sys
import threading
import time

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


@pytest.fixture
def made_of_links(monkeypatch):
    """Makes environments of a link alone; pip is interrupted while the list holds something."""
    ends = []

    def run(command, pass_fds, **_):
        assert pass_fds, "a child must keep the lock"
        if "venv" in command:
            (command[-1] / "bin").mkdir(parents=True)
            (command[-1] / "bin" / "python").symlink_to(command[0])
        elif ends:
            raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "run", run)
    return ends


def test_an_environment_whose_making_was_interrupted_is_made_anew(root, made_of_links):
    environments.make("ms", sys.executable)
    write(root, "C_for_MindSpore/requirements.txt", "# changed\n")
    made_of_links.append(True)
    with pytest.raises(KeyboardInterrupt):
        environments.make("ms", sys.executable)
    made_of_links.clear()
    write(root, "C_for_MindSpore/requirements.txt", "# C_for_MindSpore\n")  # as it was
    mark = write(root, ".venv/ms/mark")
    environments.make("ms", sys.executable)
    assert not mark.exists()


def test_an_environment_whose_python_has_gone_is_made_anew(root, made_of_links):
    python = environments.make("ms", sys.executable)
    python.unlink()
    python.symlink_to(root / "removed")
    assert environments.make("ms", sys.executable) == python
    assert python.exists()


def test_who_wants_the_same_environment_waits_and_takes_what_the_other_made(
    root, made_of_links, capfd
):
    python = environments.make("ms", sys.executable)
    stamp = python.parent.parent / "made-from.txt"
    text = stamp.read_text()
    stamp.unlink()  # somebody is making it
    mark = write(root, ".venv/ms/mark")
    words = [sys.executable, "-c", "input()"]
    with environments.locked(root / ".venv" / "ms.lock") as lock:
        child = subprocess.Popen(words, stdin=subprocess.PIPE, pass_fds=[lock])
    # From here on the child alone has the lock.
    other = threading.Thread(target=environments.make, args=("ms", sys.executable))
    other.start()
    said = ""
    for _ in range(300):
        said += capfd.readouterr().err
        if "waiting for another process" in said:
            break
        time.sleep(0.1)
    assert "waiting for another process" in said
    stamp.write_text(text)
    child.communicate(b"\n")
    other.join(30)
    assert not other.is_alive()
    assert mark.exists()


@pytest.mark.parametrize("name", ["ci/requirements.txt", "tools/requirements_mindspore.txt"])
def test_a_requirement_file_that_is_not_there_is_one_sentence(root, monkeypatch, capfd, name):
    (root / name).unlink()
    monkeypatch.setattr(sys, "argv", ["environments.py", "ms"])
    monkeypatch.setattr(environments, "find_python", lambda version: sys.executable)
    assert environments.main() == 1
    said = capfd.readouterr()
    assert (
        said.err
        == f"cannot make .venv/ms: {root / name}: there is none; mend that and start again\n"
    )
    assert said.out == ""


def test_a_python_that_has_gone_is_one_sentence(root, monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["environments.py", "ms"])
    monkeypatch.setattr(environments, "find_python", lambda version: "/none/python")
    assert environments.main() == 1
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2  # what it makes, and what is wrong
    assert "/none/python: No such file or directory" in lines[1]


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
