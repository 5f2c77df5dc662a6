# SPDX-License-Identifier: Apache-2.0
"""Runs that go on: only with what they were made from, and also when stopped in their last step."""

import os
import signal

import numpy as np
import pytest
from conftest import draw_picture, write_mat

from harness.errors import UserError
from harness.images import read_image
from stylize import memory, networks
from stylize.config import Config
from stylize.data import Pictures
from stylize.scales import stylise
from stylize.weights import read_network
from tf_runtime.device import choose

OPTIONS = {
    "device": "cpu",
    "precision_mode": "force_fp32",
    "threads": 1,
    "content": ("x.jpg",),
    "styles": ("s.jpg",),
    "save_iterations": 2,
}


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return read_network(write_mat(tmp_path_factory.mktemp("network") / "vgg.mat"))


def _pictures(seed=0, initial=None):
    rng = np.random.RandomState(seed)
    content, style = (draw_picture(rng, 32, 44) for _ in range(2))
    return Pictures(content, [style], [], initial)


def _run(folder, network, pictures, **options):
    config = Config(**dict(OPTIONS, **options))
    output = str(folder / "a.png")
    result = stylise(config, network, choose(config), pictures, output, str(folder / "a.png.run"))
    return result, read_image(output)


def test_a_run_goes_on_only_with_the_same_pictures_and_network(tmp_path, network):
    _run(tmp_path, network, _pictures(), iterations=(2,))
    other = network._replace(description="another")
    start = _pictures(initial=draw_picture(np.random.RandomState(5), 32, 44))
    for words in ((network, _pictures(1)), (other, _pictures()), (network, start)):
        with pytest.raises(UserError, match="was made from other pictures or another network"):
            _run(tmp_path, *words, iterations=(4,), continue_train=True)
    _run(tmp_path, network, _pictures(), iterations=(4,), continue_train=True)


def test_a_run_that_goes_on_is_in_strips_if_it_was(tmp_path, network, monkeypatch):
    """Whether strips are needed depends on the memory that is free, the last bits on strips."""
    seen = []

    def choose_strips(config, *words, **more):
        seen.append(config.strips)
        return True

    monkeypatch.setattr(memory, "choose_strips", choose_strips)
    monkeypatch.setattr(networks, "STRIP_PIXELS", 500)
    _run(tmp_path, network, _pictures(), iterations=(2,))
    _run(tmp_path, network, _pictures(), iterations=(4,), continue_train=True)
    assert seen == ["auto", "on"]


@pytest.mark.parametrize("scales", [(), (30, 44)])
def test_a_stop_in_the_last_step_is_heard(tmp_path, network, scales, monkeypatch):
    """The picture is done, and None says that no other should follow."""
    from stylize import training

    lines = training.progress.Reporter.lines

    def stop(reporter, step, values):
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return lines(reporter, step, values)

    monkeypatch.setattr(training.progress.Reporter, "lines", stop)
    words = {"iterations": (2,), "print_iterations": 1, "scales": scales}
    result, written = _run(tmp_path, network, _pictures(), **words)
    assert result is None
    is_done = (tmp_path / "a.png.run" / "metrics.json").exists()
    assert is_done == (not scales)  # of two scales only the first was done
    monkeypatch.setattr(training.progress.Reporter, "lines", lines)
    result, written = _run(tmp_path, network, _pictures(), continue_train=True, **words)
    alone, _ = _run(tmp_path / "alone", network, _pictures(), **words)
    np.testing.assert_array_equal(result, alone)
    np.testing.assert_array_equal(written, alone)
