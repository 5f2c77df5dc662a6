# SPDX-License-Identifier: Apache-2.0
"""Published StarGAN weights become ours and back: names, axes, files, the authors' own numbers.

The numbers are looked for beside the repository, in ../shared/reference; without them the test of
agreement is skipped.
"""

import dataclasses
import functools
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import TOOLS
from test_weights_files import _assert_equal, _read_checkpoint, _run_command

from harness.errors import UserError
from harness.platform_options import PlatformOptions
from stargan import networks, serving, training
from stargan.config import Config
from tf_runtime import device as devices
from tf_runtime.ranks import Group
from tools.weights import bundle, pytorch, stargan
from tools.weights import stargan_maps as maps

ROOT = os.path.dirname(TOOLS)
FILE = os.path.join(os.path.dirname(ROOT), "shared", "reference", "stargan.npz")
FIVE = "Black_Hair Blond_Hair Brown_Hair Male Young"
CPU = devices.Device("cpu", "", PlatformOptions(), 1)
_run = functools.partial(_run_command, stargan)
SMALL = Config(
    image_size=64,
    batch_size=2,
    g_conv_dim=8,
    d_conv_dim=8,
    d_repeat_num=4,
    selected_attrs=("a b c d e",),
)


@pytest.fixture(autouse=True)
def _graph_mode():
    tf.disable_v2_behavior()
    with tf.Graph().as_default():
        yield


def _ours(labels=5, blocks=2, seed=0):
    """Returns {our variable: array} of small networks for pictures of 32 pixels."""
    rng = np.random.RandomState(seed)
    with tf.Graph().as_default():
        images = tf.zeros([1, 32, 32, 3])
        networks.generator(images, tf.zeros([1, labels]), 4, blocks)
        networks.discriminator(images, labels, 6, 3)
        shapes = {v.op.name: v.shape.as_list() for v in tf.global_variables()}
    return {n: rng.normal(0.0, 0.3, shape).astype(np.float32) for n, shape in shapes.items()}


def _save(folder, arrays, step=7):
    """Writes their two files and returns the paths."""
    paths = []
    for network in ("G", "D"):
        part = {k[2:]: v for k, v in arrays.items() if k[0] == network}
        paths.append(str(folder / ("%d-%s.ckpt" % (step, network))))
        pytorch.write(paths[-1], part)
    return paths


def _translate(checkpoint, pictures, labels):
    """Returns what the folder's own code makes of them with the options beside the checkpoint."""
    config = dataclasses.replace(Config(phase="test"), checkpoint=str(checkpoint), batch_size=2)
    checkpoint = serving.find_checkpoint(config)
    config, sources = serving.load_training(config, set(), checkpoint)
    with serving.CheckpointTranslator(config, sources, checkpoint, CPU) as translate:
        return translate(pictures, labels)


def _compute(arrays, pictures, labels):
    """Returns what our generator with these weights makes of them."""
    with tf.Graph().as_default(), tf.Session() as session:
        fakes = networks.generator(tf.constant(pictures), tf.constant(labels), 4, 2)
        for variable in tf.global_variables():
            variable.load(arrays[variable.op.name], session)
        return session.run(fakes)


def _pictures(seed=3):
    rng = np.random.RandomState(seed)
    pictures = rng.uniform(-1, 1, [2, 32, 32, 3]).astype(np.float32)
    return pictures, rng.randint(0, 2, [2, 5]).astype(np.float32)


def test_every_variable_has_a_name_of_theirs():
    images, labels = tf.zeros([1, 128, 128, 3]), tf.zeros([1, 5])
    networks.generator(images, labels)
    networks.discriminator(images, 5)
    ours = [*maps.generator_names().values(), *maps.discriminator_names().values()]
    assert set(ours) == {variable.op.name for variable in tf.global_variables()}


