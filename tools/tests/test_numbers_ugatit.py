# SPDX-License-Identifier: Apache-2.0
"""U-GAT-IT with given weights has the numbers of the PyTorch implementation.

The numbers are looked for beside the repository, in ../shared/reference; without them the tests are
skipped. Names such as `out/disGA/real/logit` are those of the README there.
"""

import fnmatch
import importlib.util
import os

import numpy as np
import pytest
from conftest import TOOLS

if importlib.util.find_spec("mindspore") is None:
    pytest.skip("needs MindSpore, which is not installed here", allow_module_level=True)
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")  # trains correctly and fast; read at import
os.environ.setdefault("GLOG_v", "3")

import mindspore as ms
from mindspore import nn, ops

from tools.weights import ugatit_maps as published
from ugatit import losses, networks
from ugatit.config import Config

FOLDER = os.path.join(os.path.dirname(os.path.dirname(TOOLS)), "shared", "reference")
if not os.path.isdir(FOLDER):
    pytest.skip("no reference numbers beside the repository", allow_module_level=True)

LR = 1e-4
# PyTorch adds 1e-8 after the correction of the bias, MindSpore before it: the same in a first step.
EPS = 1e-8 * (1 - 0.999) ** 0.5
# Group of arrays -> tolerance, times the largest value of an array; the README's tables.
STEP = {
    "after_step/*": 1e-2,
    "after_step_l2/*": 5e-4,
    "grad/*": 2e-2,
    "grad_l2/*": 2e-2,
    "loss/*": 5e-5,
    "out/*/cam_logit": 5e-4,
    "out/*/heatmap": 1e-4,
    "out/*/image": 5e-4,
    "out/*/logit": 1e-4,
    "rho_after_clip/*": 5e-4,
    "sn_after_1_forwards/*": 5e-6,
    "sn_after_3_forwards/*": 2e-4,
    "update_l2/*": 2e-2,
}
STEP_MODIFIED = {
    **STEP,
    "out/*/cam_logit": 2e-4,
    "out/*/image": 1e-4,
    "out/*/logit": 5e-5,
    "rho_after_clip/*": 1e-3,
    "sn_after_3_forwards/*": 1e-5,
}
FULL = {
    "grad_l2/*": 2e-2,
    "loss/*": 2e-5,
    "out/cam_logit": 1e-4,
    "out/heatmap": 1e-5,
    "out/image": 1e-4,
}
FULL_MODIFIED = {**FULL, "out/cam_logit": 5e-5, "out/heatmap": 2e-5}
DISC7 = {
    "out/*/cam_logit": 5e-5,
    "out/eval_after_2/heatmap": 5e-6,
    "out/train_forward_1/heatmap": 5e-6,
    "out/train_forward_2/heatmap": 2e-6,
    "out/*/logit": 1e-5,
    "sn_after_1_forwards/*": 1e-5,
    "sn_after_2_forwards/*": 5e-6,
}
DISC7_MODIFIED = {"out/eval_after_2/*": 5e-5, "out/train_forward_[12]/*": 2e-5}


@pytest.fixture(autouse=True, scope="module")
def _cpu():
    ms.set_context(device_target="CPU")
    if hasattr(ms, "runtime"):
        ms.runtime.launch_blocking()


def _stored(name):
    with np.load(os.path.join(FOLDER, name + ".npz")) as archive:
        return {key: archive[key] for key in archive.files}


def _part(stored, prefix):
    return {k[len(prefix) :]: v for k, v in stored.items() if k.startswith(prefix)}


def _loaded(cell, network, arrays):
    values, unused = published.convert(network, arrays)
    assert not unused
    cell.update_parameters_name(network + ".")
    for parameter in cell.get_parameters():
        parameter.set_data(ms.Tensor(values[networks.own_name(parameter)]))
    return cell


def _named(network, parameters, arrays):
    """Returns {network/published name: array}."""
    if network in networks.GENERATORS:
        names = published.generator_names(4)
    else:
        names = published.discriminator_names(published.blocks_of(network, arrays))
    theirs = {ours: name for name, ours in names.items()}
    return {"%s/%s" % (network, theirs[networks.own_name(p)]): v for p, v in parameters}


def _vectors(network, cell, arrays):
    pairs = [(p, p.asnumpy().ravel().copy()) for p in cell.get_parameters() if not p.requires_grad]
    return _named(network, pairs, arrays)


