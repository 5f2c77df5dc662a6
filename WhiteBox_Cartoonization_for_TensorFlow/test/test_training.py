# SPDX-License-Identifier: Apache-2.0
"""An adversarial training from end to end: what it prints, leaves, and how it goes on."""

import contextlib
import io
import json
import os
import re
import signal

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import TINY, draw_data, write_vgg
from PIL import Image

from harness.options import parse
from harness.platform_options import PlatformOptions
from tf_runtime import device as devices
from tf_runtime.checkpoints import checkpoint_steps
from tf_runtime.ranks import Group
from tf_runtime.run import NotFiniteError
from whitebox import data, losses, serving, training
from whitebox.config import Config
from whitebox.generators import GENERATOR_SHAPES, read_generator, write_generator
from whitebox.progress import Generators
from whitebox.superpixels import Flattener

NAMES = "tv_loss photo_loss superpixel_loss recon_loss d_loss_gray g_loss_gray d_loss_blur "
NAMES += "g_loss_blur d_loss_total g_loss_total"
NAMES = set(NAMES.split())
GROUP = Group(0, 1, (), "cpu")


class Recorder(Flattener):
    """Makes superpixels, and remembers what it was made with and of which pictures."""

    def __init__(self, *words):
        super().__init__(*words)
        Recorder.words, Recorder.pictures = words, []

    def submit(self, pictures):
        Recorder.pictures.append(pictures.copy())
        return super().submit(pictures)


def draw_start():
    """Returns the arrays of a generator that starts as Glorot and Bengio have it."""
    rng, arrays = np.random.RandomState(1), {}
    for name, shape in GENERATOR_SHAPES.items():
        bound = np.sqrt(6 / (np.prod(shape[:2]) * (shape[2] + shape[3]))) if shape[1:] else 0.1
        arrays[name] = rng.uniform(-bound, bound, shape).astype(np.float32)
    return arrays


def words_of(dataset, out, steps, *more):
    words = ["--data_path=%s" % dataset, "--output_path=%s" % out, "--total_iter=%d" % steps]
    return words + TINY + ["--seed=3", "--lr=0.002", "--threads=2"] + list(more)


def train(*words):
    """Trains in this process; returns what was printed."""
    printed = io.StringIO()
    with tf.Graph().as_default(), contextlib.redirect_stdout(printed):
        training.train(parse(Config, list(words))[0])
    return printed.getvalue()


def tensors(out, step, folder="checkpoint"):
    reader = tf.train.NewCheckpointReader(str(out / "train_cartoon" / folder / ("model-%d" % step)))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def different(a, b):
    assert set(a) == set(b)
    return [name for name in a if a[name].tobytes() != b[name].tobytes()]


def records(out):
    """Returns log.jsonl without what the clock and the machine decide."""
    lines = [json.loads(line) for line in (out / "train_cartoon/checkpoint/log.jsonl").open()]
    clock = {"seconds_per_step", "images_per_second", "memory_mb"}
    assert all(clock <= set(line) for line in lines)
    return [{key: line[key] for key in line if key not in clock} for line in lines]


