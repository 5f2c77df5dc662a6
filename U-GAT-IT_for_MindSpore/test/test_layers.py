# SPDX-License-Identifier: Apache-2.0
"""Each layer against its definition in numpy, values and gradients."""

import importlib.util
import os

import numpy as np
import pytest

if not importlib.util.find_spec("mindspore"):
    pytest.skip("MindSpore is not installed", allow_module_level=True)
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")  # as `device.prepare`; read at import
os.environ.setdefault("GLOG_v", "3")

import mindspore as ms
from mindspore import Tensor, ops

from ugatit import layers
from ugatit.attention import Attention, SpectralNorm

FORMS = [{"portable": False}, {"portable": True}]
MODES = {"reflect": "reflect", "edge": "edge", "zero": "constant"}


def normal(seed, *shape):
    return np.random.RandomState(seed).normal(0, 1, shape).astype(np.float32)


def slopes(function, values, of):
    """Returns the derivatives of the number function(*values) by every element of values[of]."""
    values = [value.astype(np.float64) for value in values]
    flat, result = values[of].reshape(-1), np.zeros(values[of].size)
    for i, middle in enumerate(flat.copy()):
        flat[i] = middle + 1e-5
        above = function(*values)
        flat[i] = middle - 1e-5
        result[i] = (above - function(*values)) / 2e-5
        flat[i] = middle
    return result.reshape(values[of].shape)


def close(mine, wanted, tolerance):
    assert np.abs(wanted).max() > 0
    np.testing.assert_allclose(mine, wanted, 0, tolerance * np.abs(wanted).max())


def compare(layer, definition, inputs, tolerance=2e-5):
    """Asserts that layer(*inputs) is definition(*inputs, *parameters), and all derivatives too.

    Args:
      layer: a cell; its trained parameters get random values.
      definition: a function of numpy arrays, float64.
      inputs: float32 arrays.
    """
    parameters = layer.trainable_params()
    for seed, p in enumerate(parameters):
        p.set_data(Tensor(normal(50 + seed, *p.shape)))
    values = list(inputs) + [p.asnumpy() for p in parameters]
    wanted = definition(*[value.astype(np.float64) for value in values])
    weights = normal(99, *wanted.shape)

    def loss(*tensors):
        return (layer(*tensors) * Tensor(weights)).sum()

    tensors = [Tensor(value) for value in inputs]
    made = layer(*tensors).asnumpy()
    assert made.shape == wanted.shape
    close(made, wanted, tolerance)
    positions = tuple(range(len(inputs)))
    if parameters:
        of_inputs, of_parameters = ms.grad(loss, positions, ms.ParameterTuple(parameters))(*tensors)
    else:
        of_inputs, of_parameters = ms.grad(loss, positions)(*tensors), ()
    found = list(of_inputs if isinstance(of_inputs, tuple) else [of_inputs]) + list(of_parameters)
    assert len(found) == len(values)
    for number, gradient in enumerate(found):
        expected = slopes(lambda *v: (definition(*v) * weights).sum(), values, number)
        close(gradient.asnumpy(), expected, 5 * tolerance)


def bordered(x, pad, kind):
    return np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode=MODES[kind])


def convolved(x, weight, stride=1):
    """Returns the correlation of x [N, C, H, W] with weight [O, C, k, k], without a border."""
    k = weight.shape[-1]
    windows = np.lib.stride_tricks.sliding_window_view(x, (k, k), (2, 3))
    return np.einsum("nchwij,ocij->nohw", windows[:, :, ::stride, ::stride], weight, optimize=True)


