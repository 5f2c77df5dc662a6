# SPDX-License-Identifier: Apache-2.0
"""Device, precision, checkpoints and collectives, without a model."""

import json
import os
import sys
import types

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from harness.errors import UserError
from harness.launch import launch
from harness.platform_options import PlatformOptions
from tf_runtime import device as devices
from tf_runtime import ranks
from tf_runtime.checkpoints import CheckpointError, Checkpoints, checkpoint_steps


@pytest.fixture(autouse=True)
def _graph():
    tf.logging.set_verbosity(tf.logging.ERROR)
    tf.disable_v2_behavior()
    with tf.Graph().as_default():
        yield


def _device(name="cpu", mixed="", **options):
    return devices.Device(name, mixed, PlatformOptions(**options), 1)


def test_full_precision_is_said_and_done(capsys):
    chosen = devices.choose(PlatformOptions(device="cpu", precision_mode="force_fp32", threads=1))
    assert (chosen.name, chosen.mixed, chosen.threads) == ("cpu", "", 1)
    assert capsys.readouterr().out == "device: cpu, float32\n"


def test_mixed_precision_on_a_cpu_says_what_it_does(capsys):
    chosen = devices.choose(PlatformOptions(device="cpu"))
    printed = capsys.readouterr().out
    with open("/proc/cpuinfo") as file:
        text = file.read()
    able = tf.__version__.startswith("2") and ("avx512_bf16" in text or "amx_bf16" in text)
    assert chosen.mixed == ("bfloat16" if able else "")
    assert ("mixed bfloat16" in printed) == able
    assert able or "has no bfloat16" in printed


@pytest.mark.parametrize("name", ["npu", "gpu"])
def test_a_device_that_is_not_there_is_an_error(name):
    with pytest.raises(UserError, match="--device %s" % name):
        devices.choose(PlatformOptions(device=name))


def test_switches_without_effect_are_named_once(capsys):
    devices.choose(PlatformOptions(device="cpu", profiling=True, over_dump=True))
    assert "--over_dump, --profiling: no effect on a cpu" in capsys.readouterr().out


def test_npu_parameters_have_the_documented_keys_and_types(tmp_path):
    paths = {key: str(tmp_path / key) for key in ("over_dump_path", "profiling_dump_path")}
    paths.update(mixlist_file=str(tmp_path / "ops.json"), autotune_path=str(tmp_path / "tuned"))
    (tmp_path / "ops.json").write_text("{}")
    device = _device("npu", "npu", profiling=True, over_dump=True, autotune=True, **paths)
    config = devices.session_config(device)
    rewrite = config.graph_options.rewrite_options
    (optimizer,) = rewrite.custom_optimizers
    values = optimizer.parameter_map
    assert optimizer.name == "NpuOptimizer"
    assert (rewrite.remapping, rewrite.memory_optimization) == (2, 2)
    assert values["use_off_line"].b is True
    assert values["precision_mode"].s == b"allow_mix_precision"
    assert values["modify_mixlist"].s == paths["mixlist_file"].encode()
    assert values["enable_dump_debug"].b is True
    assert values["dump_debug_mode"].s == b"all"
    assert values["dump_path"].s == paths["over_dump_path"].encode()
    assert values["profiling_mode"].b is True
    assert json.loads(values["profiling_options"].s)["training_trace"] == "on"
    assert values["aoe_mode"].s == b"2"
    assert "enable_dump" not in values
    assert os.path.isdir(paths["over_dump_path"])
    with tf.Session(config=config) as session:  # stock TensorFlow ignores the NPU's optimiser
        assert session.run(tf.constant(3)) == 3


def _fake_npu_bridge(monkeypatch):
    """Modules with the names that npu.py uses in a step; records how they are called."""
    calls = []

    def record(name):
        def make(optimizer_or_value, *words, **options):
            calls.append((name, words, options))
            return optimizer_or_value

        return make

    parts = ["npu_bridge", "npu_bridge.estimator", "npu_bridge.estimator.npu", "npu_bridge.hccl"]
    scaling = "npu_bridge.estimator.npu.npu_loss_scale_"
    leaves = {
        scaling + "manager": ["ExponentialUpdateLossScaleManager", "FixedLossScaleManager"],
        scaling + "optimizer": ["NPULossScaleOptimizer"],
        "npu_bridge.hccl.hccl_ops": ["allreduce"],
    }
    for part in parts + list(leaves):
        module = types.ModuleType(part)
        for name in leaves.get(part, []):
            setattr(module, name, record(name))
        monkeypatch.setitem(sys.modules, part, module)
    sys.modules["npu_bridge.hccl"].hccl_ops = sys.modules["npu_bridge.hccl.hccl_ops"]
    return calls


