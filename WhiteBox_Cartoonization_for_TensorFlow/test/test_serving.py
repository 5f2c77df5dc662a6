# SPDX-License-Identifier: Apache-2.0
"""Cartoons of any size, whole and in tiles, from a checkpoint and a .npz."""

import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from harness.errors import UserError
from tf_runtime.device import choose
from whitebox import serving
from whitebox.config import CartoonizeConfig
from whitebox.data import cut_off, to_float
from whitebox.generators import GENERATOR_SHAPES, WeightsError, write_generator
from whitebox.serving import HALO, Cartoonizer, find_weights, pad, tiles


def _weights():
    """Returns weights whose cartoons vary as pictures do, and are within [-1, 1]."""
    rng, arrays = np.random.RandomState(0), {}
    for name, shape in GENERATOR_SHAPES.items():
        if name.endswith("biases"):
            arrays[name] = rng.normal(0, 0.05, shape).astype(np.float32)
            continue
        gain = 0.7 if "block" in name else 0.2 if "Conv_9" in name else 1.4
        scale = gain / np.sqrt(np.prod(shape[:3]))
        arrays[name] = rng.normal(0, scale, shape).astype(np.float32)
    return arrays


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the same weights as generator.npz and as a checkpoint model-7."""
    path, arrays = tmp_path_factory.mktemp("weights"), _weights()
    for name in ("generator.npz", "model-7"):
        write_generator(str(path / name), arrays)
    return str(path)


@pytest.fixture(scope="module")
def make(folder):
    """Makes a `Cartoonizer` of generator.npz on the CPU, in float32."""
    device = choose(CartoonizeConfig(device="cpu", precision_mode="force_fp32"))

    def cartoonizer(name="generator.npz", **options):
        return Cartoonizer(os.path.join(folder, name), device, **options)

    return cartoonizer


@pytest.fixture(scope="module")
def usual(make):
    """A `Cartoonizer` with the default options, ready, and its `Cartoonize`."""
    cartoonizer = make()
    with cartoonizer as cartoonize:
        yield cartoonizer, cartoonize


def _pictures(*shape):
    """Returns uint8 pictures [..., 3]: smooth colours under noise."""
    rng = np.random.RandomState(0)
    rows, columns = np.mgrid[: shape[-2], : shape[-1]]
    waves = [np.sin(rows / rng.uniform(4, 20) + columns / rng.uniform(4, 20)) for _ in range(3)]
    pixels = 128 + 70 * np.stack(waves, -1) + rng.normal(0, 15, shape + (3,))
    return np.clip(pixels, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("sides", [(1, 1), (3, 5), (4, 2), (6, 5), (67, 101), (64, 40)])
def test_a_cartoon_has_the_size_of_its_picture(usual, sides):
    pictures = _pictures(2, *sides)
    before = pictures.copy()
    cartoons = usual[1](pictures)
    assert cartoons.shape == pictures.shape
    assert cartoons.dtype == np.uint8
    assert np.any(cartoons != pictures)
    np.testing.assert_array_equal(pictures, before)


def test_a_cartoon_is_what_the_network_makes_of_the_padded_picture(usual):
    pictures, (cartoonizer, cartoonize) = _pictures(1, 30, 45), usual
    cartoons = cartoonize(pictures)
    margins = [(0, 0), (0, 2), (0, 3), (0, 0)]
    values = _values(cartoonizer, to_float(np.pad(pictures, margins, "reflect")))
    np.testing.assert_array_equal(cartoons, cut_off(values)[:, :30, :45])
    assert np.abs(values).max() < 1  # so that nothing is clipped
    assert values.std() > 0.15


def test_fractions_of_a_level_are_cut_off():
    levels = np.arange(256, dtype=np.uint8)[:, None].repeat(3, 1)
    np.testing.assert_array_equal(cut_off(to_float(levels)), levels)
    bgr = np.array([-3, 41.2 / 127.5 - 1, 254.9 / 127.5 - 1, 1.2], np.float32)
    assert cut_off(bgr[:3]).tolist() == [254, 41, 0]
    assert cut_off(bgr[1:]).tolist() == [255, 254, 41]


def _values(cartoonizer, images):
    return cartoonizer._session.run(cartoonizer._cartoons, {cartoonizer._images: images})


@pytest.mark.parametrize(
    ("sides", "mode"),
    [((5, 6), "reflect"), ((9, 7), "reflect"), ((4, 6), "edge"), ((1, 3), "edge")],
)
def test_padding_continues_the_picture_to_multiples_of_4(sides, mode):
    pictures = _pictures(2, *sides)
    padded = pad(pictures)
    height, width = (-(-side // 4) * 4 for side in sides)
    assert padded.shape == (2, height, width, 3)
    margins = [(0, 0), (0, height - sides[0]), (0, width - sides[1]), (0, 0)]
    np.testing.assert_array_equal(padded, np.pad(pictures, margins, mode))


@pytest.mark.parametrize(("height", "width"), [(201, 180), (64, 65), (300, 40), (129, 500)])
def test_tiles_cover_every_pixel_once_and_see_what_is_around(height, width):
    count, sides = np.zeros([height, width], int), (height, width)
    for inside, around in tiles(height, width, 64):
        count[inside] += 1
        for i, a, side in zip(inside, around, sides):
            assert i.stop - i.start <= 64
            assert a.start == max(0, i.start - HALO)
            assert a.stop == min(side, i.stop + HALO)
            assert a.start % 4 == 0  # where the whole picture's layers begin, too
            assert a.stop % 4 == 0 or a.stop == side
    assert (count == 1).all()


@pytest.mark.parametrize(("sides", "side"), [((64, 64), 64), ((30, 130), 64), ((999, 999), 0)])
def test_one_tile_is_the_whole(sides, side):
    whole = slice(0, sides[0]), slice(0, sides[1])
    assert list(tiles(*sides + (side,))) == [(whole, whole)]


def test_tiles_equal_the_whole(make, usual):
    pictures, (cartoonizer, cartoonize) = _pictures(1, 301, 278), usual
    whole = cartoonize(pictures)
    with make(tile=128) as cartoonize_tiles:
        parts = cartoonize_tiles(pictures)
    inside, around = list(tiles(301, 278, 128))[4]  # in the middle
    assert [(i.start, i.stop) for i in inside] == [(128, 256)] * 2
    values = _values(cartoonizer, to_float(pad(pictures)))[(slice(None), *inside)]
    part = _values(cartoonizer, to_float(pad(pictures[(slice(None), *around)])))
    part = part[:, HALO : HALO + 128, HALO : HALO + 128]
    assert np.abs(values - part).max() < 2e-5
    assert np.abs(parts.astype(int) - whole).max() <= 1
    assert np.mean(parts != whole) < 1e-3
    assert whole.std() > 15


def _seen(size):
    """Returns the rows and the columns of a picture of `size` on which its middle pixel depends."""
    images, cartoons = serving.build_inference(None, 5e-3)
    middle = size // 2
    spots = [cartoons[0, middle + i, middle + i, 0] for i in range(4)]
    gradients = [tf.gradients(spot, images)[0] for spot in spots]
    with tf.Session() as session:
        serving.assign(session, _weights())
        values = session.run(gradients, {images: to_float(_pictures(1, size, size))})
    for i, value in enumerate(values):
        seen = np.abs(value[0]).max(axis=2) > 0
        for axis in (0, 1):
            places = np.flatnonzero(seen.any(axis=axis)) - middle - i
            yield places[0], places[-1]


def test_the_halo_is_all_that_a_pixel_depends_on_and_hardly_more():
    reaches = list(_seen(160))
    assert len(reaches) == 8
    assert min(first for first, _ in reaches) >= -HALO
    assert max(last for _, last in reaches) <= HALO
    assert max(max(-first, last) for first, last in reaches) > HALO - 4
    assert HALO % serving.MULTIPLE == 0


def test_strength_mixes_the_cartoon_with_its_picture(make, usual):
    pictures = _pictures(2, 33, 26)
    cartoons = {1.0: usual[1](pictures)}
    for strength in (0.0, 0.25):
        with make(strength=strength) as cartoonize:
            cartoons[strength] = cartoonize(pictures)
    np.testing.assert_array_equal(cartoons[0.0], pictures)
    mixture = 0.25 * cartoons[1.0].astype(float) + 0.75 * pictures
    assert np.abs(cartoons[0.25] - mixture).max() < 1
    assert np.abs(cartoons[1.0].astype(int) - pictures).mean() > 10


def test_smooth_is_the_epsilon_of_the_filter_and_0_leaves_it_out(make, usual):
    pictures, made = _pictures(1, 40, 40), [usual[1](_pictures(1, 40, 40))]
    for smooth in (0.0, 0.5):
        with make(smooth=smooth) as cartoonize:
            made.append(cartoonize(pictures))
    images, cartoons = serving.build_inference(None, 0)
    assert cartoons.op.inputs[0].op.type == "BiasAdd"  # of the last layer
    with tf.Session() as session:
        serving.assign(session, _weights())
        raw = cut_off(session.run(cartoons, {images: to_float(pictures)}))
    assert np.abs(made[1].astype(int) - raw).max() <= 1
    rough = [np.abs(np.diff(x.astype(int), axis=1)).mean() for x in made]
    assert rough[0] != rough[1]
    assert rough[0] > 1.1 * rough[2]


@pytest.mark.parametrize("name", ["model-7", "model-7.index"])
def test_a_checkpoint_gives_the_cartoons_of_the_npz(make, usual, name):
    pictures = _pictures(1, 21, 34)
    with make(name) as cartoonize:
        np.testing.assert_array_equal(cartoonize(pictures), usual[1](pictures))


def test_a_batch_gives_what_its_pictures_give_alone(make, usual):
    pictures = _pictures(5, 37, 50)
    with make(batch_size=2) as cartoonize:
        results = [cartoonize(pictures), usual[1](pictures)]
    for i in range(5):
        alone = usual[1](pictures[i : i + 1])[0]
        for together in results:
            assert np.abs(together[i].astype(int) - alone).max() <= 1
            assert np.mean(together[i] != alone) < 1e-3
    assert len({cartoon.tobytes() for cartoon in results[0]}) == 5


def test_the_network_sees_blue_first_and_the_pictures_have_red_first(usual):
    pictures, (cartoonizer, cartoonize) = _pictures(1, 24, 24), usual
    bgr = pictures[..., ::-1].astype(np.float32) / 127.5 - 1
    values = _values(cartoonizer, bgr)[..., ::-1]
    fractions = (values + 1) * 127.5 - cartoonize(pictures)
    assert -0.01 < fractions.min() < fractions.max() < 1


def test_weights_are_the_named_ones_or_the_newest_of_the_training(folder, tmp_path):
    saved = tmp_path / "out" / "mine" / "saved_models"
    for number in (9, 10):
        write_generator(str(saved / ("model-%d" % number)), _weights())
    words = {"output_path": str(tmp_path / "out"), "save_dir": "mine"}
    assert find_weights(CartoonizeConfig(**words)) == str(saved / "model-10")
    assert find_weights(CartoonizeConfig(weights="a.npz", **words)) == "a.npz"
    with pytest.raises(UserError, match=r"no generator in .*other.*--weights"):
        find_weights(CartoonizeConfig(output_path=str(tmp_path / "other")))


def test_weights_that_are_not_there_are_told(make):
    with pytest.raises(WeightsError, match=r"no file .*absent\.npz"), make("absent.npz"):
        pass