def _add(results, prefix, arrays):
    results.update({"%s/%s" % (prefix, name): array for name, array in arrays.items()})


def _add_outputs(results, name, outputs, first="image"):
    for kind, output in zip((first, "cam_logit", "heatmap"), outputs):
        results["out/%s/%s" % (name, kind)] = output.asnumpy()


def _norms(arrays):
    return {name: np.linalg.norm(np.asarray(v, np.float64)) for name, v in arrays.items()}


def _deviations(results, stored, tolerances):
    """Returns {stored name: (deviation, tolerance)} of all stored arrays of these groups."""
    found = {}
    for name, array in stored.items():
        groups = [group for group in tolerances if fnmatch.fnmatch(name, group)]
        if groups:
            apart = np.max(np.abs(np.asarray(results[name], np.float64) - array))
            found[name] = apart / np.max(np.abs(array)), tolerances[groups[0]]
    return found


def _check(results, stored, tolerances, count):
    found = _deviations(results, stored, tolerances)
    assert len(found) == count
    outside = {name: pair for name, pair in found.items() if not pair[0] <= pair[1]}
    assert not outside


def _check_gradients(runs, stored, count):
    """Checks that nine norms in ten, each the median of the runs, are within a thousandth.

    Rounding puts a unit of a ReLU on its other side in some runs, which moves many norms by a
    thousandth or more; a mistake moves them in all runs.
    """
    names = [name for name in stored if name.startswith("grad_l2/")]
    norms = np.array([np.median([run[name] for run in runs]) for name in names])
    theirs = np.array([stored[name] for name in names])
    assert len(names) == count
    assert np.mean(np.abs(norms - theirs) <= 1e-3 * theirs) >= 0.9


def _judge(cell, picture, loss):
    """Returns (loss, outputs, gradients) of a discriminator after one power iteration."""
    cell.advance()

    def forward(x):
        outputs = cell(x)
        return (loss(outputs[:2]), *outputs)

    weights = ms.ParameterTuple(cell.trainable_params())
    (value, *outputs), gradients = ms.value_and_grad(forward, None, weights, has_aux=True)(picture)
    return value, outputs, gradients


def _discriminator_step(cells, pictures, fakes, weights, results):
    """Adds losses, outputs, vectors and gradients; returns [(parameter, gradient)]."""
    total, pairs = 0.0, []
    for name in networks.DISCRIMINATORS:
        cell, domain, sums = cells[name], name[-1], None
        for kind, picture, target in (("real", pictures, 1.0), ("fake", fakes, 0.0)):

            def loss(logits, real=bool(target)):
                return losses.discriminator_loss(*((logits, ()) if real else ((), logits)))

            value, outputs, gradients = _judge(cell, picture[domain], loss)
            if kind == "real":
                _add(results, "sn_after_1_forwards", _vectors(name, cell, weights[name]))
            _add_outputs(results, "%s/%s" % (name, kind), outputs, "logit")
            for what, logits in zip(("ad", "ad_cam"), outputs):
                key = "loss/D_%s_%s_%s" % (what, name[3:], kind)
                results[key] = losses.squared_distance(logits, target).asnumpy()
            total += float(value)
            arrays = [g.asnumpy() for g in gradients]
            sums = arrays if sums is None else [a + b for a, b in zip(sums, arrays)]
        pairs += zip(cell.trainable_params(), sums)
        _add(results, "grad", _named(name, zip(cell.trainable_params(), sums), weights[name]))
    results["loss/D_total"] = total
    return pairs


def _generator_loss(cells, a, b):
    """Returns (total, outputs of the six translations and of the four discriminators)."""
    a2b, b2a = cells["genA2B"](a), cells["genB2A"](b)
    back_a, back_b = cells["genB2A"](a2b[0]), cells["genA2B"](b2a[0])
    same_a, same_b = cells["genB2A"](a), cells["genA2B"](b)
    judged = [cells[n](b2a[0] if n[-1] == "A" else a2b[0]) for n in networks.DISCRIMINATORS]
    total = sum(losses.adversarial_loss(outputs[:2]) for outputs in judged)
    total += 10 * (losses.distance(back_a[0], a) + losses.distance(back_b[0], b))
    total += 10 * (losses.distance(same_a[0], a) + losses.distance(same_b[0], b))
    total += 1000 * losses.attention_loss(b2a[1], same_a[1])
    total += 1000 * losses.attention_loss(a2b[1], same_b[1])
    return total, a2b, b2a, back_a, back_b, same_a, same_b, judged