@pytest.mark.parametrize("scale", [0.0, 1024.0])
def test_npu_optimisers_scale_the_loss_and_average_each_on_its_own(monkeypatch, scale):
    calls = _fake_npu_bridge(monkeypatch)
    x = tf.get_variable("x", [], initializer=tf.ones_initializer())
    device = _device("npu", "npu", loss_scale=scale)
    optimizer = tf.train.GradientDescentOptimizer(0.1)
    group = ranks.Group(0, 2, (), "npu")
    for name in ("first", "second"):
        devices.minimize(optimizer, tf.square(x), [x], device, group, name)
    manager = "FixedLossScaleManager" if scale else "ExponentialUpdateLossScaleManager"
    each = [manager, "NPULossScaleOptimizer", "allreduce"]
    assert [call[0] for call in calls] == 2 * each
    assert calls[1][2] == {"is_distributed": True}
    assert scale or calls[0][1] == (1000, 2, 2, 0.5)
    words = [call[1:] for call in calls if call[0] == "allreduce"]
    assert words == [(("sum",), {"fusion": 2, "fusion_id": number}) for number in (1, 2)]


@pytest.mark.parametrize(("mixed", "scale"), [("", 0.0), ("amp", 0.0), ("amp", 8.0)])
def test_minimize_takes_the_same_step_with_and_without_loss_scaling(mixed, scale):
    x = tf.get_variable("x", [3], initializer=tf.random_normal_initializer(seed=1))
    device = _device("gpu" if mixed else "cpu", mixed, loss_scale=scale)
    optimizer = tf.train.GradientDescentOptimizer(0.1)
    group = ranks.Group(0, 1, (), "cpu")
    step = devices.minimize(optimizer, tf.reduce_sum(tf.square(x)), [x], device, group, "train")
    with tf.Session(config=devices.session_config(device)) as session:
        session.run(tf.global_variables_initializer())
        before = session.run(x)
        session.run(step)
        np.testing.assert_allclose(session.run(x), 0.8 * before, rtol=1e-6)
    names = {v.op.name for v in tf.global_variables()}
    assert any("loss_scale" in name for name in names) == (mixed == "amp" and not scale)


@pytest.mark.parametrize("mixed", ["", "bfloat16"])
def test_a_loss_fetched_together_with_its_step_is_the_one_before(mixed):
    if mixed and not devices.cpu_has_bfloat16():
        pytest.skip("neither this CPU nor this TensorFlow may have bfloat16")
    x = tf.constant(np.random.RandomState(0).normal(size=[64, 300]), tf.float32)
    w = tf.get_variable("w", [300, 400], initializer=tf.random_normal_initializer(seed=1))
    loss = -tf.reduce_mean(tf.matmul(x, w.read_value()))  # linear: no gradient needs its value
    device, group = _device(mixed=mixed), ranks.Group(0, 1, (), "cpu")
    optimizer = tf.train.GradientDescentOptimizer(100.0)
    step = devices.minimize(optimizer, loss, [w], device, group, "train")
    with tf.Session(config=devices.session_config(device)) as session:
        session.run(tf.global_variables_initializer())
        for _ in range(3):
            before = session.run(loss)
            together, _ = session.run([loss, step])
            assert together == before
            assert session.run(loss) < before - 0.5


