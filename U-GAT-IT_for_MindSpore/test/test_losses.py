# SPDX-License-Identifier: Apache-2.0
"""Each loss against a few lines of numpy."""

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

from ugatit import losses


def normal(seed, *shape):
    return np.random.RandomState(seed).normal(0, 2, shape).astype(np.float32)


def _outputs(seed):
    """Returns what a discriminator says: logits of patches and of its attention."""
    return normal(seed, 2, 1, 5, 4), normal(seed + 1, 2, 2)


def _tensors(arrays):
    return [Tensor(array) for array in arrays]


def _entropy(logits, target):
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return -(target * np.log(p) + (1 - target) * np.log(1 - p)).mean()


def test_a_discriminator_wants_ones_for_real_and_zeros_for_fake_pictures():
    real, fake = _outputs(0), _outputs(2)
    wanted = sum(((x - 1) ** 2).mean() for x in real) + sum((x**2).mean() for x in fake)
    made = losses.discriminator_loss(_tensors(real), _tensors(fake))
    np.testing.assert_allclose(made.asnumpy(), wanted, 1e-5)


def test_a_generator_wants_ones_for_its_pictures():
    fake = _outputs(4)
    made = losses.adversarial_loss(_tensors(fake)).asnumpy()
    np.testing.assert_allclose(made, sum(((x - 1) ** 2).mean() for x in fake), 1e-5)


def test_the_perfect_answers_cost_nothing():
    ones = [Tensor(np.ones((2, 1, 3, 3), np.float32)), Tensor(np.ones((2, 2), np.float32))]
    zeros = [x * 0 for x in ones]
    assert losses.discriminator_loss(ones, zeros).asnumpy() == 0
    assert losses.adversarial_loss(ones).asnumpy() == 0
    assert losses.discriminator_loss(zeros, ones).asnumpy() == 4


@pytest.mark.parametrize("target", [0.0, 1.0, 0.3])
def test_a_squared_distance_is_a_mean(target):
    x = normal(6, 3, 1, 4, 5)
    made = losses.squared_distance(Tensor(x), target).asnumpy()
    np.testing.assert_allclose(made, ((x - target) ** 2).mean(), 1e-5)


def test_a_distance_is_the_mean_of_the_absolute_differences():
    x, y = normal(7, 2, 3, 6, 4), normal(8, 2, 3, 6, 4)
    made = losses.distance(Tensor(x), Tensor(y)).asnumpy()
    np.testing.assert_allclose(made, np.abs(x - y).mean(), 1e-5)
    slope = ms.grad(losses.distance, 0)(Tensor(x), Tensor(y)).asnumpy()
    np.testing.assert_allclose(slope, np.sign(x - y) / x.size, 1e-5)


def test_attention_tells_the_translated_from_the_kept():
    translated, kept = normal(9, 3, 2), normal(10, 3, 2)
    made = losses.attention_loss(Tensor(translated), Tensor(kept)).asnumpy()
    np.testing.assert_allclose(made, _entropy(translated, 1) + _entropy(kept, 0), 1e-5)
    swapped = losses.attention_loss(Tensor(kept), Tensor(translated)).asnumpy()
    assert abs(swapped - made) > 0.01


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_cross_entropy_has_the_gradient_of_its_definition(target):
    x = normal(11, 4, 2)
    value, slope = ms.value_and_grad(losses.cross_entropy, 0)(Tensor(x), target)
    np.testing.assert_allclose(value.asnumpy(), _entropy(x, target), 1e-5)
    p = 1 / (1 + np.exp(-x))
    np.testing.assert_allclose(slope.asnumpy(), (p - target) / x.size, 1e-4, 1e-6)


@pytest.mark.parametrize(
    ("logit", "target", "wanted", "wanted_slope"),
    [(1000, 0.0, 1000, 1), (1000, 1.0, 0, 0), (-1000, 1.0, 1000, -1), (-1000, 0.0, 0, 0)],
)
def test_cross_entropy_is_finite_for_any_logit(logit, target, wanted, wanted_slope):
    x = Tensor(np.full((2, 2), logit, np.float32))
    value, slope = ms.value_and_grad(losses.cross_entropy, 0)(x, target)
    assert value.asnumpy() == wanted
    np.testing.assert_allclose(4 * slope.asnumpy(), wanted_slope)


@pytest.mark.parametrize("name", ["squared_distance", "cross_entropy"])
def test_no_loss_depends_on_the_size_of_batch_or_picture(name):
    x, loss = normal(12, 1, 1, 3, 4), getattr(losses, name)
    more = np.tile(x, (3, 1, 2, 2))
    once, often = loss(Tensor(x), 1.0).asnumpy(), loss(Tensor(more), 1.0).asnumpy()
    np.testing.assert_allclose(once, often, 1e-5)
