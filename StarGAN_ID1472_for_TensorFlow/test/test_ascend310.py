# SPDX-License-Identifier: Apache-2.0
"""Pictures through .bin files and back; an ordinary session stands in for the inference client."""

import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import ATTRIBUTES, draw_celeba, draw_classes, run

from harness.errors import UserError
from harness.images import ImageError
from stargan import data, evaluation, labels, offline, serving
from stargan.config import Config
from tf_runtime import device as devices

SMALL = {"image_size": 32, "d_repeat_num": 5, "g_conv_dim": 4, "g_repeat_num": 1, "batch_size": 1}
CPU = {"device": "cpu", "precision_mode": "force_fp32"}
ON_CPU = Config(**CPU)
PICTURES, TARGETS = 4, len(ATTRIBUTES)


def _names(count=PICTURES):
    return sorted("%d_%d.bin" % (i, j) for i in range(count) for j in range(TARGETS))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(folder, config, sources): the export g.pb of a generator with drawn weights, and data/."""
    folder, rng = tmp_path_factory.mktemp("exported"), np.random.RandomState(1)
    dataset = draw_celeba(folder / "data")
    words = dict(SMALL, selected_attrs=ATTRIBUTES, num_test=PICTURES, **CPU)
    config = Config(data_path=dataset, **words)
    sources = labels.find_sources(config)
    tf.disable_v2_behavior()
    with tf.Graph().as_default(), tf.Session() as session:
        serving.build_inference(config, sources)
        session.run(tf.global_variables_initializer())
        for variable in tf.global_variables():
            noise = rng.normal(0, 0.1, variable.shape.as_list()).astype(np.float32)
            variable.load(session.run(variable) + noise, session)
        path = tf.train.Saver().save(session, str(folder / "model-1"), write_meta_graph=False)
    serving.export(config, sources, path, str(folder / "g.pb"))
    return folder, config, sources


def _client(model, inputs, outputs):
    """Does what msame does with a model of batch 1: two folders in, one named by the time out."""
    graph, options = serving.read_graph(str(model)), devices.session_config(devices.choose(ON_CPU))
    os.makedirs(str(outputs))
    with tf.Graph().as_default(), tf.Session(config=options) as session:
        tf.import_graph_def(graph, name="")
        for name in sorted(os.listdir(str(inputs / "x_real"))):
            image = np.fromfile(str(inputs / "x_real" / name), np.float32).reshape(1, 32, 32, 3)
            wanted = np.fromfile(str(inputs / "c_trg" / name), np.float32).reshape(1, -1)
            result = session.run("G/Tanh:0", {"x_real:0": image, "c_trg:0": wanted})
            result.tofile(str(outputs / name.replace(".bin", "_output_0.bin")))


@pytest.fixture
def bins(exported, tmp_path):
    """The folder with x_real/ and c_trg/ of the test pictures."""
    _, config, sources = exported
    jobs = evaluation.find_jobs(config, sources)
    assert offline.preprocess(config, jobs, sources, str(tmp_path / "bins")) == PICTURES * TARGETS
    return tmp_path / "bins"


def _snapshot(folder):
    found = [
        os.path.join(place, name) for place, _, names in os.walk(str(folder)) for name in names
    ]
    return {os.path.relpath(path, str(folder)): open(path, "rb").read() for path in found}


def test_the_commands_give_the_pictures_of_the_test_phase_byte_for_byte(exported, tmp_path):
    folder, config, sources = exported
    translator = serving.GraphTranslator
    evaluation.test(config, sources, str(folder / "g.pb"), translator, str(tmp_path / "own"))
    words = ["--data_path", folder / "data", "--out_pb_path", folder / "g.pb"]
    done = run("img_process.py", "--phase=img_preprocess", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "12 .bin files in each of ./test_data/x_real and c_trg" in done.stdout
    outputs = tmp_path / "test_data" / "outputs_om" / "stargan_model" / "20260102_030405"
    _client(folder / "g.pb", tmp_path / "test_data", outputs)
    fake = tmp_path / "no_tensorflow"
    fake.mkdir()
    (fake / "tensorflow.py").write_text("raise RuntimeError('not on this host')")
    done = run("img_process.py", "--phase=img_postprocess", cwd=tmp_path, PYTHONPATH=str(fake))
    assert done.returncode == 0, done.stdout
    assert "4 pictures written to ./results_om" in done.stdout
    own, made = _snapshot(tmp_path / "own"), _snapshot(tmp_path / "results_om")
    for name in ("src_images", "generates"):
        for i in range(PICTURES):  # the test phase counts from 1
            strip = "%s/%d-images.jpg"
            assert made.pop(strip % (name, i)) == own[strip % (name, i + 1)]
    assert made == {}
    assert own["generates/1-images.jpg"] != own["src_images/1-images.jpg"]


def test_the_inputs_are_float32_pictures_and_labels(exported, bins):
    _, config, sources = exported
    assert sorted(os.listdir(str(bins / "x_real"))) == _names()
    assert sorted(os.listdir(str(bins / "c_trg"))) == _names()
    test = sources[0].test
    for i in range(PICTURES):
        pixels = data.read_picture(test.paths[i], "celeba", config)
        for j in range(TARGETS):
            name = "%d_%d.bin" % (i, j)
            image = np.fromfile(str(bins / "x_real" / name), np.float32)
            np.testing.assert_array_equal(image, data.to_float(pixels).ravel())
            wanted = test.labels[i].copy()
            if j == 2:
                wanted[2] = 1 - wanted[2]  # Male is turned over
            else:
                wanted[:2] = [j == 0, j == 1]  # black or blond hair
            found = np.fromfile(str(bins / "c_trg" / name), np.float32)
            np.testing.assert_array_equal(found, wanted)
    assert len({(bins / "x_real" / name).read_bytes() for name in _names()}) == PICTURES


def test_five_labels_are_20_bytes_and_masks_count(tmp_path):
    names = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young")
    sources = serving.named_sources([{"kind": "celeba", "names": names}])
    image = os.path.join(draw_celeba(tmp_path / "d", 3), "CelebA/Img/img_align_celeba/000001.jpg")
    jobs = [evaluation.Job(0, [image], ["x"], None)]
    config = Config(target=("Blond_Hair=1 Young=1", "Male"), **SMALL)
    offline.preprocess(config, jobs, sources, str(tmp_path / "five"))
    found = [(tmp_path / "five" / "c_trg" / name).read_bytes() for name in ("0_0.bin", "0_1.bin")]
    assert found[0] == np.float32([0, 1, 0, 0, 1]).tobytes()
    assert found[1] == np.float32([0, 0, 0, 1, 0]).tobytes()
    assert len(found[0]) == 20
    draw_classes(tmp_path / "d")
    config = Config(
        data_path=str(tmp_path / "d"), dataset="both", selected_attrs=("Male",), **SMALL
    )
    sources = labels.find_sources(config)
    offline.preprocess(config, evaluation.find_jobs(config, sources), sources, str(tmp_path / "b"))
    for i, mask in ((0, [1, 0]), (1, [0, 1])):  # a CelebA picture, then one of a class
        for j in range(3):
            wanted = np.fromfile(str(tmp_path / "b" / "c_trg" / ("%d_%d.bin" % (i, j))), np.float32)
            assert wanted.shape == (1 + 2 + 2,)
            assert wanted[3:].tolist() == ([1, 0] if j == 0 else [0, 1]), mask


def _results(bins, outputs, seed=0):
    """Writes drawn results for the inputs in `bins`; returns {name: values}."""
    rng, values = np.random.RandomState(seed), {}
    outputs.mkdir(parents=True)
    for name in os.listdir(str(bins / "x_real")):
        values[name] = rng.uniform(-1, 1, (32, 32, 3)).astype(np.float32)
        values[name].tofile(str(outputs / name.replace(".bin", "_output_0.bin")))
    return values


def test_of_several_calls_of_the_client_the_newest_counts(bins, tmp_path, capsys):
    for seed, name in ((1, "20260102_030405"), (2, "20251230_235959"), (3, "20260102_030404")):
        _results(bins, tmp_path / "om" / name, seed)
    words = (str(bins / "x_real"), str(tmp_path / "om"), str(tmp_path / "made"))
    assert offline.postprocess(*words) == PICTURES
    assert "results in %s" % (tmp_path / "om" / "20260102_030405") in capsys.readouterr().out
    alone = words[:1] + (str(tmp_path / "om" / "20260102_030405"), str(tmp_path / "alone"))
    offline.postprocess(*alone)
    assert _snapshot(tmp_path / "made") == _snapshot(tmp_path / "alone")
    _results(bins, tmp_path / "om" / "20260102_030406", 4)
    offline.postprocess(*words)  # the pictures of the earlier call are replaced
    assert _snapshot(tmp_path / "made") != _snapshot(tmp_path / "alone")


def _drop(folder):
    (folder / "3_1_output_0.bin").unlink()


def _halve(folder):
    path = folder / "2_0_output_0.bin"
    np.fromfile(str(path), np.float32).astype(np.float16).tofile(str(path))


def _spoil(folder):
    path = folder / "1_2_output_0.bin"
    values = np.fromfile(str(path), np.float32)
    values[7] = np.nan
    values.tofile(str(path))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (_drop, r"has 12 inputs and .*om 11 results, 3_1 is in one only; run the client again"),
        (_halve, r"2_0_output_0\.bin has 6144 bytes, not those of float32 \[32, 32, 3\]; .*FP32"),
        (_spoil, r"1_2_output_0\.bin is not finite; run the client again"),
    ],
)
def test_wrong_results_are_named_and_the_pictures_before_stay(bins, tmp_path, damage, sentence):
    _results(bins, tmp_path / "om")
    words = (str(bins / "x_real"), str(tmp_path / "om"), str(tmp_path / "made"))
    offline.postprocess(*words)
    before = _snapshot(tmp_path / "made")
    damage(tmp_path / "om")
    with pytest.raises(UserError, match=sentence):
        offline.postprocess(*words)
    assert _snapshot(tmp_path / "made") == before
    assert sorted(os.listdir(str(tmp_path / "made"))) == ["generates", "src_images"]


def test_bins_of_an_earlier_call_are_replaced_and_anything_else_is_kept(exported, bins):
    _, config, sources = exported
    jobs = evaluation.find_jobs(config, sources)
    before = _snapshot(bins)
    broken = [jobs[0]._replace(paths=[jobs[0].paths[0], str(bins / "none.jpg")])]
    with pytest.raises(ImageError, match=r"none\.jpg"):
        offline.preprocess(config, broken, sources, str(bins))
    assert _snapshot(bins) == before
    offline.preprocess(config, [jobs[0]._replace(paths=jobs[0].paths[:1])], sources, str(bins))
    assert sorted(os.listdir(str(bins / "c_trg"))) == _names(1)
    (bins / "x_real" / "notes.txt").write_text("mine")
    before = _snapshot(bins)
    with pytest.raises(UserError, match=r"x_real holds notes\.txt, it would be replaced; choose"):
        offline.preprocess(config, jobs, sources, str(bins))
    assert _snapshot(bins) == before


def test_missing_files_are_one_sentence(bins, tmp_path):
    for words, sentence in (
        ((str(bins / "x_real"), str(tmp_path / "none")), "there is no <i>_<j>_output_0.bin in "),
        ((str(tmp_path / "none"), str(bins)), "there is no <i>_<j>_output_0.bin in "),
    ):
        with pytest.raises(UserError, match=sentence):
            offline.postprocess(*(words + (str(tmp_path / "made"),)))
    _results(bins, tmp_path / "om")
    with pytest.raises(UserError, match=r"there is no <i>_<j>\.bin in .*none; give the folder x_r"):
        offline.postprocess(str(tmp_path / "none"), str(tmp_path / "om"), str(tmp_path / "made"))
    for words, sentence in (
        (["--out_pb_path=none.pb"], "there is no none.pb.json; frozen_graph.py writes it beside"),
        (["--classifier=x.npz"], "--classifier has no effect here; name what is wanted with --t"),
    ):
        done = run("img_process.py", *words, cwd=tmp_path)
        assert (done.returncode, len(done.stdout.splitlines())) == (1, 1), done.stdout
        assert done.stdout.startswith("img_process.py: error: " + sentence)
    assert sorted(os.listdir(str(tmp_path))) == ["bins", "om"]
