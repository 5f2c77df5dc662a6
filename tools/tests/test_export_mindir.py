# SPDX-License-Identifier: Apache-2.0
"""Exports of U-GAT-IT: files that compute what the network does, with its report, or nothing."""

import dataclasses
import importlib.util
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

if importlib.util.find_spec("mindspore") is None:
    pytest.skip("needs MindSpore, which is not installed here", allow_module_level=True)

from PIL import Image

from harness.errors import UserError
from harness.files import write_json
from tools.export import ckpt_to_mindir, parity
from ugatit import device
from ugatit.config import Config

SIZE = 32
SMALL = Config(
    device="CPU", dataset="shapes", img_size=SIZE, ch=4, n_res=1, n_dis=4, phase="test", seed=7
)


@pytest.fixture(scope="module")
def exporting():
    """The module, after MindSpore was loaded as the programs load it."""
    device.prepare(SMALL)
    device.connect(SMALL)
    from ugatit import exporting

    return exporting


def _train(folder, light):
    """Writes what a training leaves, with weights of another seed; returns its folder."""
    from ugatit.networks import GENERATORS, build_generator
    from ugatit.weights import weights_path, write_weights

    config = dataclasses.replace(
        SMALL, output_path=str(folder), data_path=str(folder / "data"), light=light
    )
    for name in GENERATORS:
        write_weights(build_generator(config, name), weights_path(config, name))
    options = dataclasses.asdict(config)
    write_json(os.path.join(config.folder, "checkpoint", "config.json"), {"options": options})
    rng = np.random.RandomState(2)
    for domain in ("testA", "testB"):
        (folder / "data" / "shapes" / domain).mkdir(parents=True)
        pixels = rng.randint(0, 256, (40, 36, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(str(folder / "data" / "shapes" / domain / "1.png"))
    return config.folder


@pytest.fixture(scope="module", params=["light", "full"])
def trained(request, exporting, tmp_path_factory):
    """(The folder of a training, whether its networks are light)."""
    is_light = request.param == "light"
    return _train(tmp_path_factory.mktemp("trained"), is_light), is_light


@pytest.fixture(scope="module")
def light(exporting, tmp_path_factory):
    """The folder of a training of light networks."""
    return _train(tmp_path_factory.mktemp("light"), True)


@pytest.fixture
def export(monkeypatch, capsys):
    """export(folder, word, ...) runs the program here and returns what it printed."""
    monkeypatch.setattr(sys, "path", sys.path[:])

    def run(out, *words):
        words = ["ckpt_to_mindir.py", "--device=CPU", "--out=" + str(out)] + list(words)
        monkeypatch.setattr(sys, "argv", words)
        assert ckpt_to_mindir.main() == 0
        return capsys.readouterr().out

    return run


def _weights(folder, name):
    return os.path.join(folder, "shapes_%s_params_latest.ckpt" % name)


def _report(out, name):
    with open(str(out / ("UGATIT_%s_parity.json" % name))) as file:
        return json.load(file)


def _contents(folder):
    contents = {}
    for name in os.listdir(str(folder)):
        with open(os.path.join(str(folder), name), "rb") as file:
            contents[name] = file.read()
    return contents


def test_both_directions_compute_what_the_network_does(trained, exporting, export, tmp_path):
    from ugatit.serving import Translator

    trained, is_light = trained
    printed = export(tmp_path, "--ckpt=" + trained, "--formats=mindir,onnx")
    config = dataclasses.replace(SMALL, light=is_light)
    values = np.random.RandomState(5).uniform(-1, 1, (1, 3, SIZE, SIZE)).astype(np.float32)
    for direction, name in (("AtoB", "genA2B"), ("BtoA", "genB2A")):
        expected = Translator(config, name, _weights(trained, name))(values)
        assert expected[0].std() > 0.01
        report = _report(tmp_path, direction)
        assert sorted(report) == ["UGATIT_%s.%s" % (direction, e) for e in ("mindir", "onnx")]
        for file, record in report.items():
            path = str(tmp_path / file)
            run = exporting.run_onnx if file.endswith("onnx") else exporting.run_mindir
            for a, b in zip(run(path)(values), expected):
                np.testing.assert_allclose(a, b, atol=1e-4)
            assert {k: record[k] for k in ("bytes", "sha256")} == parity.fingerprint(path)
            assert record["sha256"] in printed
            assert record["inputs"] == {"x": [1, 3, SIZE, SIZE]}
            shapes = [[1, 3, SIZE, SIZE], [1, 2], [1, 1, 8, 8]]
            assert list(record["outputs"].values()) == shapes
            assert sorted(record["differences"]) == ["CAM logits", "heat map", "picture"]
            assert record["differences"]["picture"]["psnr_db"] > 100
            assert record["latency_ms"] > 0 < record["network_latency_ms"]
            assert record["options"]["light"] == is_light
            folder = os.path.join(os.path.dirname(trained), "data", "shapes", "test" + direction[0])
            assert record["pictures"] == "1 pictures of %s" % folder
        line = "atc --framework=5 --model=UGATIT_%s.onnx --output=UGATIT_%s" % (
            direction,
            direction,
        )
        line += " --soc_version=Ascend310 --input_format=NCHW --input_shape=x:1,3,32,32"
        assert line in printed
        assert report["UGATIT_%s.mindir" % direction]["atc"] == ""
    assert not [name for name in os.listdir(str(tmp_path)) if name.startswith(".")]


def test_the_name_of_the_weights_says_the_direction(light, export, tmp_path):
    export(tmp_path / "a", "--ckpt=" + _weights(light, "genB2A"))
    names = ["UGATIT_BtoA.mindir", "UGATIT_BtoA_graph.mindir", "UGATIT_BtoA_parity.json"]
    assert sorted(os.listdir(str(tmp_path / "a"))) == names
    record = _report(tmp_path / "a", "BtoA")["UGATIT_BtoA.mindir"]
    assert record["weights"] == _weights(light, "genB2A")
    shutil.copy(_weights(light, "genB2A"), str(tmp_path / "mine.ckpt"))
    shape = ["--light", "--ch=4", "--n_res=1", "--img_size=32"]
    words = ["--ckpt=" + str(tmp_path / "mine.ckpt")] + shape
    export(tmp_path / "b", "--direction=A2B", "--formats=ONNX", *words)
    assert sorted(os.listdir(str(tmp_path / "b"))) == [
        "UGATIT_AtoB.onnx",
        "UGATIT_AtoB_parity.json",
    ]
    with pytest.raises(UserError, match="its name does not say which direction it is; add --dir"):
        export(tmp_path / "c", *words)
    assert not (tmp_path / "c").exists()


def test_a_report_grows_and_a_wrong_file_leaves_what_was_there(
    light, exporting, export, tmp_path, monkeypatch
):
    words = ["--ckpt=" + light, "--direction=A2B"]
    export(tmp_path, *words)
    export(tmp_path, "--formats=ONNX", *words)
    assert sorted(_report(tmp_path, "AtoB")) == ["UGATIT_AtoB.mindir", "UGATIT_AtoB.onnx"]
    before = _contents(tmp_path)
    monkeypatch.setattr(exporting, "load_weights", lambda network, path: None)
    with pytest.raises(UserError, match=r"the picture of UGATIT_AtoB\.mindir is up to [01]"):
        export(tmp_path, "--formats=MINDIR,ONNX", *words)
    assert _contents(tmp_path) == before


def test_weights_beside_a_large_mindir_are_in_the_report(light, export, tmp_path, monkeypatch):
    from mindspore.train import serialization

    monkeypatch.setattr(serialization, "TOTAL_SAVE", 1)  # kilobytes: as if 1 GB
    for _ in range(2):  # the second replaces the first
        export(tmp_path, "--ckpt=" + light, "--direction=A2B")
    record = _report(tmp_path, "AtoB")["UGATIT_AtoB.mindir"]
    assert record["variables"] == parity.fingerprint(str(tmp_path / "UGATIT_AtoB_variables"))
    assert record["variables"]["bytes"] > record["bytes"] / 2 > 1000


def test_what_this_program_finds_wrong_is_not_published(light, export, tmp_path, monkeypatch):
    monkeypatch.setattr(parity, "is_within", lambda apart, tolerance: False)
    with pytest.raises(UserError, match=r"UGATIT_AtoB\.mindir is up to .* 1e-03 is allowed"):
        export(tmp_path, "--ckpt=" + light)
    assert os.listdir(str(tmp_path)) == []
    with pytest.raises(UserError, match="1e-03 is allowed"):
        export(tmp_path / "new", "--ckpt=" + light)
    assert os.listdir(str(tmp_path)) == []


def test_an_error_in_the_second_direction_takes_the_first_back(
    light, export, tmp_path, monkeypatch
):
    (tmp_path / "UGATIT_AtoB_variables").mkdir()
    (tmp_path / "UGATIT_AtoB_variables" / "data_0").write_text("weights of an earlier export")
    (tmp_path / "UGATIT_AtoB.mindir").write_text("an earlier export")
    replace = os.replace

    def fail(source, target):
        if target == str(tmp_path / "UGATIT_BtoA.mindir"):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        export(tmp_path, "--ckpt=" + light)
    names = ["UGATIT_AtoB.mindir", "UGATIT_AtoB_variables"]
    assert sorted(os.listdir(str(tmp_path))) == names
    assert (tmp_path / names[0]).read_text() == "an earlier export"
    assert (tmp_path / names[1] / "data_0").read_text() == "weights of an earlier export"
    monkeypatch.setattr(os, "replace", replace)
    export(tmp_path, "--ckpt=" + light)
    endings = (".mindir", "_graph.mindir", "_parity.json")
    names = ["UGATIT_%s%s" % (way, ending) for way in ("AtoB", "BtoA") for ending in endings]
    assert sorted(os.listdir(str(tmp_path))) == names


@pytest.mark.parametrize("name", ["UGATIT_BtoA_graph.mindir", "UGATIT_AtoB_variables"])
def test_a_folder_at_a_target_is_refused_at_once(name, light, export, tmp_path, monkeypatch):
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.txt").write_text("mine")
    monkeypatch.setattr(ckpt_to_mindir, "export", None)
    with pytest.raises(UserError, match=name + " is a folder"):
        export(tmp_path, "--ckpt=" + light)
    assert os.listdir(str(tmp_path)) == [name]
    assert (tmp_path / name / "thesis.txt").read_text() == "mine"


def test_the_help_says_where_the_pictures_are_from(export, tmp_path, capsys):
    with pytest.raises(SystemExit):
        export(tmp_path, "--help")
    words = " ".join(capsys.readouterr().out.split())
    assert "compare with are test pictures of its data set (--dataset, --data_path)" in words


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--formats=AIR"], "--formats AIR needs an Ascend NPU, this is a CPU; choose MINDIR or"),
        (["--ch=8"], r"--ch 8: .* was trained with 4; leave the option out"),
        (["--ckpt="], r'--ckpt "": there is no such file or folder; give a generator'),
        (["--ckpt=no.ckpt"], r"--ckpt no\.ckpt: there is no such file or folder; give a gen"),
    ],
)
def test_what_cannot_be_exported_is_told_in_one_sentence(words, sentence, light, export, tmp_path):
    with pytest.raises(UserError, match=sentence) as error:
        export(tmp_path / "new", "--ckpt=" + light, *words)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "new").exists()


def test_a_direction_against_the_name_is_refused(light, export, tmp_path):
    words = ["--ckpt=" + _weights(light, "genA2B"), "--direction=B2A"]
    with pytest.raises(UserError, match=r"--direction B2A: .* is genA2B by its name; leave"):
        export(tmp_path / "new", *words)


def test_the_command_line_exports(light, tmp_path):
    program = os.path.abspath(ckpt_to_mindir.__file__)
    (tmp_path / "a b").mkdir()
    done = subprocess.run(
        [sys.executable, program, "--ckpt", light, "--device_target=CPU", "--direction=B2A"],
        cwd=str(tmp_path / "a b"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "UGATIT_BtoA.mindir: " in done.stdout
    assert sorted(os.listdir(str(tmp_path / "a b"))) == ["mindir_result"]
