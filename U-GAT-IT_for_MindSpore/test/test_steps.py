# SPDX-License-Identifier: Apache-2.0
"""The training step: what it computes, what it changes, and by how much."""

import importlib.util
import os

import numpy as np
import pytest

if not importlib.util.find_spec("mindspore"):
    pytest.skip("MindSpore is not installed", allow_module_level=True)
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")  # as `device.prepare`; read at import
os.environ.setdefault("GLOG_v", "3")

import mindspore as ms
from mindspore import Tensor

from ugatit import device, steps
from ugatit.config import Config
from ugatit.networks import DISCRIMINATORS, GENERATORS, NAMES, build_networks
from ugatit.training import everything, trained

TINY = {"light": True, "img_size": 32, "ch": 4, "n_res": 1, "n_dis": 4, "device": "CPU"}
TINY.update(cam_weight=10.0, weight_decay=0.0)  # so that no part drowns the others


def pictures(seed, n=1):
    values = np.random.RandomState(seed).uniform(-1, 1, (2, n, 3, 32, 32)).astype(np.float32)
    return Tensor(values[0]), Tensor(values[1])


class Training:
    """Networks, both optimizers and the step, as `training.train` puts them together."""

    def __init__(self, **options):
        self.config = Config(**dict(TINY, **options))
        device.prepare(self.config)
        place = device.connect(self.config)
        self.networks = build_networks(self.config, place.half)
        rates = steps.learning_rates(self.config, 10, 5)
        self.sides = [
            steps.Optimizer(name, trained(self.networks, names), rates, self.config, place)
            for name, names in (("generators", GENERATORS), ("discriminators", DISCRIMINATORS))
        ]
        self.step = steps.build_step(self.networks, *self.sides, self.config, place)
        self.parameters = everything(self.networks, self.sides)

    def values(self):
        """Returns {name: a copy} of all that a step changes."""
        return {name: p.asnumpy().copy() for name, p in self.parameters.items()}

    def set(self, values):
        for name, value in values.items():
            self.parameters[name].set_data(Tensor(value))

    def gradients(self, side=0):
        """Returns {name: gradient} of a first step: Adam's first moments are half of them."""
        prefix = ("generators", "discriminators")[side] + ".moment1."
        names = [p.name for p in self.sides[side].trained]
        return {name: 2 * self.parameters[prefix + name].asnumpy() for name in names}


def after_step(**options):
    """Returns a Training after one step, and the values before it."""
    made = Training(**options)
    before = made.values()
    made.losses = made.step(*pictures(0))
    return made, before


@pytest.fixture(scope="module")
def plain():
    """(Training after one step, values before it, after it); not to be changed."""
    made, before = after_step()
    return made, before, made.values()


def of(values, names):
    return {name: value for name, value in values.items() if name.split(".")[0] in names}


def close(mine, wanted, tolerance):
    assert set(mine) == set(wanted)
    for name, value in wanted.items():
        scale = np.abs(value).max()
        np.testing.assert_allclose(mine[name], value, 0, tolerance * scale + 1e-8, err_msg=name)


def test_the_rate_is_constant_and_falls_linearly_to_zero_from_the_middle():
    rates = steps.learning_rates(Config(lr=1.0), 10, 5)
    assert rates.dtype == np.float32
    np.testing.assert_allclose(rates, [1, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2], 1e-6)
    rates = steps.learning_rates(Config(lr=2.0, decay_epoch=4), 10, 2)
    np.testing.assert_allclose(rates, [2] * 9 + [1], 1e-6)
    for options in ({"decay_flag": False}, {"decay_epoch": 5}, {"decay_epoch": 9}):
        rates = steps.learning_rates(Config(lr=3.0, **options), 10, 2)
        np.testing.assert_array_equal(rates, [3] * 10)
    rates = steps.learning_rates(Config(lr=1.0), 1000, 100)
    assert len(rates) == 1000
    np.testing.assert_allclose([rates[500], rates[-1]], [1, 1 / 500], 1e-6)


