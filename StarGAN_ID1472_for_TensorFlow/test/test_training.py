# SPDX-License-Identifier: Apache-2.0
"""The training step, and that a stopped, killed or damaged run ends as an undisturbed one."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import ATTRIBUTES, FOLDER, TINY, draw_celeba, draw_classes, run
from PIL import Image

from harness.errors import UserError
from harness.options import parse
from harness.platform_options import PlatformOptions
from stargan import losses, networks, training
from stargan.config import Config
from tf_runtime import device as devices
from tf_runtime.checkpoints import checkpoint_steps
from tf_runtime.ranks import Group
from tf_runtime.run import NotFiniteError

OPTIONS = {"image_size": 64, "batch_size": 3, "g_conv_dim": 4, "d_conv_dim": 4, "g_repeat_num": 1}
SMALL = Config(lambda_cls=2.0, lambda_rec=3.0, lambda_gp=5.0, **OPTIONS)
GROUP = Group(0, 1, (), "cpu")


def _by_hand(graph):
    """Returns (losses of the discriminator, of the generator) as a graph of their own."""

    def judge(images):
        return networks.discriminator(images, 3, 4)

    fakes = networks.generator(graph.images, graph.targets, 4, 1)
    (real_src, real_cls), (fake_src, fake_cls) = judge(graph.images), judge(fakes)
    weights = tf.reshape(graph.mixing, [3, 1, 1, 1])
    x_hat = weights * graph.images + (1 - weights) * fakes
    own = networks.generator(fakes, graph.labels, 4, 1)  # back to the picture's own labels

    def entropy(cls, labels):
        each = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=cls)
        return tf.reduce_sum(each) / 3

    of_d = [-tf.reduce_mean(real_src), tf.reduce_mean(fake_src), entropy(real_cls, graph.labels)]
    of_d.append(losses.gradient_penalty(lambda x: judge(x)[0], x_hat))
    of_g = [-tf.reduce_mean(fake_src), tf.reduce_mean(tf.abs(graph.images - own))]
    of_g.append(entropy(fake_cls, graph.targets))
    of_d.append(of_d[0] + of_d[1] + 2 * of_d[2] + 5 * of_d[3])
    of_g.append(of_g[0] + 3 * of_g[1] + 2 * of_g[2])
    return dict(zip(training.D_LOSSES, of_d)), dict(zip(training.G_LOSSES, of_g))


class _Step:
    """A step graph, a session, a way back to the start, and the same losses by hand."""

    def __init__(self, mixed):
        device = devices.Device("cpu", mixed, PlatformOptions(), 1)
        self.mixed, rng = mixed, np.random.RandomState(0)
        with tf.Graph().as_default():
            self.graph = training.build_step(SMALL, [("celeba", 3)], device, GROUP)
            self.d_by_hand, self.g_by_hand = _by_hand(self.graph)
            self.d, self.g = (tf.trainable_variables(scope) for scope in ("D/", "G/"))
            self._all = tf.global_variables()
            self.session = tf.Session(config=devices.session_config(device))
            self.session.run(tf.global_variables_initializer())
        self.start = dict(zip(self._all, self.session.run(self._all)))
        for variable in self.d:
            self.start[variable] *= 2.5  # so that it tells pictures apart
        self.feed = {
            self.graph.images: rng.uniform(-1, 1, [3, 64, 64, 3]),
            self.graph.labels: [[1, 0, 0], [0, 1, 1], [0, 0, 1]],
            self.graph.targets: [[0, 0, 1], [1, 0, 0], [0, 1, 1]],
            self.graph.mixing: rng.uniform(size=3),
            self.graph.learning_rate: 0.01,
        }

    def restore(self, variables=None):
        for variable in variables or self._all:
            variable.load(self.start[variable], self.session)

    def run(self, fetches, feed=()):
        return self.session.run(fetches, {**self.feed, **dict(feed)})

    def changed(self):
        """Returns which of the networks' variables are not as at first."""
        values = self.session.run(self.d + self.g)
        return {v for v, value in zip(self.d + self.g, values) if np.any(value != self.start[v])}


