# SPDX-License-Identifier: Apache-2.0
"""Published U-GAT-IT weights become ours and back: names, files of each kind, wrong input.

What networks with such weights compute is tested in test_numbers_ugatit.py.
"""

import errno
import functools
import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import TOOLS
from test_weights_files import _run_command

if importlib.util.find_spec("mindspore") is None:
    pytest.skip("needs MindSpore, which is not installed here", allow_module_level=True)
os.environ.setdefault("GLOG_v", "3")

import mindspore as ms

from harness.errors import UserError
from harness.files import write_json
from tools.weights import pytorch
from tools.weights import ugatit as published
from tools.weights import ugatit_maps as maps
from ugatit import networks
from ugatit.config import Config
from ugatit.serving import Translator

ROOT = os.path.dirname(TOOLS)
WEIGHTS = os.path.join(os.path.dirname(ROOT), "shared", "reference", "ugatit_light_weights.npz")
_run = functools.partial(_run_command, published)


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
    for theirs, ours in maps.names_of(network, depth, code).items():
        shape = shapes[ours][:1] if ours.endswith((".u", ".v")) else shapes[ours]
        arrays[theirs] = rng.standard_normal(shape).astype(np.float32)
    return arrays


def _save_npz(path, **found):
    flat = {"%s/%s" % (network, k): v for network, a in found.items() for k, v in a.items()}
    np.savez(str(path), **flat)
    return str(path)


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
    ours, names = set(_shapes(network, depth)), maps.names_of(network, depth, code)
    vectors = {name for name in ours if name.endswith((".u", ".v"))}
    assert len(set(names.values())) == len(names)
    assert set(names.values()) == (ours - vectors if code == "mindspore" else ours)
    assert maps.blocks_of(network, names) == depth
    assert maps.code_of(names) == code


def test_names_and_axes_of_some_tensors():
    arrays = _random("genA2B", 3, light=False)
    ours, _ = maps.convert("genA2B", arrays)
    some = {"encoder.2.conv2.weight": "DownBlock.14.conv_block.5.weight"}
    some.update({"decoder.1.norm2.rho": "UpBlock1_2.norm2.rho", "up2_norm.beta": "UpBlock2.8.beta"})
    some.update({"fc1.weight": "FC.0.weight", "attention.gmp_fc.weight": "gmp_fc.weight"})
    for mine, theirs in some.items():
        np.testing.assert_array_equal(ours[mine], arrays[theirs])
    arrays = _random("disGA", 4)
    ours, _ = maps.convert("disGA", arrays)
    np.testing.assert_array_equal(ours["body.2.v"], arrays["model.7.weight_v"][:, np.newaxis])
    np.testing.assert_array_equal(ours["body.2.layer.weight"], arrays["model.7.weight_orig"])
    np.testing.assert_array_equal(ours["out.layer.weight"], arrays["conv.weight_orig"])


@pytest.mark.skipif(not os.path.exists(WEIGHTS), reason="no reference beside the repository")
def test_the_command_converts_the_reference(tmp_path):
    command = [sys.executable, "-m", "tools.weights", "ugatit", WEIGHTS]
    command += ["--output", str(tmp_path), "--dataset=tiny"]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    left_out, fits, needs = done.stdout.splitlines()[-3:]
    assert left_out.startswith("left out: 16 tensors: batch, ")
    assert left_out.endswith("real_A, real_B")
    assert needs.startswith("needs --variant=pytorch: ")
    assert "--ch=8 --img_ch=3 --light=True --n_res=4 --variant=pytorch, any --img_size" in fits
    assert "no --n_dis: the discriminators have 6 (global) and 5 (local) layers" in fits
    assert len(os.listdir(str(tmp_path / "tiny"))) == 6
    depths = {"genA2B": 4, "genB2A": 4, "disGA": 6, "disGB": 6, "disLA": 5, "disLB": 5}
    with np.load(WEIGHTS) as stored:
        for network, depth in depths.items():
            names = maps.names_of(network, depth)
            theirs = {name: stored["%s/%s" % (network, name)] for name in names}
            _assert_converted(_load(tmp_path, network, "tiny"), theirs, names)


def test_generators_alone_and_the_size_of_full_ones(tmp_path, capsys):
    arrays = _random("genB2A", 2, light=False)
    source = _save_npz(tmp_path / "some.npz", genB2A=arrays)
    lines = _run(capsys, source, "--output", tmp_path)
    assert lines[1] == "left out: nothing"
    fits = "--ch=4 --img_ch=3 --img_size=32 --light=False --n_res=2 --variant=pytorch"
    assert lines[2] == "options that fit: " + fits
    _assert_converted(_load(tmp_path, "genB2A"), arrays, maps.names_of("genB2A", 2))
    assert os.listdir(str(tmp_path / "selfie2anime")) == ["selfie2anime_genB2A_params_latest.ckpt"]