def _generator_step(cells, pictures, weights, results):
    """Adds losses, outputs, vectors and gradients; returns [(parameter, gradient)]."""
    for name in networks.DISCRIMINATORS:
        cells[name].advance()
        _add(results, "sn_after_3_forwards", _vectors(name, cells[name], weights[name]))
    parameters = [p for name in networks.GENERATORS for p in cells[name].trainable_params()]

    def forward(a, b):
        return _generator_loss(cells, a, b)

    graded = ms.value_and_grad(forward, None, ms.ParameterTuple(parameters), has_aux=True)
    (total, a2b, b2a, back_a, back_b, same_a, same_b, judged), gradients = graded(*pictures)
    outputs = {"A2B_realA": a2b, "B2A_realB": b2a, "B2A_of_A2B_realA": back_a}
    outputs.update({"A2B_of_B2A_realB": back_b, "B2A_realA_identity": same_a})
    outputs["A2B_realB_identity"] = same_b
    for name, values in outputs.items():
        _add_outputs(results, name, values)
    mine = {"G_total": total}
    for name, values in zip(networks.DISCRIMINATORS, judged):
        _add_outputs(results, name + "/fake_after_D_step", values, "logit")
        mine["G_ad_" + name[3:]] = losses.squared_distance(values[0], 1.0)
        mine["G_ad_cam_" + name[3:]] = losses.squared_distance(values[1], 1.0)
    for domain, picture, back, same in zip("AB", pictures, (back_a, back_b), (same_a, same_b)):
        mine["G_recon_" + domain] = losses.distance(back[0], picture)
        mine["G_identity_" + domain] = losses.distance(same[0], picture)
    mine["G_cam_A_fakeB2A_one"] = losses.cross_entropy(b2a[1], 1.0)
    mine["G_cam_A_fakeA2A_zero"] = losses.cross_entropy(same_a[1], 0.0)
    mine["G_cam_B_fakeA2B_one"] = losses.cross_entropy(a2b[1], 1.0)
    mine["G_cam_B_fakeB2B_zero"] = losses.cross_entropy(same_b[1], 0.0)
    _add(results, "loss", {name: value.asnumpy() for name, value in mine.items()})
    pairs = list(zip(parameters, [g.asnumpy() for g in gradients]))
    for name in networks.GENERATORS:
        own = [pair for pair in pairs if pair[0].name.startswith(name)]
        _add(results, "grad", _named(name, own, weights[name]))
    return pairs


def _update(pairs, weights, results):
    """Makes one step of Adam with decay of every weight; adds the tensors and their changes."""
    parameters, gradients = zip(*pairs)
    before = [p.asnumpy().copy() for p in parameters]
    group = {"params": list(parameters), "weight_decay": 1e-4}
    adam = nn.Adam([group], learning_rate=LR, beta1=0.5, beta2=0.999, eps=EPS)
    adam(tuple(ms.Tensor(g) for g in gradients))
    for name in networks.NAMES:
        own = [(p, p.asnumpy().copy(), b) for p, b in zip(parameters, before)]
        own = [entry for entry in own if entry[0].name.startswith(name)]
        after = _named(name, [(p, now) for p, now, _ in own], weights[name])
        change = _named(name, [(p, now - then) for p, now, then in own], weights[name])
        _add(results, "after_step", after)
        _add(results, "after_step_l2", _norms(after))
        _add(results, "update_l2", _norms(change))


def _official_step(stored, variant):
    """Returns {reference name: value} of one step: discriminators, generators, clipping of rho."""
    config = Config(phase="test", ch=8, img_size=64, light=True, variant=variant)
    weights = {name: _part(stored, name + "/") for name in networks.NAMES}
    cells, results = {}, {}
    for name in networks.NAMES:
        if name in networks.GENERATORS:
            cell = networks.Generator(config)
        else:
            cell = networks.Discriminator(6 if name[3] == "G" else 5, config)
        cells[name] = _loaded(cell, name, weights[name])
    a, b = ms.Tensor(stored["in/real_A"]), ms.Tensor(stored["in/real_B"])
    fakes = {"A": cells["genB2A"](b)[0], "B": cells["genA2B"](a)[0]}
    pairs = _discriminator_step(cells, {"A": a, "B": b}, fakes, weights, results)
    _update(pairs, weights, results)
    pairs = _generator_step(cells, (a, b), weights, results)
    _update(pairs, weights, results)
    _add(results, "grad_l2", _norms(_part(results, "grad/")))
    for name in networks.GENERATORS:
        own = [p for p in cells[name].trainable_params() if p.name.endswith(".rho")]
        clipped = [(p, ops.clip_by_value(p, 0, 1).asnumpy()) for p in own]
        _add(results, "rho_after_clip", _named(name, clipped, weights[name]))
    return results


