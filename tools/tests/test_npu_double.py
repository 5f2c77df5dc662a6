# SPDX-License-Identifier: Apache-2.0
"""The double of npu_bridge: it has what each release has, and refuses the rest."""

import importlib
import inspect
import json
import os
import subprocess
import sys

import pytest

tf = pytest.importorskip("tensorflow.compat.v1")
if not tf.__version__.startswith("1.15"):
    pytest.skip("npu_bridge is for TensorFlow 1.15", allow_module_level=True)

from npu.in_process import HERE, RELEASES, bridge_in_process  # noqa: E402, F401

DESCRIPTION = os.path.join(
    os.path.dirname(HERE), "..", "..", "..", "shared", "spec", "npu_bridge_signatures.json"
)


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
