# SPDX-License-Identifier: Apache-2.0
"""Published Pix2Pix checkpoints become ours and back: both spellings, files, wrong input.

The reference implementation's numbers are looked for beside the repository, in ../shared/reference.
"""

import functools
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import TOOLS
from test_weights_files import _assert_equal, _read_checkpoint, _run_command

from harness.errors import UserError
from harness.platform_options import PlatformOptions
from pix2pix import networks, serving
from pix2pix.config import Config
from tf_runtime import device as devices
from tools.weights import bundle
from tools.weights import pix2pix as published

ROOT = os.path.dirname(TOOLS)
REFERENCE = os.path.join(os.path.dirname(ROOT), "shared", "reference")
CPU = devices.Device("cpu", "", PlatformOptions(), 1)
_run = functools.partial(_run_command, published)
NORM = "generator/encoder_8/batch_normalization/"
OLD = [("conv2d/kernel", "conv/filter"), ("conv2d_transpose/kernel", "deconv/filter")]
OLD += [("batch_normalization/beta", "batchnorm/offset")]
OLD += [("batch_normalization/gamma", "batchnorm/scale")]


def _arrays(norm=True, seed=0):
    """Returns {our variable: array} of small networks, grey to colour."""
    rng = np.random.RandomState(seed)
    with tf.Graph().as_default():
        conditions = tf.placeholder(tf.float32, [1, 256, 256, 1])
        fakes = networks.generator(conditions, 3, 2, bottleneck_norm=norm)
        networks.discriminator(conditions, fakes, 4)
        shapes = {v.op.name: v.shape.as_list() for v in tf.global_variables()}
    return {n: rng.normal(0.0, 0.5, shape).astype(np.float32) for n, shape in shapes.items()}


def _old(arrays):
    """Returns the arrays under the names of the time before tf.layers, which had no biases."""
    renamed = {}
    for name, array in arrays.items():
        for ours, theirs in OLD:
            name = name.replace(ours, theirs)
        renamed[name] = array
    return {name: array for name, array in renamed.items() if not name.endswith("/bias")}


def _whole(arrays, step=42):
    """Returns what their saver stores besides: statistics, Adam's state, averages, the step."""
    kernel = np.ones(3, np.float32)
    extra = {"global_step": np.array(step, np.int64), "generator_train/beta1_power": kernel[0]}
    extra["generator/encoder_2/batch_normalization/moving_mean"] = kernel
    extra["generator/encoder_2/conv2d/kernel/Adam_1"] = kernel
    extra["discriminator_train/discriminator/layer_1/conv2d/kernel/Adam"] = kernel
    extra["generator_loss/add/ExponentialMovingAverage"] = kernel[0]
    return dict(arrays, **extra)


def _translate(checkpoint, conditions):
    """Returns what the folder's own code makes of them with the options beside the checkpoint."""
    config = Config(phase="test", checkpoint=str(checkpoint))
    config = serving.trained_config(config, set(), serving.find_checkpoint(config))
    with serving.CheckpointTranslator(config, str(checkpoint), CPU) as translate:
        return translate(conditions)


def _compute(arrays, conditions):
    with tf.Graph().as_default(), tf.Session() as session:
        norm = NORM + "gamma" in arrays
        fakes = networks.generator(tf.constant(conditions), 3, 2, bottleneck_norm=norm)
        for variable in tf.global_variables():
            variable.load(arrays[variable.op.name], session)
        return session.run(fakes)


@pytest.fixture
def theirs(tmp_path):
    """Their checkpoint in a folder with their options.json."""
    folder, arrays = tmp_path / "facades_train", _arrays()
    folder.mkdir()
    bundle.write(str(folder / "model-42"), _whole(arrays))
    told = {"which_direction": "AtoB", "ngf": 2, "ndf": 4, "lab_colorization": False}
    (folder / "options.json").write_text(json.dumps(told))
    return folder, arrays