@pytest.fixture(scope="module", params=["", "bfloat16"])
def step_of(request):
    if request.param and not devices.cpu_has_bfloat16():
        pytest.skip("neither this CPU nor this TensorFlow may have bfloat16")
    tf.disable_v2_behavior()
    made = _Step(request.param)
    with made.session:
        yield made


@pytest.fixture
def my(step_of):
    step_of.restore()
    return step_of


def _assert_close(values, expected, tolerance):
    assert list(values) == list(expected)
    for name in values:
        np.testing.assert_allclose(values[name], expected[name], tolerance, tolerance, err_msg=name)


def test_the_losses_of_the_discriminator_are_those_before_its_step(my):
    alone = my.run(my.graph.d_losses)
    _assert_close(alone, my.run(my.d_by_hand), 0.03 if my.mixed else 1e-4)
    for train, others in ((my.graph.d_train, {}), (my.graph.g_train, my.graph.g_losses)):
        my.restore()
        together, _, _ = my.run([my.graph.d_losses, train, others])
        _assert_close(together, alone, 0.03 if my.mixed else 1e-5)
    after = my.run(my.graph.d_losses)
    for name in alone:
        assert abs(after[name] - alone[name]) > 0.1 * abs(alone[name]), name  # it would be seen


def test_the_generator_steps_against_the_updated_discriminator(my):
    old = my.run(my.g_by_hand)
    values, _ = my.run([my.graph.g_losses, my.graph.g_train])
    my.restore(my.g)
    new = my.run(my.g_by_hand)  # the generator before its step, the new discriminator
    assert min(abs(new[name] - old[name]) for name in ("G/loss_fake", "G/loss_cls")) > 0.01
    _assert_close(values, new, 2e-3 if my.mixed else 1e-4)


def test_which_step_changes_which_variables(my):
    my.run(my.graph.d_train)
    assert my.changed() == set(my.d)
    first = my.session.run(my.d)
    my.restore()
    my.run(my.graph.g_train)
    assert my.changed() == set(my.d + my.g)
    for one, other in zip(first, my.session.run(my.d)):
        np.testing.assert_allclose(one, other, atol=1e-4)  # one step, not two


def test_which_loss_uses_which_labels(my):
    graph = my.graph
    fetches = [dict(graph.d_losses, **graph.g_losses), graph.g_train]
    of_targets = "D/loss_fake D/loss_gp D_loss G/loss_fake G/loss_rec G/loss_cls G_loss"
    uses = [
        (graph.labels, my.feed[graph.labels][::-1], "D/loss_cls D_loss G/loss_rec G_loss"),
        (graph.targets, my.feed[graph.targets][::-1], of_targets),
        (graph.mixing, np.zeros(3), "D/loss_gp D_loss"),
    ]
    values, _ = my.run(fetches, {graph.learning_rate: 0})
    for placeholder, other, names in uses:
        others, _ = my.run(fetches, {graph.learning_rate: 0, placeholder: other})
        assert {name for name in values if values[name] != others[name]} == set(names.split())


def _rates(steps, **options):
    config = Config(init_learning_rate=1.0, **options)
    return [training.learning_rate(config, step, 2000) for step in steps]


def test_the_paper_s_learning_rate_is_constant_and_then_falls_to_zero():
    np.testing.assert_allclose(_rates([1, 500, 1000, 1010]), 1)
    np.testing.assert_allclose(_rates([1011, 1020, 1501, 1991]), [0.99, 0.99, 0.5, 0.01])
    np.testing.assert_allclose(_rates([1000, 1001, 1002], lr_update_step=1), [1, 1, 0.999])
    np.testing.assert_allclose(_rates([1500, 1751], num_step_decay=500), [1, 0.5])
    short = Config(init_learning_rate=1.0, num_step_decay=100_000)
    assert [training.learning_rate(short, step, 2000) for step in (1, 1001)] == [1, 0.5]
    assert training.learning_rate(Config(), 1, 1) == Config().init_learning_rate == 1e-4


