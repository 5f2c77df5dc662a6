# SPDX-License-Identifier: Apache-2.0
"""The double of npu_bridge: it scales losses, and refuses what HCCL would."""

import json

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow.compat.v1")
if not tf.__version__.startswith("1.15"):
    pytest.skip("npu_bridge is for TensorFlow 1.15", allow_module_level=True)

from npu.in_process import MANAGER, RELEASES, bridge_in_process  # noqa: E402, F401


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


def _optimizer(npu, values, manager=None):
    """Returns (variable, a scaled Adam, the square of the variable)."""
    x = tf.get_variable("x", initializer=tf.constant(values, tf.float32))
    manager = manager or npu(MANAGER).ExponentialUpdateLossScaleManager(2**32, 3, 2, 2, 0.5)
    adam = npu("npu_optimizer").NPUDistributedOptimizer(tf.train.AdamOptimizer(0.1))
    optimizer = npu("npu_loss_scale_optimizer").NPULossScaleOptimizer(adam, manager)
    return x, optimizer, tf.reduce_sum(tf.square(x))


def _step(npu, values, manager=None, scope="first", after=()):
    """Returns (variable, operation of one step of Adam down its square)."""
    with tf.variable_scope(scope):
        x, optimizer, loss = _optimizer(npu, values, manager)
        with tf.control_dependencies(list(after)):
            return x, optimizer.apply_gradients(optimizer.compute_gradients(loss, var_list=[x]))


@pytest.mark.parametrize("release", RELEASES)
def test_steps_are_those_without_a_scale_and_overflows_leave_them_out(bridge, release, monkeypatch):
    monkeypatch.setenv("NPU_BRIDGE_OVERFLOW", "second:2,3")
    npu = bridge(release)
    values = np.random.RandomState(0).normal(size=3)
    x, train_x = _step(npu, values, scope="first")
    y, train_y = _step(npu, values, scope="second", after=[train_x])
    plain = tf.get_variable("plain", initializer=tf.constant(values, tf.float32))
    adam = tf.train.AdamOptimizer(0.1).minimize(tf.reduce_sum(tf.square(plain)), var_list=[plain])
    fetch = ["first/loss_scale:0", "second/loss_scale:0"]
    seen = []
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for _ in range(4):
            _, before = session.run([(train_y, adam), "first/overflow_status_reduce_all:0"])
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
def test_whoever_reads_the_status_next_leaves_out_its_step(bridge, release, monkeypatch):
    monkeypatch.setenv("NPU_BRIDGE_OVERFLOW", "second:1")
    npu = bridge(release)
    x, of_x, loss_x = _optimizer(npu, [1.0, 2.0])
    with tf.variable_scope("second"):
        y, of_y, loss_y = _optimizer(npu, [1.0, 2.0])
    pairs_x = of_x.compute_gradients(loss_x, var_list=[x])
    pairs_y = of_y.compute_gradients(loss_y, var_list=[y])
    with tf.control_dependencies([pairs_x[0][0], pairs_y[0][0]]):
        train = of_x.apply_gradients([(tf.identity(pairs_x[0][0]), x)])
    with tf.control_dependencies([train]):
        train = of_y.apply_gradients([(tf.identity(pairs_y[0][0]), y)])
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run(train)
        x, y = session.run([x, y])
    np.testing.assert_array_equal(x, [1.0, 2.0])
    np.testing.assert_allclose(y, [0.9, 1.9], rtol=1e-5)


def test_a_device_with_infinities_has_no_status(bridge, monkeypatch):
    monkeypatch.setenv("NPU_BRIDGE_INF_NAN", "1")
    monkeypatch.setenv("NPU_BRIDGE_OVERFLOW", "second:1")
    npu = bridge("master")
    assert npu("estimator.npu.npu_plugin").is_inf_nan_enabled() is True
    x, train_x = _step(npu, [1.0, 3e38])
    y, train_y = _step(npu, [1.0, 2.0], scope="second")
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run([train_x, train_y])
        np.testing.assert_array_equal(session.run(x), np.float32([1.0, 3e38]))
        np.testing.assert_array_equal(session.run(y), [1.0, 2.0])
        session.run(train_y)
        np.testing.assert_allclose(session.run(y), [0.9, 1.9], rtol=1e-5)
        assert session.run(["first/bad_steps:0", "second/bad_steps:0"]) == [1, 1]
    assert not [call for call in npu.calls() if call["call"] == "float status"]
    names = [operation.name for operation in tf.get_default_graph().get_operations()]
    assert not any("overflow_status" in name for name in names)


def test_infinities_are_for_master(bridge, monkeypatch):
    monkeypatch.setenv("NPU_BRIDGE_INF_NAN", "1")
    npu = bridge("r1.10")
    with pytest.raises(RuntimeError, match=r"r1\.10 has no such mode"):
        _optimizer(npu, [1.0])


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


