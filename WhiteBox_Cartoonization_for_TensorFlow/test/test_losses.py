# SPDX-License-Identifier: Apache-2.0
"""Each loss against numpy, and the training step that is made of them."""

import dataclasses

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import write_vgg

from tf_runtime import ranks
from tf_runtime.device import choose
from whitebox import losses, training
from whitebox.config import Config
from whitebox.networks import Discriminator
from whitebox.representations import surface, texture, texture_weights
from whitebox.vgg import Vgg
from whitebox.weights import read_vgg

RATE = 1e-3
TINY = Config(
    patch_size=32,
    batch_size=2,
    d_width=4,
    adv_train_lr=RATE,
    lambda_surface=70.0,
    lambda_texture=100.0,
    lambda_structure=3e4,
    lambda_content=1e4,
    lambda_tv=1e5,
    device="cpu",
    precision_mode="force_fp32",
)


def _value(tensor, feed=None):
    with tf.Session() as session:
        return session.run(tensor, feed)


def _normal(seed, *shape):
    return np.random.RandomState(seed).normal(0, 2, shape).astype(np.float32)


def test_the_adversarial_losses_are_least_squares():
    real, fake = _normal(0, 3, 4, 5, 1), _normal(1, 3, 4, 5, 1)
    values = _value(
        [
            losses.discriminator_loss(tf.constant(real), tf.constant(fake)),
            losses.generator_loss(tf.constant(fake)),
        ]
    )
    expected = [0.5 * (np.mean((real - 1) ** 2) + np.mean(fake**2)), np.mean((fake - 1) ** 2)]
    np.testing.assert_allclose(values, expected, rtol=1e-6)


@pytest.mark.parametrize(("size", "divisor"), [({}, 32 * 32 * 512), ({"size": 480}, 480)])
def test_the_feature_distance_is_the_mean_difference_divided_once_more(size, divisor):
    first, second = _normal(2, 2, 4, 6, 20), _normal(3, 2, 4, 6, 20)
    value = _value(losses.feature_distance(tf.constant(first), tf.constant(second), **size))
    np.testing.assert_allclose(value, np.abs(first - second).mean() / divisor, rtol=1e-6)


@pytest.mark.parametrize(("size", "divisor"), [({}, 256 * 256 * 3), ({"size": 105}, 105)])
def test_the_total_variation_is_the_mean_square_of_both_slopes_divided_once_more(size, divisor):
    images = _normal(4, 2, 5, 7, 3)
    slopes = (np.mean(np.diff(images, axis=axis) ** 2) for axis in (1, 2))
    value = _value(losses.total_variation(tf.constant(images), **size))
    np.testing.assert_allclose(value, sum(slopes) / divisor, rtol=1e-6)


def _ramp(side):
    """Returns a picture [1, S, S, 3] with the same slopes at any size."""
    rows, columns = np.mgrid[:side, :side]
    down, right = np.array([0.01, -0.02, 0.003]), np.array([-0.004, 0.006, 0.02])
    return tf.constant(rows[None, ..., None] * down + columns[None, ..., None] * right, tf.float32)


def test_equal_differences_weigh_the_same_in_patches_of_any_size():
    small, large = (tf.constant(_normal(5, 1, 8, 8, 6)), tf.constant(_normal(6, 1, 8, 8, 6)))
    doubled = [tf.tile(x, [1, 2, 2, 1]) for x in (small, large)]
    pairs = [
        (losses.feature_distance(small, large), losses.feature_distance(*doubled)),
        (losses.total_variation(_ramp(64)), losses.total_variation(_ramp(128))),
    ]
    for first, second in _value(pairs):
        assert first > 0
        np.testing.assert_allclose(first, second, rtol=1e-4)