def test_the_published_learning_rate_hardly_falls():
    legacy = {"lr_decay": "legacy"}
    np.testing.assert_allclose(_rates([1, 1000, 1010], **legacy), 1)
    np.testing.assert_allclose(_rates([1011, 1501, 2000], **legacy), [0.999, 0.95, 0.901])
    rates = _rates([1510, 1511, 2000], num_step_decay=500, **legacy)
    np.testing.assert_allclose(rates, [1, 0.998, 1 - 49 / 500])


def _train(dataset, out, steps, *more):
    words = ["--phase=train", "--data_path=%s" % dataset, "--training_iterations=%d" % steps]
    words += ["--selected_attrs"] + list(ATTRIBUTES) + TINY + ["--output_dir=%s" % out]
    words += ["--d_train_repeat=2", "--checkpoint_steps=1", "--keep_checkpoints=4"]
    return words + ["--save_steps=4", "--seed=3"] + list(more)


DEFAULT = "--precision_mode=allow_mix_precision"


def _main(*words):
    """Trains in a process of its own, whose threads are those that users get."""
    done = run("main.py", *words, cwd=FOLDER)
    assert done.returncode == 0, done.stdout
    return done.stdout


def _in_process(*words):
    with tf.Graph().as_default():
        training.train(parse(Config, list(words))[0])


def _tensors(out, step):
    reader = tf.train.NewCheckpointReader(str(out / "checkpoint" / ("model-%d" % step)))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def _different(a, b):
    assert set(a) == set(b)
    return [name for name in a if a[name].tobytes() != b[name].tobytes()]


def _labels(out):
    return json.loads((out / "checkpoint" / "labels.json").read_text())


def _sample(out, step):
    with Image.open(str(out / "sample" / ("train_stargan_%06d.png" % step))) as image:
        return image.size


def _records(out):
    return [json.loads(line) for line in (out / "checkpoint" / "log.jsonl").open()]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """(data set, output folder, what was printed) of 6 steps in one go, default precision."""
    folder = tmp_path_factory.mktemp("undisturbed")
    dataset = draw_celeba(folder / "data")
    return dataset, folder / "out", _main(*_train(dataset, folder / "out", 6, DEFAULT))


def test_a_run_leaves_checkpoints_samples_log_and_summaries(undisturbed):
    _, out, _ = undisturbed
    folder = out / "checkpoint"
    assert checkpoint_steps(str(folder), "model") == [3, 4, 5, 6]
    names = "checkpoint config.json labels.json log.jsonl report.html samples.jsonl training.json"
    assert {p.name for p in folder.iterdir() if "model-" not in p.name} == set(names.split())
    assert _labels(out) == [{"kind": "celeba", "names": list(ATTRIBUTES)}]
    samples = ["train_stargan_000004.png", "train_stargan_000006.png"]
    assert sorted(os.listdir(str(out / "sample"))) == samples
    assert _sample(out, 6) == ((1 + 3) * 66, 20 + 2 * 66)  # 2 test pictures, 3 translations
    assert any("tfevents" in name for name in os.listdir(str(out / "summary")))
    summary = json.loads((folder / "training.json").read_text())
    assert (summary["steps"], summary["batch"], summary["stopped"]) == (6, 4, False)
    assert _tensors(out, 6)["global_step"] == 6