FUSIONS = [(1, -1), (2, 3), (2, 0), (0, -1)]


@pytest.mark.parametrize(("fusion", "fusion_id"), FUSIONS)
@pytest.mark.parametrize("by_control", [False, True])
def test_collectives_that_need_each_other_are_never_fused(
    bridge, monkeypatch, fusion, fusion_id, by_control
):
    ops = bridge("r1.10")("hccl.hccl_ops")
    from npu_double import fusion as fusions

    monkeypatch.setenv("RANK_SIZE", "2")
    first = ops.allreduce(tf.constant([1.0]), "sum", fusion, fusion_id)
    ops.allreduce(tf.constant([1.0]) * 2.0, "sum", fusion, fusion_id)
    other = tf.identity(first) + 1.0
    second = ops.allreduce(other, "sum", fusion=2, fusion_id=7)
    fusions.check(first.graph)
    with tf.control_dependencies([second] if by_control else []):
        value = tf.constant([1.0]) if by_control else second * 2.0
        ops.allreduce(tf.identity(value), "sum", fusion, fusion_id)
    unrelated = tf.constant(1.0)
    with tf.Session() as session:
        if fusion == 0:
            assert session.run(unrelated) == 1.0
        else:
            with pytest.raises(RuntimeError, match="3 HcomAllReduce with fusion=%d" % fusion):
                session.run(unrelated)


def test_two_distributed_optimizers_in_one_step_may_be_a_cycle(bridge, monkeypatch):
    monkeypatch.setenv("RANK_SIZE", "2")
    monkeypatch.setenv("JOB_ID", "1")
    distributed = bridge("master")("npu_optimizer").NPUDistributedOptimizer
    x, y = (tf.get_variable(name, initializer=tf.constant([2.0])) for name in "xy")
    first = distributed(tf.train.AdamOptimizer()).minimize(tf.square(x[0]), var_list=[x])
    with tf.control_dependencies([first]):
        second = distributed(tf.train.AdamOptimizer()).minimize(tf.square(y[0]), var_list=[y])
    with tf.Session() as session, pytest.raises(RuntimeError, match="are one node"):
        session.run(second)


@pytest.mark.parametrize(
    ("words", "sentence"), [({"fusion": 3}, "0, 1 or 2"), ({"fusion": 2}, "fusion_id -1")]
)
def test_a_fusion_that_is_none_is_refused(bridge, words, sentence):
    ops = bridge("r1.5")("hccl.hccl_ops")
    with pytest.raises(ValueError, match=sentence):
        ops.allreduce(tf.constant([1.0]), "sum", **words)


def _table(path, devices, status="completed"):
    """Writes a rank table with these devices, and names it as RANK_TABLE_FILE would; a str."""
    lines = [{"device_id": one, "rank_id": str(rank)} for rank, one in enumerate(devices)]
    servers = [{"server_id": "127.0.0.1", "device": lines}]
    path.write_text(json.dumps({"status": status, "server_list": servers}))
    return str(path)


@pytest.mark.parametrize(
    ("devices", "status", "size", "sentence"),
    [
        ("0", "completed", 2, r"has the ranks \[0\], but RANK_SIZE is 2"),
        ("01", "completed", 1, r"has the ranks \[0, 1\], but RANK_SIZE is 1"),
        ("33", "completed", 2, r"has device 3 of server 127\.0\.0\.1 for two ranks"),
        ("01", "initializing", 2, "is not completed"),
        ("", "", 2, "RANK_SIZE 2 needs RANK_TABLE_FILE"),
    ],
)
def test_a_rank_table_of_other_ranks_is_refused(
    bridge, monkeypatch, tmp_path, devices, status, size, sentence
):
    bridge("r1.10")("npu_init")
    monkeypatch.setenv("RANK_SIZE", str(size))
    if devices:
        path = _table(tmp_path / "table.json", devices, status)
        monkeypatch.setenv("RANK_TABLE_FILE", path)
    with pytest.raises(RuntimeError, match=sentence):
        tf.Session()


def test_two_processes_cannot_have_one_device(bridge, monkeypatch, tmp_path):
    bridge("master")("npu_init")
    monkeypatch.setenv("NPU_BRIDGE_EXCHANGE", str(tmp_path))
    monkeypatch.setenv("ASCEND_DEVICE_ID", "5")
    for _ in range(2):  # one process may have many sessions
        tf.Session().close()
    assert [path.name for path in tmp_path.glob("device_*")] == ["device_5"]
    (tmp_path / "device_5").write_text("another")
    with pytest.raises(RuntimeError, match="device 5 is taken by process another"):
        tf.Session()
    monkeypatch.setenv("ASCEND_DEVICE_ID", "6")
    tf.Session().close()


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
