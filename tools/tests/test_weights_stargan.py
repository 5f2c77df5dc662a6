# SPDX-License-Identifier: Apache-2.0
"""The authors' StarGAN weights in our graph: names, axes, and the numbers of their implementation.

The numbers are looked for beside the repository, in ../shared/reference; without them the test of
agreement is skipped.
"""

import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import TOOLS

from harness.options import PlatformOptions
from stargan import networks, training
from stargan.config import Config
from tf_runtime import device as devices
from tf_runtime.ranks import Group
from weights import stargan

FILE = os.path.join(os.path.dirname(os.path.dirname(TOOLS)), "shared", "reference", "stargan.npz")
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


def _part(stored, prefix):
    return {k[len(prefix) :]: v for k, v in stored.items() if k.startswith(prefix)}


def test_every_variable_has_a_name_of_theirs():
    images, labels = tf.zeros([1, 128, 128, 3]), tf.zeros([1, 5])
    networks.generator(images, labels)
    networks.discriminator(images, 5)
    ours = [*stargan.generator_names().values(), *stargan.discriminator_names().values()]
    assert set(ours) == {variable.op.name for variable in tf.global_variables()}


def test_round_trip_of_axes_and_a_wrong_name():
    rng = np.random.RandomState(0)
    names = stargan.generator_names(1)
    theirs = {k: rng.rand(2, 3, 4, 5) if "kernel" in v else rng.rand(3) for k, v in names.items()}
    ours = stargan.from_pytorch(theirs, {})
    np.testing.assert_array_equal(
        ours["G/deconv_0/conv2d_transpose/kernel"][1, 2, 0, 1], theirs["main.10.weight"][1, 0, 1, 2]
    )
    np.testing.assert_array_equal(
        ours["G/conv_1/conv2d/kernel"][1, 2], theirs["main.6.weight"][:, :, 1, 2].T
    )
    theirs.pop("main.0.weight")
    with pytest.raises(ValueError, match=r"missing or not known: main\.0\.weight"):
        stargan.from_pytorch(theirs, {})


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
    weights = stargan.from_pytorch(_part(stored, "G/"), _part(stored, "D/"))
    names = {"G/" + k: v for k, v in stargan.generator_names().items()}
    names.update({"D/" + k: v for k, v in stargan.discriminator_names(4).items()})
    theirs = {ours: name for name, ours in names.items()}
    device = devices.Device("cpu", "", PlatformOptions(), 1)
    graph = training.build_step(SMALL, [("celeba", 5)], device, Group(0, 1, (), "cpu"))
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
    with tf.Session(config=devices.session_config(device)) as session:
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
