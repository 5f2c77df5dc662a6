# SPDX-License-Identifier: Apache-2.0
"""A stopped, moved or damaged run ends as an undisturbed one; two ranks do what one does."""

import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
from conftest import DATASET, FOLDER, TINY, draw_domains

from harness.errors import UserError
from harness.images import read_image
from ugatit import device
from ugatit.config import Config
from ugatit.reading import read

if not importlib.util.find_spec("mindspore"):  # not imported before `device.prepare`
    pytest.skip("MindSpore is not installed", allow_module_level=True)

NAMES = ("genA2B", "genB2A", "disGA", "disGB", "disLA", "disLB")
PERIODS = ["--print_freq=1", "--save_freq=2"]


def _words(data, out, steps, *more):
    words = ["--data_path=%s" % data, "--output_path=%s" % out, "--iteration=%d" % steps]
    return TINY + PERIODS + words + list(more)


def _train(data, out, steps, *more):
    """Trains in this process, as train.py does."""
    config, _ = read(_words(data, out, steps, *more))
    device.prepare(config)
    from ugatit import training

    training.train(config)


def _state(out, step):
    """Returns {name: array} of the state after a step."""
    from ugatit.run import state_path
    from ugatit.weights import read_parameters

    return read_parameters(state_path(str(out / DATASET / "checkpoint"), step))


def _different(one, other):
    assert set(one) == set(other)
    assert len(one) > 300
    return [name for name in one if one[name].tobytes() != other[name].tobytes()]


def _json(path):
    with open(str(path), encoding="utf-8") as file:
        return json.load(file)


