# SPDX-License-Identifier: Apache-2.0
"""ci/verdicts.py and ci/outputs.py: bands, verdicts, baseline files, and what a run leaves."""

import json
import xml.etree.ElementTree

import numpy as np
import outputs
import provenance
import pytest
import verdicts
from verdicts import Measured

from harness.errors import UserError

MADE = provenance.here(["ci/some.py", "--option", "two words"])
MADE.update(clean=False, commit="abc")
ENTRY = {"value": 10.0, "low": 8.0, "high": 12.0, "unit": "s", "better": "lower"}


def band(value, samples, **words):
    return verdicts.band(Measured("a", value, samples=tuple(samples), **words))


def test_a_band_is_three_deviations_wide_and_never_below_its_floors():
    samples = np.random.RandomState(0).normal(10, 0.5, 5).tolist()
    low, high = band(10, samples, floor=0.01)
    deviation = (max(samples) - min(samples)) / 2.326
    assert high - 10 == pytest.approx(10 - low) == pytest.approx(3 * deviation)
    assert band(10, samples, floor=0.5) == (5, 15)
    assert band(10, [], floor=0.01, least=2) == (8, 12)
    assert band(-10, [], floor=0.1) == (-11, -9)
    assert band(10, [1, 10, 19], floor=0.1, most=0.5) == (5, 15)


def test_the_band_of_a_median_holds_the_next_median_and_narrows_with_repeats():
    rng, halves = np.random.RandomState(0), {}
    for count in (3, 5, 9):
        pairs = rng.normal(10, 1, (2000, 2, count))
        bands = [band(np.median(a), a, floor=0.1, robust=True) for a, _ in pairs]
        held = [low <= np.median(b) <= high for (low, high), (_, b) in zip(bands, pairs)]
        assert np.mean(held) > 0.85
        halves[count] = np.mean([high - low for low, high in bands]) / 2
    assert halves[3] > halves[5] > halves[9]
    one_off = band(10, [10, 9.9, 10.1, 10, 30], floor=0.01, robust=True)
    assert one_off == pytest.approx((9.575, 10.425), abs=0.001)


def test_the_range_gives_the_deviation_of_normal_samples():
    rng = np.random.RandomState(1)
    halves = [band(0, rng.normal(0, 2, 3), floor=0)[1] for _ in range(4000)]
    assert np.mean(halves) == pytest.approx(3 * 2, rel=0.03)


@pytest.mark.parametrize(
    ("better", "value", "status"),
    [
        ("lower", 12.1, "worse"),
        ("lower", 7.9, "better"),
        ("higher", 12.1, "better"),
        ("higher", 7.9, "worse"),
        ("same", 12.1, "worse"),
        ("same", 7.9, "worse"),
        ("lower", 8.0, "ok"),
        ("higher", 12.0, "ok"),
        ("lower", None, "failed"),
        ("lower", float("nan"), "failed"),
    ],
)
def test_the_direction_decides_what_is_worse(better, value, status):
    verdict = verdicts.judge(Measured("a", value, "s"), dict(ENTRY, better=better))
    assert (verdict.status, verdict.baseline) == (status, 10.0)
    assert verdict.is_bad == (status in ("worse", "failed"))


def test_an_open_band_allows_everything_on_its_side():
    entry = dict(ENTRY, low=None, better="same")
    assert verdicts.judge(Measured("a", -1e9), entry).status == "ok"
    assert verdicts.judge(Measured("a", 12.5), entry).status == "worse"


def test_a_value_without_baseline_does_not_pass(tmp_path):
    found = verdicts.judge_all([Measured("a", 1.0), Measured("b", None)], tmp_path / "none.json")
    assert [verdict.status for verdict in found] == ["no baseline", "failed"]
    assert verdicts.exit_status(found[:1]) == 1
    assert verdicts.exit_status(found) == 1


def test_an_update_replaces_what_was_measured_and_keeps_the_rest(tmp_path):
    path = tmp_path / "baselines.json"
    old = {"value": 5.0, "low": 4.0, "high": 6.0, "run": "old"}
    kept, gone = dict(old, run="kept"), dict(old)
    runs = {"old": {"commit": "a"}, "kept": {"commit": "b"}}
    values = {"x/a": old, "x/gone": gone, "y/b": kept}
    path.write_text(json.dumps({"runs": runs, "values": values}))
    measured = Measured("x/a", 7.0, "s", samples=(6.9, 7.0, 7.2), floor=0.1)
    verdicts.update(path, {"x/a": verdicts.entry_of(measured, broken={"no": 1.0})}, ["x/"], MADE)
    found = json.loads(path.read_text())
    assert found["values"].keys() == {"x/a", "y/b"}
    assert found["values"]["y/b"] == kept
    entry = found["values"]["x/a"]
    assert (entry["value"], entry["low"], entry["high"]) == (7.0, pytest.approx(6.3), 7.7)
    assert entry["broken"] == {"no": 1.0}
    assert found["runs"].keys() == {"kept", entry["run"]}
    made = found["runs"][entry["run"]]
    assert made == MADE
    assert verdicts.judge_all([measured], path)[0].status == "ok"


