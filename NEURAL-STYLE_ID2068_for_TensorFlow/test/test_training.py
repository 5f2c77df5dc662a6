# SPDX-License-Identifier: Apache-2.0
"""The step of each optimiser, the loop over steps and scales, and that a run can go on."""

import json
import os
import re
import signal
import threading

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import draw_picture
from test_networks import make_network

from harness.errors import UserError
from harness.files import read_jsonl, write_text
from harness.images import read_image
from harness.platform_options import PlatformOptions
from stylize import data, networks, progress, scales, training
from stylize.config import Config
from stylize.data import Pictures
from stylize.lbfgs import Lbfgs
from stylize.networks import Vgg
from tf_runtime import device as devices
from tf_runtime.checkpoints import checkpoint_steps

CPU = devices.Device("cpu", "", PlatformOptions(), 2)
SMALL = {
    "styles": ("s",),
    "content_layers": ("relu2_2",),
    "style_layers": ("relu1_1", "relu3_1"),
    "precision_mode": "force_fp32",
    "print_iterations": 1,
}


def _config(**options):
    return Config(**dict(SMALL, **options))


def _pictures(count=1, masks=(), height=32, width=44, initial=None):
    drawn = [draw_picture(np.random.RandomState(seed), height, width) for seed in range(count + 1)]
    return Pictures(drawn[0], drawn[1:], list(masks), initial)


class _Step:
    """A step graph of its own with a session, ready for the first step."""

    def __init__(self, pictures=None, in_strips=False, start=1.0, **options):
        self.config, self._pictures = _config(**options), pictures or _pictures()
        self.network = make_network(last="relu3_1")
        layers = [list(weights) for weights in training.used_layers(self.config)]
        with tf.Graph().as_default():
            vgg = Vgg(self.network, *layers, pooling=self.config.pooling, minimal=True)
            self.graph = training.build_step(self.config, vgg, self._pictures, in_strips, CPU)
            self.session = tf.Session(config=devices.session_config(CPU))
            self.session.run(tf.global_variables_initializer())
        vgg.load(self.session)
        mean = self.network.mean_pixel
        self.wanted = training.measure_wanted(self.session, self.graph, self._pictures, mean)
        self.start = data.starting_image(self._pictures, start, 0, mean)
        self.set(self.start)

    def set(self, image):
        self.session.run(self.graph.set_image, {self.graph.new_image: image})

    def run(self, fetches, image=None):
        fed = {} if image is None else {self.graph.pixels: image}
        return self.session.run(fetches, {**self.wanted, **fed})

    def image(self):
        return self.session.run(self.graph.image)

    def lbfgs(self, restart=0):
        def evaluate(image):
            return self.run((self.graph.losses, self.graph.gradient), image)

        return Lbfgs(evaluate, self.image, self.set, restart)


def test_adam_steps_are_those_of_numpy():
    source = _Step(optimizer="lbfgs")
    image, b1, b2 = source.start.astype("d"), 0.8, 0.95
    eps = 0.1 * float(np.abs(source.run(source.graph.gradient, image)).mean())
    my = _Step(learning_rate=7.0, beta1=b1, beta2=b2, eps=eps)
    assert my.graph.gradient is None
    assert source.graph.train is None
    m = v = 0
    for step in range(1, 5):
        gradient = source.run(source.graph.gradient, image).astype("d")
        m, v = b1 * m + (1 - b1) * gradient, b2 * v + (1 - b2) * gradient**2
        rate = 7.0 * np.sqrt(1 - b2**step) / (1 - b1**step)
        change = rate * m / (np.sqrt(v) + eps)
        image = image - change
        my.run(my.graph.train)
        assert np.abs(my.image() - image).max() < 1e-3 * np.abs(change).max()