def test_checkpoints_keep_the_newest_and_those_for_good(tmp_path):
    x = tf.get_variable("x", [4], initializer=tf.random_normal_initializer(seed=1))
    checkpoints = Checkpoints(str(tmp_path), "model", [x], keep=2, keep_every=4)
    with tf.Session() as session:
        session.run(x.initializer)
        values = {}
        for step in range(1, 8):
            values[step] = session.run(tf.assign_add(x, [1.0, 2.0, 3.0, 4.0]))
            checkpoints.save(session, step)
        assert checkpoint_steps(str(tmp_path), "model") == [4, 6, 7]
        assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / "model-7")
        with (tmp_path / "model-7.data-00000-of-00001").open("r+b") as file:
            file.write(b"\xff\xff\xff")  # as long as before, but not what was written
        assert checkpoints.restore_newest(session) == 6
        np.testing.assert_array_equal(session.run(x), values[6])


def test_nothing_but_damaged_checkpoints_is_an_error(tmp_path):
    x = tf.get_variable("x", [4])
    checkpoints = Checkpoints(str(tmp_path), "model", [x])
    (tmp_path / "model-3.index").write_bytes(b"")
    with tf.Session() as session, pytest.raises(CheckpointError, match="no usable checkpoint"):
        checkpoints.restore_newest(session)


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"RANK_SIZE": "2", "RANK_ID": "0"}, "RANK_SIZE 2 needs the RANK_ADDRESSES"),
    ],
)
def test_wrong_ranks_are_an_error(monkeypatch, environment, sentence):
    monkeypatch.delenv("RANK_ADDRESSES", raising=False)
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(UserError, match=sentence):
        ranks.connect("cpu")


def test_one_rank_needs_no_environment(monkeypatch):
    for key in ("RANK_SIZE", "RANK_ID", "RANK_ADDRESSES"):
        monkeypatch.delenv(key, raising=False)
    group = ranks.connect("cpu")
    assert (group.rank, group.size) == (0, 1)


@pytest.mark.parametrize(
    ("device", "asked", "hint"),
    [("cpu", "", "ring"), ("gpu", "", "nccl"), ("gpu", "ring", "ring"), ("cpu", "nccl", "ring")],
)
def test_gpus_average_with_nccl_unless_told_otherwise(monkeypatch, device, asked, hint):
    if asked:
        monkeypatch.setenv("RANK_COMMUNICATION", asked)
    group = ranks.Group(0, 2, ("a:1", "b:2"), device)
    x = tf.get_variable("x", [3])
    ((mean, _),) = group.average_gradients([(tf.ones([3]), x)], "train")
    assert mean.op.get_attr("communication_hint") == hint.encode()


PROGRAM = """
import os, sys
sys.path.insert(0, sys.argv[1])
import tensorflow.compat.v1 as tf
tf.disable_v2_behavior()
from tf_runtime import ranks
group = ranks.connect("cpu")
x = tf.get_variable("x", [2], initializer=tf.constant_initializer(float(group.rank + 5)))
((mean, _),) = group.average_gradients([(tf.constant([1.0, 3.0]) * (group.rank + 1), x)], "g")
share, init = group.broadcast([x]), tf.global_variables_initializer()
step = group.guard(tf.group(mean))
config = tf.ConfigProto()
group.start(config)
with tf.Session(group.target, config=config) as session:
    session.run(init)
    group.run(session, share)
    value, _ = group.run(session, [mean, step])
    print("rank", group.rank, "mean", value.tolist(), "x", session.run(x).tolist())
sys.exit(7 if sys.argv[2] == str(group.rank) else 0)
"""


@pytest.mark.parametrize(("failing", "status"), [("none", 0), ("1", 7)])
def test_two_ranks_average_and_share_through_the_launcher(tmp_path, failing, status):
    logs = [str(tmp_path / "logs" / name) for name in ("0.log", "1.log")]
    words = [
        sys.executable,
        "-c",
        PROGRAM,
        os.path.dirname(os.path.dirname(ranks.__file__)),
        failing,
    ]
    assert launch(words, logs) == status
    for rank, log in enumerate(logs):
        with open(log) as file:
            assert "rank %d mean [1.5, 4.5] x [5.0, 5.0]" % rank in file.read()


def test_a_log_has_lines_without_progress_bars(tmp_path):
    code = (
        "import sys; sys.stdout.write('bar 1%\\rbar 2%\\rline one\\nline two\\nend'); sys.exit(3)"
    )
    log = str(tmp_path / "a.log")
    assert launch([sys.executable, "-c", code], [log]) == 3
    with open(log) as file:
        assert file.read() == "line one\nline two\nend"
