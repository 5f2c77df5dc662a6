# SPDX-License-Identifier: Apache-2.0
"""Several ranks on NPUs, as far as a double of npu_bridge and HCCL can tell."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow.compat.v1")
if not tf.__version__.startswith("1.15"):
    pytest.skip("npu_bridge is for TensorFlow 1.15", allow_module_level=True)

from npu import models  # noqa: E402

COLLECTIVES = """
import os
import numpy as np
import tensorflow.compat.v1 as tf
from npu_bridge import npu_init
from npu_bridge.hccl import hccl_ops
rank = int(os.environ["RANK_ID"])
first = hccl_ops.allreduce(tf.constant([rank + 1.5, 4.0]), "sum")
second = hccl_ops.allreduce(tf.constant(rank + 3, tf.int32), "max")
(third,) = hccl_ops.broadcast([tf.constant([[rank, 7]], tf.int32)], 1)
with tf.control_dependencies([first, second]):
    last = tf.identity(third)
config = tf.ConfigProto(inter_op_parallelism_threads=1, intra_op_parallelism_threads=1)
with tf.Session(config=config) as session:
    for _ in range(3):
        values = session.run([first, second, third, last])
    print([value.tolist() for value in values])
    if rank == 0:
        odd = hccl_ops.allreduce(tf.constant([1.0]), "sum")
    else:
        odd = hccl_ops.allreduce(tf.constant([1.0, 2.0]), "sum")
    try:
        session.run(odd)
    except tf.errors.OpError as error:
        print([line for line in error.message.splitlines() if "ContractError" in line][0])
