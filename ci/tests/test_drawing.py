# SPDX-License-Identifier: Apache-2.0
import hashlib
import os
import subprocess

import drawing
import numpy as np
import pytest

CHECK = (
    "from harness import cases; module = cases.load_module(); "
    "case, _ = cases.read_case('full', 1, %r, module); module.check_data(case)"
)


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".npz"  # holds the time of day
    }


@pytest.mark.parametrize("model", drawing.DRAWERS)
def test_a_data_set_is_a_function_of_its_seed(model, tmp_path):
    first, again, other = (
        digests(drawing.draw(model, tmp_path / name, seed))
        for name, seed in (("first", 3), ("again", 3), ("other", 4))
    )
    assert first == again
    assert sum(first[name] != other[name] for name in first) > len(first) // 2


@pytest.mark.parametrize("model", drawing.DRAWERS)
def test_a_data_set_is_what_the_folder_takes(model, tmp_path):
    name = "ms" if model.endswith("MindSpore") else "tf2"
    python = drawing.ROOT / ".venv" / name / "bin" / "python"
    if not python.exists():
        pytest.skip(f"there is no environment {python}; python3 ci/environments.py {name} makes it")
    data = drawing.draw(model, tmp_path)
    words = [f"--data_path={data}"]
    folder = drawing.ROOT / model
    environment = dict(os.environ, PYTHONPATH=str(folder))
    done = subprocess.run(
        [python, "-c", CHECK % words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-500:]


def test_two_drawn_networks_of_one_seed_are_equal_and_keep_the_mean_square():
    first, again = (drawing.draw_vgg(np.random.RandomState(5)) for _ in range(2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    kernel = first["conv3_2_W"].reshape(-1, first["conv3_2_W"].shape[3]).astype(float)
    np.testing.assert_allclose(kernel.T @ kernel, 2 * np.eye(kernel.shape[1]), atol=1e-5)


def test_a_channel_that_the_network_does_not_see_has_no_weights():
    kernel = drawing.draw_vgg(np.random.RandomState(5), blind=[2])["conv1_1_W"]
    assert not kernel[:, :, 2].any()
    assert kernel[:, :, :2].all()


def test_a_model_that_nothing_is_drawn_for_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nothing can be drawn for Pix3Pix; choose one of NEURAL"):
        drawing.draw("Pix3Pix", tmp_path / "data")
    assert not (tmp_path / "data").exists()