def test_the_command_converts_a_checkpoint_and_names_what_it_left(theirs, tmp_path):
    folder, arrays = theirs
    command = [sys.executable, "-m", "tools.weights", "pix2pix", str(folder)]
    command += ["--output", str(tmp_path / "out"), "--dataset=walls"]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    lines = done.stdout.splitlines()
    checkpoint = tmp_path / "out" / "walls_1_256" / "pix2pix.model-42"
    assert lines[0].startswith("%s: %d tensors, " % (checkpoint, len(arrays)))
    assert set(lines[1][len("left out: ") :].split(", ")) == set(_whole({}))
    for word in ("--input_nc=1", "--ngf=2", "--ndf=4", "--which_direction=AtoB"):
        assert word in lines[2]
    assert lines[3].startswith("needs --legacy_bottleneck_norm=True")
    assert not any("--which_direction" in line for line in lines[3:])
    _assert_equal(_read_checkpoint(checkpoint), arrays)


def test_there_and_back_is_the_same_bit_for_bit(theirs, tmp_path, capsys):
    folder, arrays = theirs
    _run(capsys, folder / "model-42.index", "--output", tmp_path / "ours")
    ours = tmp_path / "ours" / "facades_1_256"
    back = tmp_path / "back"
    lines = _run(capsys, ours, "--output", back, "--to_published")
    assert lines[3].startswith("needs their --mode=export")
    whole = _read_checkpoint(back / "model-42")
    gammas = [name[: -len("gamma")] for name in arrays if name.endswith("gamma")]
    assert len(whole) == len(arrays) + 2 * len(gammas) + 1
    assert whole["global_step"] == 42
    assert (whole[gammas[0] + "moving_variance"] == 1).all()
    assert tf.train.latest_checkpoint(str(back)) == str(back / "model-42")
    told = json.loads((folder / "options.json").read_text())
    assert json.loads((back / "options.json").read_text()) == told
    _run(capsys, back, "--output", tmp_path / "again")
    name = "facades_1_256/pix2pix.model-42.data-00000-of-00001"
    assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "ours" / name).read_bytes()


@pytest.mark.parametrize("norm", [True, False])
def test_the_folders_own_code_translates_with_converted_weights(norm, tmp_path, capsys):
    arrays = _arrays(norm, seed=1)
    conditions = np.random.RandomState(2).uniform(-1, 1, [1, 256, 256, 1]).astype(np.float32)
    np.savez(str(tmp_path / "some.npz"), **arrays)
    lines = _run(capsys, tmp_path / "some.npz", "--output", tmp_path)
    assert any(line.startswith("needs --legacy_bottleneck_norm=True") for line in lines) is norm
    assert any(line.startswith("needs --which_direction") for line in lines)
    fakes = _translate(tmp_path / "facades_1_256" / "pix2pix.model-0", conditions)
    np.testing.assert_allclose(fakes, _compute(arrays, conditions), atol=1e-4)
    assert fakes.std() > 0.1


def test_names_from_before_tf_layers_and_biases_that_were_not_there():
    arrays = _arrays(seed=3)
    ours, left_out, notes = published.from_published(_old(arrays), "old")
    biases = {name: a * 0 for name, a in arrays.items() if name.endswith("/bias")}
    _assert_equal(ours, dict(arrays, **biases))
    assert left_out == []
    assert notes == ["no switch for biases: theirs had none then, %d are 0 here" % len(biases)]
    generator = {name: a for name, a in _old(arrays).items() if name.startswith("generator/")}
    ours, _, _ = published.from_published(generator, "old")
    assert all(name.startswith("generator/") for name in ours)
    both = dict(arrays, **{"generator/encoder_2/conv/filter": np.ones(3)})
    with pytest.raises(UserError, match=r"has both generator/encoder_2/conv\w*/\w+ and"):
        published.from_published(both, "mixed")


