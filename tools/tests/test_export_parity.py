# SPDX-License-Identifier: Apache-2.0
"""The report of an export: how far outputs are apart, what files are, and what is replaced."""

import os
import shutil
import subprocess

import numpy as np
import pytest

from harness.errors import UserError
from tools.export import atc, parity

FOUND = {"max_difference": 0.02, "mean_difference": 0.001, "greatest": 1.5, "psnr_db": 40.25}


def test_atc_takes_air_and_onnx_and_no_mindir():
    shapes = {"x": [1, 3, 256, 256]}
    onnx = atc.command("here/U.onnx", shapes, soc="Ascend310", layout="NCHW")
    assert onnx == (
        "atc --framework=5 --model=U.onnx --output=U --soc_version=Ascend310 "
        "--input_format=NCHW --input_shape=x:1,3,256,256 --output_type=FP32"
    )
    assert "--framework=1 --model=U.air" in atc.command("U.air", shapes, layout="NCHW")
    assert "shape" not in atc.command("U.air", shapes, layout="NCHW")
    assert atc.command("U.mindir", shapes) == ""
    assert "--input_format=ND " in atc.command("g.onnx", {"x:0": [1, 8, 8, 3]})


def test_a_comparison_counts_every_value():
    rng = np.random.RandomState(2)
    a, b = rng.uniform(-1, 1, (2, 5)), rng.uniform(-1, 1, (1, 3, 2))
    found = parity.compare([a, b], [a, b + 0.02])
    assert found["max_difference"] == pytest.approx(0.02)
    assert found["mean_difference"] == pytest.approx(0.02 * 6 / 16)
    assert found["psnr_db"] == pytest.approx(10 * np.log10(4 / (0.02**2 * 6 / 16)), abs=0.01)
    assert parity.is_within(found, 0.021)
    assert not parity.is_within(found, 0.019)
    same = parity.compare([a], [a])
    assert (same["psnr_db"], same["identical"]) == (None, True)
    large = parity.compare([100 * a], [100 * a + 0.5])
    assert parity.is_within(large, 0.5 / np.abs(100 * a).max() * 1.01)
    with pytest.raises(UserError, match="the export returns values that are not finite"):
        parity.compare([a, b], [a, b * np.nan])
    with pytest.raises(
        UserError, match=r"returns the shapes \[\[5, 2\]\] and the network \[\[2, 5"
    ):
        parity.compare([a], [a.T])


def test_the_sum_of_a_folder_is_the_one_that_the_shell_prints(tmp_path):
    rng = np.random.RandomState(1)
    (tmp_path / "variables").mkdir()
    for name, size in (("saved_model.pb", 3_000_000), ("variables/a", 10), ("variables/B", 7)):
        (tmp_path / name).write_bytes(rng.bytes(size))
    script = "find * -type f | LC_ALL=C sort | xargs sha256sum | sha256sum"
    printed = subprocess.check_output(script, shell=True, cwd=str(tmp_path), text=True)
    found = parity.fingerprint(str(tmp_path))
    assert found == {"bytes": 3_000_017, "sha256": printed.split()[0]}
    one = subprocess.check_output(["sha256sum", "saved_model.pb"], cwd=str(tmp_path), text=True)
    assert parity.fingerprint(str(tmp_path / "saved_model.pb"))["sha256"] == one.split()[0]


def test_the_table_says_all_of_a_record_and_the_check_names_the_wrong_file():
    record = {"bytes": 12345, "sha256": "5e884898da28", "tolerance": 1e-4, "latency_ms": 1.25}
    record.update(network_latency_ms=2.5, inputs={"x": [None, 64, 64, 3]}, atc="atc --x")
    record.update(outputs={"y": [1, 2]}, differences={"picture": dict(FOUND, identical=False)})
    record["within_tolerance"] = False
    text = parity.table({"g.onnx": record})
    for part in ("g.onnx: 12,345 bytes, NOT within", "max 2.0e-02, mean 1.0e-03 (tolerance 1e-04)"):
        assert part in text
    for part in ("PSNR 40.2 dB", "1.2 ms, the network 2.5 ms", "x [?, 64, 64, 3] -> y [1, 2]"):
        assert part in text
    assert "sha256     5e884898da28" in text
    assert "NPU atc --x" in text
    with pytest.raises(UserError, match=r"^g\.onnx is up to 2\.0e-02 off the network, 1e-04 is"):
        parity.check({"f.pb": dict(record, within_tolerance=True), "g.onnx": record})


