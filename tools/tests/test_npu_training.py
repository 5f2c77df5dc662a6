# SPDX-License-Identifier: Apache-2.0
"""The TensorFlow models on an NPU, as far as a double of npu_bridge can tell: one device."""

import json
import os
import sys

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow.compat.v1")
if not tf.__version__.startswith("1.15"):
    pytest.skip("npu_bridge is for TensorFlow 1.15", allow_module_level=True)

from npu import models  # noqa: E402

RELEASES = ("r1.5", "r1.10", "master")
EXPONENTIAL = {"init_loss_scale": "4294967296", "incr_every_n_steps": "1000"}
EXPONENTIAL.update(decr_every_n_nan_or_inf="2", incr_ratio="2", decr_ratio="0.5")
OF_AN_OPTIMIZER = [
    "npu_loss_scale_manager.ExponentialUpdateLossScaleManager",
    "npu_loss_scale_optimizer.NPULossScaleOptimizer",
    "NPULossScaleOptimizer.compute_gradients",
    "NPULossScaleOptimizer.apply_gradients",
]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A function of a model: a folder with its data."""
    folders = {}

    def make(name):
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp(name)
            models.draw(name, folders[name])
        return folders[name]

    return make


def _short(call):
    return ".".join(call["call"].split(".")[-2:])


def _json_lines(folder, name="log.jsonl"):
    (path,) = folder.glob("**/" + name)
    return [json.loads(line) for line in path.read_text().splitlines()]


def _keys(model):
    """Returns the session keys of a training without switches."""
    keys = {"use_off_line": True, "precision_mode": "allow_mix_precision"}
    mixlist = os.path.join(models.ROOT, models.MODELS[model].folder, "ops_info.json")
    return dict(keys, modify_mixlist=mixlist) if os.path.exists(mixlist) else keys


@pytest.fixture(scope="module")
def trained(drawn, tmp_path_factory):
    """A function of a model and a release: (folder, what three steps printed and called)."""
    found = {}

    def train(name, release):
        if (name, release) not in found:
            folder = tmp_path_factory.mktemp("trained")
            models.link_data(drawn(name), folder)
            found[name, release] = folder, models.train(name, folder, release, 3)
        return found[name, release]

    return train


ONE_DEVICE = [(name, release) for name in sorted(models.MODELS) for release in RELEASES]


@pytest.mark.parametrize(("name", "release"), ONE_DEVICE)
def test_a_model_trains_three_steps(trained, name, release):
    model = models.MODELS[name]
    folder, done = trained(name, release)
    assert done.status == 0, done.printed

    built = ["npu_bridge.npu_init: import"] + OF_AN_OPTIMIZER * len(model.optimizers)
    status = ["float status"] * 3 * len(model.optimizers)
    assert [_short(call) for call in done.of("")] == built + ["tf.Session"] + status
    (session,) = done.of("tf.Session")
    assert (session["keys"], session["entry"], session["runs_on"]) == (
        _keys(name),
        "given",
        "device",
    )
    assert all(one["arguments"] == EXPONENTIAL for one in done.of("LossScaleManager"))
    for one in done.of(".NPULossScaleOptimizer"):
        assert one["arguments"]["is_distributed"] == "False"
        assert one["arguments"]["opt"] == "AdamOptimizer"
    # Each optimiser reads the device's one status before the next can set it.
    assert [one["scope"] for one in done.of("float status")] == list(model.optimizers) * 3

    first, last = (models.checkpoint(folder, step) for step in (1, 3))
    for scope, start in model.optimizers.items():
        weights = [key for key in first if key.startswith(start) and "/Adam" not in key]
        assert sum(not np.array_equal(first[key], last[key]) for key in weights) > len(weights) // 2
        assert last[scope + "/loss_scale"] == 2.0**32
        assert (last[scope + "/good_steps"], last[scope + "/bad_steps"]) == (3, 0)
        assert scope + "/cond/beta1_power" in last
    losses = [value for line in _json_lines(folder) for value in line.values()]
    assert len(losses) > 6
    assert np.isfinite([value for value in losses if isinstance(value, float)]).all()


@pytest.mark.parametrize("name", ["pix2pix", "stargan", "whitebox"])
def test_every_session_that_makes_pictures_has_an_entry_of_its_own(trained, name):
    folder, done = trained(name, "r1.5" if name == "stargan" else "master")
    assert done.status == 0, done.printed
    done = models.use(name, folder, "r1.10")
    assert done.status == 0, done.printed
    assert len(list(folder.glob(models.MODELS[name].made))) > 1
    sessions = done.of("Session")
    assert {session["entry"] for session in sessions} == {"given"}
    keys = _keys(name) if name != "whitebox" else {"precision_mode": "force_fp32"}
    assert all(session["keys"] == dict(keys, use_off_line=True) for session in sessions)


def _same(first, second, start):
    """Returns whether all weights and slots of what begins with `start` are equal."""
    names = [key for key in first if key.startswith(start) or "/" + start in key]
    assert len(names) > 5
    return all(np.array_equal(first[key], second[key]) for key in names)


OVERFLOW = {"NPU_BRIDGE_OVERFLOW": "generator_train:2,3;discriminator_train:1"}


def _check_overflow(folder):
    """Checks what OVERFLOW has left of a StarGAN; returns the last checkpoint."""
    one, two, three = (models.checkpoint(folder, step) for step in (1, 2, 3))
    assert _same(one, two, "G/")
    assert _same(two, three, "G/")
    assert not _same(one, two, "D/")
    scales = [tensors["generator_train/loss_scale"] for tensors in (one, two, three)]
    assert scales == [2.0**32, 2.0**32, 2.0**31]
    assert [tensors["discriminator_train/bad_steps"] for tensors in (one, three)] == [1, 1]
    assert three["discriminator_train/loss_scale"] == 2.0**32
    return three


def test_an_overflow_leaves_a_step_out_and_the_scale_is_resumed(drawn, tmp_path):
    models.link_data(drawn("stargan"), tmp_path)
    words = ("--keep_checkpoints=9",)
    done = models.train("stargan", tmp_path, "r1.5", 3, *words, **OVERFLOW)
    assert done.status == 0, done.printed
    three = _check_overflow(tmp_path)

    words += (models.MODELS["stargan"].resume,)
    done = models.train("stargan", tmp_path, "r1.5", 4, *words, NPU_BRIDGE_OVERFLOW="1")
    assert done.status == 0, done.printed
    assert "continuing after step 3" in done.printed
    four = models.checkpoint(tmp_path, 4)
    assert _same(three, four, "G/")
    assert (four["generator_train/loss_scale"], four["generator_train/bad_steps"]) == (2.0**31, 1)
    # The discriminator's second overflow: the first was before the training was stopped.
    assert four["discriminator_train/loss_scale"] == 2.0**31
    logged = [line["generator_train/loss_scale"] for line in _json_lines(tmp_path)]
    assert logged[-1] == 2.0**31


def test_on_a_device_with_infinities_the_gradients_tell(drawn, tmp_path):
    models.link_data(drawn("stargan"), tmp_path)
    words = dict(OVERFLOW, NPU_BRIDGE_INF_NAN="1")
    done = models.train("stargan", tmp_path, "master", 3, "--keep_checkpoints=9", **words)
    assert done.status == 0, done.printed
    assert not done.of("float status")
    tensors = _check_overflow(tmp_path)
    assert all(np.isfinite(value).all() for value in tensors.values())


MINIMIZE = """
import json, sys
sys.path.insert(0, sys.argv[1])
import tensorflow.compat.v1 as tf
from harness.options import parse
from harness.platform_options import PlatformOptions
from tf_runtime import device as devices, ranks
device = devices.choose(parse(PlatformOptions, ["--device=npu"] + sys.argv[2:])[0])
x = tf.get_variable("x", initializer=tf.constant([2.0]))
adam, group = tf.train.AdamOptimizer(0.5), ranks.connect("npu")
train = devices.minimize(adam, tf.square(x[0]), [x], device, group, "t")
with tf.Session(config=devices.session_config(device)) as session:
    session.run(tf.global_variables_initializer())
    session.run(train)
    print(json.dumps([session.run(x).tolist(), [v.op.name for v in tf.global_variables()]]))