@pytest.mark.skipif(not os.path.isdir(REFERENCE), reason="no numbers beside the repository")
@pytest.mark.parametrize("variant", ["original", "no_inner_norm"])
def test_translations_are_those_of_the_reference_implementation(variant, tmp_path, capsys):
    arrays = {}
    for part in ("enc_disc", "dec"):
        with np.load(os.path.join(REFERENCE, "pix2pix_weights_%s.npz" % part)) as stored:
            names = [name for name in stored.files if name.startswith("var_original/")]
            arrays.update({name.partition("/")[2]: stored[name] for name in names})
    if variant == "no_inner_norm":
        arrays = {name: array for name, array in arrays.items() if not name.startswith(NORM)}
    bundle.write(str(tmp_path / "model-1"), _whole(arrays, 1))
    _run(capsys, tmp_path / "model-1", "--output", tmp_path)
    with np.load(os.path.join(REFERENCE, "pix2pix_original.npz")) as stored:
        conditions = stored["in/inputs"]
    with np.load(os.path.join(REFERENCE, "pix2pix_%s.npz" % variant)) as stored:
        wanted = stored["out/outputs"]
    fakes = _translate(tmp_path / "facades_1_256" / "pix2pix.model-1", conditions)
    # The reference was made without dropout, as the test phase here is.
    assert np.abs(fakes - wanted).max() <= 5e-5 * np.abs(wanted).max()


def _drop(arrays):
    arrays.pop("generator/decoder_4/conv2d_transpose/bias")


def _drop_first(arrays):
    arrays.pop("generator/encoder_1/conv2d/kernel")


def _add(arrays):
    arrays["generator/encoder_9/conv2d/kernel"] = np.ones([4, 4, 16, 16], np.float32)


def _cut(arrays):
    arrays["discriminator/layer_3/conv2d/kernel"] = np.ones([4, 4, 7, 16], np.float32)


def _spoil(arrays):
    arrays["generator/decoder_2/batch_normalization/gamma"][0] = np.inf


def _colour(arrays):
    arrays["generator/decoder_1/conv2d_transpose/kernel"] = np.ones([4, 4, 2, 4], np.float32)


def _many(arrays):
    arrays["generator/encoder_1/conv2d/kernel"] = np.ones([4, 4, 4, 2], np.float32)


def _ascend(arrays):
    arrays.clear()
    arrays["generator/g_e1_conv/w"] = np.ones([5, 5, 3, 64], np.float32)


def _separable(arrays):
    name = "generator/encoder_2/separable_conv2d/depthwise_kernel"
    arrays[name] = np.ones([4, 4, 2, 1], np.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop, "it lacks generator/decoder_4/conv2d_transpose/bias"),
        (_drop_first, "it lacks generator/encoder_1/conv2d/kernel; it must have 4 dimensions"),
        (_add, "not known are generator/encoder_9/conv2d/kernel"),
        (_cut, r"layer_3/conv2d/kernel is \(4, 4, 7, 16\), must be \(4, 4, 8, 16\)"),
        (_spoil, "not finite are in generator/decoder_2/batch_normalization/gamma"),
        (_colour, "is of a network for --lab_colorization"),
        (_many, r"its pictures have 4 channels \(input_nc\); it must be 1 or 3"),
        (_ascend, r"the Ascend ModelZoo's Pix2Pix \(ID0359\), another network with 5x5 kernels"),
        (_separable, "a training with --separable_conv, which is not built here"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(change, message, tmp_path, capsys):
    arrays = _arrays()
    change(arrays)
    np.savez(str(tmp_path / "wrong.npz"), **arrays)
    with pytest.raises(UserError, match=message):
        _run(capsys, tmp_path / "wrong.npz", "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_of_ours_and_a_folder_in_use_stay_as_they_are(theirs, tmp_path, capsys):
    folder, _ = theirs
    _run(capsys, folder, "--output", tmp_path)
    ours = tmp_path / "facades_1_256"
    before = {path.name: path.read_bytes() for path in ours.iterdir()}
    with pytest.raises(UserError, match=r"is ours, as config\.json beside it tells"):
        _run(capsys, ours, "--output", tmp_path / "new")
    with pytest.raises(UserError, match=re.escape("%s holds " % ours)):
        _run(capsys, folder, "--output", tmp_path)
    assert {path.name: path.read_bytes() for path in ours.iterdir()} == before
    with pytest.raises(UserError, match=r"has no checkpoint model-N"):
        _run(capsys, tmp_path, "--output", tmp_path / "new")
