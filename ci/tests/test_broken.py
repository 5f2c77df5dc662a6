# SPDX-License-Identifier: Apache-2.0
import ast

import broken
import pytest

REPLACEMENTS = [
    pytest.param(model, name, change, id=f"{model.split('_')[0]}, {name}")
    for model, variants in broken.VARIANTS.items()
    for name, variant in variants.items()
    for change in variant.replacements
]


@pytest.mark.parametrize(("model", "name", "change"), REPLACEMENTS)
def test_an_old_text_is_once_in_its_file_and_the_new_one_is_python(model, name, change):
    text = (broken.ROOT / model / change.file).read_text("utf-8")
    assert text.count(change.old) == 1
    ast.parse(text.replace(change.old, change.new))


def test_a_copy_is_broken_and_the_folder_is_not(tmp_path):
    folder = tmp_path / "Model"
    (folder / "test" / "output").mkdir(parents=True)
    (folder / "loss.py").write_text("loss = a + b\n")
    variant = broken.Variant((broken.Replacement("loss.py", "a + b", "a"),))
    copy = broken.break_copy(folder, tmp_path / "copies", variant)
    assert copy.name == "Model"
    assert (copy / "loss.py").read_text() == "loss = a\n"
    assert not (copy / "test" / "output").exists()
    assert (folder / "loss.py").read_text() == "loss = a + b\n"


@pytest.mark.parametrize(("text", "count"), [("loss = a\n", 0), ("a + b, a + b\n", 2)])
def test_an_old_text_that_is_not_once_there_is_refused(text, count, tmp_path):
    folder = tmp_path / "Model"
    folder.mkdir()
    (folder / "loss.py").write_text(text)
    variant = broken.Variant((broken.Replacement("loss.py", "a + b", "a"),))
    with pytest.raises(ValueError, match=f"'a \\+ b' is {count} times in Model/loss.py, not once"):
        broken.break_copy(folder, tmp_path / "copies", variant)