def test_what_has_a_baseline_and_was_not_measured_is_told():
    entries = {"m/a": ENTRY, "m/b": ENTRY, "n/a": ENTRY}
    (found,) = verdicts.unmeasured(entries, "m/", ["m/a"], "no environment")
    assert (found.name, found.status, found.low) == ("m/b", "not measured", 8.0)
    assert found.measured.note == "no environment"
    assert verdicts.exit_status([found]) == 1
    assert verdicts.unmeasured(entries, "n/", ["n/a"], "") == []
    assert [one.name for one in verdicts.unmeasured({}, "m/", [], "why")] == ["m/all"]


def test_the_provenance_names_command_commit_and_machine(tmp_path, monkeypatch):
    made = provenance.here(["ci/some.py", "two words"])
    assert made.keys() == {"command", "commit", "clean", "date", "machine"}
    assert made["command"] == "ci/some.py 'two words'"
    assert made["machine"]["cores"] >= 1
    monkeypatch.setattr(provenance, "ROOT", tmp_path)  # no repository
    made = provenance.here()
    assert (made["commit"], made["clean"]) == ("", False)


@pytest.mark.parametrize("text", ["{", "[]", '{"runs": {}}', '{"runs": {}, "values": {"a": {}}}'])
def test_a_damaged_baseline_file_is_named_and_stays(tmp_path, text):
    path = tmp_path / "baselines.json"
    path.write_text(text)
    with pytest.raises(UserError, match="is damaged"):
        verdicts.judge_all([Measured("a", 1.0)], path)
    with pytest.raises(UserError, match="is damaged"):
        verdicts.update(path, {"a": ENTRY}, ["a"], MADE)
    assert path.read_text() == text


def test_what_failed_or_was_measured_twice_is_refused(tmp_path):
    with pytest.raises(UserError, match="a failed"):
        verdicts.entry_of(Measured("a", None, note="it fell over"))
    with pytest.raises(UserError, match="a was measured twice"):
        verdicts.judge_all([Measured("a", 1.0), Measured("a", 2.0)], tmp_path / "none.json")
    with pytest.raises(ValueError, match="better is"):
        Measured("a", 1.0, better="bigger")


def test_a_run_leaves_a_table_and_four_files(tmp_path):
    found = [
        verdicts.judge(Measured("m/a <script>", 20.0, "s", note="why | so"), ENTRY),
        verdicts.judge(Measured("m/b", 1.0, "s"), ENTRY),
        verdicts.judge(Measured("m/c", 12_345.6, "MiB"), None),
        verdicts.judge(Measured("m/d", None, note="no result.json"), ENTRY),
    ]
    tables = {"More": (["what", "s"], [["first", "1.5"]])}
    details = {"points": [1, float("nan")]}
    outputs.write(tmp_path, "performance", found, MADE, tables, details)
    assert {path.name for path in tmp_path.iterdir()} == set(outputs.FILES)
    text = (tmp_path / "report.md").read_text()
    assert "4 values: 1 failed, 1 worse, 1 no baseline, 1 better." in text
    assert "12,346" in text
    assert "commit abc + changes" in text
    assert "8 to 12" in text
    assert "## More" in text
    suite = xml.etree.ElementTree.parse(tmp_path / "junit.xml").getroot().find("testsuite")
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("4", "2", "1")
    results = json.loads((tmp_path / "results.json").read_text())
    assert [one["status"] for one in results["verdicts"]] == [
        "worse",
        "better",
        "no baseline",
        "failed",
    ]
    assert results["details"] == {"points": [1, "nan"]}
    page = (tmp_path / "report.html").read_text()
    assert "m/a <script>" not in page
    assert "m/a &lt;script&gt;" in page


def test_a_wrong_command_line_is_one_sentence_and_status_2(capsys):
    parser = outputs.Parser("performance", prog="speedy")
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(["--outptu=here"])
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith("speedy: error: unrecognized arguments: --outptu=here")
    assert said.count("\n") == 1
