# SPDX-License-Identifier: Apache-2.0
"""Checkpoint, frozen .pb and .onnx: the same pictures from each, and what cannot be used."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from harness.errors import UserError
from harness.files import write_json
from stargan import serving
from stargan.config import Config
from stargan.labels import Labelled, Source
from tf_runtime.checkpoints import CheckpointError
from tf_runtime.device import choose

NAMES = ("Blond_Hair", "Male")
SMALL = {"image_size": 32, "d_repeat_num": 5, "g_conv_dim": 4, "g_repeat_num": 2}
CPU = {"device": "cpu", "precision_mode": "force_fp32"}
CONFIG = Config(selected_attrs=NAMES, batch_size=4, **CPU, **SMALL)


def _source(kind, names):
    nothing = Labelled([], np.zeros([0, len(names)], np.float32))
    return Source(kind, tuple(names), nothing, nothing)


SOURCES = [_source("celeba", NAMES)]
BOTH = [_source("celeba", NAMES), _source("classes", ("angry", "happy", "sad"))]


def _save(path, sources=SOURCES, config=CONFIG):
    """Writes a checkpoint of a generator with drawn weights, none of them zero or one."""
    rng = np.random.RandomState(1)
    with tf.Graph().as_default(), tf.Session() as session:
        serving.build_inference(config, sources)
        session.run(tf.global_variables_initializer())
        for variable in tf.global_variables():
            value = session.run(variable)
            variable.load(value + rng.normal(0, 0.1, value.shape).astype(np.float32), session)
        tf.train.Saver().save(session, str(path), write_meta_graph=False)
    return str(path)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A checkpoint with nothing beside it; tests leave it as it is."""
    return _save(tmp_path_factory.mktemp("published") / "StarGAN.model")


@pytest.fixture
def run(published, tmp_path):
    """The output folder of a run with two checkpoints, its options and its labels."""
    folder = tmp_path / "run" / "checkpoint"
    folder.mkdir(parents=True)
    for name in ("model-9", "model-10"):
        for ending in (".index", ".data-00000-of-00001"):
            shutil.copy(published + ending, str(folder / (name + ending)))
    options = dataclasses.asdict(dataclasses.replace(CONFIG, crop_size=100))
    write_json(str(folder / "config.json"), {"options": options})
    write_json(str(folder / "labels.json"), serving.describe_sources(SOURCES))
    return str(tmp_path / "run")


def _batch(count, width=2, seed=0):
    """Returns drawn pictures in [-1, 1] and labels of 0 and 1."""
    rng = np.random.RandomState(seed)
    pictures = rng.uniform(-1, 1, (count, 32, 32, 3)).astype(np.float32)
    return pictures, rng.randint(0, 2, (count, width)).astype(np.float32)


def _translate(translator, *batch):
    with translator as translate:
        return translate(*batch)


def _by_checkpoint(path, *batch, config=CONFIG, sources=SOURCES):
    translator = serving.CheckpointTranslator(config, sources, path, choose(config))
    return _translate(translator, *batch)


def _in_session(path, pictures, labels, sources=SOURCES, minimal=False, batch=None):
    """What the plain graph gives, without a translator."""
    with tf.Graph().as_default(), tf.Session() as session:
        words = (CONFIG, sources, batch, minimal)
        x, c, output = serving.build_inference(*words)
        tf.train.Saver().restore(session, path)
        return session.run(output, {x: pictures, c: labels})


@pytest.mark.parametrize(
    ("ending", "translator", "tolerance"),
    [("pb", serving.GraphTranslator, 1e-5), ("onnx", serving.OnnxTranslator, 1e-4)],
)
def test_an_exported_file_gives_what_the_checkpoint_gives(
    published, tmp_path, ending, translator, tolerance
):
    path = str(tmp_path / "new" / "out" / ("g." + ending))
    serving.export(CONFIG, SOURCES, published, path)
    expected = _in_session(published, *_batch(5))
    assert expected.std() > 0.1
    result = _translate(translator(CONFIG, SOURCES, path, choose(CONFIG)), *_batch(5))
    np.testing.assert_allclose(result, expected, atol=tolerance)
    other = _batch(5)[0], 1 - _batch(5)[1]  # the labels do enter
    result = _translate(translator(CONFIG, SOURCES, path, choose(CONFIG)), *other)
    assert np.abs(result - expected).max() > 100 * tolerance
    np.testing.assert_allclose(result, _in_session(published, *other), atol=tolerance)
    names = sorted(os.listdir(str(tmp_path / "new" / "out")))
    assert names == ["g." + ending, "g.%s.json" % ending]


