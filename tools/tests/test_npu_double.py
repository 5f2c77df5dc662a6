# SPDX-License-Identifier: Apache-2.0
"""The double of npu_bridge: it has what each release has, refuses the rest, and scales losses."""

import importlib
import inspect
import json
import os
import subprocess
import sys

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow.compat.v1")
if not tf.__version__.startswith("1.15"):
    pytest.skip("npu_bridge is for TensorFlow 1.15", allow_module_level=True)

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "npu")
DESCRIPTION = os.path.join(
    os.path.dirname(HERE), "..", "..", "..", "shared", "spec", "npu_bridge_signatures.json"
)
RELEASES = ("r1.5", "r1.10", "master")
MANAGER = "npu_loss_scale_manager"


class Bridge:
    """The double of one release in this process."""

    def __init__(self, record):
        self._record = str(record)

    def __call__(self, module):
        """Returns the module npu_bridge.`module`, which may be the last part of its name."""
        short = ("npu_optimizer", MANAGER, "npu_loss_scale_optimizer", "npu_config")
        prefix = "estimator.npu." if module in short else ""
        return importlib.import_module("npu_bridge." + prefix + module)

    def calls(self):
        """Returns what was recorded."""
        with open(self._record) as file:
            return [json.loads(line) for line in file]


@pytest.fixture
def bridge(monkeypatch, tmp_path):
    """A function of a release: its double; undone at the end."""
    monkeypatch.syspath_prepend(HERE)
    for name in ("RANK_SIZE", "RANK_ID", "JOB_ID", "NPU_BRIDGE_OVERFLOW", "NPU_BRIDGE_EXCHANGE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NPU_BRIDGE_RECORD", str(tmp_path / "calls.jsonl"))
    modules = importlib.import_module("npu_double.modules")

    def load(release):
        monkeypatch.setenv("NPU_BRIDGE_RELEASE", release)
        importlib.import_module("npu_bridge")
        return Bridge(tmp_path / "calls.jsonl")

    with tf.Graph().as_default():
        yield load
    modules.stop()


def _description():
    if not os.path.exists(DESCRIPTION):
        pytest.skip("there is no full description of npu_bridge beside the repository")
    with open(DESCRIPTION, encoding="utf-8") as file:
        return json.load(file)


def test_the_table_is_what_its_program_makes_of_the_full_description(tmp_path):
    description = os.path.abspath(DESCRIPTION)
    _description()
    words = [sys.executable, os.path.join(HERE, "write_releases.py"), description]
    subprocess.run(words + [str(tmp_path / "new.json")], check=True)
    with open(os.path.join(HERE, "releases.json")) as file:
        assert json.loads((tmp_path / "new.json").read_text()) == json.load(file)


@pytest.mark.parametrize("release", RELEASES)
def test_the_table_has_every_argument_and_key_of_the_full_description(release, bridge):
    bridge(release)
    from npu_double import table

    known = _description()["releases"][release]
    assert set(table.modules(release)) == set(known["modules"])
    fields = {key: words["type"] for key, words in known["session_config_keys"].items()}
    assert {key: field for key, (field, _) in table.keys(release).items()} == fields
    seen = 0
    for module, names in known["modules"].items():
        for name, words in names.items():
            pairs = words.get("new", words.get("init", words.get("args")))
            if isinstance(pairs, list):
                entry = table.modules(release)[module][name]
                found = [str(p) for p in table.signature(entry).parameters.values()]
                assert [text.split("=")[0] for text in found] == [pair[0] for pair in pairs]
                seen += 1
    assert seen > 100


@pytest.mark.parametrize(
    ("release", "module", "name"),
    [
        ("r1.5", "npu_bridge.experimental.image", "decode_image"),
        ("r1.10", "npu_bridge.embedding", "EmbeddingService"),
        ("master", "npu_bridge.npu_finish", "npu_finish"),
        ("r1.5", "npu_bridge.estimator.npu.npu_optimizer", "npu_distributed_optimizer_wrapper"),
        ("r1.10", "npu_bridge.estimator.npu.npu_decorator", "npu_keras_var_broadcast_decorator"),
        ("master", "npu_bridge.estimator.npu.npu_config", "GraphParallelConfig"),
    ],
)
def test_what_a_release_does_not_have_cannot_be_imported(bridge, release, module, name):
    bridge(release)
    with pytest.raises(
        ImportError, match="npu_bridge %s has no module|cannot import name" % release
    ):
        exec("from %s import %s" % (module, name), {})