def test_the_log_has_the_documented_lines_with_the_losses_of_their_steps(undisturbed):
    _, out, printed = undisturbed
    for step in range(1, 7):
        names = training.D_LOSSES + (() if step % 2 else training.G_LOSSES) + ("Perf",)
        shown = " , ".join(r"%s: -?\d+\.\d{4}" % name for name in names)
        line = r"(?m)^Elapsed \[0:\d\d:\d\d\], Iteration \[%d/6\], %s$" % (step, shown)
        assert len(re.findall(line, printed)) == 1
    records = _records(out)
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]
    assert ["G_loss" in record for record in records] == [False, True] * 3
    assert len({record["D_loss"] for record in records}) == 6
    assert {record["learning_rate"] for record in records} == {1e-4}  # it falls every tenth step


def test_only_every_second_step_changes_the_generator(undisturbed):
    after = {step: _tensors(undisturbed[1], step) for step in (3, 4, 5, 6)}
    for step in (4, 5, 6):
        changed = set(_different(after[step - 1], after[step]))
        of_g = {name for name in after[step] if name.startswith(("G/", "generator_train"))}
        of_d = {name for name in after[step] if name.startswith(("D/", "discriminator_train"))}
        assert of_g | of_d | {"global_step"} == set(after[step])
        assert changed == of_d | {"global_step"} | (set() if step == 5 else of_g)


def test_two_runs_of_a_command_are_bit_identical(undisturbed, tmp_path):
    dataset, reference, _ = undisturbed
    _main(*_train(dataset, tmp_path, 6, DEFAULT))
    assert _different(_tensors(reference, 6), _tensors(tmp_path, 6)) == []
    samples = [out / "sample" / "train_stargan_000006.png" for out in (reference, tmp_path)]
    assert samples[0].read_bytes() == samples[1].read_bytes()


def test_full_precision_resumes_bit_identical(celeba, tmp_path):
    for out, parts in (("whole", (4,)), ("parts", (1, 4))):
        for steps in parts:
            _in_process(*_train(celeba, tmp_path / out, steps, "--continue_train"))
    assert _different(*(_tensors(tmp_path / out, 4) for out in ("whole", "parts"))) == []


def test_a_terminated_run_saves_exits_0_and_goes_on_bit_identical(undisturbed, tmp_path):
    dataset, reference, _ = undisturbed
    words = _train(dataset, tmp_path, 6, DEFAULT, "--checkpoint_steps=0")
    command = [sys.executable, os.path.join(FOLDER, "main.py")] + words
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "Iteration [1/" in line:
            process.send_signal(signal.SIGTERM)
    assert process.wait() == 0, lines
    stopped = [line for line in lines if line.startswith("stopped at step")]
    assert len(stopped) == 1
    assert int(stopped[0].split()[-1]) < 6
    assert "continuing" in _main(*_train(dataset, tmp_path, 6, DEFAULT, "--continue_train"))
    assert _different(_tensors(reference, 6), _tensors(tmp_path, 6)) == []


def test_after_a_kill_in_mid_save_the_checkpoint_before_is_used(undisturbed, tmp_path):
    dataset, reference, _ = undisturbed
    folder = tmp_path / "checkpoint"
    shutil.copytree(str(reference / "checkpoint"), str(folder))
    (folder / ".saving").mkdir()
    (folder / ".saving" / "model-7.data-00000-of-00001").write_bytes(b"half")
    for step in (5, 6):
        with (folder / ("model-%d.data-00000-of-00001" % step)).open("r+b") as file:
            file.truncate(5000)
    again = _main(*_train(dataset, tmp_path, 6, DEFAULT, "--continue_train"))
    assert "model-6 is damaged" in again
    assert "continuing after step 4" in again
    assert not (folder / ".saving").exists()
    assert _different(_tensors(reference, 6), _tensors(tmp_path, 6)) == []


def test_a_complete_run_is_left_as_it_is(undisturbed, capfd):
    dataset, out, _ = undisturbed

    def state():
        paths = [path for path in sorted(out.rglob("*")) if path.is_file()]
        kept = [path for path in paths if "summary" not in path.parts]
        return {str(path): path.read_bytes() for path in kept if path.name != "config.json"}

    before = state()
    assert len(before) > 10
    _in_process(*_train(dataset, out, 6, DEFAULT))
    assert "is complete: 6 steps" in capfd.readouterr().out
    assert state() == before