"""


def _variables(folder, release, **more):
    """Returns the environment of ranks that meet in new folders of `folder`."""
    for name in ("meet", "values"):
        (folder / name).mkdir()
    places = {"NPU_BRIDGE_EXCHANGE": folder / "meet", "NPU_BRIDGE_VALUES": folder / "values"}
    devices = [
        {"device_id": str(rank), "device_ip": "192.168.100.%d" % rank, "rank_id": str(rank)}
        for rank in range(2)
    ]
    table = {"server_count": "1", "status": "completed", "version": "1.0"}
    table["server_list"] = [{"server_id": "127.0.0.1", "device": devices}]
    (folder / "table.json").write_text(json.dumps(table))
    more.update({name: str(path) for name, path in places.items()})
    more["RANK_TABLE_FILE"] = str(folder / "table.json")
    return models.environment(release, folder, **more)


def test_two_ranks_meet_and_must_bring_the_same_kind_of_value(tmp_path):
    ranks, places = [], _variables(tmp_path, "r1.10", RANK_SIZE="2")
    for rank in range(2):
        variables = dict(places, RANK_ID=str(rank), DEVICE_ID=str(rank))
        words = [sys.executable, "-c", COLLECTIVES]
        ranks.append(subprocess.Popen(words, env=variables, stdout=subprocess.PIPE, text=True))
    printed = [rank.communicate(timeout=models.SECONDS)[0].splitlines() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0]
    for rank, (values, odd) in enumerate(printed):
        assert json.loads(values) == [[4.0, 8.0], 4, [[1, 7]], [[1, 7]]]
        assert "float32 (%d,) on rank %d" % (rank + 1, rank) in odd


def _values(folder):
    """Returns {name: array} of each of two ranks, without the step, which only rank 0 counts."""
    ranks = []
    for rank in range(2):
        with np.load(str(folder / "values" / ("rank_%d.npz" % rank))) as file:
            ranks.append({name: file[name] for name in file.files if name != "global_step"})
    return ranks


def _weights(tensors, start):
    """Returns how many tensors of a checkpoint an optimiser whose variables begin so trains."""
    return len([name for name in tensors if name.startswith(start) and "/Adam" not in name])


def _launcher(words, folder):
    """Returns a command that starts `words` as two ranks by the launcher of the models."""
    logs = [str(folder / "logs" / ("rank_%d.log" % rank)) for rank in range(2)]
    text = "import sys; sys.path.insert(0, %r); from harness.launch import launch; "
    text += "sys.exit(launch(%r, %r))"
    shared = os.path.join(models.ROOT, "tools", "shared")
    return [sys.executable, "-c", text % (shared, words, logs)]


def test_two_ranks_train_as_one_with_twice_the_batch(tmp_path):
    model = models.MODELS["stargan"]
    models.draw("stargan", tmp_path)
    words = ["--device=npu", "--training_iterations=3"]
    words = [os.path.join(models.ROOT, model.folder, model.program)] + list(model.words) + words
    # Of two ranks one overflows; both leave out the step, as the one with twice the batch does.
    overflow = "generator_train:2;discriminator_train:3"
    more = {"NPU_BRIDGE_OVERFLOW": overflow}
    command = [sys.executable] + words + ["--batch_size=4", "--output_dir=one"]
    one = models.run(command, tmp_path, models.environment("r1.10", tmp_path, **more))
    assert one.status == 0, one.printed
    more["NPU_BRIDGE_OVERFLOW"] = "generator_train@1:2;discriminator_train@0:3"
    variables = _variables(tmp_path, "r1.10", **more)
    command = _launcher([sys.executable] + words + ["--output_dir=two"], tmp_path)
    two = models.run(command, tmp_path, variables)
    assert two.status == 0, two.printed + (tmp_path / "logs" / "rank_1.log").read_text()

    ranks = _values(tmp_path)
    assert set(ranks[0]) == set(ranks[1])
    assert all(np.array_equal(ranks[0][name], ranks[1][name]) for name in ranks[0])
    single, double = (models.checkpoint(tmp_path / name, 3) for name in ("one", "two"))
    assert all(np.array_equal(double[name], ranks[0][name]) for name in ranks[0])
    assert single["generator_train/bad_steps"] == double["generator_train/bad_steps"] == 1
    for name, value in single.items():
        difference = np.abs(value.astype(np.float64) - double[name])
        for scope in model.optimizers:
            if scope + "/" + name + "/Adam_1" in single:
                # Where the gradient is rounding noise, Adam's steps are noise of full size.
                noise = np.sqrt(single[scope + "/" + name + "/Adam_1"])
                difference = difference[noise > 1e-4 * noise.max()]
                assert difference.size > 0.9 * value.size
        limit = 1e-5 if "/Adam" not in name else 1e-4 * np.abs(value).max() + 1e-9
        assert difference.max() < limit, name
    for call in two.of(".NPULossScaleOptimizer"):
        assert call["arguments"]["is_distributed"] == "True"
    # The gradients of an optimiser go together; its losses, and the vote to stop, go alone.
    counts = [_weights(single, model.optimizers[scope]) for scope in model.optimizers]
    assert min(counts) > 5
    alone = [("0", None)] * 3
    fused = [("2", str(i + 1)) for i, count in enumerate(counts) for _ in range(count)]
    for rank in "01":
        calls = [call for call in two.of("hccl_ops.allreduce") if call["rank"] == rank]
        assert all(call["arguments"]["reduction"] == "'sum'" for call in calls)
        found = [
            (call["arguments"]["fusion"], call["arguments"].get("fusion_id")) for call in calls
        ]
        assert sorted(found, key=str) == sorted(fused + alone, key=str)
    assert not two.of("NPUDistributedOptimizer")
    made = [call["arguments"] for call in two.calls if call["call"] == "HcomAllReduce"]
    statuses = [words for words in made if words["tensor"] == "Tensor int32 (8,)"]
    assert [words["fusion"] for words in statuses] == ["0"] * 2 * len(model.optimizers)
    assert len(made) == 2 * len(fused + alone + list(model.optimizers))
    shared = [call for call in two.of("hccl_ops.broadcast") if call["rank"] == "1"]
    assert len(shared) == len(ranks[1]) + 1
    assert all(call["arguments"]["root_rank"] == "0" for call in shared)


def test_the_launcher_of_pix2pix_starts_two_ranks(tmp_path):
    model = models.MODELS["pix2pix"]
    models.draw("pix2pix", tmp_path)
    program = os.path.join(models.ROOT, model.folder, "run_model.py")
    words = ["--device=npu", "--train_steps=1", "--rank_size=2", "--rank_log_dir=logs"]
    command = [sys.executable, program] + words + list(model.words)
    variables = _variables(tmp_path, "r1.5")
    done = models.run(command, tmp_path, variables)
    assert done.status == 0, done.printed + (tmp_path / "logs" / "rank_1.log").read_text()
    first, second = _values(tmp_path)
    assert len(first) > 50
    assert all(np.array_equal(first[name], second[name]) for name in first)
    sessions = {call["rank"]: call["keys"] for call in done.of("tf.Session")}
    assert sessions["0"] == sessions["1"]
    assert len(list((tmp_path / "meet").glob("device_*"))) == 2


@pytest.mark.parametrize("words", [(), ("--precision_mode=force_fp32",)])
def test_ranks_of_neural_style_work_alone(tmp_path, words):
    model = models.MODELS["neural_style"]
    models.draw("neural_style", tmp_path)
    contents = tmp_path / "contents"
    contents.mkdir()
    for name in "ab":
        shutil.copy(str(tmp_path / "data" / "1-content.jpg"), str(contents / (name + ".jpg")))
    command = [sys.executable, os.path.join(models.ROOT, model.folder, model.program)]
    command += list(model.words) + ["--device=npu", "--iterations=2"] + list(words)
    command += ["--content=contents", "--output=results"]
    done = models.run(_launcher(command, tmp_path), tmp_path, _variables(tmp_path, "r1.10"))
    log = (tmp_path / "logs" / "rank_1.log").read_text()
    assert done.status == 0, done.printed + log
    assert len(list((tmp_path / "results").glob("[ab].jpg"))) == 2
    assert len(done.of("tf.Session")) == 2
    assert len(list((tmp_path / "meet").iterdir())) == 2  # the two devices, and no collective
    assert not done.of("hccl_ops.allreduce") + done.of("hccl_ops.broadcast")
    scaled = [call["arguments"]["is_distributed"] for call in done.of(".NPULossScaleOptimizer")]
    assert scaled == ["False"] * (0 if words else 2)