def test_the_sums_are_exact_though_the_features_are_coarse():
    first, second = (tf.cast(_normal(seed, 2, 16, 16, 64), tf.bfloat16) for seed in (7, 8))
    value, a, b = _value([losses.feature_distance(first, second, 1), first, second])
    expected = np.abs(a.astype(np.float64) - b.astype(np.float64)).mean()
    assert value.dtype == np.float32
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_the_effective_weights_say_what_a_mean_difference_weighs():
    at_256 = "surface 0.1 and texture 1 of mean squares, structure 0.000381 and content 0.000381 of"
    for preset in ("recommended", "published"):
        config = Config(preset=preset)
        assert at_256 in losses.effective_weights(config)
        assert "total variation 0.0509" in losses.effective_weights(config)
    small = losses.effective_weights(Config(preset="published", patch_size=128))
    assert "content 0.00153" in small
    assert "total variation 0.203" in small


def _vgg(folder):
    write_vgg(folder / "vgg.npz", (4, 4, 8, 8, 8, 8, 8, 8, 16, 16, 16, 16), seed=3)
    return Vgg(read_vgg(str(folder / "vgg.npz")))


def _pictures(seed):
    return np.random.RandomState(seed).uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)


class _Step:
    """The graph of a step in a session of its own, and its variables by name."""

    def __init__(self, config, folder):
        with tf.Graph().as_default() as graph:
            device, vgg = choose(config), _vgg(folder)
            self.graph = training.build_step(config, vgg, device, ranks.connect("cpu"))
            self.variables = {v.op.name: v for v in tf.global_variables()}
            self.trained = [v.op.name for v in tf.trainable_variables()]
            starts = tf.global_variables_initializer()
            self.session = tf.Session(graph=graph)
            self.session.run(starts)
            vgg.load(self.session)
            self._first = self.values()

    def start(self):
        """Gives the variables their first values again."""
        pairs = [(v.initializer, self._first[name]) for name, v in self.variables.items()]
        self.session.run([op for op, _ in pairs], {op.inputs[1]: value for op, value in pairs})

    def feed(self, seed):
        names = ("photos", "cartoons", "flattened")
        feed = {getattr(self.graph, n): _pictures(10 * seed + i) for i, n in enumerate(names)}
        feed[self.graph.weights] = texture_weights(seed, 1)
        return feed

    def run(self, seed):
        """Makes a step with the batch of `seed`; returns the losses."""
        return self.session.run((self.graph.losses, self.graph.train), self.feed(seed))[0]

    def values(self):
        return self.session.run(self.variables)


class _Apart:
    """The networks of a step in a graph without any training, their gradients by plain formulas."""

    def __init__(self, config, folder):
        with tf.Graph().as_default():
            inputs = [tf.placeholder(tf.float32, [2, 32, 32, 3]) for _ in range(3)]
            weights = tf.placeholder(tf.float32, [3])
            (photos, cartoons, flattened), vgg = inputs, _vgg(folder)
            self._inputs = inputs + [weights]
            outputs = training.cartoonize(photos)
            grey, blurred = Discriminator("disc_gray", 1, 4), Discriminator("disc_blur", 3, 4)
            pairs = [(grey, lambda x: texture(x, weights)), (blurred, surface)]
            logits = [[judge(of(x)) for x in (cartoons, outputs)] for judge, of in pairs]
            features = [vgg(x) for x in (photos, flattened, outputs)]
            g_loss, d_loss = _plain_losses(config, outputs, logits, features)
            gradients = {}
            for loss, scope in ((g_loss, "generator/"), (d_loss, "disc_")):
                variables = tf.trainable_variables(scope)
                pairs = zip(variables, tf.gradients(loss, variables))
                gradients.update({v.op.name: gradient for v, gradient in pairs})
            self._fetches = outputs, logits, features, gradients
            self._starts = {v: tf.placeholder(tf.float32, v.shape) for v in tf.global_variables()}
            self._assign = [tf.assign(v, value) for v, value in self._starts.items()]
            self.session = tf.Session()
            vgg.load(self.session)

    def run(self, values, feed):
        """Returns (outputs, logits, features, {name: gradient}).

        Args:
          values: {name: value} of the variables.
          feed: the batch, of a step.
        """
        self.session.run(self._assign, {s: values[v.op.name] for v, s in self._starts.items()})
        return self.session.run(self._fetches, dict(zip(self._inputs, feed.values())))

    def gradients(self, values, feed):
        return self.run(values, feed)[3]