@pytest.mark.parametrize("release", RELEASES)
def test_all_modules_of_a_release_can_be_imported_but_one(bridge, release):
    bridge(release)
    from npu_double import table

    for module in table.modules(release):
        if module == "npu_bridge._api.experimental":
            with pytest.raises(ImportError, match="misspelt"):
                importlib.import_module(module)
        else:
            assert importlib.import_module(module).__name__ == module
    names = {}
    exec("from npu_bridge.npu_init import *", names)
    assert set(table.exports(release)["npu_bridge.npu_init"]) <= set(names)
    assert names["NPUDistributedOptimizer"].__module__ == "npu_bridge.estimator.npu.npu_optimizer"


def test_names_and_arguments_of_the_wrong_release_are_named(bridge):
    npu = bridge("r1.5")
    with pytest.raises(AttributeError, match=r"npu_bridge r1.5: .*npu_config has no MemoryConfig"):
        _ = npu("npu_config").MemoryConfig
    with pytest.raises(TypeError, match=r"npu_bridge r1\.5: .*DumpConfig.*'dump_layer'"):
        npu("npu_config").DumpConfig(dump_layer="conv1")
    with pytest.raises(TypeError, match=r"npu_bridge r1\.5: .*too many positional"):
        npu("npu_optimizer").NPUDistributedOptimizer(None, False, None, None)


def test_what_is_not_simulated_is_recorded_and_says_so(bridge):
    npu = bridge("master")
    with pytest.raises(NotImplementedError, match=r"npu_plugin\.npu_close"):
        npu("estimator.npu.npu_plugin").npu_close()
    with pytest.raises(NotImplementedError, match="DumpConfig"):
        npu("npu_config").DumpConfig(enable_dump=True)
    calls = [(call["call"].split(".")[-1], call["arguments"]) for call in npu.calls()]
    assert calls == [("npu_close", {}), ("DumpConfig", {"enable_dump": "True"})]


@pytest.mark.parametrize(("release", "count"), [("r1.5", 54), ("r1.10", 66), ("master", 76)])
def test_the_options_of_a_release_can_be_inspected(bridge, release, count):
    options = inspect.signature(bridge(release)("npu_config").NPURunConfig).parameters
    assert ("precision_mode_v2" in options) == (release == "master")
    assert len(options) == count
    assert options["iterations_per_loop"].default == 1


def _config(*entries, off=True):
    """Returns a session configuration; each entry is {key: value}, a float goes into field f."""
    config = tf.ConfigProto()
    rewrite = config.graph_options.rewrite_options
    if off:
        rewrite.remapping = rewrite.memory_optimization = 2
    for values in entries:
        optimizer = rewrite.custom_optimizers.add()
        optimizer.name = "NpuOptimizer"
        for key, value in values.items():
            field = {bool: "b", int: "i", str: "s", float: "f"}[type(value)]
            value = value.encode() if field == "s" else value
            setattr(optimizer.parameter_map[key], field, value)
    return config


@pytest.mark.parametrize("release", RELEASES)
def test_a_session_without_an_entry_gets_one_from_r1_10_on(bridge, release):
    npu = bridge(release)
    npu("npu_init")
    with tf.Session(config=tf.ConfigProto(intra_op_parallelism_threads=1)) as session:
        assert session.run(tf.constant(3) + 4) == 7
        rewrite = session._config.graph_options.rewrite_options
    (call,) = [call for call in npu.calls() if call["call"] == "tf.Session"]
    added = release != "r1.5"
    assert [one.name for one in rewrite.custom_optimizers] == ["NpuOptimizer"] * added
    assert (rewrite.remapping, rewrite.memory_optimization) == ((2, 2) if added else (0, 0))
    how = ("device", "added") if added else ("host", "none")
    assert ((call["runs_on"], call["entry"]), call["keys"]) == (how, {})


