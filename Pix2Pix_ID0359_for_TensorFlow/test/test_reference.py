# SPDX-License-Identifier: Apache-2.0
"""Agreement with numbers of the reference implementation, where a folder with them is present.

It is looked for beside the repository, in ../shared/reference; without it these tests are skipped.
"""

import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import FOLDER

from harness.platform_options import PlatformOptions
from pix2pix import networks, training
from pix2pix.config import Config
from tf_runtime import device as devices
from tf_runtime.ranks import Group

REFERENCE = os.path.join(os.path.dirname(os.path.dirname(FOLDER)), "shared", "reference")
pytestmark = pytest.mark.skipif(
    not os.path.isdir(REFERENCE), reason="no reference numbers beside the repository"
)


def _load(name):
    return dict(np.load(os.path.join(REFERENCE, "pix2pix_%s.npz" % name)))


def _close(mine, stored, tolerance, name):
    difference = np.max(np.abs(np.asarray(mine, np.float64) - stored))
    assert difference <= tolerance * np.max(np.abs(stored)), (name, difference)


@pytest.fixture
def _no_dropout(monkeypatch):
    """The reference numbers were made with the dropout function replaced by the identity."""
    monkeypatch.setattr(networks, "_dropout", lambda x, noise_seed, level: x)


@pytest.mark.usefixtures("_no_dropout")
@pytest.mark.parametrize("variant", ["no_inner_norm", "original"])
def test_outputs_losses_gradients_and_one_step_are_those_of_the_reference(variant):
    stored, inputs = _load(variant), _load("original")
    weights = {**_load("weights_enc_disc"), **_load("weights_dec")}
    zero_gradient = set(stored["zero_gradient_parameters"].tolist())
    legacy = variant == "original"
    config = Config(ngf=8, ndf=8, d_loss_weight=1.0, legacy_bottleneck_norm=legacy)
    device = devices.Device("cpu", "", PlatformOptions(), 1)
    step = training.build_step(config, device, Group(0, 1, (), "cpu"))
    fakes = networks.generator(step.conditions, 3, 8, bottleneck_norm=legacy)
    fake_logits = networks.discriminator(step.conditions, fakes, 8)
    real_logits = networks.discriminator(step.conditions, step.targets, 8)
    d_loss = training.discriminator_loss(real_logits, fake_logits)
    g_adversarial = training.adversarial_loss(fake_logits)
    g_l1 = training.l1_loss(step.targets, fakes)
    g_loss = g_adversarial + 100 * g_l1
    d_variables = tf.trainable_variables("discriminator")
    g_variables = tf.trainable_variables("generator")
    gradients = dict(zip(d_variables, tf.gradients(d_loss, d_variables)))
    gradients.update(zip(g_variables, tf.gradients(g_loss, g_variables)))
    gradients = {v.op.name: g for v, g in gradients.items() if v.op.name not in zero_gradient}
    feed = {step.conditions: inputs["in/inputs"], step.targets: inputs["in/targets"]}
    feed.update({step.step: 1, step.learning_rate: 2e-4})
    losses = {"discrim_loss": d_loss, "gen_loss": g_loss}
    losses.update(gen_loss_GAN=g_adversarial, gen_loss_L1=g_l1)
    with tf.Session(config=devices.session_config(device)) as session:
        session.run(tf.global_variables_initializer())
        for variable in d_variables + g_variables:
            variable.load(weights["var_original/" + variable.op.name], session)
        _close(session.run(fakes, feed), stored.get("out/outputs"), 5e-5, "outputs")
        predictions = session.run([tf.sigmoid(fake_logits), tf.sigmoid(real_logits)], feed)
        _close(predictions[0], stored["out/predict_fake"], 2e-5, "predict_fake")
        _close(predictions[1], stored["out/predict_real"], 2e-5, "predict_real")
        for name, value in session.run(losses, feed).items():
            _close(value, stored["loss/" + name], 5e-6, name)
        _compare_norms(session.run(gradients, feed), stored, "grad_l2/")
        values, _ = session.run([step.losses, step.train], feed)
        _close(values["d_loss"], stored["loss/discrim_loss"], 5e-6, "d_loss")
        _close(values["g_loss"], stored["loss_after_D_step/gen_loss"], 5e-6, "g_loss")
        compared = 0
        for variable in d_variables + g_variables:
            when = "after_D_step" if variable in d_variables else "after_G_step"
            if when + "_l2/" + variable.op.name in stored:
                after = session.run(variable)
                _close(
                    np.linalg.norm(after),
                    stored[when + "_l2/" + variable.op.name],
                    5e-4,
                    variable.op.name,
                )
                compared += 1
            if when + "/" + variable.op.name in stored:
                _close(after, stored[when + "/" + variable.op.name], 5e-3, variable.op.name)
        assert compared == (57 if legacy else 58)


def _compare_norms(gradients, stored, prefix):
    errors = []
    for name, gradient in gradients.items():
        norm = float(stored[prefix + name])
        errors.append(abs(np.linalg.norm(gradient) - norm) / norm)
    assert len(errors) == sum(key.startswith(prefix) for key in stored)
    assert max(errors) <= 2e-2
    assert np.mean(np.array(errors) <= 1e-3) >= 0.9