def _records(out):
    with open(str(out / DATASET / "checkpoint" / "log.jsonl"), encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(data set, output folder, what was printed) of 4 steps in one go, by the program."""
    folder = tmp_path_factory.mktemp("whole")
    data = draw_domains(folder / "data")
    command = [sys.executable, os.path.join(FOLDER, "train.py")]
    done = subprocess.run(
        command + _words(data, folder / "out", 4),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return data, folder / "out", done.stdout


@pytest.fixture
def copied(whole, tmp_path):
    """(data set, a copy of the whole run's output that may be changed)."""
    shutil.copytree(str(whole[1]), str(tmp_path / "out"))
    return whole[0], tmp_path / "out"


def test_a_run_leaves_the_documented_files(whole):
    folder = whole[1] / DATASET
    weights = ["%s_%s_params_latest.ckpt" % (DATASET, name) for name in NAMES]
    assert sorted(os.listdir(str(folder))) == sorted(weights + ["checkpoint", "img", "model"])
    kept = ["%s_%s_params_%07d.ckpt" % (DATASET, name, n) for name in NAMES for n in (2, 4)]
    assert sorted(os.listdir(str(folder / "model"))) == sorted(kept)
    states = ["model-0000003.ckpt", "model-0000004.ckpt"]
    names = ["config.json", "log.jsonl", "training.json", "samples.jsonl", "report.html"] + states
    assert sorted(os.listdir(str(folder / "checkpoint"))) == sorted(names)
    sheets = ["%s_%07d.png" % (name, n) for name in ("A2B", "B2A") for n in (1, 2, 3, 4)]
    assert sorted(os.listdir(str(folder / "img"))) == sorted(sheets)


def test_weights_samples_and_state_are_of_their_step(whole):
    from ugatit.weights import read_parameters

    folder, state = whole[1] / DATASET, _state(whole[1], 4)
    for name in NAMES:
        latest = read_parameters(str(folder / ("%s_%s_params_latest.ckpt" % (DATASET, name))))
        numbered = [
            read_parameters(str(folder / "model" / ("%s_%s_params_%07d.ckpt" % (DATASET, name, n))))
            for n in (2, 4)
        ]
        for key, value in latest.items():
            assert value.tobytes() == state["%s.%s" % (name, key)].tobytes()
            assert value.tobytes() == numbered[1][key].tobytes()
        assert any(np.any(value != numbered[0][key]) for key, value in latest.items())
    first, last = (read_image(str(folder / "img" / ("A2B_%07d.png" % n))) for n in (1, 4))
    assert first.shape == (7 * 34 - 2, 2 * 34 - 2, 3)  # 7 rows of 2 test pictures
    assert np.array_equal(first[:32], last[:32])
    assert np.any(first[34:] != last[34:])


def test_the_program_prints_the_documented_lines(whole):
    printed, records = whole[2], _records(whole[1])
    order = ["Dataset load finished", "Training dataset size =  5 (A 4, B 5)"]
    order += ["15 steps per epoch, 4 steps", "training start !", " [*] Training finished!"]
    lines = printed.splitlines()
    assert [line for line in lines if line in order] == order
    assert [record["step"] for record in records] == [1, 2, 3, 4]
    for record in records:
        line = r"(?m)^epoch 1:\[ {4}%d/   15\] time per iter: %.4f $"
        assert re.search(line % (record["step"], record["seconds_per_step"]), printed)
    for name in ("d_loss", "g_loss"):
        shown = [float(x) for x in re.findall(r"(?m)^%s: (\S+)$" % name, printed)]
        np.testing.assert_allclose(shown, [record[name] for record in records], 1e-6)
    assert len({record["g_loss"] for record in records}) == 4
    rates = [record["learning_rate"] for record in records]
    np.testing.assert_allclose(rates, [1e-4, 1e-4, 1e-4, 5e-5])
    parts = {"adv_loss", "cycle_loss", "identity_loss", "cam_loss", "images_per_second"}
    assert parts < set(records[0])


def test_the_run_says_what_decided_its_bits(whole):
    summary = _json(whole[1] / DATASET / "checkpoint" / "training.json")
    assert (summary["steps"], summary["first_step"], summary["stopped"]) == (4, 1, False)
    around = summary["surroundings"]
    assert (around["device"], around["precision"], around["graph"]) == ("cpu", "float32", False)
    assert around["data"].startswith("4 and 5 pictures, ")


def test_a_damaged_newest_state_is_named_and_the_one_before_used(whole, copied, capfd):
    data, out = copied
    newest = out / DATASET / "checkpoint" / "model-0000004.ckpt"
    with newest.open("r+b") as file:
        file.truncate(5000)
    _train(data, out, 4, "--resume")
    printed = capfd.readouterr().out
    assert re.search(r"model-0000004\.ckpt is damaged .*; trying the one before", printed)
    assert "continuing after step 3" in printed
    assert _different(_state(whole[1], 4), _state(out, 4)) == []
    assert [record["step"] for record in _records(out)] == [1, 2, 3, 4, 4]


def test_a_run_goes_on_from_another_folder(whole, copied, tmp_path, capfd):
    data, out = copied
    os.remove(str(out / DATASET / "checkpoint" / "model-0000004.ckpt"))
    _train(data, tmp_path / "new", 4, "--resume", "--load_path=%s" % out)
    assert "continuing after step 3" in capfd.readouterr().out
    assert _different(_state(whole[1], 4), _state(tmp_path / "new", 4)) == []
    assert [record["step"] for record in _records(tmp_path / "new")] == [4]


def test_a_terminated_run_saves_exits_0_and_goes_on_bit_identical(whole, tmp_path):
    command = [sys.executable, "-u", os.path.join(FOLDER, "train.py")]
    words = _words(whole[0], tmp_path, 4, "--print_freq=1000")
    process = subprocess.Popen(
        command + words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("epoch 1:[    1/"):
            process.send_signal(signal.SIGTERM)
    assert process.wait(600) == 0, lines
    stopped = [line for line in lines if line.startswith("stopped at step")]
    assert len(stopped) == 1, lines
    step = int(stopped[0].split()[-1])
    assert 1 <= step < 4
    assert (tmp_path / DATASET / "img" / ("A2B_%07d.png" % step)).exists()
    assert (tmp_path / DATASET / ("%s_genA2B_params_latest.ckpt" % DATASET)).exists()
    _train(whole[0], tmp_path, 4, "--resume", "--print_freq=1000")
    assert _different(_state(whole[1], 4), _state(tmp_path, 4)) == []


def test_a_complete_run_is_left_as_it_is(copied, capfd):
    data, out = copied

    def content():
        paths = [path for path in sorted(out.rglob("*")) if path.is_file()]
        return {str(path): path.read_bytes() for path in paths if path.name != "config.json"}

    before = content()
    assert len(before) > 20
    _train(data, out, 4)
    assert "is complete: 4 steps" in capfd.readouterr().out
    assert content() == before


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "holds a run up to step 4; add --continue_train or choose another folder"),
        (["--resume", "--ch=8"], "has other settings: --ch was 4 and is 8; give those or"),
        (["--resume", "--seed=2", "--no_light"], "--light was True and is False, --seed was 1"),
    ],
)
def test_a_run_is_neither_overwritten_nor_continued_with_other_settings(copied, words, sentence):
    data, out = copied
    before = _state(out, 4)
    with pytest.raises(UserError) as caught:
        _train(data, out, 5, *words)
    text = str(caught.value)
    for part in sentence.split(", "):
        assert part in text
    assert _different(before, _state(out, 4)) == []


def test_states_that_are_all_damaged_are_no_reason_to_begin_anew(copied):
    data, out = copied
    for step in (3, 4):
        path = out / DATASET / "checkpoint" / ("model-%07d.ckpt" % step)
        path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(UserError, match=r"no usable state in .*model-0000004\.ckpt is damaged"):
        _train(data, out, 4, "--resume")