def test_a_step_changes_every_network(plain):
    made, before, after = plain
    changed = {name for name in before if np.any(before[name] != after[name])}
    weights = {p.name for side in made.sides for p in side.trained}
    # LIN begins with rho at 0, and where the gradient is positive it stays there.
    assert weights - changed <= {name for name in weights if name.endswith("_norm.rho")}
    vectors = {name for name in of(before, DISCRIMINATORS) if name.endswith((".u", ".v"))}
    assert vectors - changed == {name for name in vectors if before[name].size == 1}
    assert set(of(before, NAMES)) == weights | vectors
    for side in ("generators", "discriminators"):
        assert after[side + ".beta1_power"] == np.float32(0.5)
        assert after[side + ".global_step"] == 1


def test_the_discriminators_judge_the_translations_from_before(plain):
    made, before, after = plain
    try:
        made.set(before)
        a, b = pictures(0)
        fakes = steps.build_translate(made.networks, made.config)(a, b)[:2]
        for name in DISCRIMINATORS:
            made.networks[name].advance()
        loss = steps.build_discriminate(made.networks)
        gradients = ms.grad(lambda *x: loss(*x), None, made.sides[1].trained)(a, b, *fakes)
        expected = loss(a, b, *fakes).asnumpy()
    finally:
        made.set(after)
    np.testing.assert_allclose(made.losses["d_loss"], expected, 1e-5)
    named = {p.name: g.asnumpy() for p, g in zip(made.sides[1].trained, gradients)}
    close(made.gradients(1), named, 1e-4)


def test_the_generators_step_against_the_new_discriminators(plain):
    made, before, after = plain
    translate, judge = (
        steps.build_translate(made.networks, made.config),
        steps.build_judge(made.networks),
    )
    a, b = pictures(0)

    def loss(a, b):
        fake_b, fake_a, rest, parts = translate(a, b)
        adversarial = judge(fake_b, fake_a)
        return rest + adversarial, adversarial, parts

    try:
        made.set(before)
        old = loss(a, b)[1].asnumpy()
        made.set(of(after, DISCRIMINATORS))
        run = ms.value_and_grad(loss, None, made.sides[0].trained, has_aux=True)
        (total, adversarial, parts), gradients = run(a, b)
        expected = [x.asnumpy() for x in (total, adversarial, parts)]
    finally:
        made.set(after)
    assert abs(expected[1] - old) > 1e-3  # it would be seen
    np.testing.assert_allclose(made.losses["g_loss"], expected[0], 1e-5)
    np.testing.assert_allclose(made.losses["adv_loss"], expected[1], 1e-5)
    found = [made.losses[name] for name in steps.PARTS[1:]]
    np.testing.assert_allclose(found, expected[2], 1e-5)
    cycle, identity, attention = expected[2]
    whole = expected[1] + 10 * cycle + 10 * identity + 10 * attention
    np.testing.assert_allclose(expected[0], whole, 1e-5)
    named = {p.name: g.asnumpy() for p, g in zip(made.sides[0].trained, gradients)}
    close(made.gradients(0), named, 1e-4)


def test_the_parameters_move_as_adam_says(plain):
    made, before, after = plain
    for side in (0, 1):
        for name, gradient in made.gradients(side).items():
            g = gradient.astype(np.float64)
            rate = 1e-4 * np.sqrt(1 - 0.999) / (1 - 0.5)
            moved = before[name] - rate * 0.5 * g / (np.sqrt(0.001 * g * g) + 1e-8)
            if name.endswith(".rho"):
                moved = np.clip(moved, 0, 1)
            np.testing.assert_allclose(after[name], moved, 0, 2e-7, err_msg=name)


def test_rho_is_brought_between_0_and_1():
    made = Training()
    rhos = sorted(name for name in of(made.parameters, GENERATORS) if name.endswith(".rho"))
    assert len(rhos) == 2 * 4
    for number, name in enumerate(rhos):
        value = (1.7, -0.6, 0.5)[number % 3]
        made.set({name: np.full(made.parameters[name].shape, value, np.float32)})
    made.step(*pictures(0))
    for number, name in enumerate(rhos):
        rho = made.parameters[name].asnumpy()
        wanted, tolerance = ((1, 0), (0, 0), (0.5, 2e-4))[number % 3]
        np.testing.assert_allclose(rho, wanted, 0, tolerance)
        assert tolerance == 0 or np.any(rho != 0.5)