def test_mindspore_checkpoints(tmp_path, capsys):
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
    lines = _run(capsys, *sources, "--output", tmp_path, "--dataset=cat2dog")
    text = "left out: genA2B/DownBlock.2.moving_mean, genA2B/DownBlock.12.conv_block.6.gamma"
    assert lines[3] == text
    fits = "--ch=4 --img_ch=3 --light=True --n_dis=4 --n_res=4 --variant=mindspore, any --img_size"
    assert lines[4] == "options that fit: " + fits
    for network, depth in (("genA2B", 4), ("disGA", 5), ("disLA", 3)):
        ours, names = (
            _load(tmp_path, network, "cat2dog"),
            maps.names_of(network, depth, "mindspore"),
        )
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


def _drop_stem(arrays):
    arrays.pop("DownBlock.1.weight")


def _widen(arrays):
    arrays["DownBlock.1.weight"] = arrays["DownBlock.1.weight"][:, :2]


def test_there_and_back_is_the_same_bit_for_bit(tmp_path, capsys):
    depths = {"genA2B": 2, "genB2A": 2, "disGA": 4, "disGB": 4, "disLA": 3, "disLB": 3}
    theirs = {n: _random(n, depth, seed=i) for i, (n, depth) in enumerate(depths.items())}
    flat = {"%s/%s" % (n, name): array for n, a in theirs.items() for name, array in a.items()}
    pytorch.write(str(tmp_path / "selfie2anime_params_0100000.pt"), flat)
    lines = _run(capsys, tmp_path / "selfie2anime_params_0100000.pt", "--output", tmp_path)
    assert lines[6] == "left out: nothing"
    folder = tmp_path / "selfie2anime"
    ours = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert len(ours) == 6
    words = [folder / name for name in ours] + ["--output", tmp_path, "--to_published"]
    lines = _run(capsys, *words)
    assert lines[-1].startswith("needs the PyTorch code, which computes as --variant=pytorch")
    back = pytorch.read(str(tmp_path / "selfie2anime_params_latest.pt"))
    assert set(back) == set(flat)
    for name, array in flat.items():
        np.testing.assert_array_equal(back[name], array, name)
    _run(capsys, tmp_path / "selfie2anime_params_latest.pt", "--output", tmp_path / "again")
    for name, content in ours.items():
        assert (tmp_path / "again" / "selfie2anime" / name).read_bytes() == content


def test_back_needs_our_names_and_says_what_their_code_will_do_differently(tmp_path, capsys):
    source = _save_npz(tmp_path / "some.npz", disLA=_random("disLA", 3))
    _run(capsys, source, "--output", tmp_path)
    ours = tmp_path / "selfie2anime" / "selfie2anime_disLA_params_latest.ckpt"
    state = tmp_path / "selfie2anime" / "checkpoint"
    write_json(str(state / "config.json"), {"must_agree": {"variant": "paper"}})
    lines = _run(capsys, ours, "--output", tmp_path / "out", "--to_published")
    assert "--variant=paper" in lines[-2]
    assert lines[-1].startswith("needs genA2B, genB2A, disGA, disGB, disLB too")
    with pytest.raises(UserError, match=r"disLA .*it lacks model\.1\.weight_orig"):
        maps.to_published("disLA", {"body.0.layer.bias": np.ones(4)})
    with pytest.raises(UserError, match=r"no names of ours are model\.1\.bias, .* \(19 in all\)"):
        _run(capsys, source, "--output", tmp_path / "out", "--to_published")


