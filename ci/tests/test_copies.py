# SPDX-License-Identifier: Apache-2.0
"""ci/copies.py finds every way in which a copy can part from its source, and repairs it."""

import subprocess
import sys
from pathlib import Path

import copies
import pytest

SOURCES = {
    "harness/__init__.py": "",
    "harness/images/grids.py": "ROWS = 2\n",
    "tf_runtime/run.py": "STEPS = 1\n",
    "modelarts/modelarts_entry.py": "import harness\n",
    "test/train_full_1p.sh": "#!/bin/sh\n",
    "video/video.py": "RATE = 25.0\n",
}
TF_FOLDER = "StarGAN_ID1472_for_TensorFlow"
MS_FOLDER = "U-GAT-IT_for_MindSpore"
VIDEO_FOLDER = "WhiteBox_for_MindSpore"


def run(root, *options):
    command = [sys.executable, copies.__file__, "--root", root, *options]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def root(tmp_path):
    """A repository with one folder of each kind and all copies in place."""
    root = tmp_path.resolve()
    for name, text in SOURCES.items():
        path = root / "tools/shared" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "tools/shared/test/train_full_1p.sh").chmod(0o755)
    for folder in (TF_FOLDER, MS_FOLDER, VIDEO_FOLDER):
        (root / folder).mkdir()
    copies.repair(root)
    return root


def test_copies_go_where_the_table_says(root):
    places = {copy.relative_to(root).as_posix() for _, copy in copies.wanted(root)}
    everywhere = ("harness/__init__.py", "harness/images/grids.py", "modelarts_entry.py")
    everywhere += ("test/train_full_1p.sh",)
    assert places == {
        *(f"{f}/{name}" for f in (TF_FOLDER, MS_FOLDER, VIDEO_FOLDER) for name in everywhere),
        f"{TF_FOLDER}/tf_runtime/run.py",
        f"{VIDEO_FOLDER}/harness/video.py",
    }
    assert copies.check(root) == []


def test_a_new_folder_needs_no_line_in_the_table(root):
    (root / "Sixth_for_MindSpore").mkdir()
    assert "Sixth_for_MindSpore/modelarts_entry.py: is missing" in copies.check(root)
    copies.repair(root)
    assert copies.check(root) == []


def test_a_changed_copy_is_shown_as_a_short_diff_and_repaired(root):
    copy = root / TF_FOLDER / "tf_runtime/run.py"
    copy.write_text("".join(f"LINE = {number}\n" for number in range(100)))
    (problem,) = copies.check(root)
    assert problem.startswith(f"{TF_FOLDER}/tf_runtime/run.py: differs from its source\n")
    assert "-STEPS = 1" in problem
    assert "+LINE = 0" in problem
    assert len(problem.splitlines()) == copies.DIFF_LINES + 2
    assert problem.endswith("...")
    copies.repair(root)
    assert copy.read_text() == "STEPS = 1\n"
    assert copies.check(root) == []


@pytest.mark.parametrize("content", [b"STEPS = 1\r\n", b"STEPS = 1", b"STEPS = 1\n\xff"])
def test_one_byte_is_a_difference(root, content):
    (root / TF_FOLDER / "tf_runtime/run.py").write_bytes(content)
    (problem,) = copies.check(root)
    assert "tf_runtime/run.py: differs from its source\n" in problem


def test_a_missing_copy_is_found_and_written(root):
    copy = root / MS_FOLDER / "harness/images/grids.py"
    copy.unlink()
    copy.parent.rmdir()
    assert copies.check(root) == [f"{MS_FOLDER}/harness/images/grids.py: is missing"]
    copies.repair(root)
    assert copies.check(root) == []


def test_the_executable_bit_belongs_to_the_copy(root):
    copy = root / MS_FOLDER / "test/train_full_1p.sh"
    copy.chmod(0o644)
    assert copies.check(root) == [
        f"{MS_FOLDER}/test/train_full_1p.sh: differs from its source in the executable bit"
    ]
    copies.repair(root)
    assert copy.stat().st_mode & 0o100
    assert copies.check(root) == []


@pytest.mark.parametrize("stray", ["harness/local.py", "harness/a.txt", "tf_runtime/deep/b.py"])
@pytest.mark.parametrize("folder", [TF_FOLDER, MS_FOLDER])
def test_a_stray_file_is_reported_and_never_deleted(root, folder, stray):
    path = root / folder / stray
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("X = 1\n")
    copies.repair(root)
    assert copies.check(root) == [f"{folder}/{stray}: a stray file, it has no source"]
    assert path.exists()


def test_own_files_and_compiled_python_are_no_strays(root):
    for name in ("main.py", "test/test_losses.py", "harness/__pycache__/images.cpython-311.pyc"):
        path = root / TF_FOLDER / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    (root / "tools/shared/harness/__pycache__").mkdir()
    (root / "tools/shared/harness/__pycache__/images.cpython-37.pyc").write_text("")
    assert copies.check(root) == []


def test_a_link_is_no_copy_and_nothing_is_written_through_it(root):
    source = root / "tools/shared/tf_runtime/run.py"
    copy = root / TF_FOLDER / "tf_runtime/run.py"
    copy.unlink()
    copy.symlink_to(source)
    copies.repair(root)
    (problem,) = copies.check(root)
    assert problem.startswith(f"{TF_FOLDER}/tf_runtime/run.py: is a symbolic link")
    assert source.read_text() == "STEPS = 1\n"


def test_an_entry_without_a_source_is_a_problem(root):
    (root / "tools/shared/modelarts/modelarts_entry.py").unlink()
    assert "tools/shared/modelarts: the source is missing or empty" in copies.check(root)
    (root / "tools/shared/modelarts").rmdir()
    assert "tools/shared/modelarts: the source is missing or empty" in copies.check(root)


def test_an_entry_without_a_folder_is_a_problem(root):
    (root / TF_FOLDER).rename(root / "StarGAN")
    assert copies.check(root) == [
        "tools/shared/tf_runtime: no model folder matches *_for_TensorFlow"
    ]


def test_command_line_passes_fails_and_repairs(root):
    done = run(root)
    assert (done.returncode, done.stdout) == (0, "14 copies agree with their sources\n")

    Path(root, MS_FOLDER, "modelarts_entry.py").write_text("import os\n")
    done = run(root)
    assert done.returncode == 1
    assert f"{MS_FOLDER}/modelarts_entry.py: differs from its source" in done.stdout
    assert "run: python ci/copies.py --write" in done.stdout

    done = run(root, "--write")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        f"wrote {MS_FOLDER}/modelarts_entry.py",
        "14 copies agree with their sources",
    ]