@pytest.mark.parametrize("in_strips", [False, True])
def test_losses_fall_and_are_those_before_the_step(in_strips, monkeypatch):
    monkeypatch.setattr(networks, "STRIP_PIXELS", 32 * 44 // 3)
    my = _Step(in_strips=in_strips)
    totals = []
    for _ in range(20):
        alone = my.run(my.graph.losses)
        values, _ = my.run((my.graph.losses, my.graph.train))
        assert values == pytest.approx(alone, rel=1e-5)
        parts = [values[name] for name in ("content", "style", "tv")]
        assert values["total"] == pytest.approx(sum(parts), rel=1e-5)
        totals.append(values["total"])
    assert totals[-1] < 0.7 * totals[0]
    assert totals[1] != pytest.approx(totals[0], rel=1e-3)


def test_the_losses_are_weighted_and_blended():
    pictures, names = _pictures(2), ("content", "style", "tv")
    my = _Step(pictures, styles=("a", "b"), style_blend_weights=(1, 3))
    plain = my.run(my.graph.losses, my.start)
    weights = {"content_weight": 2.0, "style_weight": 3.0, "tv_weight": 7.0}
    other = _Step(pictures, styles=("a", "b"), style_blend_weights=(1, 3), **weights)
    found = other.run(other.graph.losses, my.start)
    for name, share in zip(names, (2 / 5, 3 / 500, 7 / 100)):
        assert found[name] == pytest.approx(share * plain[name], rel=1e-4)
    alone = []
    for style in pictures.styles:
        one = _Step(pictures._replace(styles=[style]))
        alone.append(one.run(one.graph.losses, my.start)["style"])
    assert plain["style"] == pytest.approx(0.25 * alone[0] + 0.75 * alone[1], rel=1e-4)
    assert alone[0] != pytest.approx(alone[1], rel=0.01)
    content = data.to_input(pictures.content, my.network.mean_pixel)
    assert my.run(my.graph.losses, content)["content"] == pytest.approx(0, abs=1e-6)
    style = data.to_input(pictures.styles[0], my.network.mean_pixel)
    values, distance = one.run((one.graph.losses, one.graph.distance), style)
    assert values["style"] > 1e-3 * plain["style"]  # that of the other style
    assert 0.01 < distance < 10


@pytest.mark.parametrize("rate", [10.0, 60.0, 3000.0])
def test_the_picture_with_the_lowest_loss_is_kept(rate):
    my = _Step(learning_rate=rate, start=0.2)
    images, totals = [], []
    for _ in range(8):
        images.append(my.image())
        values, _ = my.run((my.graph.losses, my.graph.train))
        totals.append(values["total"])
        best, loss = my.session.run((my.graph.best, my.graph.best_loss))
        np.testing.assert_array_equal(best, images[int(np.argmin(totals))])
        assert loss == min(totals)
    assert (max(np.diff(totals)) > 0) == (rate > 10)
    my.run(my.graph.keep_best)
    last = my.run(my.graph.losses)["total"]
    wanted = my.image() if last < min(totals) else images[int(np.argmin(totals))]
    np.testing.assert_array_equal(my.session.run(my.graph.best), wanted)


def test_lbfgs_lowers_the_loss_and_ends_its_thread():
    my, threads = _Step(optimizer="lbfgs"), threading.active_count()
    lbfgs, totals = my.lbfgs(), [my.run(my.graph.losses)["total"]]
    for step in range(1, 9):
        values = lbfgs.step(step)
        fresh = my.run(my.graph.losses)  # of the picture that was written
        assert values == pytest.approx(fresh, rel=1e-4)
        totals.append(fresh["total"])
    assert threading.active_count() == threads + 1
    assert (np.diff(totals) < 0).all()
    assert totals[-1] < 0.5 * totals[0]
    lbfgs.close()
    assert threading.active_count() == threads
    lbfgs.close()


def _quadratic():
    """Returns (evaluate, read, write, state) of (x - 3)^T diag (x - 3)."""
    diagonal, state = np.arange(1, 13).reshape(1, 2, 2, 3).astype("f"), {"starts": 0}
    state["x"] = np.random.RandomState(0).normal(size=diagonal.shape).astype("f")

    def evaluate(x):
        return {"total": float((diagonal * (x - 3) ** 2).sum())}, 2 * diagonal * (x - 3)

    def read():
        state["starts"] += 1
        return state["x"]

    return evaluate, read, lambda x: state.update(x=x), state


@pytest.mark.parametrize(("restart", "starts"), [(0, 1), (3, 3), (1, 7)])
def test_lbfgs_begins_anew_after_saved_steps(restart, starts):
    evaluate, read, write, state = _quadratic()
    threads, lbfgs = threading.active_count(), Lbfgs(evaluate, read, write, restart)
    for step in range(1, 8):
        lbfgs.step(step)
    assert state["starts"] == starts
    assert threading.active_count() <= threads + 1
    lbfgs.close()
    assert threading.active_count() == threads


def test_lbfgs_at_the_minimum_stays_there_and_errors_come_through():
    evaluate, read, write, state = _quadratic()
    threads, lbfgs = threading.active_count(), Lbfgs(evaluate, read, write, 0)
    for step in range(1, 60):
        values = lbfgs.step(step)
    np.testing.assert_allclose(state["x"], 3, atol=1e-3)
    assert values["total"] < 1e-5
    assert threading.active_count() == threads

    def fail(x):
        raise UserError("evaluation failed")

    lbfgs = Lbfgs(fail, read, write, 0)
    with pytest.raises(UserError, match="evaluation failed"):
        lbfgs.step(1)
    lbfgs.close()
    assert threading.active_count() == threads


@pytest.mark.parametrize("in_strips", [False, True])
@pytest.mark.parametrize("number", [0, 1])
def test_a_style_does_not_reach_beyond_its_mask(number, in_strips, monkeypatch):
    monkeypatch.setattr(networks, "STRIP_PIXELS", 32 * 44 // 3)
    left = np.tile((np.arange(44) < 22).astype("f"), (32, 1))
    words = {"content_weight": 0.0, "tv_weight": 0.0, "style_layers": ("relu1_1", "relu2_1")}
    words.update(style_blend_weights=(1.0 - number, number), styles=("a", "b"))
    pictures = _pictures(2, [left, 1 - left])
    my = _Step(pictures, in_strips, 0.2, optimizer="lbfgs", **words)
    gradient = np.abs(my.run(my.graph.gradient, my.start)[0]).max((0, 2))
    inside = slice(0, 22) if number == 0 else slice(22, 44)
    beyond = slice(22 + 4, 44) if number == 0 else slice(0, 22 - 4)  # relu2_1 sees 4 around
    assert (gradient[inside] > 0).all()
    assert (gradient[beyond] == 0).all()
    assert gradient[25 if number == 0 else 18] > 0


def _stylise(folder, pictures=None, network=None, **options):
    """Returns (result, its file's pixels) of a run in process."""
    config, output = _config(**options), str(folder / "a.png")
    network = network or make_network()
    words = (network, CPU, pictures or _pictures(), output, output[:-4] + ".run")
    return scales.stylise(config, *words), read_image(output)


def test_a_run_leaves_its_picture_log_and_measures(tmp_path, capsys):
    words = {
        "checkpoint_output": str(tmp_path / "c_{}.png"),
        "checkpoint_iterations": 3,
        "print_iterations": 2,
    }
    result, written = _stylise(
        tmp_path, iterations=(5,), progress_plot=True, content=("x.jpg",), **words
    )
    np.testing.assert_array_equal(result, written)
    names = ["a.png", "a.run", "c_3.png", "c_5.png", "progress.png"]
    assert sorted(os.listdir(str(tmp_path))) == names
    folder = tmp_path / "a.run"
    steps = [record["step"] for record in read_jsonl(str(folder / "log.jsonl"))]
    assert steps == [2, 4, 5]
    assert checkpoint_steps(str(folder), "model") == [5]
    reader = tf.train.NewCheckpointReader(str(folder / "model-5"))
    image = reader.get_tensor("image")
    assert image.shape == (1, 32, 44, 3)
    # The losses fall, so the best is the picture after the last step.
    np.testing.assert_array_equal(data.to_uint8(image, make_network().mean_pixel), result)
    assert not any("vgg" in name or "conv" in name for name in reader.get_variable_to_shape_map())
    measures = json.loads((folder / "metrics.json").read_text())
    assert set(measures) == {"content", "style", "tv", "total", "gram_distance"}
    printed = capsys.readouterr().out
    assert "44 x 32 pixels need about 1." in printed
    values = {name: float("%g" % value) for name, value in measures.items()}
    report = "report: %s\n" % (folder / "report.html")
    assert printed.endswith("the best picture has\n%s\n" % progress.loss_lines(values) + report)
    first = _Step()  # the measures are those of the picture that is the best
    assert measures["total"] < first.run(first.graph.losses)["total"]
    image = read_image(str(tmp_path / "progress.png"))
    assert image.shape == (500, 800, 3)
    assert image.std() > 10


def test_scales_hand_the_picture_on(tmp_path):
    initial = draw_picture(np.random.RandomState(7), 40, 50)
    words = {"iterations": (2, 3), "scales": (30, 44), "initial_noiseblend": 0.0}
    words.update(learning_rate=0.0, progress_write=True, content=("x.jpg",))
    result, written = _stylise(tmp_path, _pictures(initial=initial), **words)
    np.testing.assert_array_equal(result, written)
    # Without a learning rate the picture of the first scale is the start.
    wanted = data.resize(data.resize(initial, 21, 30), 32, 44)
    np.testing.assert_array_equal(result, wanted)
    assert np.abs(data.resize(initial, 32, 44).astype(int) - wanted).max() > 5
    folder = tmp_path / "a.run"
    assert sorted(os.listdir(str(folder))) == ["1-30", "2-44", "metrics.json"]
    assert checkpoint_steps(str(folder / "1-30"), "model") == [2]
    assert checkpoint_steps(str(folder / "2-44"), "model") == [3]
    lines = (tmp_path / "progress.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["itr", "1", "2", "3", "4", "5"]
    again, _ = _stylise(tmp_path, _pictures(initial=initial), **dict(words, continue_train=True))
    np.testing.assert_array_equal(again, result)  # both are complete


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_a_run_that_goes_on_ends_as_one_in_one_go(optimizer, tmp_path, monkeypatch):
    words = {"optimizer": optimizer, "save_iterations": 3, "progress_write": True}
    whole = _stylise(tmp_path / "whole", iterations=(6,), **words)[0]
    _stylise(tmp_path / "longer", iterations=(3,), **words)
    with pytest.raises(UserError, match="holds a run up to step 3; add --continue_train"):
        _stylise(tmp_path / "longer", iterations=(6,), **words)
    lines = progress.Reporter.lines

    def stop(self, step, values):
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return lines(self, step, values)

    monkeypatch.setattr(progress.Reporter, "lines", stop)
    stopped, written = _stylise(tmp_path / "stopped", iterations=(6,), **words)
    assert stopped is None
    assert np.abs(written.astype(int) - whole).max() > 0
    assert not (tmp_path / "stopped" / "a.run" / "metrics.json").exists()
    monkeypatch.undo()
    for name in ("longer", "stopped"):
        again = _stylise(tmp_path / name, iterations=(6,), continue_train=True, **words)[0]
        np.testing.assert_array_equal(again, whole)
        for file in ("a.png", "a.progress.txt", os.path.join("a.run", "metrics.json")):
            wanted = (tmp_path / "whole" / file).read_bytes()
            assert (tmp_path / name / file).read_bytes() == wanted, file


def test_a_learning_rate_that_is_absurd_is_told_and_the_best_picture_is_there(tmp_path):
    text = "(total|content|style|tv) is (inf|nan) at step 2.*learning rate may help.*The best"
    with pytest.raises(UserError, match=text):
        _stylise(tmp_path, iterations=(5,), learning_rate=1e30, initial_noiseblend=0.0)
    np.testing.assert_array_equal(read_image(str(tmp_path / "a.png")), _pictures().content)


def test_a_layer_that_is_silent_for_the_style_does_no_harm(tmp_path):
    network = make_network()
    kernel, bias = network.layers["conv3_1"]
    network.layers["conv3_1"] = 0 * kernel, 0 * bias - 1
    _stylise(tmp_path, network=network, iterations=(2,))
    measures = json.loads((tmp_path / "a.run" / "metrics.json").read_text())
    assert measures["style"] > 0


def test_lines_of_the_log_have_the_documented_form():
    values = {"content": 1234567.0, "style": 0.5, "tv": 12.25, "total": 1e-7}
    first, second, *rest = progress.Reporter(1, 10).lines(5, values).split("\n")
    gap = r"0\.\d{9}"
    assert re.match(
        r"^Iteration    5/  10 \(0 sec elapsed, 0 sec remaining, %s gap\)$" % gap, first
    )
    assert re.match("^sec/step: %s$" % gap, second)
    assert rest == [
        " content loss: 1.23457e+06",
        "   style loss: 0.5",
        "      tv loss: 12.25",
        "   total loss: 1e-07",
    ]


def test_times_of_the_log_count_the_steps_of_this_run(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    reporter, values = progress.Reporter(11, 40), dict.fromkeys(training.LOSSES, 1.5)
    for step, later, times in (
        (15, 110.0, "10 sec elapsed, 50 sec remaining, 2.000000000"),
        (20, 120.5, "20 sec elapsed, 41 sec remaining, 2.100000000"),
    ):
        now[0] = later
        line = reporter.lines(step, values).split("\n")[0]
        assert line == "Iteration %4d/  40 (%s gap)" % (step, times)


def test_tables_continue_over_scales(tmp_path):
    rng, table = np.random.RandomState(0), []
    for name, steps in (("1", (2, 4, 5, 4, 5)), ("2", (2, 3))):  # steps 4 and 5 were done twice
        records = [dict(zip(training.LOSSES, rng.uniform(1, 1e6, 4)), step=step) for step in steps]
        text = "".join(json.dumps(record) + "\n" for record in records)
        write_text(str(tmp_path / name / "log.jsonl"), text)
        table += records
    config = Config(progress_write=True, content=("x.jpg",))
    progress.write(config, str(tmp_path / "a.jpg"), [str(tmp_path / name) for name in "12"])
    lines = (tmp_path / "progress.txt").read_text().splitlines()
    assert lines[0] == "itr content style tv total"
    assert [line.split()[0] for line in lines[1:]] == ["2", "4", "5", "7", "8"]
    for line, record in zip(lines[1:], table[:1] + table[3:]):
        assert line.split()[1:] == ["%g" % record[name] for name in training.LOSSES]
    assert not (tmp_path / "progress.png").exists()
    for content in (("a.jpg", "b.jpg"), (str(tmp_path),), ("clip.mp4",)):
        config = Config(progress_write=True, content=content)
        progress.write(config, str(tmp_path / "a.jpg"), [str(tmp_path / "1")])
        (tmp_path / "a.progress.txt").unlink()
