# SPDX-License-Identifier: Apache-2.0
"""Tests of the lists of pictures that a report is made from."""

import os
import sys

from harness.files import read_json, read_jsonl
from harness.gallery import Pair, add_samples, fingerprint, write_tested


def test_samples_are_listed_with_their_steps_and_relative_to_the_run(tmp_path):
    run, samples = tmp_path / "checkpoint" / "run", tmp_path / "sample"
    run.mkdir(parents=True)
    add_samples(str(run), 10, [str(samples / "a.png")])
    add_samples(str(run), 20, [str(samples / "b.png"), str(run / "c.png")])
    lines = read_jsonl(str(run / "samples.jsonl"))
    assert [line["step"] for line in lines] == [10, 20, 20]
    above = os.path.join("..", "..", "sample")
    assert [line["picture"] for line in lines] == [
        os.path.join(above, "a.png"),
        os.path.join(above, "b.png"),
        "c.png",
    ]


def test_a_test_phase_lists_pairs_measures_and_its_command(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["main.py", "--phase=test"])
    pairs = [Pair("1.jpg", str(tmp_path / "in" / "1.jpg"), str(tmp_path / "1.png"))]
    pairs.append(Pair("2", "/photos/2.jpg", str(tmp_path / "2.png"), str(tmp_path / "t.png")))
    around = {"device": "cpu", "data": "2 pictures"}
    monkeypatch.chdir(str(tmp_path))
    write_tested(str(tmp_path), pairs, {"l1": 0.25}, {"l1": "mean of all"}, around)
    found = read_json(str(tmp_path / "tested.json"))
    assert found["command"] == ["python3", "main.py", "--phase=test"]
    assert (found["metrics"], found["protocol"]) == ({"l1": 0.25}, {"l1": "mean of all"})
    assert (found["surroundings"], found["working_directory"]) == (around, os.getcwd())
    first, second = found["pairs"]
    assert first == {"title": "1.jpg", "before": os.path.join("in", "1.jpg"), "after": "1.png"}
    assert second["target"] == "t.png"
    assert os.path.normpath(str(tmp_path / second["before"])) == "/photos/2.jpg"


def test_a_fingerprint_changes_with_names_and_sizes_but_not_with_the_place(tmp_path):
    found = []
    for folder, name, text in (("a", "1", "x"), ("b", "1", "x"), ("c", "2", "x"), ("d", "1", "xx")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(text)
        found.append(fingerprint([str(tmp_path / folder / name)]))
    assert found[0] == found[1]
    assert len(set(found)) == 3
    assert found[0].startswith("1 pictures, ")