def test_the_newest_states_and_no_others_stay(shapes, tmp_path):
    _train(shapes, tmp_path / "out", 4, "--keep_checkpoints=3", "--resume")
    folder = tmp_path / "out" / DATASET / "checkpoint"
    states = [name for name in sorted(os.listdir(str(folder))) if name.endswith(".ckpt")]
    assert states == ["model-%07d.ckpt" % step for step in (2, 3, 4)]


def test_pictures_that_are_not_finite_end_the_training_with_a_sentence(
    shapes, tmp_path, monkeypatch
):
    from ugatit import data

    read_batch = data.read_batch

    def spoiled(domains, config, step, *place):
        a, b = read_batch(domains, config, step, *place)
        a[0, 0, 3, 3] = np.nan if step == 3 else a[0, 0, 3, 3]
        return a, b

    monkeypatch.setattr(data, "read_batch", spoiled)
    with pytest.raises(UserError) as caught:
        _train(shapes, tmp_path / "out", 6)
    assert re.match(r"\w+_loss is nan at step 3; ", str(caught.value))
    assert "the last good checkpoint is that of step 2" in str(caught.value)
    assert all(np.isfinite(value).all() for value in _state(tmp_path / "out", 2).values())


def test_too_little_memory_is_told_before_any_work(shapes, tmp_path, monkeypatch):
    from ugatit import memory

    monkeypatch.setattr(memory, "available", lambda: 2.0**29)
    sentence = r"needs about \d\.\d GiB and there are 0\.5; use --light, or a smaller --ch"
    with pytest.raises(UserError, match=sentence) as caught:
        _train(shapes, tmp_path / "out", 1)
    assert "--mode" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(memory, "available", lambda: None)
    place = device.Place("CPU", True, False, 0, 1, 0)
    memory.check(Config(), place)  # where the system does not say, it is tried
    monkeypatch.setattr(memory, "available", lambda: 2.0**34)
    memory.check(Config(light=True), place._replace(graph=False))
    with pytest.raises(UserError, match="or --mode=pynative"):
        memory.check(Config(light=True), place)
    memory.check(Config(), place._replace(target="Ascend"))


def _free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def _folder_with_tiny_defaults(folder, steps):
    """Copies the programs to `folder` and writes a default_config.yaml as users edit it."""
    for name in ("ugatit", "harness", "scripts"):
        shutil.copytree(os.path.join(FOLDER, name), str(folder / name))
    shutil.copy(os.path.join(FOLDER, "train.py"), str(folder))
    lines = ["dataset: %s" % DATASET, "img_size: 32", "ch: 4", "n_res: 1", "n_dis: 4"]
    lines += ["iteration: %d" % steps, "log_freq: 1", "print_freq: %d" % steps]
    (folder / "default_config.yaml").write_text("\n".join(lines) + "\n")


def test_two_ranks_train_as_one_with_twice_the_batch(shapes, tmp_path):
    beside = os.path.dirname(sys.executable)
    if not os.path.exists(os.path.join(beside, "msrun")):
        pytest.skip("msrun, which starts several ranks, is not beside this Python")
    _folder_with_tiny_defaults(tmp_path / "folder", 3)
    environment = dict(os.environ, DEVICE_TARGET="CPU", MASTER_PORT=str(_free_port()))
    environment["PATH"] = beside + os.pathsep + os.environ["PATH"]
    script = str(tmp_path / "folder" / "scripts" / "run_distributed_train_gpu.sh")
    done = subprocess.run(
        ["bash", script, "2", shapes, "1e-4"],
        cwd=str(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        timeout=600,
        check=False,
    )
    logs = sorted((tmp_path / "logs").glob("worker_*.log"))
    text = "\n".join(path.read_text() for path in logs)
    assert done.returncode == 0, done.stdout + text
    assert len(logs) == 2
    assert text.count("2 rank(s)") == text.count(" [*] Training finished!") == 1
    assert "7 steps per epoch, 3 steps" in text
    words = ["--batch_size=2", "--print_freq=3", "--loss_scale=1.0"]
    _train(shapes, tmp_path / "one", 3, *words)
    one, two = _state(tmp_path / "one", 3), _state(tmp_path / "results", 3)
    assert set(one) == set(two)
    for name, value in one.items():
        if name.split(".")[0] in NAMES:
            np.testing.assert_allclose(two[name], value, 0, 1e-5, err_msg=name)
        elif ".moment1." in name:  # which a sum in place of a mean would double
            error = np.linalg.norm(two[name] - value)
            assert error <= 1e-3 * np.linalg.norm(value), name
    assert [record["step"] for record in _records(tmp_path / "results")] == [1, 2, 3]