def test_a_session_with_an_entry_is_as_it_was_given_and_recorded(bridge, tmp_path):
    npu = bridge("master")
    npu("npu_init")
    values = {"precision_mode": "allow_mix_precision", "deterministic": 1, "enable_dump": True}
    values.update(dump_path=str(tmp_path), dump_step="0|5|10-20", jit_compile="auto")
    tf.Session(config=_config(values)).close()
    assert npu.calls()[-1]["keys"] == values


@pytest.mark.parametrize(
    ("release", "entries", "sentence"),
    [
        ("master", [{}, {}], "2 entries NpuOptimizer in one session"),
        ("r1.10", [{"precision_mode_v2": "fp16"}], "npu_bridge r1.10 has no session key"),
        ("r1.5", [{"profiling_mode": "true"}], "is in field s, but b is read"),
        ("master", [{"jit_compile": True}], "is in field b, but s is read"),
        ("r1.10", [{"graph_run_mode": 1.0}], "is in field f, but i is read"),
        ("master", [{"precision_mode": "fp16"}], "must be one of force_fp32"),
        ("r1.5", [{"precision_mode": "mixed"}], "must be one of force_fp32"),
        ("r1.5", [{"aoe_mode": "mdat"}], "must be one of 1, 2, 3, 4"),
        ("master", [{"aoe_mode": "3"}], "must be one of 1, 2, 4, mdat"),
        ("master", [{"precision_mode": "force_fp32", "precision_mode_v2": "origin"}], "never with"),
        ("r1.5", [{"precision_mode": "force_fp32", "modify_mixlist": "a"}], "needs a mixed"),
        ("r1.10", [{"precision_mode": "allow_mix_precision_bf16", "modify_mixlist": "a"}], "mixed"),
        ("r1.5", [{"profiling_mode": True}], "needs profiling_options"),
        ("master", [{"profiling_mode": True, "profiling_options": "on"}], "must be JSON"),
        ("r1.5", [{"enable_dump": True}], "session key dump_path = ''"),
        ("master", [{"enable_dump_debug": True, "dump_path": "/no/such"}], "folder that can be"),
        ("r1.5", [{"enable_dump": True, "enable_dump_debug": True}], "never with"),
        ("r1.5", [{"dump_step": "20-10"}], "must look like 0|5|10-20"),
        ("r1.5", [{"dump_step": "|".join(["1"] * 101)}], "at most 100"),
        ("r1.10", [{"input_shape": "x:1,-1", "dynamic_dims": "4;8"}], "needs all of"),
        ("r1.5", [{"iterations_per_loop": 2, "dynamic_input": True}], "never with"),
        ("r1.10", [{"iterations_per_loop": 2}], "one step at a time"),
        ("r1.10", [{"optypelist_for_implmode": "Pooling"}], "needs op_select_implmode"),
        ("master", [{"session_device_id": -1}], "must look like"),
        ("master", [{"aoe_mode": "2", "work_path": "/no/such"}], "folder that can be"),
        ("master", [{"fusion_switch_file": "/no/such"}], "no such file"),
    ],
)
def test_a_wrong_session_is_refused(bridge, release, entries, sentence):
    npu = bridge(release)
    npu("npu_init")
    with pytest.raises(RuntimeError) as caught:
        tf.Session(config=_config(*entries))
    assert sentence in str(caught.value)


@pytest.mark.parametrize("release", RELEASES)
def test_rewrites_that_an_npu_cannot_take_are_refused(bridge, release):
    bridge(release)("npu_init")
    with pytest.raises(RuntimeError, match="remapping must be OFF"):
        tf.Session(config=_config({"use_off_line": True}, off=False))


