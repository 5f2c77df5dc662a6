# SPDX-License-Identifier: Apache-2.0
"""Published U-GAT-IT weights become ours: names one to one, files of each kind, wrong input.

What networks with such weights compute is tested in test_numbers_ugatit.py.
"""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import TOOLS

if importlib.util.find_spec("mindspore") is None:
    pytest.skip("needs MindSpore, which is not installed here", allow_module_level=True)
os.environ.setdefault("GLOG_v", "3")

import mindspore as ms

from harness.errors import UserError
from ugatit import networks
from ugatit.config import Config
from weights import ugatit as published

SHARED = os.path.join(os.path.dirname(os.path.dirname(TOOLS)), "shared")
WEIGHTS = os.path.join(SHARED, "reference", "ugatit_light_weights.npz")
PROGRAM = os.path.join(TOOLS, "weights", "ugatit.py")


def _names(network, depth, code="pytorch"):
    generator = network in networks.GENERATORS
    make = published.generator_names if generator else published.discriminator_names
    return make(depth, code)


def _shapes(network, depth, ch=4, light=True):
    """Returns {our name: shape} of a small network; `depth` is n_res or n_layers."""
    config = Config(phase="test", ch=ch, n_res=depth, img_size=32, light=light)
    if network in networks.GENERATORS:
        cell = networks.Generator(config)
    else:
        cell = networks.Discriminator(depth, config)
    return {p.name: tuple(p.shape) for p in cell.get_parameters()}


def _random(network, depth, code="pytorch", seed=0, **form):
    """Returns {published name: array}."""
    rng, shapes, arrays = np.random.RandomState(seed), _shapes(network, depth, **form), {}
    for theirs, ours in _names(network, depth, code).items():
        shape = shapes[ours][:1] if ours.endswith((".u", ".v")) else shapes[ours]
        arrays[theirs] = rng.standard_normal(shape).astype(np.float32)
    return arrays


def _save_npz(path, **found):
    flat = {"%s/%s" % (network, k): v for network, a in found.items() for k, v in a.items()}
    np.savez(str(path), **flat)
    return str(path)


def _run(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["ugatit.py", *map(str, words)])
    assert published.main() == 0
    return capsys.readouterr().out.splitlines()


def _load(folder, network, dataset="selfie2anime"):
    """Returns {our name: array} of a file that the program wrote."""
    path = os.path.join(str(folder), dataset, "%s_%s_params_latest.ckpt" % (dataset, network))
    assert os.stat(path).st_mode & 0o777 == 0o644
    return {name: value.asnumpy() for name, value in ms.load_checkpoint(path).items()}


def _assert_converted(ours, theirs, names):
    for name, mine in names.items():
        np.testing.assert_array_equal(ours[mine].ravel(), theirs[name].ravel(), name)


@pytest.mark.parametrize("code", ["pytorch", "mindspore"])
@pytest.mark.parametrize(
    ("network", "depth"),
    [("genA2B", 1), ("genB2A", 4), ("genA2B", 6), ("disLA", 3), ("disLB", 5), ("disGA", 7)],
)
def test_every_parameter_has_one_name_of_theirs(network, depth, code):
    ours, names = set(_shapes(network, depth)), _names(network, depth, code)
    vectors = {name for name in ours if name.endswith((".u", ".v"))}
    assert len(set(names.values())) == len(names)
    assert set(names.values()) == (ours - vectors if code == "mindspore" else ours)
    assert published.blocks_of(network, names) == depth
    assert published.code_of(names) == code


def test_names_and_axes_of_some_tensors():
    arrays = _random("genA2B", 3, light=False)
    ours, _ = published.convert("genA2B", arrays)
    some = {"encoder.2.conv2.weight": "DownBlock.14.conv_block.5.weight"}
    some.update({"decoder.1.norm2.rho": "UpBlock1_2.norm2.rho", "up2_norm.beta": "UpBlock2.8.beta"})
    some.update({"fc1.weight": "FC.0.weight", "attention.gmp_fc.weight": "gmp_fc.weight"})
    for mine, theirs in some.items():
        np.testing.assert_array_equal(ours[mine], arrays[theirs])
    arrays = _random("disGA", 4)
    ours, _ = published.convert("disGA", arrays)
    np.testing.assert_array_equal(ours["body.2.v"], arrays["model.7.weight_v"][:, np.newaxis])
    np.testing.assert_array_equal(ours["body.2.layer.weight"], arrays["model.7.weight_orig"])
    np.testing.assert_array_equal(ours["out.layer.weight"], arrays["conv.weight_orig"])