"""


@pytest.mark.parametrize(
    ("words", "kinds"),
    [
        (("--precision_mode=force_fp32",), []),
        (("--loss_scale=1024",), ["FixedLossScaleManager", "NPULossScaleOptimizer"]),
        (("--precision_mode_v2=mixed_bfloat16",), []),
    ],
)
def test_the_loss_is_scaled_as_the_precision_needs_it(tmp_path, words, kinds):
    model = os.path.join(models.ROOT, models.MODELS["pix2pix"].folder)
    command = [sys.executable, "-c", MINIMIZE, model] + list(words)
    done = models.run(command, tmp_path, models.environment("master", tmp_path))
    assert done.status == 0, done.printed
    made = done.of("Manager") + done.of("Optimizer")
    assert [_short(call).split(".")[-1] for call in made] == kinds
    assert [call["arguments"].get("loss_scale", "") for call in made[:1]] == ["1024.0"] * len(
        kinds[:1]
    )
    ((value,), names) = json.loads(done.printed.splitlines()[-1])
    assert abs(value - 1.5) < 1e-4
    assert not any("loss_scale" in name for name in names)


SWITCHES = """
import json, sys
sys.path.insert(0, sys.argv[1])
import tensorflow.compat.v1 as tf
from harness.errors import UserError
from harness.options import parse
from harness.platform_options import PlatformOptions
from tf_runtime import device as devices
for words in json.loads(sys.argv[2]):
    print("== " + " ".join(words), flush=True)
    try:
        device = devices.choose(parse(PlatformOptions, ["--device=npu"] + words)[0])
        tf.Session(config=devices.session_config(device)).close()
    except UserError as error:
        print("error: %s" % error, flush=True)