def _nudged(stored, seed):
    """Returns a copy whose pictures differ by a relative 1e-7."""
    rng = np.random.RandomState(seed)
    noise = {k: 1 + 1e-7 * rng.standard_normal(v.shape) for k, v in _part(stored, "in/").items()}
    return {**stored, **{"in/" + k: (stored["in/" + k] * n).astype("f4") for k, n in noise.items()}}


@pytest.mark.parametrize(
    ("file", "variant", "tolerances", "count"),
    [
        ("ugatit_light_step", "pytorch", STEP, 687),
        ("ugatit_light_step_MODIFIED", "paper", STEP_MODIFIED, 655),
    ],
)
def test_a_step_has_the_numbers_of_the_pytorch_code(file, variant, tolerances, count):
    stored, given = _stored(file), _stored("ugatit_light_weights")
    results = _official_step(given, variant)
    _check(results, stored, tolerances, count)
    for name, array in _part(stored, "after_step/").items():
        apart = np.abs(results["after_step/" + name] - array)
        assert apart.max() <= 2.1 * LR, name
        assert np.mean(apart > 1e-6) <= 0.01, name
    others = [_official_step(_nudged(given, seed), variant) for seed in (1, 2)]
    _check_gradients([results, *others], stored, 144)


@pytest.mark.parametrize(
    ("prefix", "variant", "tolerances"),
    [("", "pytorch", FULL), ("MODIFIED/", "paper", FULL_MODIFIED)],
)
def test_the_full_generator_has_the_numbers_of_the_pytorch_code(prefix, variant, tolerances):
    stored = _stored("ugatit_full")
    arrays, target = _part(stored, "genA2B/"), ms.Tensor(stored["in/target"])
    assert published.settings("genA2B", arrays)["img_size"] == 32
    config = Config(phase="test", ch=8, img_size=32, variant=variant)
    cell = _loaded(networks.Generator(config), "genA2B", arrays)

    def forward(x):
        outputs = cell(x)
        l1 = losses.distance(outputs[0], target)
        bce = losses.cross_entropy(outputs[1], 1.0)
        return (10 * l1 + 1000 * bce, l1, bce, *outputs)

    weights = cell.trainable_params()
    graded = ms.value_and_grad(forward, None, ms.ParameterTuple(weights), has_aux=True)
    values, gradients = graded(ms.Tensor(stored["in/x"]))
    names = ("loss/total", "loss/l1", "loss/bce", "out/image", "out/cam_logit", "out/heatmap")
    results = {name: value.asnumpy() for name, value in zip(names, values)}
    pairs = zip(weights, [g.asnumpy() for g in gradients])
    _add(results, "grad_l2", _part(_norms(_named("genA2B", pairs, arrays)), "genA2B/"))
    _check(results, _part(stored, prefix), tolerances, 50)
    _check_gradients([results], _part(stored, prefix), 44)


@pytest.mark.parametrize(
    ("prefix", "variant", "tolerances", "count"),
    [("", "pytorch", DISC7, 45), ("MODIFIED/", "paper", DISC7_MODIFIED, 9)],
)
def test_seven_layers_have_the_numbers_of_the_pytorch_code(prefix, variant, tolerances, count):
    stored = _stored("ugatit_disc7")
    arrays, results = _part(stored, "dis/"), {}
    config = Config(phase="test", ch=4, img_size=96, variant=variant)
    cell = _loaded(networks.Discriminator(7, config), "disGA", arrays)
    for k, name in enumerate(("train_forward_1", "train_forward_2", "eval_after_2"), 1):
        if name != "eval_after_2":
            cell.advance()
            vectors = _part(_vectors("disGA", cell, arrays), "disGA/")
            _add(results, "sn_after_%d_forwards" % k, vectors)
        _add_outputs(results, name, cell(ms.Tensor(stored["in/x"])), "logit")
    _check(results, _part(stored, prefix), tolerances, count)
