# SPDX-License-Identifier: Apache-2.0
"""ci/verdicts.py and ci/outputs.py: bands, verdicts, baseline files, and what a run leaves."""

import json
import xml.etree.ElementTree

import numpy as np
import outputs
import pytest
import verdicts
from verdicts import Measured

from harness.errors import UserError

ENTRY = {"value": 10.0, "low": 8.0, "high": 12.0, "unit": "s", "better": "lower"}


def test_a_band_is_three_deviations_wide_and_never_below_its_floors():
    samples = np.random.RandomState(0).normal(10, 0.5, 5).tolist()
    low, high = verdicts.band(10, samples, 0.01)
    deviation = (max(samples) - min(samples)) / 2.326
    assert high - 10 == pytest.approx(10 - low) == pytest.approx(3 * deviation)
    assert verdicts.band(10, samples, 0.5) == (5, 15)
    assert verdicts.band(10, [], 0.01, least=2) == (8, 12)
    assert verdicts.band(-10, [], 0.1) == (-11, -9)


def test_the_range_gives_the_deviation_of_normal_samples():
    rng = np.random.RandomState(1)
    halves = [verdicts.band(0, rng.normal(0, 2, 3).tolist(), 0)[1] for _ in range(4000)]
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


def test_a_value_without_baseline_is_new_and_no_failure(tmp_path):
    found = verdicts.judge_all([Measured("a", 1.0), Measured("b", None)], tmp_path / "none.json")
    assert [verdict.status for verdict in found] == ["new", "failed"]
    assert verdicts.exit_status(found[:1]) == 0
    assert verdicts.exit_status(found) == 1


def test_an_update_replaces_what_was_measured_and_keeps_the_rest(tmp_path):
    path = tmp_path / "baselines.json"
    old = {"value": 5.0, "low": 4.0, "high": 6.0, "run": "old"}
    kept, gone = dict(old, run="kept"), dict(old)
    runs = {"old": {"commit": "a"}, "kept": {"commit": "b"}}
    values = {"x/a": old, "x/gone": gone, "y/b": kept}
    path.write_text(json.dumps({"runs": runs, "values": values}))
    measured = Measured("x/a", 7.0, "s", samples=(6.9, 7.0, 7.2), floor=0.1)
    verdicts.update(path, {"x/a": verdicts.entry_of(measured, broken={"no": 1.0})}, ("x/",))
    found = json.loads(path.read_text())
    assert found["values"].keys() == {"x/a", "y/b"}
    assert found["values"]["y/b"] == kept
    entry = found["values"]["x/a"]
    assert (entry["value"], entry["low"], entry["high"]) == (7.0, pytest.approx(6.3), 7.7)
    assert entry["broken"] == {"no": 1.0}
    assert found["runs"].keys() == {"kept", entry["run"]}
    made = found["runs"][entry["run"]]
    assert made.keys() == {"commit", "clean", "date", "machine"}
    assert made["machine"]["cores"] >= 1
    assert verdicts.judge_all([measured], path)[0].status == "ok"


@pytest.mark.parametrize("text", ["{", "[]", '{"runs": {}}', '{"runs": {}, "values": {"a": {}}}'])
def test_a_damaged_baseline_file_is_named_and_stays(tmp_path, text):
    path = tmp_path / "baselines.json"
    path.write_text(text)
    with pytest.raises(UserError, match="is damaged"):
        verdicts.judge_all([Measured("a", 1.0)], path)
    with pytest.raises(UserError, match="is damaged"):
        verdicts.update(path, {"a": ENTRY})
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
    outputs.write(tmp_path, "performance", found, tables, details={"points": [1, 2]})
    assert {path.name for path in tmp_path.iterdir()} == set(outputs.FILES)
    text = (tmp_path / "report.md").read_text()
    assert "4 values: 1 failed, 1 worse, 1 better, 1 new." in text
    assert "12,346" in text
    assert "8 to 12" in text
    assert "## More" in text
    suite = xml.etree.ElementTree.parse(tmp_path / "junit.xml").getroot().find("testsuite")
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("4", "1", "1")
    results = json.loads((tmp_path / "results.json").read_text())
    assert [one["status"] for one in results["verdicts"]] == ["worse", "better", "new", "failed"]
    assert results["details"] == {"points": [1, 2]}
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