def test_axes_of_some_tensors_and_all_the_way_back():
    ours = _ours()
    theirs = maps.to_pytorch(ours)
    kernel = ours["G/deconv_0/conv2d_transpose/kernel"]
    assert theirs["G/main.11.weight"].shape == (16, 8, 4, 4)
    np.testing.assert_array_equal(theirs["G/main.11.weight"][5, 3], kernel[:, :, 3, 5])
    kernel = ours["G/conv_1/conv2d/kernel"]
    np.testing.assert_array_equal(theirs["G/main.6.weight"][:, :, 1, 2], kernel[1, 2].T)
    np.testing.assert_array_equal(theirs["D/main.4.bias"], ours["D/conv_2/conv2d/bias"])
    again, left_out = maps.from_pytorch(theirs)
    _assert_equal(again, ours)
    assert len(left_out) == 3 * 9
    assert all(name.rsplit(".", 1)[1] in maps.UNUSED for name in left_out)


def test_the_command_goes_there_and_back_bit_for_bit(tmp_path, capsys):
    ours = _ours()
    theirs = maps.to_pytorch(ours)
    paths, out = _save(tmp_path, theirs), tmp_path / "out"
    command = [sys.executable, "-m", "tools.weights", "stargan", *paths, "--output", str(out)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    checkpoint = out / "checkpoint" / "model-7"
    lines = done.stdout.splitlines()
    values = sum(array.size for array in ours.values())
    assert lines[0] == "%s: %d tensors, %d values" % (checkpoint, len(ours), values)
    assert lines[1].startswith("left out: 27 tensors: ")
    for word in ("--g_conv_dim=4", "--g_repeat_num=2", "--d_repeat_num=3", "--image_size=32", FIVE):
        assert word in lines[2]
    assert lines[3].startswith("needs no switch: ")
    _assert_equal(_read_checkpoint(checkpoint), ours)
    lines = _run(capsys, checkpoint, "--output", tmp_path / "back", "--to_published")
    assert lines[-1].startswith("needs 5 labels")
    for network in ("G", "D"):
        part = {k[2:]: v for k, v in theirs.items() if k[0] == network}
        _assert_equal(pytorch.read(str(tmp_path / "back" / ("7-%s.ckpt" % network))), part)
    back = [tmp_path / "back" / ("7-%s.ckpt" % network) for network in ("G", "D")]
    _run(capsys, *back, "--output", tmp_path / "again")
    name = "checkpoint/model-7.data-00000-of-00001"
    assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes()


def test_the_folders_own_code_translates_with_converted_weights(tmp_path, capsys):
    ours, (pictures, labels) = _ours(seed=1), _pictures()
    paths = _save(tmp_path, maps.to_pytorch(ours))
    _run(capsys, *paths, "--output", tmp_path)
    fakes = _translate(tmp_path / "checkpoint" / "model-7", pictures, labels)
    np.testing.assert_allclose(fakes, _compute(ours, pictures, labels), atol=1e-5)
    assert fakes.std() > 0.1


def test_weights_for_bgr_become_weights_for_rgb(tmp_path, capsys):
    ours, (pictures, labels) = _ours(seed=2), _pictures()
    slots = {"G/conv/conv2d/kernel/Adam": np.ones(3, np.float32), "beta1_power": np.float32(0.5)}
    slots["D/D_logit/conv2d/kernel/Adam_1"] = np.ones(3, np.float32)
    bundle.write(str(tmp_path / "model-200000"), {**ours, **slots})
    lines = _run(capsys, tmp_path / "model-200000.index", "--output", tmp_path / "out")
    left_out = "G/conv/conv2d/kernel/Adam, beta1_power, D/D_logit/conv2d/kernel/Adam_1"
    assert set(lines[1][len("left out: ") :].split(", ")) == set(left_out.split(", "))
    assert lines[3].startswith("needs no switch for BGR")
    assert "--crop_size=0" in lines[2]
    checkpoint = tmp_path / "out" / "checkpoint"
    fakes = _translate(checkpoint / "model-200000", pictures, labels)
    wanted = _compute(ours, pictures[..., ::-1], labels)[..., ::-1]
    np.testing.assert_allclose(fakes, wanted, atol=1e-5)
    assert np.abs(fakes - _compute(ours, pictures, labels)).max() > 0.05
    turned = _read_checkpoint(checkpoint / "model-200000")
    first = "D/conv_0/conv2d/kernel"
    np.testing.assert_array_equal(turned[first], ours[first][:, :, ::-1])
    _assert_equal(stargan.turn_colours(turned), ours)
    with pytest.raises(UserError, match=r"is ours, as labels\.json beside it tells"):
        _run(capsys, checkpoint, "--output", tmp_path / "other")


def _drop(arrays):
    arrays.pop("G/main.0.weight")


def _drop_many(arrays):
    for i in range(3):
        arrays.pop("D/main.%d.bias" % (2 * i))
    for i in (1, 4, 7):
        arrays.pop("G/main.%d.bias" % i)


def _add(arrays):
    arrays["G/main.3.bias"] = arrays["G/main.4.bias"]


def _cut(arrays):
    arrays["G/main.6.weight"] = arrays["G/main.6.weight"][:, 1:]


def _spoil(arrays):
    arrays["D/conv1.weight"] = np.where(arrays["D/conv1.weight"] > 0, np.nan, 1.0)


def _flatten(arrays):
    arrays["G/main.0.weight"] = arrays["G/main.0.weight"].ravel()


def _unlabel(arrays):
    arrays["G/main.0.weight"] = arrays["G/main.0.weight"][:, :3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop, r"it lacks G/main\.0\.weight; it must have 4 dimensions"),
        (_drop_many, r"it lacks G/main\.1\.bias, .* \.\.\. \(6 in all\)"),
        (_add, r"not known are G/main\.3\.bias"),
        (_cut, r"main\.6\.weight as G/conv_1/conv2d/kernel is \(4, 4, 7, 16\), must be \(4, 4, 8"),
        (_spoil, r"not finite are in D/conv1\.weight"),
        (_flatten, r"G/main\.0\.weight is \(\d+,\); it must have 4 dimensions"),
        (_unlabel, "takes 3 channels, a picture's 3 and no label"),
    ],
)
def test_a_wrong_tensor_is_named_and_nothing_is_written(change, message, tmp_path, capsys):
    theirs = maps.to_pytorch(_ours())
    change(theirs)
    paths = _save(tmp_path, theirs)
    with pytest.raises(UserError, match=message):
        _run(capsys, *paths, "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_generator_alone_and_a_folder_in_use(tmp_path, capsys):
    paths, out = _save(tmp_path, maps.to_pytorch(_ours())), tmp_path / "out"
    lines = _run(capsys, paths[0], "--output", out)
    assert lines[-2].startswith("needs --image_size of their training")
    assert all(name.startswith("G/") for name in _read_checkpoint(out / "checkpoint" / "model-7"))
    before = sorted(os.listdir(str(out / "checkpoint")))
    with pytest.raises(UserError, match=r"holds config\.json, labels\.json.* choose another"):
        _run(capsys, *paths, "--output", out)
    assert sorted(os.listdir(str(out / "checkpoint"))) == before
    with pytest.raises(UserError, match=r"G/main\.0\.weight was given before"):
        _run(capsys, paths[0], paths[0], "--output", tmp_path / "new")


@pytest.mark.parametrize(
    ("labels", "judged", "names", "kinds"),
    [
        (5, 5, ("", ""), ["celeba"]),
        (8, 8, ("", ""), ["classes"]),
        (15, 13, ("", ""), ["celeba", "classes"]),
        (3, 0, ("Male, Young, Eyeglasses", ""), ["celeba"]),
        (2, 2, ("", "cat dog"), ["classes"]),
        (5, 3, ("Male", "cat dog"), ["celeba", "classes"]),
    ],
)
def test_names_of_labels_are_found_by_their_number(labels, judged, names, kinds):
    found = maps.Widths(64, 6, labels, 64, 6, judged, 128)
    sources = stargan.find_sources(found, *names)
    assert [source.kind for source in sources] == kinds
    assert serving.label_width(sources) == labels


def test_labels_without_names_are_refused():
    with pytest.raises(UserError, match="takes 7 labels; name them with --selected_attrs"):
        stargan.find_sources(maps.Widths(64, 6, 7), "", "")
    with pytest.raises(UserError, match="takes 5 labels, the discriminator judges 4; name them"):
        stargan.find_sources(maps.Widths(64, 6, 5, 64, 6, 4, 128), "", "")


def _part(stored, prefix):
    return {k[len(prefix) :]: v for k, v in stored.items() if k.startswith(prefix)}


def _close(mine, stored, tolerance, name):
    difference = np.max(np.abs(np.asarray(mine, np.float64) - stored))
    assert difference <= tolerance * np.max(np.abs(stored)), (name, difference)


def _compare_norms(values, stored, tolerance):
    errors = {k: abs(np.linalg.norm(v) - stored[k]) / stored[k] for k, v in values.items()}
    assert len(errors) == len(stored)
    assert max(errors.values()) <= tolerance, max(errors, key=errors.get)
    assert np.mean(np.array(list(errors.values())) <= 1e-3) >= 0.9


@pytest.mark.skipif(not os.path.exists(FILE), reason="no reference numbers beside the repository")
def test_outputs_losses_gradients_and_one_step_are_those_of_the_authors():
    stored = dict(np.load(FILE))
    weights, _ = maps.from_pytorch(stored)
    theirs = maps.published_names(6, 4)
    graph = training.build_step(SMALL, [("celeba", 5)], CPU, Group(0, 1, (), "cpu"))
    fakes = networks.generator(graph.images, graph.targets, 8, minimal=True)
    src, cls = networks.discriminator(graph.images, 5, 8, 4)
    variables = tf.trainable_variables()
    gradients = {}
    for scope, loss in (("D/", graph.d_losses["D_loss"]), ("G/", graph.g_losses["G_loss"])):
        mine = tf.trainable_variables(scope)
        gradients[scope] = dict(zip([theirs[v.op.name] for v in mine], tf.gradients(loss, mine)))
    feed = {graph.images: stored["in/x_real"].transpose(0, 2, 3, 1), graph.learning_rate: 1e-4}
    feed.update({graph.labels: stored["in/c_org"], graph.targets: stored["in/c_trg"]})
    feed[graph.mixing] = stored["in/alpha"].ravel()
    with tf.Session(config=devices.session_config(CPU)) as session:
        session.run(tf.global_variables_initializer())

        def load():
            for variable in variables:
                variable.load(weights[variable.op.name], session)

        load()
        output = session.run(fakes, feed).transpose(0, 3, 1, 2)
        _close(output, stored["out/G_x_ctrg"], 5e-5, "G_x_ctrg")
        outputs = session.run([src, cls], feed)
        _close(outputs[0].transpose(0, 3, 1, 2), stored["out/D_src_real"], 1e-5, "D_src_real")
        _close(outputs[1], stored["out/D_cls_real"], 1e-5, "D_cls_real")
        d_gradients = session.run(gradients["D/"], feed)
        # The generator's loss is that against the discriminator after its step: fetching makes it.
        g_gradients = session.run(gradients["G/"], feed)
        load()
        for slot in set(tf.global_variables()) - set(variables):
            session.run(slot.initializer)
        losses, _ = session.run([{**graph.d_losses, **graph.g_losses}, graph.g_train], feed)
        after = {theirs[v.op.name]: session.run(v) for v in variables}
    _compare_norms({**d_gradients, **g_gradients}, _part(stored, "grad_l2/"), 2e-2)
    named = {"D/loss_real": "D_real", "D/loss_fake": "D_fake", "D/loss_cls": "D_cls"}
    named.update({"D/loss_gp": "D_gp", "D_loss": "D_total", "G/loss_fake": "G_fake"})
    named.update({"G/loss_rec": "G_rec", "G/loss_cls": "G_cls", "G_loss": "G_total"})
    for mine, name in named.items():
        _close(losses[mine], stored["loss/" + name], 2e-4, name)
    _compare_norms(after, _part(stored, "after_step_l2/"), 5e-4)
    whole = _part(stored, "after_step/")
    assert len(whole) == 9
    for name, value in whole.items():
        mine = after[name].transpose(3, 2, 0, 1) if value.ndim == 4 else after[name]
        assert np.abs(mine - value).max() <= 2.1e-4, name
        assert np.mean(np.abs(mine - value) > 1e-5) < 0.02, name
