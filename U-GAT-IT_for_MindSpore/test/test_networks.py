# SPDX-License-Identifier: Apache-2.0
"""Shapes, names, parameter counts, initial weights and variants of the networks."""

import importlib.util
import os

import numpy as np
import pytest

if not importlib.util.find_spec("mindspore"):
    pytest.skip("MindSpore is not installed", allow_module_level=True)
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")  # as `device.prepare`; read at import
os.environ.setdefault("GLOG_v", "3")

from mindspore import Tensor

from ugatit import memory, networks
from ugatit.config import Config

SMALL = {"light": True, "img_size": 32, "ch": 4, "n_res": 1, "n_dis": 4}


def config(**options):
    return Config(**dict(SMALL, **options))


def pictures(*shape):
    return np.random.RandomState(0).uniform(-1, 1, shape).astype(np.float32)


def trained_count(network):
    return sum(int(np.prod(p.shape)) for p in network.trainable_params())


def generator_count(ch, n_res, img_ch, side):
    """Returns the weights of a generator; `side` is that of the maps that make the style."""
    width = 4 * ch
    ends = 2 * img_ch * ch * 49
    down_and_up = 2 * (ch * 2 * ch * 9 + 2 * ch * width * 9)
    blocks = n_res * (4 * width * width * 9 + 2 * width)
    attention = 2 * width + 2 * width * width + width
    style = (side * side + 3) * width * width
    return ends + down_and_up + blocks + attention + style + 3 * (2 * ch + ch)


def discriminator_count(ch, n_layers, img_ch):
    """Returns the weights of a discriminator."""
    widths = [img_ch] + [ch * 2**i for i in range(n_layers - 1)]
    last = widths[-1]
    body = sum(16 * i * o + o for i, o in zip(widths, widths[1:]))
    return body + 2 * last + 2 * last * last + last + 16 * last


def published_counts():
    """Returns (full, light, global discriminator, local) of the published networks."""
    generators = generator_count(64, 4, 3, 64), generator_count(64, 4, 3, 1)
    return generators + (discriminator_count(64, 7, 3), discriminator_count(64, 5, 3))


def test_parameter_counts_are_those_of_the_published_networks():
    assert published_counts() == (278959808, 10589888, 53130176, 3290560)
    assert trained_count(networks.Discriminator(5, Config())) == 3290560
    assert trained_count(networks.Generator(Config(light=True))) == 10589888


@pytest.mark.parametrize(
    "options", [{}, {"n_res": 3}, {"ch": 6}, {"img_ch": 1}, {"light": False}, {"img_size": 64}]
)
def test_the_count_of_weights_follows_from_the_options(options):
    c = config(**options)
    side = 1 if c.light else c.img_size // 4
    generator, total = networks.Generator(c), 0
    assert trained_count(generator) == generator_count(c.ch, c.n_res, c.img_ch, side)
    for n_layers in (c.n_dis - 1, c.n_dis + 1):
        count = trained_count(networks.Discriminator(n_layers, c))
        assert count == discriminator_count(c.ch, n_layers, c.img_ch)
        total += 2 * count
    total += 2 * trained_count(generator)
    assert abs(memory.count_weights(c) / total - 1) < 0.02


def test_the_memory_said_before_a_training_counts_the_published_networks():
    full, light, of_global, of_local = published_counts()
    both = 2 * (of_global + of_local)
    assert abs(memory.count_weights(Config()) / (2 * full + both) - 1) < 1e-3
    assert abs(memory.count_weights(Config(light=True)) / (2 * light + both) - 1) < 1e-3
    assert memory.estimate(Config(light=True), False) > 20 * (2 * light + both)


