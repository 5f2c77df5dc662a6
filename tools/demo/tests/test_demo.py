# SPDX-License-Identifier: Apache-2.0
"""Uploads, weights that are found, the command, and what is shown."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.errors import UserError
from tools.demo import finding, panels, shown, uploads
from tools.demo.__main__ import parse

ROOT = Path(__file__).resolve().parents[3]


def save(path, size=(40, 30), mode="RGB", **words):
    channels = {"RGB": 3, "RGBA": 4, "L": 1}[mode]
    noise = np.random.RandomState(1).randint(0, 256, (size[1], size[0], channels))
    pixels = noise.astype(np.uint8)
    image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
    image.save(str(path), **words)
    return str(path)


def refused(path):
    with pytest.raises(UserError) as caught:
        uploads.read_upload(str(path))
    assert "\n" not in str(caught.value)
    assert str(Path(path).parent) not in str(caught.value), "the page must not tell private paths"
    return str(caught.value)


# Uploads


def test_an_ordinary_picture_is_read_as_it_is(tmp_path):
    path = save(tmp_path / "a.png")
    assert np.array_equal(uploads.read_upload(path), np.asarray(Image.open(path)))


def test_a_large_picture_is_made_smaller_in_its_proportions(tmp_path):
    path = save(tmp_path / "a.jpg", size=(2560, 1000))
    assert uploads.read_upload(path).shape == (500, 1280, 3)


def test_what_is_transparent_becomes_white(tmp_path):
    pixels = np.zeros((20, 20, 4), np.uint8)
    pixels[:10, :, 0], pixels[:10, :, 3] = 200, 255
    Image.fromarray(pixels).save(str(tmp_path / "a.png"))
    read = uploads.read_upload(str(tmp_path / "a.png"))
    assert read[2, 2].tolist() == [200, 0, 0]
    assert read[15, 2].tolist() == [255, 255, 255]


def test_sixteen_bits_become_eight(tmp_path):
    grey = np.linspace(0, 65535, 400).reshape(20, 20).astype(np.uint16)
    Image.fromarray(grey).save(str(tmp_path / "a.png"))
    read = uploads.read_upload(str(tmp_path / "a.png"))
    assert np.abs(read[:, :, 1].astype(int) - grey // 257).max() <= 1
    assert read.max() == 255


@pytest.mark.parametrize("content", [b"", b"hello, this is text", b"\x89PNG\r\n\x1a\n" + b"x" * 90])
def test_what_is_no_picture_is_refused(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    assert "a.png is no picture" in refused(tmp_path / "a.png")


def test_a_cut_off_picture_is_refused(tmp_path):
    path = Path(save(tmp_path / "a.jpg", size=(200, 200)))
    path.write_bytes(path.read_bytes()[:3000])
    assert "a.jpg cannot be read" in refused(path)


def test_an_animation_is_refused(tmp_path):
    rng = np.random.RandomState(0)
    frames = [Image.fromarray(rng.randint(0, 256, (20, 20, 3)).astype(np.uint8)) for _ in range(3)]
    for name in ("a.gif", "a.webp", "a.png"):
        frames[0].save(str(tmp_path / name), save_all=True, append_images=frames[1:])
        assert "3 pictures" in refused(tmp_path / name)


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path):
    path = tmp_path / "a.png"
    Image.new("1", (30000, 30000)).save(str(path))
    assert path.stat().st_size < uploads.MOST_BYTES
    began = time.perf_counter()
    assert "million" in refused(path)
    assert time.perf_counter() - began < 1
    Image.new("1", (7000, 7000)).save(str(path))
    assert "7000 x 7000 pixels" in refused(path)


def test_a_file_with_too_many_bytes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "MOST_BYTES", 1_000_000)
    path = tmp_path / "a.png"
    path.write_bytes(b"x" * 1_000_001)
    assert "1.0 MB" in refused(path)


def test_a_sliver_is_refused(tmp_path):
    assert "each side needs 16" in refused(save(tmp_path / "a.png", size=(600, 4)))


def test_formats_that_run_other_programs_are_refused(tmp_path):
    (tmp_path / "a.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n")
    assert "is no picture" in refused(tmp_path / "a.eps")


def test_an_upload_is_forgotten_with_its_folder_only(tmp_path):
    (tmp_path / "uploads" / "abc").mkdir(parents=True)
    outside = tmp_path / "outside.png"
    outside.write_bytes(b"x")
    path = tmp_path / "uploads" / "abc" / "a.png"
    path.write_bytes(b"x")
    uploads.forget(str(path), str(tmp_path / "uploads"))
    assert not path.parent.exists()
    assert (tmp_path / "uploads").exists()
    assert outside.exists()


# Finding weights


def touch(path, when=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    if when:
        os.utime(str(path), (when, when))
    return path


def test_weights_are_found_in_quickstart_and_test_output_newest_first(tmp_path):
    model = finding.find_model("pix2pix")
    run = tmp_path / "quickstart" / "result" / "ckpt" / "facades_1_256"
    for step, when in ((100, 1000), (200, 2000)):
        touch(run / ("pix2pix.model-%d.index" % step), when)
    touch(tmp_path / "quickstart" / "pix2pix.pb", 3000)
    output = tmp_path / "Pix2Pix_ID0359_for_TensorFlow" / "test" / "output" / "ckpt"
    touch(output / "pix2pix.model-7.index", 4000)
    touch(tmp_path / "quickstart" / ".hidden" / "pix2pix.model-900.index", 9000)
    found = finding.find(model, "/given", str(tmp_path))
    places = [str(tmp_path / "quickstart" / "pix2pix.pb"), str(run / "pix2pix.model-200")]
    assert found == ["/given", *places, str(output / "pix2pix.model-7")]


def test_each_model_finds_its_own_weights(tmp_path):
    base = tmp_path / "quickstart"
    touch(base / "s" / "model-5.index")
    (base / "s" / "labels.json").write_text('[{"kind": "celeba", "names": ["Male", "Young"]}]')
    touch(base / "w" / "saved_models" / "model-9.index")
    touch(base / "u" / "cats_genA2B_params_latest.ckpt")
    touch(base / "u" / "cats_disGA_params_latest.ckpt")
    touch(base / "vgg-19.mat")
    expected = {"stargan": "s/model-5", "whitebox": "w/saved_models/model-9", "ugatit": "u"}
    expected.update(style="vgg-19.mat")
    for model in finding.MODELS:
        paths = [str(base / expected[model.name])] if model.name in expected else []
        assert finding.find(model, "", str(tmp_path)) == paths, model.name
    assert finding.stargan_labels(str(base / "s" / "model-5"))[0]["names"] == ["Male", "Young"]


@pytest.mark.parametrize(
    ("name", "path", "words"),
    [
        ("whitebox", "", "no weights are chosen"),
        ("whitebox", "missing.npz", "there is no"),
        ("whitebox", "notes.txt", "cannot be weights of White-box"),
        ("stargan", "empty", "holds no weights of StarGAN"),
        ("ugatit", "model-3.index", "there is no"),
    ],
)
def test_a_wrong_path_is_one_sentence(tmp_path, name, path, words):
    (tmp_path / "empty").mkdir()
    touch(tmp_path / "notes.txt")
    with pytest.raises(UserError, match=words) as caught:
        finding.resolve(finding.find_model(name), path and str(tmp_path / path))
    assert "\n" not in str(caught.value)


def test_a_path_means_a_file_a_checkpoint_or_the_newest_in_a_folder(tmp_path):
    model = finding.find_model("pix2pix")
    touch(tmp_path / "run" / "pix2pix.model-8.index", 1000)
    touch(tmp_path / "run" / "pix2pix.model-20.index", 2000)
    newest = str(tmp_path / "run" / "pix2pix.model-20")
    assert finding.resolve(model, str(tmp_path)) == newest
    assert finding.resolve(model, newest) == newest
    assert finding.resolve(model, newest + ".index") == newest


def test_options_of_weights_must_name_a_model_and_a_path(tmp_path):
    path = touch(tmp_path / "generator.npz")
    assert finding.parse_given(["whitebox=%s" % path]) == {"whitebox": str(path)}
    for word, words in (
        ("whitebox", "give a model and a path"),
        ("cyclegan=a", "choose one of pix2pix"),
    ):
        with pytest.raises(UserError, match=words):
            finding.parse_given([word])


# The command


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "example.org"])
def test_other_hosts_than_this_machine_are_refused(host):
    with pytest.raises(UserError, match="for it alone"):
        parse(["--host", host])


def test_the_page_cannot_be_shared_or_bound_elsewhere_from_the_command_line():
    for words in (["--share"], ["--host", "0.0.0.0"], ["--port", "80"], ["--timeout", "0"]):
        command = [sys.executable, "-m", "tools.demo", *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode in (1, 2)
        assert words[0] in done.stderr
        assert "Traceback" not in done.stderr


def test_the_nearest_option_is_named():
    command = [sys.executable, "-m", "tools.demo", "--wieghts", "style=a.mat"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "unknown option --wieghts; did you mean --weights?" in done.stderr


def test_the_script_answers_before_it_makes_environments(tmp_path):
    python = tmp_path / "python3"
    lines = ["#!/bin/sh", 'case "$*" in *environments.py*) exit 9; esac']
    python.write_text("\n".join([*lines, 'exec "%s" "$@"' % sys.executable]))
    python.chmod(0o700)
    (tmp_path / "tools").mkdir()  # where it is started is not where its modules are
    (tmp_path / "tools" / "__init__.py").write_text("")
    touch(tmp_path / "w.npz")
    variables = dict(os.environ, PATH="%s:%s" % (tmp_path, os.environ["PATH"]))

    def ask(*words):
        command = ["bash", str(ROOT / "ci" / "demo.sh"), *words]
        around = {"cwd": tmp_path, "env": variables, "capture_output": True, "text": True}
        done = subprocess.run(command, check=False, **around)
        return done.returncode, done.stdout + done.stderr

    status, text = ask("--port", "8000", "--help")
    assert status == 0
    assert "--weights MODEL=PATH" in text
    status, text = ask("--prot=8000")
    assert status == 2
    assert "did you mean --port?" in text
    status, text = ask("--weights", "cyclegan=a")
    assert status == 1
    assert "choose one of pix2pix" in text
    assert ask("--weights", "whitebox=w.npz") == (9, "")


# What is shown


def test_a_new_hair_colour_puts_the_others_off():
    before = ["Black_Hair", "Male"]
    names, kept = panels.one_hair_colour(["Black_Hair", "Male", "Blond_Hair"], before)
    assert names == kept == ["Male", "Blond_Hair"]
    assert panels.one_hair_colour(["Male"], names)[0] == ["Male"]


def test_strength_mixes_photo_and_cartoon():
    rng = np.random.RandomState(0)
    photo, cartoon = rng.randint(0, 256, (2, 5, 6, 3)).astype(np.uint8)
    assert np.array_equal(panels.mix(photo, cartoon, 0), photo)
    assert np.array_equal(panels.mix(photo, cartoon, 1), cartoon)
    half = panels.mix(photo, cartoon, 0.5).astype(int)
    assert np.abs(2 * half - photo - cartoon.astype(int)).max() <= 1


def test_the_result_is_announced_where_it_appears():
    first = [shown.Shown(name, None) for name in ("Content", "Style", "Painted")]
    figures = shown.pictures(first, "The result appears here").split("</figure>")
    assert ["result appears" in figure for figure in figures] == [False, False, True, False]


def test_names_of_files_and_sentences_cannot_bring_markup():
    evil = "<img src=x onerror=alert(1)>'\"/../a"
    assert set(shown.file_name(evil, "x")) <= set("abcdefghijklmnopqrstuvwxyzABCDEF0123456789_-.")
    assert "<img" not in shown.problem(evil) + shown.remark(evil)
    figure = shown.pictures([shown.Shown(evil, np.zeros((2, 2, 3), np.uint8) + 9, "a.png")])
    assert figure.count("<img") == 1
    assert json.dumps(figure).count("onerror=alert(1)>'") == 0