@pytest.mark.skipif(not os.path.exists(WEIGHTS), reason="no reference beside the repository")
def test_the_command_converts_the_reference(tmp_path):
    command = [sys.executable, PROGRAM, WEIGHTS, "--output", str(tmp_path), "--dataset=tiny"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    left_out, fits = done.stdout.splitlines()[-2:]
    assert left_out.startswith("left out: cfg/batch, ")
    assert left_out.endswith("in/real_A, in/real_B")
    assert "--ch=8 --img_ch=3 --light=True --n_res=4 --variant=pytorch, any --img_size" in fits
    assert "no --n_dis: the discriminators have 6 (global) and 5 (local) layers" in fits
    assert len(os.listdir(str(tmp_path / "tiny"))) == 6
    depths = {"genA2B": 4, "genB2A": 4, "disGA": 6, "disGB": 6, "disLA": 5, "disLB": 5}
    with np.load(WEIGHTS) as stored:
        for network, depth in depths.items():
            names = _names(network, depth)
            theirs = {name: stored["%s/%s" % (network, name)] for name in names}
            _assert_converted(_load(tmp_path, network, "tiny"), theirs, names)


def test_generators_alone_and_the_size_of_full_ones(tmp_path, monkeypatch, capsys):
    arrays = _random("genB2A", 2, light=False)
    source = _save_npz(tmp_path / "some.npz", genB2A=arrays)
    lines = _run(monkeypatch, capsys, source, "--output", tmp_path)
    assert lines[1] == "left out: nothing"
    fits = "--ch=4 --img_ch=3 --img_size=32 --light=False --n_res=2 --variant=pytorch"
    assert lines[2] == "options that fit: " + fits
    _assert_converted(_load(tmp_path, "genB2A"), arrays, _names("genB2A", 2))
    assert os.listdir(str(tmp_path / "selfie2anime")) == ["selfie2anime_genB2A_params_latest.ckpt"]


def test_mindspore_checkpoints(tmp_path, monkeypatch, capsys):
    sources, given = [], {}
    for network, depth, prefix in (
        ("genA2B", 4, "generator.genA2B."),
        ("disGA", 5, "disGA."),
        ("disLA", 3, ""),  # the file's name tells it
    ):
        given[network] = _random(network, depth, "mindspore")
        arrays = dict(given[network])
        if network == "genA2B":
            for part in ("2.moving_mean", "12.conv_block.6.gamma"):
                arrays["DownBlock." + part] = np.ones(4, np.float32)
        named = [{"name": prefix + k, "data": ms.Tensor(v)} for k, v in arrays.items()]
        sources.append(str(tmp_path / ("cat2dog_%s_params_latest.ckpt" % network)))
        ms.save_checkpoint(named, sources[-1])
    lines = _run(monkeypatch, capsys, *sources, "--output", tmp_path, "--dataset=cat2dog")
    text = "left out: genA2B/DownBlock.2.moving_mean, genA2B/DownBlock.12.conv_block.6.gamma"
    assert lines[3] == text
    fits = "--ch=4 --img_ch=3 --light=True --n_dis=4 --n_res=4 --variant=mindspore, any --img_size"
    assert lines[4] == "options that fit: " + fits
    for network, depth in (("genA2B", 4), ("disGA", 5), ("disLA", 3)):
        ours, names = _load(tmp_path, network, "cat2dog"), _names(network, depth, "mindspore")
        _assert_converted(ours, given[network], names)
        for name in set(ours) - set(names.values()):
            np.testing.assert_allclose(np.linalg.norm(ours[name]), 1, rtol=1e-5)


def _drop(arrays):
    arrays.pop("UpBlock1_2.norm1.rho")


def _add(arrays):
    arrays["UpBlock2.2.bias"] = arrays["conv1x1.bias"]


def _cut(arrays):
    arrays["gamma.weight"] = arrays["gamma.weight"][:, :-1]


def _spoil(arrays):
    arrays["FC.2.weight"][1, 2] = np.inf


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop, r"genA2B lacks UpBlock1_2\.norm1\.rho"),
        (_add, r"genA2B has unknown tensors: UpBlock2\.2\.bias"),
        (_cut, r"genA2B/gamma\.weight has the shape \(16, 15\); with --ch 4 it must be \(16, 16\)"),
        (_spoil, r"genA2B/FC\.2\.weight has values that are not finite"),
    ],
)
def test_a_wrong_tensor_is_named_and_nothing_is_written(
    change, message, tmp_path, monkeypatch, capsys
):
    arrays, other = _random("genA2B", 2), _random("genB2A", 2, seed=1)
    change(arrays)
    source = _save_npz(tmp_path / "wrong.npz", genB2A=other, genA2B=arrays)
    with pytest.raises(UserError, match=message):
        _run(monkeypatch, capsys, source, "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_networks_of_two_trainings_do_not_mix(tmp_path, monkeypatch, capsys):
    found = {"genA2B": _random("genA2B", 2), "disLA": _random("disLA", 3, ch=6)}
    source = _save_npz(tmp_path / "mixed.npz", **found)
    with pytest.raises(UserError, match="disLA has ch 6, the networks before it have 4"):
        _run(monkeypatch, capsys, source, "--output", tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.npz", None, "there is no such file"),
        ("weights.h5", b"x", r"must end in one of \.npz, \.pt, \.pth, \.ckpt"),
        ("damaged.npz", b"PK\x03\x04" + b"x" * 99, r"is no \.npz of numbers"),
        ("genA2B.ckpt", b"x" * 99, "is no MindSpore checkpoint"),
        ("selfie2anime_params_latest.pt", b"x" * 99, "install torch to read it"),
    ],
)
def test_a_file_that_cannot_be_read(name, content, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it were not installed
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        _run(monkeypatch, capsys, tmp_path / name, "--output", tmp_path)


def test_numbers_of_something_else_and_a_network_given_twice(tmp_path, monkeypatch, capsys):
    other = _save_npz(tmp_path / "other.npz", G={"conv.weight": np.ones(3)})
    with pytest.raises(UserError, match="no tensor of genA2B, genB2A, disGA"):
        _run(monkeypatch, capsys, other, "--output", tmp_path)
    source = _save_npz(tmp_path / "one.npz", disLB=_random("disLB", 3))
    with pytest.raises(UserError, match=r"disLB/model\.1\.bias was given before"):
        _run(monkeypatch, capsys, source, source, "--output", tmp_path)
