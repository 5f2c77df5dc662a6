# SPDX-License-Identifier: Apache-2.0
"""Heat maps, strips and sheets of samples."""

import dataclasses
import importlib.util
import os

import numpy as np
import pytest
from conftest import DATASET

from harness.images import read_image
from ugatit import data, device
from ugatit.config import Config
from ugatit.pictures import to_float, to_uint8

if not importlib.util.find_spec("mindspore"):  # not imported before `device.prepare`
    pytest.skip("MindSpore is not installed", allow_module_level=True)
SIZE = 32


@pytest.fixture(scope="module")
def config():
    config = Config(
        dataset=DATASET, light=True, img_size=SIZE, ch=4, n_res=1, n_dis=4, device="CPU"
    )
    device.prepare(config)
    device.connect(config)
    return config


@pytest.fixture(scope="module")
def samples(config):
    from ugatit import samples

    return samples


@pytest.fixture(scope="module")
def networks(config):
    from ugatit.networks import GENERATORS, build_generator

    return {name: build_generator(config, name) for name in GENERATORS}


def picture(seed):
    return to_float(np.random.RandomState(seed).randint(0, 256, (SIZE, SIZE, 3)).astype(np.uint8))


def same(first, second):
    """Whether pictures are the same up to a grey level, which threads may round otherwise."""
    return np.abs(first.astype(int) - second.astype(int)).max() <= 1


def test_jet_goes_from_blue_over_green_to_red(samples):
    colours = samples.jet(np.array([[0, 0.125, 0.25, 0.5, 0.75, 1]]))[0]
    expected = [[0, 0, 128], [0, 0, 255], [0, 128, 255], [128, 255, 128], [255, 128, 0]]
    assert colours.tolist() == [*expected, [128, 0, 0]]


def test_heat_map_is_scaled_to_its_own_range(samples):
    heat = np.random.RandomState(0).uniform(-7, -3, (1, 8, 8))
    coloured = samples.heat_map(heat, 8)
    low, high = (np.unravel_index(f(heat[0]), (8, 8)) for f in (np.argmin, np.argmax))
    assert coloured[low].tolist() == [0, 0, 128]
    assert coloured[high].tolist() == [128, 0, 0]
    assert np.array_equal(coloured, samples.heat_map(100 * heat + 12345, 8))


def test_heat_map_is_resized_smoothly(samples):
    ramp = np.tile(np.arange(8, dtype=np.float64), (8, 1))[np.newaxis]
    coloured = samples.heat_map(ramp, 64)
    assert coloured.shape == (64, 64, 3)
    assert len({tuple(colour) for colour in coloured[30]}) > 40


@pytest.mark.parametrize("value", [0.0, 0.1, -3e5])
def test_a_flat_heat_map_is_all_low(samples, value):
    with np.errstate(all="raise"):
        coloured = samples.heat_map(np.full((1, 5, 5), value, np.float32), 20)
    assert coloured.reshape(-1, 3).tolist() == [[0, 0, 128]] * 400


@pytest.mark.parametrize("to_b", [True, False])
def test_strip_shows_identity_translation_and_cycle(samples, networks, to_b):
    from mindspore import Tensor

    x = picture(1)
    strip = samples.strip(networks, x, to_b)
    there, back = networks["genA2B"], networks["genB2A"]
    if not to_b:
        there, back = back, there
    identity, translation = back(Tensor(x[np.newaxis])), there(Tensor(x[np.newaxis]))
    cycle = back(translation[0])
    assert len(strip) == 7
    assert np.array_equal(strip[0], to_uint8(x))
    for place, (made, _, heat) in zip((1, 3, 5), (identity, translation, cycle)):
        assert strip[place].shape == (SIZE, SIZE, 3)
        assert same(strip[place], samples.heat_map(heat.asnumpy()[0], SIZE))
        assert same(strip[place + 1], to_uint8(made.asnumpy()[0]))
    assert not same(strip[2], strip[4])
    assert not same(strip[4], strip[6])


def test_sheet_has_a_row_for_each_and_a_column_per_picture(samples, networks):
    pictures = [picture(seed) for seed in range(3)]
    sheet = samples.sheet(networks, pictures, True)
    assert sheet.shape == (7 * SIZE + 12, 3 * SIZE + 4, 3)
    step = SIZE + 2
    for column, x in enumerate(pictures):
        for row, tile in enumerate(samples.strip(networks, x, True)):
            place = sheet[row * step : row * step + SIZE, column * step : column * step + SIZE]
            assert same(place, tile)
    assert (sheet[SIZE : SIZE + 2] == 255).all()
    assert (sheet[:, SIZE : SIZE + 2] == 255).all()


def test_grey_pictures_have_coloured_heat_maps(samples):
    from ugatit.networks import GENERATORS, build_generator

    grey = Config(light=True, img_size=SIZE, ch=4, n_res=1, n_dis=4, img_ch=1)
    networks = {name: build_generator(grey, name) for name in GENERATORS}
    sheet = samples.sheet(networks, [picture(4)[:1]], True)
    assert np.ptp(sheet[:SIZE], axis=2).max() == 0
    assert np.ptp(sheet[SIZE + 2 : 2 * SIZE + 2].astype(int), axis=2).max() > 100


def test_sheets_take_test_pictures_else_those_of_the_training(
    samples, networks, config, shapes, tmp_path
):
    config = dataclasses.replace(config, data_path=shapes, output_path=str(tmp_path / "out"))
    domains = data.find_domains(config)._replace(test_b=[])
    samples.write_sheets(networks, config, domains, 1200)
    folder = os.path.join(config.folder, "img")
    assert sorted(os.listdir(folder)) == ["A2B_0001200.png", "B2A_0001200.png"]
    a, b = (read_image(os.path.join(folder, name)) for name in sorted(os.listdir(folder)))
    assert a.shape[1] == 2 * SIZE + 2  # testA has 2 pictures
    assert b.shape[1] == 5 * SIZE + 8  # trainB has 5
    assert np.array_equal(a[:SIZE, :SIZE], to_uint8(data.read_test(domains.test_a[0], config)))
    assert np.array_equal(b[:SIZE, -SIZE:], to_uint8(data.read_test(domains.train_b[4], config)))
