# SPDX-License-Identifier: Apache-2.0
"""Blocks of a page, and the page of several runs."""

import base64
import io
import sys

import numpy as np
import pytest
from made_runs import Page, draw, make_case, make_run, make_test, page_of
from PIL import Image

from harness import comparison, pages, report, runs

pytest.importorskip("jinja2")


def test_long_lines_are_thinned_and_keep_their_extremes():
    rng = np.random.RandomState(3)
    xs, ys = list(range(50_000)), rng.randn(50_000).tolist()
    ys[12_345], ys[40_001], ys[777] = 99.0, -77.0, float("inf")
    points = pages.thin(xs, ys)
    assert len(points) <= pages.POINTS
    assert {(12_345, 99.0), (40_001, -77.0)} < set(points)
    assert [points[0][0], points[-1][0]] == [0, 49_999]
    assert [x for x, _ in points] == sorted({x for x, _ in points})
    assert pages.thin(xs[:2000], ys[:2000])[500] == (500, float("%.6g" % ys[500]))


def test_a_thinned_line_says_so(tmp_path):
    folder = make_run(tmp_path, steps=3000)
    assert "Of 3000 points of a line, 2000 at the most are drawn" in page_of(folder).text


def test_more_pictures_than_a_page_holds_are_left_out_evenly(tmp_path):
    path = str(tmp_path / "one.png")
    draw(path, np.random.RandomState(0))
    pictures = [(step, path) for step in range(100)]
    pages.write(str(tmp_path / "page.html"), "t", "", [pages.Scrubber("s", pictures)])
    page = Page(str(tmp_path / "page.html"))
    steps = [int(a["data-step"]) for _, a in page.tags if "data-step" in a]
    assert len(steps) == pages.FRAMES
    assert [steps[0], steps[-1]] == [0, 99]
    assert max(np.diff(steps)) - min(np.diff(steps)) <= 1
    assert "%d more steps are left out." % (100 - pages.FRAMES) in page.text


def test_large_pictures_are_made_smaller(tmp_path):
    path = str(tmp_path / "one.png")
    draw(path, np.random.RandomState(0), side=1300)
    blocks = [pages.Scrubber("s", [(1, path)]), pages.Sliders("p", [("x", path, path, "")])]
    pages.write(str(tmp_path / "page.html"), "t", "", blocks)
    page = Page(str(tmp_path / "page.html"))
    assert [a["width"] for _, a in page.tags if "width" in a] == [str(pages.FRAME_SIDES[0])]
    sources = [a["src"] for tag, a in page.tags if tag == "img"]
    sizes = [Image.open(io.BytesIO(base64.b64decode(s.partition(",")[2]))).size for s in sources]
    assert [max(size) for size in sizes] == [pages.FRAME_SIDES[0]] + 2 * [pages.PAIR_SIDE]


def test_a_page_without_curves_does_without_plotly(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    text = pages.render("t", "s", [pages.Table("a", ("x",), [("1",)], marks=["bad"])])
    assert '<tr class="bad">' in text
    assert len(text) < 40_000


def test_columns_of_numbers_are_set_to_the_right_and_paths_are_not():
    rows = [("12", "./a"), ("-0.5", "./datasets"), (".5 MiB", "64"), ("1e-05", "-")]
    text = pages.render("t", "s", [pages.Table("a", ("x", "y"), rows)])
    assert text.count('<td class="right">') == len(rows)
    assert '<td class="right">.5 MiB' in text


def test_runs_are_compared_in_rows_curves_and_pictures(tmp_path):
    folders = [make_case(tmp_path / name) for name in ("one", "two")]
    make_run(tmp_path / "two" / "ckpt" / "run", seed=1, options={"batch": 8, "lr": 0.5})
    samples = tmp_path / "two" / "ckpt" / "run" / "samples.jsonl"
    samples.write_text("".join(samples.read_text().splitlines(True)[::2]))  # not that of step 200
    path = str(tmp_path / "both.html")
    assert report.main(folders + ["--output", path]) == 0
    page = Page(path)
    assert "fid (clean, 8 pictures; data: 2 pictures, 0a0b0c0d) 12.5 12.5" in page.text
    assert "peak memory, MiB 2048 2048" in page.text
    assert "What cannot be compared" not in page.text
    assert "batch 4 8" in page.text
    assert "lr" not in page.text.partition("Settings that differ")[2].split()
    assert all([line["name"] for line in data["lines"]] == ["one", "two"] for data in page.data)
    # d_loss, g_l1, images per second, memory; the constant learning rate tells nothing
    assert [data["y"] for data in page.data] == ["", "", "", "MiB"]
    steps = [a["data-step"] for _, a in page.tags if "data-step" in a]
    assert steps == ["100", "300"]
    assert sum(tag == "img" for tag, _ in page.tags) == 4


def test_metrics_of_unlike_protocols_never_share_a_row(tmp_path):
    folders = [make_test(tmp_path / "a"), make_test(tmp_path / "b", protocol={"fid": "legacy"})]
    around = {"data": "2 pictures, 0a0b0c0d"}
    folders.append(make_test(tmp_path / "c", protocol={}, metrics={"fid": 9.0}))
    folders.append(make_test(tmp_path / "d", surroundings={"data": "3 pictures, 00000001"}))
    folders.append(make_test(tmp_path / "e", surroundings={}))
    folders.append(make_test(tmp_path / "f", surroundings=around))
    path = str(tmp_path / "all.html")
    report.main(folders + ["--output", path])
    text = Page(path).text
    for row in (
        "fid (clean, 8 pictures; data: 2 pictures, 0a0b0c0d) 12.5 - - - - 12.5",
        "fid (legacy; data: 2 pictures, 0a0b0c0d) - 12.5 - - - -",
        "fid (protocol not stated; data: 2 pictures, 0a0b0c0d) - - 9 - - -",
        "fid (clean, 8 pictures; data: 3 pictures, 00000001) - - - 12.5 - -",
        "fid (clean, 8 pictures) - - - - 12.5 -",
        "fid was measured in 5 ways or with other data",
    ):
        assert row in text
    assert comparison.names([runs.read_run(folder) for folder in folders]) == list("abcdef")


def test_a_comparison_has_a_page_of_its_own_and_tells_of_damage(tmp_path, monkeypatch, capsys):
    folders = [make_run(tmp_path / name) for name in ("one", "two")]
    before = page_of(folders[0]).source
    (tmp_path / "two" / "training.json").write_text("{")
    monkeypatch.chdir(folders[0])
    capsys.readouterr()
    assert report.main([".", folders[1]]) == 0
    path = str(tmp_path / "one" / "comparison.html")
    assert capsys.readouterr().out == "report: %s\n" % path
    assert Page(str(tmp_path / "one" / "report.html")).source == before
    assert "training.json is damaged: " in Page(path).text
    with pytest.raises(SystemExit):
        report.main(["--help"])
    assert "./comparison.html" in capsys.readouterr().out