def _plain_losses(config, outputs, logits, features):
    """Returns what generator and discriminators minimise."""
    square, mean = tf.square, tf.reduce_mean
    d_loss = sum(0.5 * mean(square(real - 1)) + 0.5 * mean(square(fake)) for real, fake in logits)
    texture_loss, surface_loss = (mean(square(fake - 1)) for _, fake in logits)
    content, structure = (mean(tf.abs(x - features[2])) / (32 * 32 * 512) for x in features[:2])
    down, right = outputs[:, 1:] - outputs[:, :-1], outputs[:, :, 1:] - outputs[:, :, :-1]
    tv = (mean(square(down)) + mean(square(right))) / (256 * 256 * 3)
    g_loss = config.lambda_surface * surface_loss + config.lambda_texture * texture_loss
    g_loss += config.lambda_content * content + config.lambda_structure * structure
    return g_loss + config.lambda_tv * tv, d_loss


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    """(_Step, _Apart) with the same networks."""
    folder = tmp_path_factory.mktemp("vgg")
    step, apart = _Step(TINY, folder), _Apart(TINY, folder)
    with step.session, apart.session:
        yield step, apart


@pytest.fixture
def step(graphs):
    graphs[0].start()
    return graphs[0]


@pytest.fixture
def apart(graphs):
    return graphs[1]


def _expected(outputs, logits, features, sizes):
    """Returns the losses of TINY by numpy; `sizes` are the divisors of features and pixels."""
    content, structure = (np.abs(x - features[2]).mean() / sizes[0] for x in features[:2])
    tv = sum(np.mean(np.diff(outputs, axis=axis) ** 2) for axis in (1, 2)) / sizes[1]
    losses = {"tv_loss": tv, "photo_loss": content, "superpixel_loss": structure}
    losses["recon_loss"] = content + structure
    for name, (real, fake) in zip(("gray", "blur"), logits):
        losses["d_loss_" + name] = (np.mean((real - 1) ** 2) + np.mean(fake**2)) / 2
        losses["g_loss_" + name] = np.mean((fake - 1) ** 2)
    losses["d_loss_total"] = losses["d_loss_gray"] + losses["d_loss_blur"]
    adversarial = 70 * losses["g_loss_blur"] + 100 * losses["g_loss_gray"]
    losses["g_loss_total"] = adversarial + 1e4 * content + 3e4 * structure + 1e5 * tv
    return losses


@pytest.mark.parametrize("preset", ["recommended", "published"])
def test_the_losses_of_a_step_are_made_of_their_pieces(step, apart, preset, tmp_path, monkeypatch):
    sizes = 32 * 32 * 512, 256 * 256 * 3
    if preset == "published":
        sizes = 4 * 4 * 16, 32 * 32 * 3
        monkeypatch.setattr(training.devices, "minimize", lambda *_: tf.no_op())
        step = _Step(dataclasses.replace(TINY, preset=preset), tmp_path)
    expected = _expected(*apart.run(step.values(), step.feed(1))[:3], sizes)
    values = step.run(1)
    assert set(values) == set(expected)
    for name, value in expected.items():
        assert value > 0
        np.testing.assert_allclose(values[name], value, rtol=1e-5, err_msg=name)
    assert len({"%.5e" % value for value in values.values()}) == len(values)
    if preset == "published":
        step.session.close()


def _distances(values, others, names):
    """Returns the largest difference of the two, relative to the others, for each of the names."""
    return [np.linalg.norm(values[n] - others[n]) / np.linalg.norm(others[n]) for n in names]


