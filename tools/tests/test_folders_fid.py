# SPDX-License-Identifier: Apache-2.0
"""The model folders measure FID and KID with tools/fid: what they ask it, and what it answers."""

import importlib
import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from harness import fid
from harness.errors import UserError
from tools.fid.__main__ import WITH_TENSORFLOW
from tools.fid.images import PROTOCOLS
from tools.folders import ROOT, find_folder

TESTS = os.path.dirname(os.path.abspath(__file__))
HAS_TENSORFLOW = bool(importlib.util.find_spec("tensorflow"))
needs_tensorflow = pytest.mark.skipif(
    not (HAS_TENSORFLOW or os.path.exists(WITH_TENSORFLOW)), reason="no Python has TensorFlow"
)
MEASURING = {"Pix2Pix": "pix2pix", "StarGAN": "stargan", "WhiteBox": "whitebox", "U-GAT": "ugatit"}
WRITE = "import sys, old_graph; from tools.fid.inception import random_weights; "
WRITE += "old_graph.write(sys.argv[1], random_weights(3))"


def copy_in(folder):
    """Returns harness/fid.py of a model folder as a module."""
    path = os.path.join(find_folder(folder), "harness", "fid.py")
    spec = importlib.util.spec_from_file_location("fid_of_a_folder", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def pictures(tmp_path):
    """Paths of nine pictures, whose names are not in their order."""
    rng, paths = np.random.RandomState(0), []
    for number in range(9):
        paths.append(str(tmp_path / ("%d x.png" % (13 - number))))
        pixels = rng.randint(0, 100 + 17 * number, (32, 40, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(paths[-1])
    return paths


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """A function that puts a program in the place of tools/fid; its file of weights is there."""
    monkeypatch.setattr(fid, "REPOSITORY", str(tmp_path / "repository"))
    (tmp_path / "weights.pb").write_bytes(b"x")
    folder = tmp_path / "repository" / "tools" / "fid"

    def write(body):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__main__.py").write_text("import os, sys\n" + body)
        return str(tmp_path / "weights.pb")

    return write


def test_what_is_missing_is_told_in_one_sentence(tool, tmp_path):
    weights = str(tmp_path / "weights.pb")
    with pytest.raises(UserError, match=r"--inception: .* whole repository only; leave it out"):
        fid.check(weights)
    tool("")
    fid.check(weights)
    fid.check(weights, 2, 5)
    with pytest.raises(UserError, match=r"--inception no\.pb: .* give classify_image_graph"):
        fid.check("no.pb", 2, 5)
    with pytest.raises(UserError, match="at least 2 pictures of each set, not 1; add some"):
        fid.check(weights, 5, 1)


def test_the_tool_sees_the_pictures_in_their_order_and_nothing_else(tool, pictures, monkeypatch):
    body = "words = sys.argv[1:]\nassert words[2] == '--inception' and os.path.isabs(words[3])\n"
    body += "assert words[4:] == ['--protocol', 'legacy_pytorch']\n"
    body += "for folder in words[:2]:\n"
    body += "    names = sorted(os.listdir(folder), key=lambda name: int(name.split('-')[0]))\n"
    body += "    print(*[os.path.realpath(os.path.join(folder, n)) for n in names], sep='|')\n"
    weights, printed = tool(body + "print('FID:  7.25')\n"), []
    real = subprocess.run

    def listen(*words, **options):
        printed.append(real(*words, **options))
        return printed[-1]

    monkeypatch.setattr(subprocess, "run", listen)
    assert fid.fid(pictures[:2], pictures[:1:-1], weights, "legacy_pytorch") == 7.25
    lines = [line.split("|") for line in printed[0].stdout.splitlines()[:2]]
    assert lines == [pictures[:2], pictures[:1:-1]]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("sys.exit('x: error: no such weights')", "error: no such weights"),
        ("sys.exit(3)", "it ended with status 3"),
        ("print(3)", "it printed no FID"),
    ],
)
def test_a_tool_that_fails_is_told(tool, pictures, body, sentence):
    weights = tool(body)
    with pytest.raises(UserError, match="tools/fid failed for --inception .*pb: .*" + sentence):
        fid.fid(pictures[:2], pictures[2:], weights, "clean")


def test_features_are_one_row_a_picture(tool, pictures):
    body = "import numpy\nrows = int(os.environ.get('ROWS', len(os.listdir(sys.argv[1]))))\n"
    body += "numpy.save(sys.argv[3], numpy.ones((rows, 4), 'f4'))\n"
    assert fid.features(pictures, tool(body), "clean").shape == (9, 4)
    with pytest.raises(UserError, match="8 features for 9 pictures"):
        fid.features(pictures, tool("os.environ['ROWS'] = '8'\n" + body), "clean")
    with pytest.raises(UserError, match="0 features for 9 pictures"):
        fid.features(pictures, tool(""), "clean")


def test_the_tools_warnings_are_passed_on(tool, pictures, capfd):
    body = "print('warning: only 9 pictures', file=sys.stderr)\nprint('3 of 9', file=sys.stderr)\n"
    fid.fid(pictures[:2], pictures[2:], tool(body + "print('FID:  1')\n"), "clean")
    assert capfd.readouterr().err == "warning: only 9 pictures\n"


@pytest.mark.parametrize("folder", MEASURING)
def test_every_folder_finds_the_tool_and_names_a_protocol_of_it(folder, monkeypatch):
    copy = copy_in(folder)
    assert copy.REPOSITORY == ROOT
    copy.check(__file__)
    monkeypatch.syspath_prepend(find_folder(folder))
    if folder == "U-GAT":
        protocol = importlib.import_module("ugatit.measures").INCEPTION_PROTOCOL
    else:
        protocol = importlib.import_module(MEASURING[folder] + ".config").FID_PROTOCOL
    assert protocol in PROTOCOLS


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """A file like classify_image_graph_def.pb, with weights of ours."""
    path = str(tmp_path_factory.mktemp("graph") / "graph.pb")
    python = sys.executable if HAS_TENSORFLOW else WITH_TENSORFLOW
    places = os.pathsep.join([TESTS, ROOT, os.path.join(ROOT, "tools", "shared")])
    environment = dict(os.environ, PYTHONPATH=places)
    subprocess.run([python, "-c", WRITE, path], env=environment, check=True)
    return path


def frechet(first, second):
    """Returns the Fréchet distance of features [N, D] and [M, D] as Gaussians."""
    means = np.square(first.mean(0) - second.mean(0)).sum()
    roots = [(f - f.mean(0)) / np.sqrt(len(f) - 1) for f in (first, second)]
    product = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    return means + sum(np.square(root).sum() for root in roots) - 2 * product


@needs_tensorflow
def test_the_tool_gives_the_folders_features_and_their_distance(graph, pictures):
    paths = pictures[:4] + pictures[1:2]
    rows = copy_in("U-GAT").features(paths, graph, "clean")
    assert (rows.dtype, rows.shape) == (np.float32, (5, 2048))
    spread = np.abs(rows[:, None] - rows).max(2)  # [5, 5]
    assert spread[1, 4] < 0.01 * spread[:4, :4][~np.eye(4, dtype=bool)].min()
    expected = frechet(*np.split(rows[:4].astype(np.float64), 2))
    found = copy_in("Pix2Pix").fid(pictures[:2], pictures[2:4], graph, "clean")
    np.testing.assert_allclose(found, expected, rtol=1e-3)


@needs_tensorflow
def test_the_tools_own_sentence_reaches_the_user(pictures, tmp_path):
    (tmp_path / "wrong.pth").write_bytes(b"x" * 1000)
    with pytest.raises(UserError, match=r"tools/fid failed .*wrong\.pth: .*SHA-256 begins with"):
        copy_in("WhiteBox").fid(pictures, pictures, str(tmp_path / "wrong.pth"), "legacy_pytorch")