def test_a_run_is_neither_overwritten_nor_continued_with_other_settings(undisturbed, tmp_path):
    dataset, reference, _ = undisturbed
    shutil.copytree(str(reference / "checkpoint"), str(tmp_path / "checkpoint"))
    with pytest.raises(UserError, match="holds a run up to step 6; add --continue_train"):
        _in_process(*_train(dataset, tmp_path, 8))
    with pytest.raises(UserError, match=r"settings: --lambda_gp was 10\.0 and is 7\.0; give"):
        _in_process(*_train(dataset, tmp_path, 8, DEFAULT, "--continue_train", "--lambda_gp=7"))


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_checkpoint(celeba, tmp_path):
    words = ["--init_learning_rate=1e30", "--lambda_gp=0"]
    with pytest.raises(NotFiniteError) as caught:
        _in_process(*_train(celeba, tmp_path, 9, *words))
    assert "the last good checkpoint is that of step 1" in str(caught.value)
    assert "at step 2" in str(caught.value)
    assert checkpoint_steps(str(tmp_path / "checkpoint"), "model") == [1]


def test_classes_train(tmp_path):
    dataset = draw_classes(tmp_path / "data", classes=("angry", "happy", "neutral"))
    _in_process(*_train(dataset, tmp_path, 2, "--dataset=classes"))
    assert _labels(tmp_path) == [{"kind": "classes", "names": ["angry", "happy", "neutral"]}]
    assert _tensors(tmp_path, 2)["G/conv/conv2d/kernel"].shape == (7, 7, 6, 4)
    records = _records(tmp_path)
    assert set(training.D_LOSSES + training.G_LOSSES) <= set(records[1])
    assert 0.5 < records[0]["D/loss_cls"] / np.log(3) < 2  # a softmax of small logits
    assert _sample(tmp_path, 2) == ((1 + 3) * 66, 20 + 3 * 66)


def test_both_data_sets_train_in_turn(tmp_path):
    draw_classes(tmp_path / "data")
    dataset = draw_celeba(tmp_path / "data")
    _in_process(*_train(dataset, tmp_path, 3, "--dataset=both", "--save_steps=3"))
    assert [part["kind"] for part in _labels(tmp_path)] == ["celeba", "classes"]
    tensors = _tensors(tmp_path, 3)
    assert tensors["G/conv/conv2d/kernel"].shape == (7, 7, 3 + 3 + 2 + 2, 4)
    assert tensors["D/D_label/conv2d/kernel"].shape == (1, 1, 128, 3 + 2)
    records = _records(tmp_path)
    names = set(training.D_LOSSES + training.G_LOSSES)
    assert names | {"classes/" + name for name in names} <= set(records[1])
    assert {name for name in records[0] if "G" in name} == set()
    assert records[1]["D_loss"] != records[1]["classes/D_loss"]
    assert _sample(tmp_path, 3) == ((1 + 5) * 66, 20 + (2 + 2) * 66)


def test_targets_mixing_and_mask_belong_to_their_data_set(tmp_path):
    draw_classes(tmp_path / "data")
    words = _train(draw_celeba(tmp_path / "data"), tmp_path, 3, "--dataset=both")
    config, mixed = parse(Config, words)[0], []
    sources = training.find_sources(config)
    for number, own in enumerate([slice(0, 3), slice(3, 5)]):
        _, labels, targets, mixing = training.read_batch(sources, number, config, 5, GROUP)
        for values in (labels, targets):
            assert values[:, 5:].tolist() == [[1 - number, number]] * 4
            assert values[:, :5].sum() == values[:, own].sum() > 0
        mixed += mixing.tolist()
    assert len({value for value in mixed if 0 <= value <= 1}) == 8