@pytest.mark.parametrize("code", ["pytorch", "mindspore"])
def test_the_folders_own_networks_take_the_files(code, tmp_path, capsys):
    given = _random("genA2B", 2, code)
    source = _save_npz(tmp_path / "some.npz", genA2B=given)
    lines = _run(capsys, source, "--output", tmp_path)
    assert lines[-1].startswith("needs --variant=%s: " % code)
    config = Config(phase="test", ch=4, n_res=2, img_size=32, light=True, variant=code)
    path = tmp_path / "selfie2anime" / "selfie2anime_genA2B_params_latest.ckpt"
    direct = networks.Generator(config)
    names = {ours: name for name, ours in maps.names_of("genA2B", 2, code).items()}
    for parameter in direct.get_parameters():
        parameter.set_data(ms.Tensor(given[names[parameter.name]]))
    picture = np.random.RandomState(9).uniform(-1, 1, [1, 3, 32, 32]).astype(np.float32)
    results = [Translator(config, "genA2B", str(path))(picture)[0]]
    results.append(direct(ms.Tensor(picture))[0].asnumpy())
    np.testing.assert_array_equal(*results)
    assert results[0].std() > 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop, r"genA2B with --ch=4 does not fit: it lacks UpBlock1_2\.norm1\.rho"),
        (_add, r"not known are UpBlock2\.2\.bias"),
        (_cut, r"gamma\.weight is \(16, 15\), must be \(16, 16\)"),
        (_spoil, r"values that are not finite are in FC\.2\.weight"),
        (_drop_stem, r"it lacks DownBlock\.1\.weight; it must have 4 dimensions"),
        (_widen, r"genA2B does not fit: --img_ch 2: it must be 1 \(grey\) or 3"),
    ],
)
def test_a_wrong_tensor_is_named_and_nothing_is_written(change, message, tmp_path, capsys):
    arrays, other = _random("genA2B", 2), _random("genB2A", 2, seed=1)
    change(arrays)
    source = _save_npz(tmp_path / "wrong.npz", genB2A=other, genA2B=arrays)
    with pytest.raises(UserError, match=message):
        _run(capsys, source, "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_training_that_is_there_stays_as_it_is(tmp_path, capsys):
    source = _save_npz(tmp_path / "some.npz", genA2B=_random("genA2B", 2))
    folder = tmp_path / "results" / "selfie2anime"
    folder.mkdir(parents=True)
    for name in ("selfie2anime_genA2B_params_latest.ckpt", "loss.jsonl"):
        (folder / name).write_bytes(b"its own " + name.encode())
        with pytest.raises(UserError, match=r"results/selfie2anime holds .* another --output"):
            _run(capsys, source, "--output", tmp_path / "results")
        assert (folder / name).read_bytes() == b"its own " + name.encode()
        assert os.listdir(str(folder)) == [name]
        os.remove(str(folder / name))
    _run(capsys, source, "--output", tmp_path / "results")
    assert os.listdir(str(tmp_path / "results")) == ["selfie2anime"]


def test_a_disk_that_is_full_at_the_third_network_leaves_nothing(tmp_path, capsys, monkeypatch):
    written, save = [], ms.save_checkpoint

    def fills(values, path):
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "no space", path)
        written.append(path)
        save(values, path)

    found = {n: _random(n, 3, seed=i) for i, n in enumerate(["genA2B", "genB2A", "disLA", "disLB"])}
    source = _save_npz(tmp_path / "some.npz", **found)
    monkeypatch.setattr(ms, "save_checkpoint", fills)
    with pytest.raises(OSError, match="no space"):
        _run(capsys, source, "--output", tmp_path / "out")
    assert len(written) == 2
    assert os.listdir(str(tmp_path / "out")) == []


def test_networks_of_two_trainings_do_not_mix(tmp_path, capsys):
    found = {"genA2B": _random("genA2B", 2), "disLA": _random("disLA", 3, ch=6)}
    source = _save_npz(tmp_path / "mixed.npz", **found)
    with pytest.raises(UserError, match="disLA has ch 6, the networks before it have 4"):
        _run(capsys, source, "--output", tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.npz", None, r"there is no .*absent\.npz"),
        ("weights.h5", b"\x89HDF" + b"x" * 99, "an HDF5 file"),
        ("damaged.npz", b"PK\x03\x04" + b"x" * 99, r"damaged\.npz"),
        ("genA2B.ckpt", b"x" * 99, "of an unknown kind, or damaged"),
    ],
)
def test_a_file_that_cannot_be_read(name, content, message, tmp_path, capsys):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        _run(capsys, tmp_path / name, "--output", tmp_path)


def test_numbers_of_something_else_and_a_network_given_twice(tmp_path, capsys):
    other = _save_npz(tmp_path / "other.npz", G={"conv.weight": np.ones(3)})
    with pytest.raises(UserError, match="no tensor of genA2B, genB2A, disGA"):
        _run(capsys, other, "--output", tmp_path)
    source = _save_npz(tmp_path / "one.npz", disLB=_random("disLB", 3))
    with pytest.raises(UserError, match=r"disLB/model\.1\.bias was given before"):
        _run(capsys, source, source, "--output", tmp_path)
