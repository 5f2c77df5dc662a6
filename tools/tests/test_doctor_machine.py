# SPDX-License-Identifier: Apache-2.0
"""What the doctor says of Python, packages and devices, of a model's requirements alone."""

import os
import shlex
import sys

import pytest

from harness import machine
from harness.files import write_text

MODEL = "Fake_for_TensorFlow"
LINES = """tensorflow==9.1; python_version >= "3.7"
tensorflow==1.0; python_version < "3.7"
Some_Thing==2.5
"""


@pytest.fixture
def top(tmp_path):
    """A folder with a model's requirements, and packages that are there by name alone."""
    write_text(str(tmp_path / MODEL / "requirements.txt"), LINES)
    for name in ("tensorflow-9.1.dist-info", "some_thing-2.5.dist-info"):
        (tmp_path / "packages" / name).mkdir(parents=True)
    return tmp_path


def test_the_nearest_folder_of_a_relative_path(monkeypatch, tmp_path):
    monkeypatch.chdir(str(tmp_path))
    assert machine.existing(os.path.join("none", "of", "these")) == os.getcwd()


def test_a_missing_framework_is_installed_with_what_fits_it(monkeypatch, top):
    monkeypatch.setattr(sys, "path", [])
    file = shlex.quote(str(top / MODEL / "requirements.txt"))
    assert machine.packages(str(top / MODEL)).remedy.endswith("-m pip install -r " + file)


def test_another_version_is_noted_and_no_problem(monkeypatch, top):
    monkeypatch.setattr(sys, "path", [str(top / "packages")])
    found = machine.packages(str(top / MODEL))
    assert found == machine.Finding("packages", "tensorflow 9.1, all as pinned")
    names = [str(top / "packages" / ("tensorflow-%s.dist-info" % v)) for v in ("9.1", "9.0")]
    os.rename(*names)
    found = machine.packages(str(top / MODEL))
    assert found.state == machine.NOTE
    assert found.text == "tensorflow 9.0, pinned is 9.1"


def test_the_framework_counts_under_its_other_names_too(monkeypatch, top):
    names = ("tensorflow-9.1.dist-info", "tensorflow_gpu-9.1-py3.7.egg-info")
    os.rename(*[str(top / "packages" / name) for name in names])
    monkeypatch.setattr(sys, "path", [str(top / "packages")])
    assert machine.packages(str(top / MODEL)) == machine.Finding(
        "packages", "tensorflow 9.1, all as pinned"
    )
    assert machine.packages("").text == "tensorflow 9.1"


def test_a_python_without_the_framework_of_which_nobody_has_tested_it(monkeypatch, top):
    monkeypatch.setitem(machine.FRAMEWORKS, "tensorflow", ("3.2", "3.3"))
    monkeypatch.setattr(sys, "path", [str(top / "packages")])
    assert machine.python(str(top / MODEL)).state == machine.NOTE
    monkeypatch.setattr(sys, "path", [])
    found = machine.python(str(top / MODEL))
    assert found.state == machine.PROBLEM
    assert "tested on Python 3.2 and 3.3" in found.text
    assert found.remedy.startswith("python3.3 -m venv .venv && .venv/bin/python -m pip install -r ")


def test_the_versions_of_cann_and_what_the_environment_says(monkeypatch, tmp_path):
    file = tmp_path / "aarch64-linux" / "ascend_toolkit_install.info"
    write_text(str(file), "package_name=Ascend-cann-toolkit\nversion=8.0.RC2\n")
    monkeypatch.setenv("ASCEND_TOOLKIT_HOME", str(tmp_path))
    monkeypatch.setenv("RANK_TABLE_FILE", "/table.json")
    text = machine.npu().text
    assert "8.0.RC2 in %s" % file in text
    assert text.endswith("RANK_TABLE_FILE=/table.json")


def test_pins_are_those_of_this_python(top):
    assert machine.pins(str(top / MODEL)) == {"tensorflow": "9.1", "some-thing": "2.5"}