@pytest.mark.parametrize(
    ("n", "options"),
    [
        (1, {}),
        (3, {"n_res": 2, "img_ch": 1}),
        (2, {"light": False, "img_size": 24, "n_dis": 3, "ch": 2}),
        (2, {"img_size": 48, "n_res": 3, "n_dis": 5, "variant": "mindspore"}),
        (1, {"img_size": 20, "n_dis": 3, "variant": "pytorch"}),
    ],
)
def test_shapes_and_ranges_follow_from_the_options(n, options):
    c = config(**options)
    size, x = c.img_size, Tensor(pictures(n, c.img_ch, c.img_size, c.img_size))
    made = networks.build_networks(c)
    assert list(made) == list(networks.NAMES)
    for name in networks.GENERATORS:
        fakes, logits, heat = made[name](x)
        assert fakes.shape == x.shape
        assert (logits.shape, heat.shape) == ((n, 2), (n, 1, size // 4, size // 4))
        assert 0 < np.abs(fakes.asnumpy()).max() <= 1
        assert heat.asnumpy().min() >= 0  # sums after relu
    for name in networks.DISCRIMINATORS:
        n_layers = c.n_dis + (1 if name[3] == "G" else -1)
        side = size >> (n_layers - 2)
        patches, logits, heat = made[name](x)
        assert patches.shape == (n, 1, side - 2, side - 2)
        assert (logits.shape, heat.shape) == ((n, 2), (n, 1, side - 1, side - 1))
        assert np.std(patches.asnumpy()) > 0


@pytest.mark.parametrize("variant", ["paper", "pytorch", "mindspore"])
@pytest.mark.parametrize("light", [True, False])
def test_a_batch_is_judged_and_translated_picture_by_picture(light, variant):
    x = pictures(3, 3, 32, 32)
    made = networks.build_networks(config(light=light, variant=variant))
    for name in ("genA2B", "disGA", "disLB"):
        together = made[name](Tensor(x))
        for i in range(3):
            for all_of_them, one in zip(together, made[name](Tensor(x[i : i + 1]))):
                alone, among = one.asnumpy()[0], all_of_them.asnumpy()[i]
                np.testing.assert_allclose(among, alone, 1e-4, 1e-4 * np.abs(alone).max())
        assert np.abs(together[1].asnumpy()[0] - together[1].asnumpy()[1]).max() > 0


@pytest.mark.parametrize("variant", ["paper", "pytorch", "mindspore"])
@pytest.mark.parametrize("light", [True, False])
def test_the_portable_form_computes_the_same(light, variant):
    c = config(light=light, variant=variant)
    one, other = (networks.build_generator(c, "genB2A", portable) for portable in (False, True))
    names = [p.name for p in one.get_parameters()]
    assert names == [p.name for p in other.get_parameters()]
    x = Tensor(pictures(2, 3, 32, 32))
    for fast, portable in zip(one(x), other(x)):
        scale = np.abs(fast.asnumpy()).max()
        np.testing.assert_allclose(portable.asnumpy(), fast.asnumpy(), 0, 1e-4 * scale)


def _values(network):
    # A copy, as MindSpore changes a parameter where it is.
    return {networks.own_name(p): p.asnumpy().copy() for p in network.get_parameters()}


def test_initial_weights_are_a_function_of_seed_and_name():
    first, again = (networks.build_networks(config(seed=3)) for _ in range(2))
    other = networks.build_networks(config(seed=4))
    for name in networks.NAMES:
        mine, same, new = (_values(made[name]) for made in (first, again, other))
        for key, value in mine.items():
            assert value.tobytes() == same[key].tobytes(), key
            if key.endswith(("weight", "bias", ".u", ".v")) and value.size > 1:
                assert np.all(value != new[key]), key
    twins = [_values(first[name]) for name in ("genA2B", "genB2A")]
    for key, value in twins[0].items():
        if key.endswith("weight"):
            assert np.any(value != twins[1][key]), key
    like = [value for value in twins[0].values() if value.shape == twins[0]["fc2.weight"].shape]
    assert len(like) > 3
    assert len({value.tobytes() for value in like}) == len(like)


def test_initial_weights_are_uniform_within_the_root_of_their_inputs():
    made = networks.build_networks(Config(light=True, ch=16, img_size=96))
    for name in ("genA2B", "disGB"):
        values = _values(made[name])
        for key, value in values.items():
            stem, last = key.rsplit(".", 1)
            if last == "weight" or (last == "bias" and stem + ".weight" in values):
                weight = values[stem + ".weight"]
                bound = 1 / np.sqrt(np.prod(weight.shape[1:]))
                assert np.abs(value).max() <= bound, key
                if value.size > 1000:
                    assert np.abs(value).max() > 0.99 * bound
                    np.testing.assert_allclose(value.std(), bound / np.sqrt(3), 0.05)
            elif last in ("u", "v"):
                np.testing.assert_allclose(np.linalg.norm(value), 1, 1e-5)
            else:
                block = key.startswith("decoder")
                wanted = {"rho": 0.9 if block else 0, "gamma": 1, "beta": 0}[last]
                assert np.all(value == np.float32(wanted)), key


def test_both_networks_have_the_parameters_they_are_documented_with():
    made = networks.build_networks(config())
    generator, judge = _values(made["genA2B"]), _values(made["disLA"])
    for key in ("attention.gap_fc.weight", "attention.conv1x1.bias", "decoder.0.norm1.rho"):
        assert key in generator
    assert not [key for key in generator if key.endswith((".u", ".v"))]
    normed = [key[:-2] for key in judge if key.endswith(".u")]
    assert len(normed) == len(made["disLA"].normed) == 2 + 2 + 1  # body, judges, output
    assert "out.layer.bias" not in judge
    assert all(p.name.startswith("disLA.") for p in made["disLA"].get_parameters())


def test_only_the_mindspore_variant_has_no_spectral_norm():
    x = Tensor(pictures(1, 3, 32, 32))
    for variant in ("paper", "pytorch", "mindspore"):
        judge = networks.build_networks(config(variant=variant))["disGA"]
        before = _values(judge)
        answers = [judge(x)[0].asnumpy()]
        judge.advance()
        after = _values(judge)
        answers.append(judge(x)[0].asnumpy())
        vectors = [key for key in before if key.endswith((".u", ".v")) and before[key].size > 1]
        changed = [key for key in before if np.any(before[key] != after[key])]
        if variant == "mindspore":
            assert changed == []
            assert np.array_equal(*answers)
        else:
            assert set(vectors) <= set(changed)
            assert all(key.endswith((".u", ".v")) for key in changed)
            assert np.abs(answers[0] - answers[1]).max() > 1e-3


def test_the_variants_differ_where_they_say_they_do():
    x = Tensor(pictures(1, 3, 32, 32))
    made = {
        v: networks.build_networks(config(variant=v)) for v in ("paper", "pytorch", "mindspore")
    }

    def differ(name, one, other, part):
        values = [made[variant][name](x)[part].asnumpy() for variant in (one, other)]
        return np.abs(values[0] - values[1]).max() / np.abs(values[0]).max()

    assert differ("genA2B", "paper", "mindspore", 1) > 1e-3  # the border
    assert differ("genA2B", "paper", "pytorch", 1) == 0  # the encoder is the same
    assert 1e-4 < differ("genA2B", "paper", "pytorch", 0) < 0.2  # the variance of AdaLIN
    for name in networks.DISCRIMINATORS:
        assert differ(name, "paper", "pytorch", 1) == 0  # the judges' logits
        assert differ(name, "paper", "pytorch", 2) > 1e-3  # their weights before the norm