@pytest.fixture(scope="module")
def undisturbed():
    """(Training after one step, values before it): the generators do not mind the other side."""
    return after_step(adv_weight=0.0)


def test_weight_decay_reaches_every_parameter(undisturbed):
    made, before = undisturbed
    decayed, _ = after_step(adv_weight=0.0, weight_decay=0.1)
    for side in (0, 1):
        without, found = made.gradients(side), decayed.gradients(side)
        kinds = {name.rsplit(".", 1)[1] for name in without}
        assert kinds == ({"weight", "bias", "rho", "gamma", "beta"}, {"weight", "bias"})[side]
        close(found, {name: g + 0.1 * before[name] for name, g in without.items()}, 1e-5)
        assert any(np.abs(found[name] - g).max() > 1e-3 for name, g in without.items())


@pytest.mark.parametrize("clips", [False, True])
def test_a_loss_scale_of_1024_is_one_of_1_bit_for_bit(clips):
    made = [Training(loss_scale=scale, use_global_norm=clips) for scale in (1.0, 1024.0)]
    losses = []
    for training in made:
        losses.append([training.step(*pictures(seed)) for seed in (0, 1)])
    assert losses[0] == losses[1]
    one, other = (training.values() for training in made)
    assert [name for name in one if one[name].tobytes() != other[name].tobytes()] == []


def test_clipping_scales_all_gradients_of_a_side_to_a_norm_of_1(undisturbed):
    made, _ = undisturbed
    clipped, _ = after_step(adv_weight=0.0, use_global_norm=True, loss_scale=1024.0)
    for side in (0, 1):
        gradients = made.gradients(side)
        norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in gradients.values()))
        assert norm > 1
        found = clipped.gradients(side)
        together = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in found.values()))
        np.testing.assert_allclose(together, 1, 1e-4)
        close(found, {name: g / norm for name, g in gradients.items()}, 1e-4)


def test_the_compiled_step_is_the_eager_one():
    options = {"use_global_norm": False, "weight_decay": 1e-4}
    eager, graph = Training(mode="pynative", **options), Training(mode="graph", **options)
    for seed in (0, 1):
        losses = [training.step(*pictures(seed)) for training in (eager, graph)]
        for name, value in losses[0].items():
            np.testing.assert_allclose(losses[1][name], value, 1e-4, err_msg=name)
    one, other = eager.values(), graph.values()
    for name in of(one, NAMES):
        np.testing.assert_allclose(other[name], one[name], 0, 1e-5, err_msg=name)


def test_an_overflow_in_float16_skips_the_step_and_halves_the_scale():
    made = Training(amp_level="O2")
    scales = ["generators.loss_scale", "discriminators.loss_scale"]
    assert [made.parameters[name].asnumpy() for name in scales] == [2.0**16] * 2
    losses = made.step(*pictures(0))
    assert all(np.isfinite(value) for value in losses.values())
    for name in scales:
        made.set({name: np.float32(2.0**100)})
    before = made.values()
    made.step(*pictures(1))
    after = made.values()
    assert [after[name] for name in scales] == [2.0**99] * 2
    changed = [n for n in before if before[n].tobytes() != after[n].tobytes()]
    assert all(n.endswith((".u", ".v", ".loss_scale", ".loss_scale_steps")) for n in changed)
    for name in scales:
        made.set({name: np.float32(2.0**10)})
    losses = made.step(*pictures(2))
    new = made.values()
    assert all(np.isfinite(value).all() for value in new.values())
    assert np.any(new["genA2B.stem.weight"] != after["genA2B.stem.weight"])
    assert np.any(new["disLA.out.layer.weight"] != after["disLA.out.layer.weight"])


def test_float16_is_near_float32(plain):
    half, _ = after_step(amp_level="O2", loss_scale=64.0)
    for name, value in plain[0].losses.items():
        np.testing.assert_allclose(half.losses[name], value, 1e-2, err_msg=name)
    for side in (0, 1):
        found = half.gradients(side)
        for name, gradient in plain[0].gradients(side).items():
            if gradient.size > 100 and np.abs(gradient).max() > 1e-3:
                cosine = (gradient * found[name]).sum() / np.linalg.norm(gradient)
                # Rounding turns the sign of some |x - y|.
                assert cosine / np.linalg.norm(found[name]) > 0.85, name