@pytest.mark.parametrize("release", RELEASES)
def test_the_scale_falls_after_two_overflows_and_rises_after_good_steps(bridge, release):
    npu = bridge(release)(MANAGER)
    manager = npu.ExponentialUpdateLossScaleManager(8, 3, 2, 4, 0.25)
    finite = tf.placeholder(tf.bool, [])
    update = manager.update_loss_scale(finite)
    names = [variable.op.name for variable in tf.global_variables()]
    assert names == ["loss_scale", "good_steps", "bad_steps"]
    npu.ExponentialUpdateLossScaleManager(8, 3)
    assert tf.global_variables()[3].op.name == "loss_scale_1"
    seen = []
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for good in (False, True, False, True, True, True, False, False, False, False):
            session.run(update, {finite: good})
            seen.append(session.run(["loss_scale:0", "good_steps:0", "bad_steps:0"]))
    # A good step leaves the count of bad ones; a bad step begins that of the good ones anew.
    expected = [(8, 0, 1), (8, 1, 1), (2, 0, 0), (2, 1, 0), (2, 2, 0), (8, 0, 0)]
    expected += [(8, 0, 1), (2, 0, 0), (2, 0, 1), (1, 0, 0)]
    assert [tuple(one) for one in seen] == expected


def test_a_fixed_scale_below_one_is_an_error(bridge):
    with pytest.raises(ValueError, match="at least 1"):
        bridge("r1.5")(MANAGER).FixedLossScaleManager(0.5)


def _step(npu, values, manager=None, scope="first"):
    """Returns (variable, operation of one step of Adam down its square)."""
    with tf.variable_scope(scope):
        x = tf.get_variable("x", initializer=tf.constant(values, tf.float32))
        manager = manager or npu(MANAGER).ExponentialUpdateLossScaleManager(2**32, 3, 2, 2, 0.5)
        adam = npu("npu_optimizer").NPUDistributedOptimizer(tf.train.AdamOptimizer(0.1))
        optimizer = npu("npu_loss_scale_optimizer").NPULossScaleOptimizer(adam, manager)
        pairs = optimizer.compute_gradients(tf.reduce_sum(tf.square(x)), var_list=[x])
        return x, optimizer.apply_gradients(pairs)


@pytest.mark.parametrize("release", RELEASES)
def test_steps_are_those_without_a_scale_and_overflows_leave_them_out(bridge, release, monkeypatch):
    monkeypatch.setenv("NPU_BRIDGE_OVERFLOW", "second:2,3")
    npu = bridge(release)
    values = np.random.RandomState(0).normal(size=3)
    x, train_x = _step(npu, values, scope="first")
    y, train_y = _step(npu, values, scope="second")
    plain = tf.get_variable("plain", initializer=tf.constant(values, tf.float32))
    adam = tf.train.AdamOptimizer(0.1).minimize(tf.reduce_sum(tf.square(plain)), var_list=[plain])
    fetch = ["first/loss_scale:0", "second/loss_scale:0"]
    seen = []
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for _ in range(4):
            _, before = session.run(
                [(train_x, train_y, adam), "first/overflow_status_reduce_all:0"]
            )
            seen.append(session.run([x, y, plain] + fetch))
            assert before
    for number, (now, other, reference, scale, _) in enumerate(seen):
        np.testing.assert_allclose(now, reference, rtol=1e-6)
        np.testing.assert_allclose(other, seen[(0, 0, 0, 1)[number]][2], rtol=1e-6)
        assert scale == 2.0 ** (33 if number > 1 else 32)
    assert [one[4] for one in seen] == [2.0**32, 2.0**32, 2.0**31, 2.0**31]
    names = {variable.op.name for variable in tf.global_variables()}
    assert {"first/cond/beta1_power", "second/cond/beta1_power"} <= names


@pytest.mark.parametrize("release", RELEASES)
def test_a_gradient_that_is_not_finite_is_an_overflow_too(bridge, release):
    npu = bridge(release)
    x, train = _step(npu, [1.0, 3e38])
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        before = session.run(x)
        session.run(train)
        np.testing.assert_array_equal(session.run(x), before)
        assert session.run("first/bad_steps:0") == 1
    status = [call for call in npu.calls() if call["call"] == "float status"]
    assert [(one["scope"], one["overflow"]) for one in status] == [("first", True)]


