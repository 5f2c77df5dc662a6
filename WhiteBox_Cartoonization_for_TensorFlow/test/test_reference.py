# SPDX-License-Identifier: Apache-2.0
"""Networks, representations and losses against numbers of the reference implementation.

The numbers, the published generator and its cartoons are looked for beside the repository, in
../shared; they are not part of it, and without them these tests are skipped.
"""

import hashlib
import io
import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import FOLDER, VGG_LAYERS
from PIL import Image

from harness.images import read_image
from tf_runtime.device import choose
from whitebox import losses, serving
from whitebox.config import CartoonizeConfig
from whitebox.data import cut_off, to_float
from whitebox.generators import read_generator
from whitebox.networks import Discriminator, generator
from whitebox.representations import guided_filter, surface, texture
from whitebox.vgg import Vgg

SHARED = os.path.join(os.path.dirname(os.path.dirname(FOLDER)), "shared")
NUMBERS = os.path.join(SHARED, "reference", "whitebox.npz")
WEIGHTS = os.path.join(SHARED, "data", "whitebox", "whitebox_generator_33999_from_tflite.npz")
GOLDEN = os.path.join(SHARED, "data", "whitebox", "golden")
JUDGES = {"disc_gray": 1, "disc_blur": 3}

pytestmark = pytest.mark.skipif(
    not (os.path.isfile(NUMBERS) and os.path.isfile(WEIGHTS)),
    reason="no reference numbers or no published generator beside the repository",
)


@pytest.fixture(scope="module")
def numbers():
    with np.load(NUMBERS) as file:
        return dict(file)


@pytest.fixture(scope="module")
def published():
    return read_generator(WEIGHTS)


def _assert_close(mine, theirs, tolerance):
    """Asserts that the arrays differ by `tolerance` of the largest value at most."""
    assert np.shape(mine) == np.shape(theirs)
    assert np.abs(mine - theirs).max() <= tolerance * np.abs(theirs).max()


def _picture(numbers, name):
    """Returns float32 [1, H, W, 3], BGR in [-1, 1]."""
    if name == "crop":
        return to_float(numbers["in/crop_bgr_uint8"][None, ..., ::-1])
    return numbers["in/" + name]


def _loaded(arrays):
    """Returns a session of the default graph with the variables' values in `arrays`."""
    session = tf.Session()
    with session.as_default():
        serving.assign(session, arrays)
    return session


@pytest.mark.parametrize("minimal", [False, True])
@pytest.mark.parametrize("name", ["seed0", "seed1", "crop"])
def test_the_generator_and_its_filters(numbers, published, name, minimal):
    images = tf.constant(_picture(numbers, name))
    raw = generator(images, minimal)
    fetches = {
        "raw": raw,
        "gf_r1_eps5e-3": guided_filter(images, raw, 1, 5e-3),
        "gf_train_r1_eps1e-2": guided_filter(images, raw, 1, 1e-2),
        "gf_self_r5_eps0.2": surface(images),
    }
    if name == "seed0":
        flipped = tf.constant(_picture(numbers, name)[:, ::-1].copy())
        fetches["gf_guide_x_input_flipped_r5_eps0.2"] = guided_filter(images, flipped, 5, 0.2)
    with _loaded(published) as session:
        values = session.run(fetches)
    tolerances = {"gf_train_r1_eps1e-2": 1e-5, "gf_self_r5_eps0.2": 5e-5}
    for key, value in values.items():
        _assert_close(value, numbers["out/%s/%s" % (name, key)], tolerances.get(key, 2e-5))
    cartoon = cut_off(values["gf_r1_eps5e-3"][0])[..., ::-1]
    wrong = np.abs(cartoon.astype(int) - numbers["out/%s/cartoon_uint8" % name])
    assert wrong.max() <= 1
    assert np.mean(wrong > 0) <= 1e-3


def test_the_texture(numbers):
    weights = tf.constant(numbers["in/shift_weights_bgr"])
    for i in ("1", "2"):
        grey = texture(tf.constant(numbers["in/shift_image" + i]), weights)
        with tf.Session() as session:
            _assert_close(session.run(grey), numbers["out/color_shift/gray" + i], 2e-6)


def _judged(numbers, name):
    """Returns the logits of both batches before and after an update, and u after one and two."""
    if name == "disc_gray":
        fake, real = (numbers["out/color_shift/gray" + i] for i in ("1", "2"))
    else:
        fake, real = (numbers["in/shift_image" + i] for i in ("1", "2"))
    judge = Discriminator(name, JUDGES[name], 8)
    vectors = {v.op.name: v for v in tf.global_variables() if v.op.name.endswith("/u")}
    logits, update = [judge(tf.constant(x)) for x in (real, fake)], judge.update()
    arrays = {v.op.name: numbers["var/" + v.op.name] for v in tf.global_variables()}
    with _loaded(arrays) as session:
        before = session.run(logits)
        session.run(update)
        first = session.run(vectors)
        after = session.run(logits)
        session.run(update)
        return before, after, (first, session.run(vectors))