def _adam(values, gradients, moments, step):
    """Returns the values after a step of Adam, beta 0.5 and 0.99; sets the `moments`."""
    after = {}
    for name, gradient in gradients.items():
        first, second = moments.get(name, (0, 0))
        first, second = 0.5 * first + 0.5 * gradient, 0.99 * second + 0.01 * gradient**2
        moments[name] = first, second
        rate = RATE * np.sqrt(1 - 0.99**step) / (1 - 0.5**step)
        after[name] = values[name] - rate * first / (np.sqrt(second) + 1e-8)
    return after


def test_both_steps_are_made_with_the_networks_as_they_were(step, apart):
    values, moments = step.values(), {}
    for number in (1, 2):
        feed = step.feed(number)
        gradients = apart.gradients(values, feed)
        expected = _adam(values, gradients, moments, number)
        step.run(number)
        old, values = values, step.values()
        judges = [name for name in gradients if name.startswith("disc_")]
        own = [name for name in gradients if name.startswith("generator/")]
        assert (len(judges), len(own)) == (28, 36)
        slots = {
            name: values["%s_train/%s/Adam" % (part, name)]
            for part, names in (("generator", own), ("discriminator", judges))
            for name in names
        }
        sums = {name: moments[name][0] for name in gradients}
        assert max(_distances(slots, sums, gradients)) < 5e-3
        assert np.median(_distances(slots, sums, gradients)) < 1e-4
        for name, value in expected.items():
            wrong = np.abs(values[name] - value)
            assert wrong.max() <= 2.1 * RATE, name  # where a gradient is nothing but rounding
            assert np.mean(wrong > 1e-3 * RATE) < 0.05, name
        # Had one of them been changed before, the gradients would be others.
        late = apart.gradients(dict(old, **{n: values[n] for n in judges}), feed)
        assert np.median(_distances(late, gradients, own)) > 0.02
        late = apart.gradients(dict(old, **{n: values[n] for n in own}), feed)
        assert np.median(_distances(late, gradients, judges)) > 0.01


def test_a_step_changes_all_networks_and_the_vectors_once(step):
    before = step.values()
    step.run(1)
    after = step.values()
    changed = {name for name in after if np.any(after[name] != before[name])}
    networks = ("generator/", "disc_gray/", "disc_blur/")
    parts = {name for name in after if name.startswith(networks)}
    assert len(parts) == 36 + 2 * 21
    assert parts <= changed
    assert not any(name.startswith("previous/") for name in changed)
    for name in sorted(parts):
        if name.endswith("/u"):
            matrix = before[name[:-1] + "kernel"].astype(np.float64)
            matrix = matrix.reshape(-1, matrix.shape[3])
            u = before[name] @ matrix.T @ matrix
            np.testing.assert_allclose(after[name], u / np.linalg.norm(u), atol=1e-5)


def test_the_preview_is_of_the_generator_that_was_kept(step, apart):
    own = [name for name in step.variables if name.startswith("generator/")]
    assert sorted("previous/" + name for name in own) == sorted(
        name for name in step.variables if name.startswith("previous/")
    )
    feed = step.feed(5)
    step.session.run(step.graph.remember)
    kept = step.values()
    for _ in range(2):
        first = step.session.run(step.graph.preview, feed)
        np.testing.assert_allclose(first, apart.run(kept, feed)[0], atol=1e-5)
        step.run(1)
        values = step.values()
        for name in own:
            np.testing.assert_array_equal(values["previous/" + name], kept[name])
            assert np.any(values[name] != kept[name])
        np.testing.assert_array_equal(step.session.run(step.graph.preview, feed), first)
        step.session.run(step.graph.remember)
        kept = step.values()
        for name in own:
            np.testing.assert_array_equal(kept["previous/" + name], values[name])


def test_only_the_three_networks_are_trained(step):
    names = {name.split("/")[0] for name in step.trained}
    assert names == {"generator", "disc_gray", "disc_blur"}
    assert len(step.trained) == 36 + 28