def test_without_an_overflow_check_there_is_no_status(bridge):
    npu = bridge("r1.10")
    _step(npu, [1.0], npu(MANAGER).FixedLossScaleManager(8.0, enable_overflow_check=False))
    names = [operation.name for operation in tf.get_default_graph().get_operations()]
    assert not any("overflow_status" in name for name in names)


def test_misuse_of_loss_scaling_is_refused(bridge, monkeypatch):
    npu = bridge("r1.5")
    scaled = npu("npu_loss_scale_optimizer").NPULossScaleOptimizer
    manager = npu(MANAGER).FixedLossScaleManager(8.0)
    first, second = (scaled(tf.train.AdamOptimizer(), manager) for _ in range(2))
    x = tf.get_variable("x", initializer=tf.constant([2.0]))
    pairs = first.compute_gradients(tf.square(x[0]))
    with pytest.raises(RuntimeError, match="compute_gradients of the same object"):
        second.apply_gradients(pairs)
    with pytest.raises(AttributeError, match=r"r1\.5: NPULossScaleOptimizer has no _lr"):
        _ = first._lr
    with pytest.raises(RuntimeError, match="scaled already"):
        scaled(first, manager)
    with pytest.raises(RuntimeError, match="no loss scale manager"):
        scaled(tf.train.AdamOptimizer(), 8.0)
    monkeypatch.setenv("RANK_SIZE", "2")
    with pytest.raises(RuntimeError, match="needs is_distributed=True"):
        scaled(tf.train.AdamOptimizer(), manager)


def test_later_releases_hand_unknown_attributes_on(bridge):
    npu = bridge("r1.10")
    manager = npu(MANAGER).FixedLossScaleManager(8.0)
    adam = tf.train.AdamOptimizer(0.25)
    assert npu("npu_loss_scale_optimizer").NPULossScaleOptimizer(adam, manager)._lr == 0.25


def test_collectives_check_what_they_are_given(bridge, monkeypatch):
    npu = bridge("r1.5")
    ops = npu("hccl.hccl_ops")
    with pytest.raises(TypeError, match="HcomAllReduce of int64"):
        ops.allreduce(tf.constant(3, tf.int64), "sum")
    with pytest.raises(ValueError, match="reduction 'mean'"):
        ops.allreduce(tf.constant(3.0), "mean")
    with pytest.raises(TypeError, match="list of tensors"):
        ops.broadcast(tf.constant(3.0), 0)
    with pytest.raises(ValueError, match="root_rank 1 of 1"):
        ops.broadcast([tf.constant(3.0)], 1)
    monkeypatch.setenv("RANK_SIZE", "2")
    x = tf.get_variable("x", initializer=tf.constant([2.0]))
    optimizer = npu("npu_optimizer").NPUDistributedOptimizer(tf.train.AdamOptimizer())
    with pytest.raises(AttributeError, match="needs JOB_ID"):
        optimizer.compute_gradients(tf.square(x[0]))


def test_the_number_of_ranks_is_said_once(bridge, monkeypatch):
    npu = bridge("master")
    monkeypatch.setenv("RANK_SIZE", "2")
    monkeypatch.setenv("CM_WORKER_SIZE", "2")
    with pytest.raises(ValueError, match="RANK_SIZE and CM_WORKER_SIZE"):
        npu("hccl.hccl_ops").allreduce(tf.constant(1.0), "sum")


def test_a_rank_that_does_not_come_is_an_error(bridge, monkeypatch, tmp_path):
    npu = bridge("master")
    from npu_double import collectives

    monkeypatch.setattr(collectives, "TIMEOUT_SECONDS", 0.2)
    monkeypatch.setenv("RANK_SIZE", "2")
    monkeypatch.setenv("NPU_BRIDGE_EXCHANGE", str(tmp_path))
    total = npu("hccl.hccl_ops").allreduce(tf.constant([1.5]), "sum")
    with tf.Session() as session, pytest.raises(tf.errors.UnknownError, match="for rank 1 at"):
        session.run(total)
