# SPDX-License-Identifier: Apache-2.0
"""Exported files compute what the network does, have the documented names, or are not there."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
from conftest import DATASET, TINY, run

from harness.errors import UserError
from ugatit import device
from ugatit.config import Config

SIZE = 32
SMALL = Config(
    device="CPU", dataset=DATASET, light=True, img_size=SIZE, ch=4, n_res=1, n_dis=4, phase="test"
)
MINDIRS = ["UGATIT_%s%s" % (d, e) for d in ("AtoB", "BtoA") for e in (".mindir", "_graph.mindir")]
TOLERANCE = 1e-3  # what is promised; 3e-6 is measured


@pytest.fixture(scope="module")
def exporting():
    """The module, after MindSpore was loaded as the programs load it."""
    device.prepare(SMALL)
    device.connect(SMALL)
    from ugatit import exporting

    return exporting


@pytest.fixture(scope="module", params=["light", "full"])
def trained(request, exporting, tmp_path_factory):
    """The configuration of a training with weights that no default seed gives."""
    return _train(tmp_path_factory.mktemp("trained"), request.param == "light")


@pytest.fixture
def config(exporting, tmp_path):
    """As `trained`, light, with a folder of its own for the export."""
    config = _train(tmp_path / "results", True)
    return dataclasses.replace(config, mindir_outdir=str(tmp_path / "out"), data_path="absent")


def _train(folder, light):
    from ugatit.networks import GENERATORS, build_generator
    from ugatit.weights import weights_path, write_weights

    config = dataclasses.replace(SMALL, output_path=str(folder), light=light, seed=7)
    for name in GENERATORS:
        write_weights(build_generator(config, name), weights_path(config, name))
    return dataclasses.replace(config, seed=1)


def _network(config, name):
    """Returns what the generator, run as it is trained, makes of pictures."""
    from ugatit.serving import Translator, find_weights

    return Translator(config, name, find_weights(config, name))


def _pictures(count=1, seed=5):
    values = np.random.RandomState(seed).uniform(-1, 1, (count, 3, SIZE, SIZE))
    return values.astype(np.float32)


def _agree(found, expected):
    assert len(found) == len(expected) == 3
    for a, b in zip(found, expected):
        assert b.std() > 0.01
        np.testing.assert_allclose(a, b, atol=TOLERANCE)


def _files(folder):
    return sorted(os.listdir(str(folder))) if os.path.isdir(str(folder)) else []


def _export(cwd, config, *words):
    words = ["--output_path=" + config.output_path, "--light=%s" % config.light] + list(words)
    return run("export.py", *(TINY + words), cwd=cwd)


def _refused(done, cwd, *texts):
    """Asserts one sentence with these texts, exit status 1, and nothing written."""
    assert done.returncode == 1, done.stdout
    last = done.stdout.splitlines()[-1]
    assert last.startswith("export.py: error: ")
    for text in texts:
        assert text in last
    assert "Traceback" not in done.stdout
    assert _files(cwd / "mindir_result") == []


def test_mindir_of_both_directions_has_its_names_and_computes_the_same(
    trained, exporting, shapes, tmp_path
):
    (tmp_path / "my cwd").mkdir()
    done = _export(tmp_path / "my cwd", trained, "--data_path=" + shapes)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("export into MINDIR format\n") == 1
    assert _files(tmp_path / "my cwd") == ["mindir_result"]
    folder = tmp_path / "my cwd" / "mindir_result"
    reports = ["UGATIT_AtoB_parity.json", "UGATIT_BtoA_parity.json"]
    assert _files(folder) == sorted(MINDIRS + reports)
    for file in MINDIRS:
        name = "genA2B" if "AtoB" in file else "genB2A"
        run_file = exporting.run_mindir(str(folder / file))
        _agree(run_file(_pictures()), _network(trained, name)(_pictures()))
    record = json.loads((folder / reports[1]).read_text())["UGATIT_BtoA.mindir"]
    assert record["pictures"] == "2 pictures of %s" % os.path.join(shapes, DATASET, "testB")
    assert record["compared"] == "the file"
    assert record["options"]["light"] == trained.light
    assert record["weights"].endswith("shapes_genB2A_params_latest.ckpt")
    assert sorted(record["deviations"]) == ["CAM logits", "heat map", "picture"]
    for deviation in record["deviations"].values():
        assert 0 < deviation["mean"] < deviation["max"] < TOLERANCE
        assert deviation["greatest"] > 0.1


def test_onnx_computes_the_same_in_onnx_runtime(trained, exporting, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    out = str(tmp_path / "out")
    words = {"export_file_format": "ONNX", "mindir_outdir": out, "direction": "A2B"}
    exporting.export(dataclasses.replace(trained, data_path="absent", **words), "CPU")
    assert _files(out) == ["UGATIT_AtoB.onnx", "UGATIT_AtoB_parity.json"]
    path = os.path.join(out, "UGATIT_AtoB.onnx")
    _agree(exporting.run_onnx(path)(_pictures()), _network(trained, "genA2B")(_pictures()))
    with open(os.path.join(out, "UGATIT_AtoB_parity.json")) as file:
        record = json.load(file)["UGATIT_AtoB.onnx"]
    assert record["compared"] == "the file in ONNX Runtime"
    assert record["versions"]["onnxruntime"] == onnxruntime.__version__
    assert record["pictures"].startswith("4 random pictures, seed 1 (none of trainA")


@pytest.mark.parametrize("variant", ["pytorch", "mindspore"])
def test_the_networks_of_published_weights_can_be_exported(config, exporting, variant):
    config = dataclasses.replace(config, variant=variant, direction="A2B")
    exporting.export(config, "CPU")
    run_file = exporting.run_mindir(os.path.join(config.mindir_outdir, "UGATIT_AtoB.mindir"))
    _agree(run_file(_pictures()), _network(config, "genA2B")(_pictures()))


def test_a_batch_is_exported_and_compared_whole(config, exporting):
    config = dataclasses.replace(config, batch_size=3, direction="B2A")
    exporting.export(config, "CPU")
    run_file = exporting.run_mindir(os.path.join(config.mindir_outdir, "UGATIT_BtoA.mindir"))
    _agree(run_file(_pictures(3)), _network(config, "genB2A")(_pictures(3)))


def test_grey_pictures_and_a_broken_test_picture(config, exporting, tmp_path):
    (tmp_path / "data" / DATASET / "testA").mkdir(parents=True)
    (tmp_path / "data" / DATASET / "testA" / "1.png").write_bytes(b"no picture")
    config = dataclasses.replace(config, data_path=str(tmp_path / "data"), img_ch=1)
    pictures, origin = exporting.comparison_pictures(config, "genA2B")
    assert pictures.shape == (4, 1, SIZE, SIZE)
    assert pictures.std() > 0.1
    assert abs(pictures).max() <= 1
    assert "1.png cannot be read as a picture" in origin


def test_direction_and_given_weights_choose_what_is_exported(config, exporting):
    given = exporting.find_weights(config, "genB2A")
    chosen = {"genA2B": exporting.find_weights(config, "genA2B"), "genB2A": given}
    assert exporting.chosen(config) == chosen
    one = dataclasses.replace(config, direction="B2A")
    assert exporting.chosen(one) == {"genB2A": given}
    one = dataclasses.replace(config, gen_a2b_ckpt=given)
    assert exporting.chosen(one) == {"genA2B": given}
    both = dataclasses.replace(one, gen_b2a_ckpt=chosen["genA2B"])
    assert exporting.chosen(both) == {"genA2B": given, "genB2A": chosen["genA2B"]}


def test_the_command_line_exports_given_weights_only(config, exporting, tmp_path):
    other = exporting.find_weights(config, "genB2A")
    shutil.copy(other, str(tmp_path / "mine.ckpt"))
    done = run(
        "export.py", *(TINY + ["--genA2B_ckpt=mine.ckpt", "--MINDIR_outdir=m"]), cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout
    names = ["UGATIT_AtoB.mindir", "UGATIT_AtoB_graph.mindir", "UGATIT_AtoB_parity.json"]
    assert _files(tmp_path / "m") == names
    run_file = exporting.run_mindir(str(tmp_path / "m" / names[0]))
    _agree(run_file(_pictures()), _network(config, "genB2A")(_pictures()))


def test_air_is_refused_where_there_is_no_npu(config, tmp_path):
    done = _export(tmp_path, config, "--export_file_format=AIR")
    _refused(done, tmp_path, "AIR needs an Ascend NPU, this is a CPU; choose MINDIR or ONNX")


def test_weights_of_another_network_are_refused(config, tmp_path):
    done = _export(tmp_path, dataclasses.replace(config, light=False))
    _refused(
        done, tmp_path, "genA2B_params_latest.ckpt", "those weights are of --light=True --ch=4"
    )


def test_contradicting_options_are_refused(config, exporting):
    config = dataclasses.replace(config, gen_b2a_ckpt="some.ckpt", direction="A2B")
    with pytest.raises(UserError, match="--genB2A_ckpt is given and --direction is A2B; leave"):
        exporting.export(config, "CPU")


@pytest.mark.parametrize("kind", ["missing", "damaged", "not finite"])
def test_weights_that_cannot_be_used_leave_the_earlier_export(config, exporting, kind):
    exporting.export(dataclasses.replace(config, direction="A2B"), "CPU")
    before = _contents(config.mindir_outdir)
    path = exporting.find_weights(config, "genA2B")
    if kind == "missing":
        os.remove(path)
    elif kind == "damaged":
        with open(path, "r+b") as file:
            file.truncate(os.path.getsize(path) // 2)
    else:
        _poison(config, path)
    words = {"missing": "there are no weights at", "damaged": "damaged"}
    words["not finite"] = "genA2B.stem.weight in .* is not finite"
    with pytest.raises(UserError, match=words[kind]):
        exporting.export(config, "CPU")
    assert _contents(config.mindir_outdir) == before


def _contents(folder):
    contents = {}
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), "rb") as file:
            contents[name] = file.read()
    return contents


def _poison(config, path):
    from ugatit import weights
    from ugatit.networks import build_generator

    network = build_generator(config, "genA2B")
    weights.load_weights(network, path)
    value = network.stem.weight.asnumpy()
    value[0, 0, 0, 0] = np.nan
    network.stem.weight.set_data(type(network.stem.weight.data)(value))
    weights.write_weights(network, path)


def test_a_file_that_computes_something_else_gets_no_name(config, exporting, monkeypatch):
    monkeypatch.setattr(exporting, "load_weights", lambda network, path: None)
    with pytest.raises(UserError, match=r"the picture of UGATIT_AtoB\.mindir is up to [01]"):
        exporting.export(config, "CPU")
    assert _files(config.mindir_outdir) == []


def test_the_tolerance_is_relative_to_large_values_only(exporting):
    values = [np.random.RandomState(i).uniform(-1, 1, (2, 3)) for i in range(3)]
    other = [values[0], values[1] + 9e-4, values[2] * 500]
    found = [values[0], values[1], values[2] * 500 + 0.2]
    deviations = exporting.compare(other, found, "x.mindir")
    assert deviations["CAM logits"]["max"] == pytest.approx(9e-4)
    assert deviations["heat map"]["mean"] == pytest.approx(0.2)
    values[2][0, 0] = np.inf
    with pytest.raises(UserError, match=r"the heat map of x\.mindir is not finite"):
        exporting.compare(values, values, "x.mindir")
    with pytest.raises(UserError, match=r"the CAM logits of x\.mindir is up to 0\.0011"):
        exporting.compare(values, [values[0], values[1] + 1.1e-3, values[2]], "x.mindir")


def test_a_network_beyond_a_gigabyte_keeps_both_names(config, exporting, monkeypatch):
    from mindspore.train import serialization

    monkeypatch.setattr(serialization, "TOTAL_SAVE", 1)  # kilobytes: as if 1 GB
    config = dataclasses.replace(config, direction="A2B")
    for _ in range(2):  # the second time over the first
        exporting.export(config, "CPU")
        names = ["UGATIT_AtoB.mindir", "UGATIT_AtoB_graph.mindir", "UGATIT_AtoB_parity.json"]
        assert _files(config.mindir_outdir) == names + ["UGATIT_AtoB_variables"]
        for file in names + ["UGATIT_AtoB_variables"]:
            assert os.stat(os.path.join(config.mindir_outdir, file)).st_mode & 0o044 == 0o044
        for file in names[:2]:
            run_file = exporting.run_mindir(os.path.join(config.mindir_outdir, file))
            _agree(run_file(_pictures()), _network(config, "genA2B")(_pictures()))
    monkeypatch.undo()
    exporting.export(config, "CPU")
    assert _files(config.mindir_outdir) == names


@pytest.mark.parametrize("kind", ["cut off", "random", "empty", "missing"])
def test_a_mindir_that_cannot_be_loaded_is_told_in_one_sentence(config, exporting, tmp_path, kind):
    path = tmp_path / "bad.mindir"
    if kind == "cut off":
        exporting.export(dataclasses.replace(config, direction="A2B"), "CPU")
        with open(os.path.join(config.mindir_outdir, "UGATIT_AtoB.mindir"), "rb") as file:
            path.write_bytes(file.read()[:50000])
    elif kind != "missing":
        path.write_bytes(np.random.RandomState(4).bytes(3000 if kind == "random" else 0))
    with pytest.raises(UserError, match=r"bad\.mindir") as error:
        exporting.run_mindir(str(path))
    assert "\n" not in str(error.value)
    assert ("damaged" in str(error.value)) == (kind != "missing")