@pytest.mark.parametrize("name", sorted(JUDGES))
def test_the_discriminators_and_their_power_iterations(numbers, name):
    (real, fake), (_, fake_after), vectors = _judged(numbers, name)
    _assert_close(real, numbers["out/%s/real_logit_from_u0" % name], 1e-5)
    _assert_close(fake, numbers["out/%s/fake_logit_from_u0" % name], 2e-5)
    _assert_close(fake_after, numbers["out/%s/fake_logit_after_real" % name], 5e-6)
    for i, values in enumerate(vectors):
        assert len(values) == 7
        for key, value in values.items():
            _assert_close(value, numbers["u_after_%d/%s" % (i + 1, key)], 5e-6)


@pytest.mark.parametrize("name", sorted(JUDGES))
@pytest.mark.parametrize("order", ["both_from_u0", "real_then_fake"])
def test_the_adversarial_losses(numbers, name, order):
    (real, fake), (_, fake_after), _ = _judged(numbers, name)
    if order == "real_then_fake":  # not ours: one iteration serves both batches of a step
        fake = fake_after
    real, fake = tf.constant(real), tf.constant(fake)
    pair = losses.discriminator_loss(real, fake), losses.generator_loss(fake)
    with tf.Session() as session:
        values = session.run(pair)
    for value, key in zip(values, ("d_loss", "g_loss")):
        _assert_close(value, numbers["loss/%s/%s/%s" % (name, order, key)], 1e-5)


@pytest.fixture(scope="module")
def layers(numbers):
    """The random VGG-19 of the reference, drawn again from its seed."""
    rng, channels, drawn = np.random.RandomState(7702), 3, {}
    digest, count, total = hashlib.sha256(), 0, 0.0
    for name in VGG_LAYERS:
        filters = {"1": 64, "2": 128, "3": 256, "4": 512}[name[4]]
        kernel = (rng.random_sample((3, 3, channels, filters)) - 0.5) * np.sqrt(24 / (9 * channels))
        bias = (rng.random_sample(filters) - 0.5) * 0.2
        drawn[name] = kernel.astype(np.float32), bias.astype(np.float32)
        channels = filters
        for array in drawn[name]:
            digest.update(array.tobytes())
            count, total = count + array.size, total + array.sum(dtype=np.float64)
    assert digest.digest() == numbers["vgg/sha256_of_all_float32"].tobytes()
    assert count == numbers["vgg/n"]
    np.testing.assert_allclose(total, numbers["vgg/sum_float64"], rtol=1e-9)
    return drawn


@pytest.mark.parametrize("minimal", [False, True])
def test_features_and_the_losses_made_of_them(numbers, layers, minimal):
    names = ("photo", "superpixel", "output")
    pictures = [tf.constant(numbers["in/vgg_" + name]) for name in names]
    network, output = Vgg(layers, minimal), pictures[2]
    photo, superpixel, features = (network(picture) for picture in pictures)
    content = losses.feature_distance(photo, features, 8 * 8 * 512)  # as theirs, of this size
    structure = losses.feature_distance(superpixel, features, 8 * 8 * 512)
    tv = losses.total_variation(output, 64 * 64 * 3)
    total = 200 * (content + structure) + 1e4 * tv
    with tf.Session() as session:
        network.load(session)
        fetches = features, tf.gradients(total, output)[0], content, structure, tv
        value, gradient, *values = session.run(fetches)
    _assert_close(value[..., ::8], numbers["out/vgg_conv4_4_channels_0_8_16"], 2e-5)
    _assert_close(value.mean(dtype=np.float64), numbers["out/vgg_conv4_4_mean"], 1e-5)
    _assert_close(value.std(dtype=np.float64), numbers["out/vgg_conv4_4_std"], 1e-6)
    for mine, name in zip(values, ("content", "structure", "tv")):
        _assert_close(mine, numbers["loss/" + name], 1e-5)
        _assert_close(mine, numbers["f64/loss/" + name], 1e-5)
    name = "output_of_200recon_plus_1e4tv"
    _assert_close(gradient, numbers["grad/" + name], 2e-2)
    _assert_close(np.linalg.norm(gradient), numbers["grad_l2/" + name], 2e-2)


def _psnr(mine, theirs):
    """Returns the peak signal-to-noise ratio of uint8 pictures, in decibels."""
    return 10 * np.log10(255**2 / np.mean((mine.astype(float) - theirs) ** 2))


def _as_jpeg(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return np.array(Image.open(file))


@pytest.mark.skipif(not os.path.isdir(GOLDEN), reason="no published cartoons beside the repository")
def test_cartoons_are_those_that_were_published_with_the_weights():
    device = choose(CartoonizeConfig(device="cpu", precision_mode="force_fp32"))
    with serving.Cartoonizer(WEIGHTS, device) as cartoonize:
        for name in ("1.jpg", "4.jpg"):
            photo, theirs = (
                read_image(os.path.join(GOLDEN, part, name)) for part in ("inputs", "outputs")
            )
            mine = cartoonize(photo[None])[0]
            assert _psnr(photo, theirs) < 27
            assert _psnr(mine, theirs) >= 35
            assert _psnr(_as_jpeg(mine), theirs) >= 50