def test_the_graph_has_the_documented_nodes_and_any_batch(published, tmp_path):
    path = str(tmp_path / "g.pb")
    serving.export(CONFIG, SOURCES, published, path)
    with tf.Graph().as_default() as graph, tf.Session() as session:
        nodes = ["x_real:0", "c_trg:0", "G/Tanh:0"]
        found = tf.import_graph_def(serving.read_graph(path), return_elements=nodes, name="")
        images, labels, output = found
        assert images.shape.as_list() == [None, 32, 32, 3]
        assert labels.shape.as_list() == [None, 2]
        assert not [node for node in graph.as_graph_def().node if "Variable" in node.op]
        assert not [node for node in graph.as_graph_def().node if node.device]
        for count in (1, 3):
            feed = dict(zip((images, labels), _batch(count)))
            assert session.run(output, feed).shape == (count, 32, 32, 3)


def test_the_onnx_file_has_the_documented_names(published, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    path = str(tmp_path / "g.onnx")
    serving.export(CONFIG, SOURCES, published, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = {one.name: one.shape[1:] for one in session.get_inputs()}
    assert inputs == {"x_real:0": [32, 32, 3], "c_trg:0": [2]}
    assert [one.name for one in session.get_outputs()] == ["G/Tanh:0"]
    feed = dict(zip(("x_real:0", "c_trg:0"), _batch(3)))
    assert session.run(None, feed)[0].shape == (3, 32, 32, 3)


@pytest.mark.parametrize("count", [1, 4, 7])
def test_any_number_of_pictures_goes_through_a_fixed_batch(published, count):
    single = dataclasses.replace(CONFIG, batch_size=1)
    expected = _by_checkpoint(published, *_batch(count), config=single)
    assert expected.shape == (count, 32, 32, 3)
    result = _by_checkpoint(published, *_batch(count))
    np.testing.assert_allclose(result, expected, atol=1e-4)
    np.testing.assert_allclose(result, _in_session(published, *_batch(count)), atol=1e-3)


def test_minimal_filtering_gives_what_plain_convolutions_give(published):
    plain = _in_session(published, *_batch(4), batch=4)
    minimal = _in_session(published, *_batch(4), batch=4, minimal=True)
    np.testing.assert_allclose(minimal, plain, atol=1e-3)
    assert np.any(minimal != plain)  # it is another computation
    assert plain.std() > 0.1


def test_labels_of_two_data_sets_and_a_mask_enter(tmp_path):
    path = _save(tmp_path / "model-1", BOTH)
    assert serving.label_width(BOTH) == 2 + 3 + 2
    exported = str(tmp_path / "g.pb")
    serving.export(CONFIG, BOTH, path, exported)
    batch = _batch(5, 7)
    result = _translate(serving.GraphTranslator(CONFIG, BOTH, exported, choose(CONFIG)), *batch)
    expected = _by_checkpoint(path, *batch, sources=BOTH)
    np.testing.assert_allclose(result, expected, atol=1e-3)
    _, sources = serving.load_export(Config(), set(), exported)
    assert [(one.kind, one.names) for one in sources] == [(one.kind, one.names) for one in BOTH]


def test_the_json_beside_an_export_names_labels_and_sizes(published, tmp_path):
    path = str(tmp_path / "g.pb")
    config = dataclasses.replace(CONFIG, crop_size=120)
    serving.export(config, SOURCES, published, path)
    with open(path + ".json") as file:
        values = json.load(file)
    assert values["labels"] == [{"kind": "celeba", "names": list(NAMES)}]
    expected = {"dataset": "celeba", "selected_attrs": list(NAMES), "image_size": 32}
    expected.update(num_test=-1, crop_size=120, g_conv_dim=4, g_repeat_num=2, d_repeat_num=5)
    assert values["options"] == expected
    config, sources = serving.load_export(Config(), set(), path)
    assert (config.image_size, config.crop_size, config.selected_attrs) == (32, 120, NAMES)
    assert sources[0].names == NAMES
    with pytest.raises(UserError, match=r"--image_size 64: .*g\.pb was trained with 32; leave"):
        serving.load_export(Config(image_size=64), {"image_size"}, path)


def test_options_and_labels_are_those_of_the_run(run):
    given = Config(output_dir=run, batch_size=2)
    checkpoint = serving.find_checkpoint(given)
    assert checkpoint == os.path.join(run, "checkpoint", "model-10")
    config, sources = serving.load_training(given, {"output_dir", "batch_size"}, checkpoint)
    for name in ("image_size", "g_conv_dim", "g_repeat_num", "selected_attrs", "dataset"):
        assert getattr(config, name) == getattr(CONFIG, name), name
    assert (config.crop_size, config.batch_size, config.output_dir) == (100, 2, run)
    assert (sources[0].kind, sources[0].names) == ("celeba", NAMES)
    assert _by_checkpoint(checkpoint, *_batch(3), config=config, sources=sources).std() > 0.1


def test_the_defaults_of_the_command_line_are_no_contradiction(run):
    checkpoint = os.path.join(run, "checkpoint", "model-9")
    same = Config(image_size=32, d_repeat_num=5)
    assert serving.load_training(same, {"image_size"}, checkpoint)[0].g_conv_dim == 4
    config = serving.load_training(Config(), set(), checkpoint)[0]
    assert (config.selected_attrs, config.d_repeat_num) == (NAMES, 5)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("image_size", 128, r"--image_size 128: .*model-10 was trained with 32; leave"),
        ("g_conv_dim", 64, r"--g_conv_dim 64: .*model-10 was trained with 4; leave"),
        ("crop_size", 178, r"--crop_size 178: .*model-10 was trained with 100; leave"),
        ("dataset", "both", r"--dataset both: .*model-10 was trained with celeba; leave"),
        (
            "selected_attrs",
            ("Male", "Blond_Hair"),
            r"--selected_attrs Male Blond_Hair: .*model-10 was trained with Blond_Hair Male; leave",
        ),
    ],
)
def test_an_option_that_contradicts_the_training_is_refused(run, name, value, sentence):
    config = Config(output_dir=run, **{name: value})
    with pytest.raises(UserError, match=sentence):
        serving.load_training(config, {name}, serving.find_checkpoint(config))


