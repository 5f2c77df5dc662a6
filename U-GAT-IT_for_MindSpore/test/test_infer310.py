# SPDX-License-Identifier: Apache-2.0
"""The whole way of a weights file to pictures of the inference client, as users go it.

Needs MindSpore Lite, so Python 3.7 with mindspore-lite 2.0.0, besides cmake and a C++ compiler.
"""

import importlib.util
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import DATASET, FOLDER, TINY, draw_picture, run
from PIL import Image

from harness.images import read_image
from ugatit import device
from ugatit.config import Config
from ugatit.pictures import resize, to_float, to_uint8

for _program in ("cmake", "c++"):
    if not shutil.which(_program):
        pytest.skip("there is no %s to compile the client with" % _program, allow_module_level=True)
if importlib.util.find_spec("mindspore_lite") is None:
    pytest.skip("this Python has no mindspore_lite", allow_module_level=True)

SIZE = 32
TOLERANCE = 1e-3  # what is promised; 1e-5 is measured


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A copy of the model folder, to compile in."""
    folder = tmp_path_factory.mktemp("infer310") / "a model"
    shutil.copytree(FOLDER, str(folder), ignore=shutil.ignore_patterns("out", "__pycache__"))
    return folder


def _infer(folder, cwd, *words):
    """Runs scripts/run_infer_310.sh; python3 is this Python."""
    path = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
    environment = dict(os.environ, PATH=path, IMG_SIZE=str(SIZE))
    environment.pop("GLOG_v", None)
    command = ["bash", str(folder / "scripts" / "run_infer_310.sh")] + list(words)
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.run(
        command, cwd=str(cwd), env=environment, timeout=600, check=False, **output
    )


@pytest.mark.parametrize("light", [True, False])
def test_weights_become_a_mindir_and_the_client_gives_the_networks_pictures(
    folder, tmp_path, light
):
    config = Config(
        device="CPU", dataset=DATASET, light=light, img_size=SIZE, ch=4, n_res=1, n_dis=4, seed=7,
        phase="test", output_path=str(tmp_path / "results"),
    )  # fmt: skip
    device.prepare(config)
    device.connect(config)
    from mindspore import Tensor

    from ugatit.networks import build_generator
    from ugatit.weights import weights_path, write_weights

    network = build_generator(config, "genA2B", portable=True)
    write_weights(network, weights_path(config, "genA2B"))
    words = TINY + ["--light=%s" % light, "--direction=A2B"]
    done = run("export.py", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stdout

    (tmp_path / "my photos").mkdir()
    rng = np.random.RandomState(3)
    for name in ("a.b.png", "c.jpg"):
        picture = Image.fromarray(draw_picture(rng, True, 70, 60))
        picture.save(str(tmp_path / "my photos" / name))
    done = _infer(folder, tmp_path, "mindir_result/UGATIT_AtoB.mindir", "my photos")
    assert done.returncode == 0, done.stdout

    for name in ("a.b.png", "c.jpg"):
        pixels = read_image(str(tmp_path / "my photos" / name))
        expected = network(Tensor(to_float(resize(pixels, SIZE))[None]))[0].asnumpy()[0]
        assert expected.std() > 0.1
        stem = os.path.splitext(name)[0] + "_0"
        result = np.fromfile(str(tmp_path / "result_Files" / (stem + ".bin")), np.float32)
        np.testing.assert_allclose(result.reshape(3, SIZE, SIZE), expected, atol=TOLERANCE)
        picture = read_image(str(tmp_path / "infer_output_img" / (stem + ".jpg")))
        assert picture.shape == (SIZE, SIZE, 3)
        apart = np.abs(picture.astype(int) - to_uint8(expected))
        assert apart.mean() < 12  # what JPEG loses in noise; black would be 60 off
    assert sorted(os.listdir(str(tmp_path / "infer_output_img"))) == ["a.b_0.jpg", "c_0.jpg"]


def test_a_size_that_is_not_that_of_the_results_is_refused(folder, tmp_path):
    (tmp_path / "bins").mkdir()
    values = np.random.RandomState(1).uniform(-1, 1, (3, SIZE, SIZE)).astype(np.float32)
    values.tofile(str(tmp_path / "bins" / "a_0.bin"))
    words = ["--bifile_outputdir=bins", "--eval_outputdir=out"]
    done = run("postprocess.py", *words, "--img_size=64", cwd=tmp_path)
    assert done.returncode == 1
    assert "a_0.bin has 12288 bytes, 3x64x64 float32 are 49152" in done.stdout
    assert not (tmp_path / "out").exists()
    assert run("postprocess.py", *words, cwd=tmp_path).returncode == 0
    assert np.abs(read_image(str(tmp_path / "out" / "a_0.jpg")).astype(int)).mean() > 60