def normalised(x, axes, ddof=0):
    variance = x.var(axes, ddof=ddof, keepdims=True)
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(variance + 1e-5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", list(MODES))
@pytest.mark.parametrize("pad", [1, 3])
def test_a_border_is_that_of_its_kind(pad, kind, form):
    compare(
        layers.Pad(pad, kind, **form), lambda x: bordered(x, pad, kind), [normal(0, 2, 3, 5, 4)]
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("kernel", "stride", "pad", "kind", "bias"),
    [
        (7, 1, 3, "reflect", False),
        (3, 2, 1, "zero", False),
        (4, 2, 1, "reflect", True),
        (4, 1, 1, "reflect", True),
        (1, 1, 0, "reflect", True),
    ],
)
def test_a_convolution_is_one_after_its_border(kernel, stride, pad, kind, bias, form):
    layer = layers.Convolution(2, 3, kernel, stride, pad, bias, kind, **form)

    def definition(x, weight, *shift):
        maps = convolved(bordered(x, pad, kind), weight, stride)
        return maps + shift[0].reshape(1, 3, 1, 1) if bias else maps

    compare(layer, definition, [normal(1, 2, 2, 6, 5)])
    other = normal(2, *layer.weight.shape)
    made = layer(Tensor(normal(1, 2, 2, 6, 5)), Tensor(other)).asnumpy()
    shift = [layer.bias.asnumpy()] if bias else []
    close(made, definition(normal(1, 2, 2, 6, 5), other, *shift), 1e-5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["reflect", "zero"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_a_convolution_to_few_maps_is_a_convolution(outputs, kind, form):
    layer = layers.FewMaps(4, outputs, 7, kind, **form)
    compare(layer, lambda x, w: convolved(bordered(x, 3, kind), w), [normal(3, 2, 4, 5, 6)])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["reflect", "zero"])
@pytest.mark.parametrize("shape", [(1, 2, 4, 4), (3, 2, 3, 5)])
def test_an_upsampling_convolution_is_nearest_upsampling_and_a_convolution(shape, kind, form):
    def definition(x, weight):
        return convolved(bordered(x.repeat(2, 2).repeat(2, 3), 1, kind), weight)

    compare(layers.UpConvolution(2, 3, kind, **form), definition, [normal(4, *shape)])


def test_a_dense_layer_is_a_product():
    layer = layers.Dense(5, 3)
    compare(layer, lambda x, weight: x @ weight.T, [normal(5, 2, 5)])
    other = normal(6, 3, 5)
    close(layer(Tensor(normal(5, 2, 5)), Tensor(other)).asnumpy(), normal(5, 2, 5) @ other.T, 1e-5)


def test_a_leaky_relu_keeps_a_fifth_below_zero():
    values = Tensor(normal(7, 40))
    wanted = np.where(values.asnumpy() > 0, values.asnumpy(), 0.2 * values.asnumpy())
    np.testing.assert_allclose(layers.leaky_relu(values).asnumpy(), wanted, 1e-6, 1e-7)
    slope = ms.grad(lambda x: layers.leaky_relu(x).sum())(values).asnumpy()
    np.testing.assert_allclose(slope, np.where(values.asnumpy() > 0, 1, 0.2), 1e-6)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("n", [1, 3])
def test_instance_norm_is_of_each_map(n, form):
    x = 3 * normal(8, n, 4, 3, 5) + normal(9, n, 4, 1, 1)
    compare(layers.InstanceNorm(**form), lambda x: normalised(x, (2, 3)), [x])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("own", [False, True])
def test_layer_instance_norm_mixes_both_by_rho(own, n, ddof, form):
    layer = layers.LayerInstanceNorm(4, 0.9, own, bool(ddof), **form)
    assert {p.name: p.asnumpy().flat[0] for p in layer.trainable_params()} == (
        {"rho": np.float32(0.9), "gamma": 1, "beta": 0} if own else {"rho": np.float32(0.9)}
    )

    def mixed(x, rho, gamma, beta):
        both = rho * normalised(x, (2, 3), ddof) + (1 - rho) * normalised(x, (1, 2, 3), ddof)
        return gamma * both + beta

    def with_style(x, gamma, beta, rho):
        return mixed(x, rho, gamma.reshape(n, 4, 1, 1), beta.reshape(n, 4, 1, 1))

    x = 3 * normal(10, n, 4, 3, 5) + normal(11, n, 4, 1, 1)
    style = [] if own else [normal(12, n, 4), normal(13, n, 4)]
    compare(layer, mixed if own else with_style, [x] + style, 5e-5)


def attended(x, gap, gmp, kernel, shift, raw_gap=None, raw_gmp=None):
    """Returns (maps, logits) as section 2.1.1 says: weighted maps side by side, then 1x1."""
    c = x.shape[1]
    logits = np.concatenate([x.mean((2, 3)) @ gap.T, x.max((2, 3)) @ gmp.T], 1)
    gap, gmp = (gap, gmp) if raw_gap is None else (raw_gap, raw_gmp)
    pair = np.concatenate([x * gap.reshape(1, c, 1, 1), x * gmp.reshape(1, c, 1, 1)], 1)
    return convolved(pair, kernel) + shift.reshape(1, c, 1, 1), logits


class _Joined(ms.nn.Cell):
    """Both results of an attention as one tensor, so that gradients of both are seen."""

    def __init__(self, attention):
        super().__init__()
        self.attention = attention

    def construct(self, x):
        maps, logits = self.attention(x)
        return ops.concat((maps.reshape(-1), logits.reshape(-1)))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("n", [1, 3])
def test_attention_weights_the_maps_with_both_judges(n, form):
    attention = Attention(4, layers.Dense(4, 1), layers.Dense(4, 1), **form)
    names = [p.name.split(".", 1)[1] for p in _Joined(attention).trainable_params()]
    assert names == ["gap_fc.weight", "gmp_fc.weight", "conv1x1.weight", "conv1x1.bias"]

    def definition(*values):
        return np.concatenate([part.reshape(-1) for part in attended(*values)])

    compare(_Joined(attention), definition, [normal(14, n, 4, 3, 5)])


@pytest.mark.parametrize("raw", [False, True])
def test_raw_attention_weights_the_maps_before_the_spectral_norm(raw):
    judges = [SpectralNorm(layers.Dense(4, 1)) for _ in range(2)]
    for seed, judge in enumerate(judges):
        judge.layer.weight.set_data(Tensor(3 * normal(20 + seed, 1, 4)))
        judge.u.set_data(Tensor(np.ones((1, 1), np.float32)))
        judge.advance()
    attention = Attention(4, *judges, raw=raw)
    kernel, shift, x = normal(22, 4, 8, 1, 1), normal(23, 4), normal(24, 2, 4, 3, 3)
    attention.conv1x1.weight.set_data(Tensor(kernel))
    attention.conv1x1.bias.set_data(Tensor(shift))
    weights = [judge.layer.weight.asnumpy() for judge in judges]
    units = [weight / np.linalg.norm(weight) for weight in weights]
    maps, logits = attention(Tensor(x))
    wanted = attended(x, *units, kernel, shift, *(weights if raw else ()))
    close(maps.asnumpy(), wanted[0], 1e-5)
    close(logits.asnumpy(), wanted[1], 1e-5)


def _spectral(seed=30):
    norm = SpectralNorm(layers.Convolution(3, 5, 4, 2, 1))
    norm.layer.weight.set_data(Tensor(normal(seed, 5, 3, 4, 4)))
    norm.u.set_data(Tensor(normal(seed + 1, 5, 1)))
    return norm, normal(seed, 5, 3, 4, 4).reshape(5, -1)


def test_one_power_iteration_is_that_of_numpy():
    norm, rows = _spectral()
    v = rows.T @ normal(31, 5, 1)
    v /= np.linalg.norm(v)
    u = rows @ v
    u /= np.linalg.norm(u)
    norm.advance()
    np.testing.assert_allclose(norm.v.asnumpy(), v, 1e-5, 1e-6)
    np.testing.assert_allclose(norm.u.asnumpy(), u, 1e-5, 1e-6)
    sigma = (u.T @ rows @ v).item()
    made = norm.effective().asnumpy().reshape(5, -1)
    np.testing.assert_allclose(made, rows / sigma, 1e-5, 1e-6)
    assert not norm.u.requires_grad
    assert not norm.v.requires_grad


def test_after_many_iterations_the_largest_singular_value_is_one():
    norm, rows = _spectral()
    for _ in range(200):
        norm.advance()
    values = np.linalg.svd(norm.effective().asnumpy().reshape(5, -1), compute_uv=False)
    np.testing.assert_allclose(values[0], 1, 1e-4)
    np.testing.assert_allclose(
        values, np.linalg.svd(rows, compute_uv=False) / np.linalg.norm(rows, 2), 1e-3
    )


def test_the_gradient_goes_through_sigma_but_not_through_its_vectors():
    norm, _ = _spectral()
    norm.advance()
    u, v = norm.u.asnumpy().astype(np.float64), norm.v.asnumpy().astype(np.float64)

    def definition(x, weight):
        sigma = u.T @ weight.reshape(5, -1) @ v
        return convolved(bordered(x, 1, "reflect"), weight / sigma, 2)

    compare(norm, definition, [normal(33, 2, 3, 6, 6)])


def test_without_spectral_norm_the_weight_is_used_as_it_is():
    norm = SpectralNorm(layers.Dense(4, 2), used=False)
    compare(norm, lambda x, weight: x @ weight.T, [normal(34, 3, 4)])


@pytest.mark.parametrize("kind", ["convolution", "few maps", "up", "dense", "attention"])
def test_half_precision_is_near_and_float32_comes_out(kind):
    def build(half):
        if kind == "attention":
            return _Joined(Attention(8, layers.Dense(8, 1), layers.Dense(8, 1), half=half))
        return {
            "convolution": lambda: layers.Convolution(8, 4, 3, 1, 1, True, half=half),
            "few maps": lambda: layers.FewMaps(8, 3, 7, half=half),
            "up": lambda: layers.UpConvolution(8, 4, half=half),
            "dense": lambda: layers.Dense(8, 4, half=half),
        }[kind]()

    made = []
    for half in (False, True):
        layer = build(half)
        for seed, p in enumerate(layer.trainable_params()):
            p.set_data(Tensor(normal(40 + seed, *p.shape)))
        shape = (2, 8) if kind == "dense" else (2, 8, 6, 6)
        made.append(layer(Tensor(normal(39, *shape))))
    assert made[1].dtype == ms.float32
    error = np.abs(made[0].asnumpy() - made[1].asnumpy()).max()
    assert 0 < error < 5e-3 * np.abs(made[0].asnumpy()).max()