def test_a_published_checkpoint_takes_the_command_line(published):
    given = {"selected_attrs", "image_size", "g_conv_dim", "g_repeat_num", "checkpoint"}
    config = dataclasses.replace(CONFIG, checkpoint=published)
    assert serving.find_checkpoint(config) == published
    loaded, sources = serving.load_training(config, given, published)
    assert loaded == config
    assert [(one.kind, one.names) for one in sources] == [("celeba", NAMES)]
    assert _by_checkpoint(published, *_batch(2), config=loaded, sources=sources).std() > 0.1


def test_a_checkpoint_is_named_by_path_or_within_its_run(run, tmp_path, monkeypatch):
    monkeypatch.chdir(str(tmp_path))
    within = os.path.join(run, "checkpoint", "model-9")
    for name, found in (
        ("", os.path.join(run, "checkpoint", "model-10")),
        ("model-9", within),
        ("model-9.index", within),
        (within, within),
        (within + ".index", within),
        (os.path.join("run", "checkpoint", "model-9"), os.path.join("run/checkpoint/model-9")),
    ):
        assert serving.find_checkpoint(Config(output_dir=run, checkpoint=name)) == found
    text = r"--checkpoint model-7: there is no model-7\.index, here or in .*run/checkpoint"
    with pytest.raises(UserError, match=text):
        serving.find_checkpoint(Config(output_dir=run, checkpoint="model-7"))


def test_no_checkpoint_says_where_it_looked(tmp_path):
    folder = str(tmp_path / "x")
    with pytest.raises(UserError, match=r"no checkpoint in .*x/checkpoint; .*it does not exist"):
        serving.find_checkpoint(Config(output_dir=folder))
    (tmp_path / "x").mkdir()
    with pytest.raises(UserError, match=r"it holds nothing"):
        serving.find_checkpoint(Config(output_dir=folder))
    (tmp_path / "x" / "results").mkdir()
    (tmp_path / "x" / "notes.txt").write_text("")
    with pytest.raises(UserError, match=r"--output_dir .*x: it holds notes\.txt, results"):
        serving.find_checkpoint(Config(output_dir=folder))


@pytest.mark.parametrize("name", [".data-00000-of-00001", ".index"])
def test_a_damaged_checkpoint_is_an_error(run, name):
    path = os.path.join(run, "checkpoint", "model-10")
    with open(path + name, "r+b") as file:
        file.truncate(50)
    with pytest.raises(CheckpointError, match=r"model-10 is damaged or no checkpoint"):
        _by_checkpoint(path, *_batch(1))