def test_publishing_replaces_files_and_whole_folders(tmp_path):
    (tmp_path / "g_saved_model" / "variables").mkdir(parents=True)
    (tmp_path / "g_saved_model" / "variables" / "old").write_text("old")
    (tmp_path / "g_saved_model" / "saved_model.pb").write_text("old")
    (tmp_path / "g.pb").write_text("old")
    (tmp_path / "other.pb").write_text("stays")
    with parity.hidden_folder(str(tmp_path)) as temporary:
        os.mkdir(os.path.join(temporary, "g_saved_model"))
        for name in ("g.pb", "g_saved_model/new"):
            with open(os.path.join(temporary, name), "w") as file:
                file.write("new")
        parity.publish(temporary, str(tmp_path))
    assert sorted(os.listdir(str(tmp_path))) == ["g.pb", "g_saved_model", "other.pb"]
    assert os.listdir(str(tmp_path / "g_saved_model")) == ["new"]
    assert (tmp_path / "g.pb").read_text() == "new"
    assert (tmp_path / "other.pb").read_text() == "stays"


def test_targets_that_are_something_else_are_refused(tmp_path):
    names = ["a.b_saved_model", "g.pb"]
    parity.check_targets(str(tmp_path / "new"), names)
    (tmp_path / "a.b_saved_model").mkdir()
    parity.check_targets(str(tmp_path), names)
    (tmp_path / "a.b_saved_model" / "saved_model.pb").write_text("x")
    parity.check_targets(str(tmp_path), names)
    shutil.rmtree(str(tmp_path / "a.b_saved_model"))
    (tmp_path / "a.b_saved_model").write_text("x")
    with pytest.raises(UserError, match="_saved_model is a file; choose another name"):
        parity.check_targets(str(tmp_path), names)
    (tmp_path / "U_variables").mkdir()
    (tmp_path / "U_variables" / "data_0").write_text("x")
    parity.check_targets(str(tmp_path), ["U_variables"])
    (tmp_path / "U_variables" / "data_0").rename(tmp_path / "U_variables" / "mine")
    with pytest.raises(UserError, match="U_variables is a folder with something else in it"):
        parity.check_targets(str(tmp_path), ["U_variables"])


def _contents(folder):
    """Returns {path: text} of all below a folder; None for a folder."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_text()
        for path in folder.rglob("*")
    }


def _publish(folder):
    """Publishes new files, NEW, in `folder`."""
    with parity.hidden_folder(str(folder)) as temporary:
        for name in NEW:
            os.makedirs(os.path.dirname(os.path.join(temporary, name)), exist_ok=True)
            with open(os.path.join(temporary, name), "w") as file:
                file.write("new")
        parity.publish(temporary, str(folder), ["g_variables"])


NEW = ("g.onnx", "g.pb", "g.pb.json", "g_parity.json", "g_saved_model/saved_model.pb", "h.pb")
OLD = ("g.pb", "g_parity.json", "g_saved_model/saved_model.pb", "g_variables/data_0")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("last", ["g.onnx", "g.pb", "g_saved_model", "h.pb", "g_parity.json"])
def test_an_error_while_publishing_puts_everything_back(last, error, tmp_path, monkeypatch):
    for name in OLD:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("old " + name)
    before, replace = _contents(tmp_path), os.replace

    def fail(source, target):
        if target == str(tmp_path / last) and ".export-" in str(source):
            raise error
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(type(error)):
        _publish(tmp_path)
    assert _contents(tmp_path) == before
    monkeypatch.undo()
    _publish(tmp_path)
    assert _contents(tmp_path) == dict(dict.fromkeys(NEW, "new"), g_saved_model=None)


def test_what_is_published_is_checked_by_its_real_names(tmp_path):
    (tmp_path / "g.pb.json").mkdir()
    (tmp_path / "g.pb.json" / "mine").write_text("mine")
    (tmp_path / "g.pb").write_text("old")
    before = _contents(tmp_path)
    with pytest.raises(UserError, match=r"g\.pb\.json is a folder; choose another name"):
        _publish(tmp_path)
    assert _contents(tmp_path) == before


def _fail(folder):
    with parity.hidden_folder(str(folder)) as temporary:
        assert os.path.dirname(temporary) == str(folder)
        raise UserError("wrong")


def test_only_folders_that_an_export_made_itself_are_removed_again(tmp_path):
    (tmp_path / "there").mkdir()
    for place in (tmp_path / "new" / "deep", tmp_path / "there" / "new", tmp_path / "there"):
        with pytest.raises(UserError, match="wrong"):
            _fail(place)
        assert _contents(tmp_path) == {"there": None}
    _publish(tmp_path / "new" / "deep")
    assert (tmp_path / "new" / "deep" / "g.pb").read_text() == "new"