def summary(out):
    return json.loads((out / "train_cartoon" / "checkpoint" / "training.json").read_text())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(data set, output, printed, recorded pictures) of six steps in one go: faces are 1 and 6."""
    folder = tmp_path_factory.mktemp("whole")
    dataset, out = draw_data(folder / "data"), folder / "out"
    write_vgg(os.path.join(dataset, "dataset", "vgg19_no_fc.npz"))
    start = os.path.join(dataset, "dataset", "pretrain", "saved_models", "model-")
    write_generator(start + "9", {name: 0 * array for name, array in draw_start().items()})
    write_generator(start + "10", draw_start())
    more = ["--save_steps=2", "--image_steps=3", "--keep_generators=2", "--keep_checkpoints=3"]
    with pytest.MonkeyPatch.context() as patch:
        tf.disable_v2_behavior()
        patch.setattr(training, "Flattener", Recorder)
        printed = train(*words_of(dataset, out, 6, *more))
    return dataset, out, printed, Recorder.pictures


def test_the_lines_are_the_documented_ones_with_the_losses_of_their_steps(whole):
    dataset, out, printed, _ = whole
    lines, log = printed.splitlines(), records(out)
    assert lines[:2] == ["device: cpu, float32", "6 steps per epoch, 6 steps"]
    assert lines[2].startswith("VGG-19: %s/dataset/vgg19_no_fc.npz; effective" % dataset)
    assert lines[3].endswith("%s/dataset/pretrain/saved_models/model-10" % dataset)
    for step, record in enumerate(log, 1):
        assert re.match(r"Iter: %d/6 , time_per_step \d+\.\d{3}$" % step, lines[2 + 2 * step])
        names = ("d_loss_total", "g_loss_total", "recon_loss")
        text = "Iter: %d, d_loss: %.6f, g_loss: %.6f, recon_loss: %.9f"
        assert lines[3 + 2 * step] == text % (step, *(record[name] for name in names))
    report = out / "train_cartoon" / "checkpoint" / "report.html"
    assert lines[4 + 2 * 6 :] == ["report: %s" % report]


def test_the_log_has_ten_losses_that_belong_together(whole):
    log = records(whole[1])
    assert [record["step"] for record in log] == [1, 2, 3, 4, 5, 6]
    for record in log:
        assert set(record) == NAMES | {"step"}
        parts = record["photo_loss"] + record["superpixel_loss"]
        np.testing.assert_allclose(record["recon_loss"], parts, 1e-5)
        d_loss = record["d_loss_gray"] + record["d_loss_blur"]
        np.testing.assert_allclose(record["d_loss_total"], d_loss, 1e-5)
        g_loss = 0.1 * record["g_loss_blur"] + record["g_loss_gray"] + 200 * record["recon_loss"]
        g_loss += 1e4 * record["tv_loss"]
        np.testing.assert_allclose(record["g_loss_total"], g_loss, 1e-4)
    for name in NAMES:
        assert len({record[name] for record in log}) == 6, name


@pytest.mark.parametrize(
    ("words", "structure", "tv"),
    [
        ([], 200 / (32 * 32 * 512), 1e4 / (256 * 256 * 3)),
        (["--patch_size=64", "--lambda_tv=100"], 200 / (32 * 32 * 512), 100 / (256 * 256 * 3)),
        (["--preset=published"], 200 / (32 * 32 * 512), 1e4 / (256 * 256 * 3)),
        (
            ["--preset=published", "--patch_size=64", "--lambda_structure=20"],
            20 / (8 * 8 * 512),
            1e4 / (64 * 64 * 3),
        ),
    ],
)
def test_the_weights_that_are_printed_have_every_normalisation_in_them(words, structure, tv):
    printed = losses.effective_weights(parse(Config, words)[0])
    assert "surface 0.1 and texture 1 of mean squares, structure %.3g and" % structure in printed
    assert printed.endswith("total variation %.3g of mean squares" % tv)


def test_a_checkpoint_holds_all_that_a_run_goes_on_from(whole):
    out, held = whole[1], tensors(whole[1], 6)
    assert checkpoint_steps(str(out / "train_cartoon" / "checkpoint"), "model") == [2, 4, 6]
    own = set(GENERATOR_SHAPES)
    judges = {name for name in held if re.match(r"disc_(gray|blur)/", name)}
    vectors = {name for name in judges if name.split("/")[-1] == "u"}
    assert (len(judges), len(vectors)) == (2 * 7 * 3, 2 * 7)
    expected = own | judges | {"previous/" + name for name in own} | {"global_step"}
    learnt = (("generator_train", own), ("discriminator_train", judges - vectors))
    for scope, names in learnt:
        expected |= {"%s/beta%d_power" % (scope, number) for number in (1, 2)}
        slots = {name.split("/")[-1] for name in held if name.startswith(scope)}
        assert {"Adam", "Adam_1"} <= slots
        for name in names:
            expected |= {"%s/%s/%s" % (scope, name, slot) for slot in ("Adam", "Adam_1")}
    assert set(held) == expected
    assert held["global_step"] == 6
    constant = {"disc_%s/conv_out/u" % name for name in ("gray", "blur")}  # unit vectors of one
    assert set(different(tensors(out, 4), held)) == expected - constant


def test_the_generators_alone_are_the_newest_and_as_published(whole):
    out = whole[1]
    assert checkpoint_steps(str(out / "train_cartoon" / "saved_models"), "model") == [4, 6]
    for step in (4, 6):
        alone, full = tensors(out, step, "saved_models"), tensors(out, step)
        assert set(alone) == set(GENERATOR_SHAPES)
        assert different(alone, {name: full[name] for name in alone}) == []


def test_the_samples_show_the_photos_and_what_the_generator_makes_of_them(whole):
    folder = whole[1] / "train_cartoon" / "images"
    kinds = [s + k for s in ("face_", "scenery_") for k in ("photo", "result")]
    names = {"%d_%s.jpg" % (step, kind) for step in (3, 6) for kind in kinds}
    assert set(os.listdir(str(folder))) == names
    pixels = {name: np.asarray(Image.open(str(folder / name))).astype(int) for name in names}
    assert {array.shape for array in pixels.values()} == {(128, 128, 3)}
    config = parse(Config, words_of(whole[0], whole[1], 6))[0]
    for domain in data.find_domains(config):
        photos, result = (pixels["6_%s_%s.jpg" % (domain.subject, k)] for k in ("photo", "result"))
        place = photos[32:64, 32:64].mean(2)  # grey, as JPEG has coarse colours
        distances = [np.abs(place - p.mean(2)).mean() for p in data.sample_photos(domain, config)]
        assert distances[5] < 4 < 2 * min(distances[:5])
        assert photos[72:].min() > 240  # six photos: the other places are white
        assert np.abs(photos[:32] - result[:32]).mean() > 10
        assert np.abs(result[:32] - pixels["3_%s_result.jpg" % domain.subject][:32]).mean() > 0.2


def test_summaries_and_training_json_have_the_numbers(whole):
    out, found = whole[1], {}
    folder = out / "train_cartoon" / "train_log"
    (events,) = [str(folder / name) for name in os.listdir(str(folder))]
    for event in tf.train.summary_iterator(events):
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
    assert set(found) == NAMES | {"seconds_per_step", "images_per_second", "memory_mb"}
    for name in NAMES:
        expected = [(record["step"], np.float32(record[name])) for record in records(out)]
        assert found[name] == expected
    there = summary(out)
    assert (there["steps"], there["batch"], there["ranks"], there["stopped"]) == (6, 2, 1, False)
    assert there["losses"] == {name: records(out)[-1][name] for name in NAMES}


def test_a_terminated_run_goes_on_as_if_nothing_had_been(whole, tmp_path, monkeypatch):
    dataset, reference = whole[0], whole[1]
    line = training.log_line

    def line_then_signal(step, values):
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return line(step, values)

    monkeypatch.setattr(training, "log_line", line_then_signal)
    printed = train(*words_of(dataset, tmp_path, 6, "--save_steps=5"))
    assert "\nstopped at step 3\nreport: " in printed
    assert (summary(tmp_path)["stopped"], summary(tmp_path)["steps"]) == (True, 3)
    for folder in ("checkpoint", "saved_models"):
        assert checkpoint_steps(str(tmp_path / "train_cartoon" / folder), "model") == [3]
    monkeypatch.undo()
    more = ["--continue_train", "--save_steps=1", "--image_steps=6", "--superpixel_workers=2"]
    printed = train(*words_of(dataset, tmp_path, 6, *more))
    assert "\ncontinuing after step 3\n" in printed
    assert "starting from" not in printed
    assert different(tensors(reference, 6), tensors(tmp_path, 6)) == []
    assert records(reference) == records(tmp_path)
    name = "train_cartoon/images/6_scenery_result.jpg"
    assert (reference / name).read_bytes() == (tmp_path / name).read_bytes()


def cartoons(weights, photos):
    """Returns what the generator with `weights`, {name: array}, makes of `photos` as it trains."""
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.float32, [None, 32, 32, 3])
        made = training.cartoonize(images)
        serving.assign(session, weights)
        return session.run(made, {images: photos})


def only_these(recorded, expected, others):
    """Asserts that `recorded` are the cartoons `expected` and none of `others`."""
    np.testing.assert_allclose(recorded, expected, atol=1e-3)
    for other in others:
        assert np.abs(recorded - other).mean() > 0.01


def test_superpixels_are_of_the_generator_one_step_earlier(whole):
    dataset, out, _, pictures = whole
    config = parse(Config, words_of(dataset, out, 6))[0]
    domains = data.find_domains(config)
    photos = [data.photo_batch(domains, config, step, 0, 1) for step in range(1, 7)]
    assert len(pictures) == 6
    folder = out / "train_cartoon" / "checkpoint"
    after = {step: read_generator(str(folder / ("model-%d" % step))) for step in (2, 4)}
    after[0] = draw_start()
    for step, old in ((1, 0), (2, 0), (4, 2), (6, 4)):
        made = {state: cartoons(after[state], photos[step - 1]) for state in after}
        expected = made.pop(old)
        only_these(pictures[step - 1], expected, made.values())


def test_published_superpixels_are_of_the_generator_as_it_is(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "Flattener", Recorder)
    words = words_of(whole[0], tmp_path, 3, "--preset=published", "--save_steps=1")
    printed = train(*words)
    assert Recorder.words == (8, False, True, 1)
    assert "structure 1.56 and" in printed  # 200 / (4 * 4 * 8): the tests' VGG-19 is narrow
    assert len(Recorder.pictures) == 3
    config, folder = parse(Config, words)[0], tmp_path / "train_cartoon" / "saved_models"
    domains = data.find_domains(config)
    after = [draw_start()] + [read_generator(str(folder / ("model-%d" % n))) for n in (1, 2)]
    for step, recorded in enumerate(Recorder.pictures, 1):
        photos = data.photo_batch(domains, config, step, 0, 1)
        made = [cartoons(weights, photos) for weights in after]
        expected = made.pop(step - 1)
        only_these(recorded, expected, made)
    first, published = records(whole[1])[0], records(tmp_path)[0]
    assert published["tv_loss"] == pytest.approx(first["tv_loss"] * 64, rel=1e-4)
    fewer = 32 * 32 * 512 / (4 * 4 * 8)
    assert published["photo_loss"] == pytest.approx(first["photo_loss"] * fewer, rel=1e-4)
    assert published["d_loss_total"] == first["d_loss_total"]


def test_not_finite_losses_end_the_run_and_leave_what_was_good(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "Flattener", Recorder)
    start = str(tmp_path / "start.npz")
    write_generator(start, draw_start())
    more = ["--pretrained", start, "--use_enhance", "--save_steps=1", "--lr=1e30"]
    with pytest.raises(NotFiniteError) as caught:
        train(*words_of(whole[0], tmp_path, 9, *more))
    assert Recorder.words == (8, True, False, 1)
    form = r"(\w+_loss\w*|d_loss_\w+) is (nan|inf) at step 2; the last good checkpoint is that of "
    assert re.match(form + r"step 1\. A lower learning rate may help$", str(caught.value))
    for folder in ("checkpoint", "saved_models"):
        assert checkpoint_steps(str(tmp_path / "train_cartoon" / folder), "model") == [1]
    (record,) = records(tmp_path)
    first = records(whole[1])[0]  # from the same weights, in a checkpoint
    for name in NAMES - {"superpixel_loss", "recon_loss", "g_loss_total"}:
        assert record[name] == first[name]
    assert record["superpixel_loss"] != first["superpixel_loss"]


def test_a_generator_that_is_not_finite_is_not_written(tmp_path):
    with tf.variable_scope("generator"):
        weights = tf.get_variable("Conv/weights", [3], initializer=tf.ones_initializer())
    generators = Generators(Config(output_path=str(tmp_path)))
    folder = str(tmp_path / "train_cartoon" / "saved_models")
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        generators.write(session, 1)
        weights.load([1.0, np.nan, 2.0], session)
        generators.write(session, 2)
    assert checkpoint_steps(folder, "model") == [1]


def test_each_optimiser_has_a_loss_scale_of_its_own():
    device = devices.Device("gpu", "amp", PlatformOptions(), 1)
    x = tf.get_variable("x", [3], initializer=tf.ones_initializer())
    for name in ("generator_train", "discriminator_train"):
        adam = tf.train.AdamOptimizer(1e-3, *training.BETAS)
        devices.minimize(adam, tf.reduce_sum(x**2), [x], device, GROUP, name)
    scales = devices.loss_scales()
    assert len(scales) == 2
    assert {name.split("/")[0] for name in scales} == {"generator_train", "discriminator_train"}
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        assert all(value > 1 for value in session.run(scales).values())