@pytest.mark.parametrize("name", ["config.json", "labels.json"])
def test_damaged_settings_of_a_run_are_named(run, name):
    path = os.path.join(run, "checkpoint", name)
    with open(path, "r+") as file:
        file.truncate(20)
    with pytest.raises(UserError, match=r"%s is damaged" % name):
        serving.load_training(Config(), set(), os.path.join(run, "checkpoint", "model-10"))


def test_a_checkpoint_of_another_network_is_an_error(published, tmp_path):
    wider = dataclasses.replace(CONFIG, g_conv_dim=8)
    with pytest.raises(CheckpointError, match=r"does not fit: G/conv/conv2d/kernel is \[7, 7, 5"):
        _by_checkpoint(published, *_batch(1), config=wider)
    deeper = dataclasses.replace(CONFIG, g_repeat_num=3)
    with pytest.raises(CheckpointError, match=r"has no G/resblock_2/.*belongs to another network"):
        _by_checkpoint(published, *_batch(1), config=deeper)
    with pytest.raises(CheckpointError, match=r"does not fit: G/conv/conv2d/kernel"):
        serving.export(CONFIG, BOTH, published, str(tmp_path / "g.pb"))
    with tf.Graph().as_default(), tf.Session() as session:
        tf.get_variable("foreign", [3])
        session.run(tf.global_variables_initializer())
        foreign = tf.train.Saver().save(session, str(tmp_path / "other"), write_meta_graph=False)
    with pytest.raises(CheckpointError, match=r"other has no G/conv/conv2d/kernel"):
        _by_checkpoint(foreign, *_batch(1))
    assert not os.path.exists(str(tmp_path / "g.pb"))


def _use(translator, path):
    return _translate(translator(CONFIG, SOURCES, str(path), choose(CONFIG)), *_batch(1))


@pytest.mark.parametrize("content", [b"", b"no graph at all", None])
@pytest.mark.parametrize("ending", ["pb", "onnx"])
def test_a_file_that_is_no_model_is_an_error(tmp_path, ending, content):
    path = tmp_path / ("x." + ending)
    if content is not None:
        path.write_bytes(content)
    both = {"pb": serving.GraphTranslator, "onnx": serving.OnnxTranslator}
    with pytest.raises(UserError, match=r"x\.%s" % ending) as caught:
        _use(both[ending], path)
    assert "\n" not in str(caught.value)


def test_a_graph_with_other_nodes_is_an_error(tmp_path):
    with tf.Graph().as_default() as graph:
        tf.identity(tf.placeholder(tf.float32, [None, 2], "x"), "y")
        (tmp_path / "x.pb").write_bytes(graph.as_graph_def().SerializeToString())
    with pytest.raises(UserError, match=r"x\.pb does not have the nodes x_real, c_trg and G/Tanh"):
        _use(serving.GraphTranslator, tmp_path / "x.pb")


def test_an_onnx_model_with_other_inputs_is_an_error(tmp_path):
    tf2onnx = pytest.importorskip("tf2onnx")
    with tf.Graph().as_default() as graph:
        tf.identity(tf.placeholder(tf.float32, [None, 2], "x"), "y")
        words = {"input_names": ["x:0"], "output_names": ["y:0"], "opset": serving.OPSET}
        model, _ = tf2onnx.convert.from_graph_def(graph.as_graph_def(), **words)
    (tmp_path / "x.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=r"x\.onnx takes x:0; .* takes x_real:0 and c_trg:0"):
        _use(serving.OnnxTranslator, tmp_path / "x.onnx")


@pytest.mark.parametrize("ending", ["pb", "onnx"])
def test_pictures_and_labels_must_be_those_of_the_exported_network(published, tmp_path, ending):
    path = str(tmp_path / ("g." + ending))
    serving.export(CONFIG, SOURCES, published, path)
    translator = {"pb": serving.GraphTranslator, "onnx": serving.OnnxTranslator}[ending]
    larger = dataclasses.replace(CONFIG, image_size=64)
    for config, sources in ((larger, SOURCES), (CONFIG, BOTH)):
        with pytest.raises(UserError, match=r"keep its \.json beside it, or give --image_size"):
            translator(config, sources, path, choose(CONFIG)).__enter__()


def test_the_split_of_the_training_is_kept_for_testing():
    stored = {"num_test": 7, "image_size": 64}
    assert serving.trained_config(Config(), set(), stored, "x").num_test == 7
    assert serving.trained_config(Config(num_test=3), {"num_test"}, stored, "x").num_test == 3