"""
ALL, R110, MASTER = RELEASES, RELEASES[1:], RELEASES[2:]
MIXED = {"modify_mixlist": "<folder>/ops_info.json"}
PLAIN = dict(MIXED, precision_mode="allow_mix_precision")
DUMP = {"enable_dump": True, "dump_mode": "all", "dump_path": "<here>/datadump", "dump_step": "10"}
OVER_DUMP = {"enable_dump_debug": True, "dump_debug_mode": "all", "dump_path": "<here>/over"}
FUSION = {"fusion_switch_file": "<folder>/tf_runtime/fusion_switch.cfg"}
LAZY = {"dynamic_input": True, "dynamic_graph_execute_mode": "lazy_recompile"}
CASES = [  # words, releases that have it, keys there
    ([], ALL, PLAIN),
    (["--no_use_mixlist"], ALL, {"precision_mode": "allow_mix_precision"}),
    (["--mixlist_file=own.json"], ALL, dict(PLAIN, modify_mixlist="<here>/own.json")),
    (["--data_dump_flag"], ALL, dict(PLAIN, **DUMP)),
    (
        ["--data_dump_flag", "--data_dump_step=0|5-9"],
        ALL,
        dict(PLAIN, **dict(DUMP, dump_step="0|5-9")),
    ),
    (["--over_dump", "--over_dump_path=over"], ALL, dict(PLAIN, **OVER_DUMP)),
    (["--autotune"], ALL, dict(PLAIN, aoe_mode="2", work_path="<here>/autotune_dump")),
    (
        ["--autotune", "--aoe_mode=4", "--autotune_path=t"],
        ALL,
        dict(PLAIN, aoe_mode="4", work_path="<here>/t"),
    ),
    (["--fusion_off_flag"], ALL, dict(PLAIN, **FUSION)),
    (
        ["--fusion_off_flag", "--fusion_off_file=own.json"],
        ALL,
        dict(PLAIN, fusion_switch_file="<here>/own.json"),
    ),
    (["--dynamic_input"], ALL, dict(PLAIN, **LAZY)),
    (["--session_device_id=3"], ALL, dict(PLAIN, session_device_id=3)),
    (["--customize_dtypes=own.json"], R110, dict(PLAIN, customize_dtypes="<here>/own.json")),
    (["--deterministic"], MASTER, dict(PLAIN, deterministic=1)),
]
CASES += [
    (["--precision_mode=" + mode], ALL, {"precision_mode": mode})
    for mode in ("force_fp32", "must_keep_origin_dtype", "allow_fp32_to_fp16", "force_fp16")
]
CASES += [
    (["--precision_mode=" + mode], MASTER, dict({"precision_mode": mode}, **more))
    for mode, more in (
        ("cube_fp16in_fp32out", {}),
        ("allow_fp32_to_bf16", {}),
        ("allow_mix_precision_fp16", MIXED),
        ("allow_mix_precision_bf16", MIXED),
    )
]
CASES += [
    (["--precision_mode_v2=" + mode], MASTER, dict({"precision_mode_v2": mode}, **more))
    for mode, more in (
        ("fp16", {}),
        ("origin", {}),
        ("cube_fp16in_fp32out", {}),
        ("mixed_float16", MIXED),
        ("mixed_bfloat16", MIXED),
    )
]


@pytest.fixture(scope="module", params=RELEASES)
def switched(request, tmp_path_factory):
    """(release, {words: (session keys, printed)}) of all CASES, in one process."""
    folder = tmp_path_factory.mktemp("switches")
    (folder / "own.json").write_text('{"black-list": {"to-add": ["Add"]}}')
    model = os.path.join(models.ROOT, models.MODELS["pix2pix"].folder)
    cases = json.dumps([words for words, _, _ in CASES] + [["--profiling"]])
    command = [sys.executable, "-c", SWITCHES, model, cases]
    done = models.run(command, folder, models.environment(request.param, folder))
    assert done.status == 0, done.printed
    printed = done.printed[done.printed.index("== ") :].split("== ")[1:]
    sessions = [call["keys"] for call in done.of("tf.Session")]
    assert len(printed) == len(sessions) == len(CASES) + 1, done.printed
    names = {"<here>": str(folder), "<folder>": model}
    return request.param, names, list(zip(sessions, printed))


def test_every_switch_sets_the_documented_keys(switched):
    release, names, seen = switched
    for (words, releases, keys), (session, printed) in zip(CASES, seen):
        keys = dict(keys if release in releases else PLAIN, use_off_line=True)
        for key, value in keys.items():
            for name, path in names.items():
                if isinstance(value, str):
                    value = keys[key] = value.replace(name, path)
        assert session == keys, words
        option = words[0].split("=")[0] if words else "--"
        told = option in printed and "the installed npu_bridge does not have it" in printed
        assert told == (release not in releases), printed


def test_profiling_has_options_of_its_own(switched):
    _, names, seen = switched
    keys = dict(seen[-1][0])
    options = json.loads(keys.pop("profiling_options"))
    assert keys.pop("profiling_mode") is True
    assert keys == dict(
        PLAIN, use_off_line=True, modify_mixlist=names["<folder>"] + "/ops_info.json"
    )
    assert options["output"] == names["<here>"] + "/profiling"
    assert os.path.isdir(options["output"])
    assert (options["training_trace"], options["task_trace"]) == ("on", "on")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--data_dump_flag", "--over_dump"), "share one dump"),
        (("--data_dump_step=9-3", "--data_dump_flag"), "--data_dump_step 9-3"),
        (("--mixlist_file=none.json",), "--mixlist_file none.json: there is no such file"),
    ],
)
def test_wrong_switches_are_one_sentence_before_anything_is_done(drawn, tmp_path, words, sentence):
    models.link_data(drawn("neural_style"), tmp_path)
    before = sorted(os.listdir(str(tmp_path)))
    done = models.train("neural_style", tmp_path, "master", 1, *words)
    assert done.status == 1
    assert sentence in done.printed.splitlines()[-1]
    assert not done.of("tf.Session")
    assert sorted(set(os.listdir(str(tmp_path))) - {"calls.jsonl"}) == before
