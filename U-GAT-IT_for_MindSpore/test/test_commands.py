# SPDX-License-Identifier: Apache-2.0
"""The documented command lines: what they print, leave, and answer to wrong input."""

import dataclasses
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import types

import numpy as np
import pytest
import yaml
from conftest import DATASET, FOLDER, TINY, draw_domains, run

from harness.errors import UserError
from harness.files import read_json, read_log
from harness.images import read_image
from ugatit import modelarts
from ugatit.config import Config
from ugatit.reading import names

needs_mindspore = pytest.mark.skipif(
    not importlib.util.find_spec("mindspore"), reason="MindSpore is not installed"
)
CASE = "U-GAT-IT_for_MindSpore_bs1_1p_"
CONTRACT = os.path.join(os.path.dirname(FOLDER), "ci", "contract.py")
RESULT_LINES = (
    "Final Performance images/sec",
    "Final Performance sec/step",
    "Final Train Accuracy",
    "E2E Training Duration sec",
)


def _shell(script, *words, cwd, **environment):
    """Runs a script of the folder the way a person does; python3 is this Python."""
    beside = os.path.dirname(sys.executable)
    environment = dict(os.environ, PATH=beside + os.pathsep + os.environ["PATH"], **environment)
    environment.pop("ASCEND_DEVICE_ID", None)
    return subprocess.run(
        ["bash", os.path.join(FOLDER, script)] + [str(word) for word in words],
        cwd=str(cwd),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        timeout=600,
        check=False,
    )


def _results(printed):
    """Returns {name: text} of the last lines of a case, which come in this order."""
    lines = [line.split(" : ") for line in printed.splitlines()[-4:]]
    assert [name for name, _ in lines] == list(RESULT_LINES), printed
    return dict(lines)


def _check_result(path):
    """Returns result.json after it was found to be as every folder's is."""
    result = read_json(str(path))
    if os.path.exists(CONTRACT):
        sys.path.insert(0, os.path.dirname(CONTRACT))
        try:
            spec = importlib.util.spec_from_file_location("contract_of_results", CONTRACT)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        finally:
            sys.path.remove(os.path.dirname(CONTRACT))
        assert module.check_result(result) == []
    return result


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """(folder, printed) of a full case whose data are given relative to where the caller stands."""
    folder = tmp_path_factory.mktemp("数据 集")
    draw_domains(folder / "my data")
    words = ["--data_path=my data", "--output_path", "out put", "--iteration=2"] + TINY
    done = _shell("test/train_full_1p.sh", *words, cwd=folder)
    assert done.returncode == 0, done.stdout
    return folder, done.stdout


@needs_mindspore
def test_the_full_case_prints_and_stores_what_it_measured(full):
    folder, printed = full
    results, result = _results(printed), _check_result(folder / "out put" / "result.json")
    assert (result["case"], result["preset"], result["exit_status"]) == (CASE + "acc", "full", 0)
    assert (result["steps"], result["batch"], result["device"]) == (2, 1, "cpu")
    assert "2 test pictures at 32 pixels" in result["accuracy"]["protocol"]
    assert result["accuracy"]["value"] in result["metrics"].values()
    assert {name[:4] for name in result["metrics"]} == {"A2B_", "B2A_"}
    assert results[RESULT_LINES[0]] == "%.2f" % result["images_per_second"]
    assert results[RESULT_LINES[1]] == "%.4f" % result["seconds_per_step"]
    assert results[RESULT_LINES[2]] == "%.4f" % result["accuracy"]["value"]
    assert set(result["losses"]) >= {"d_loss", "g_loss", "cam_loss"}
    assert result["command"][:2] == ["bash", "test/train_full_1p.sh"]


@needs_mindspore
def test_the_full_case_leaves_log_losses_weights_and_pictures(full):
    out = full[0] / "out put"
    lines = dict(line.split(" = ") for line in (out / (CASE + "acc.log")).read_text().splitlines())
    keys = "Network RankSize BatchSize DeviceType CaseName ActualFPS TrainingTime ActualLoss"
    assert list(lines) == (keys + " ActualLoss1 TrainAccuracy E2ETrainingTime").split()
    assert lines["CaseName"] == CASE + "acc"
    assert abs(float(lines["ActualFPS"]) * float(lines["TrainingTime"]) / 1000 - 1) < 0.05
    run_folder = out / "results" / DATASET
    records = read_log(str(run_folder / "checkpoint" / "log.jsonl"))
    for name, key, loss in (("loss", "ActualLoss", "g_loss"), ("dloss", "ActualLoss1", "d_loss")):
        listed = np.loadtxt(str(out / ("train_%sacc_%s.txt" % (CASE, name))))
        np.testing.assert_allclose(listed, [record[loss] for record in records], 1e-6)
        assert lines[key] == "%.4f" % listed[-1]
    assert " [*] Training finished!" in (out / "train_0.log").read_text()
    assert (run_folder / ("%s_genB2A_params_latest.ckpt" % DATASET)).exists()
    assert read_image(str(run_folder / "test" / "A2B_1.png")).shape == (32, 32, 3)


@needs_mindspore
def test_the_performance_case_takes_as_many_steps_as_it_is_told(shapes, tmp_path):
    words = ["--data_path=" + shapes, "--output_path=out", "--iteration=2"] + TINY
    done = _shell("test/train_performance_1p.sh", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    result = _check_result(tmp_path / "out" / "result.json")
    assert (result["preset"], result["steps"], result["accuracy"]) == ("performance", 2, None)
    assert _results(done.stdout)[RESULT_LINES[2]] == "None"
    assert (tmp_path / "out" / (CASE + "perf.log")).exists()


@needs_mindspore
def test_the_modelarts_entry_passes_status_and_tolerates_platform_parameters(shapes, tmp_path):
    words = ["--data_url", shapes, "--train_url", tmp_path / "job", "--iteration=1"] + TINY
    done = run("modelarts_entry_perf.py", "--num_gpus=1", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "left out, not options of this model: --num_gpus=1" in done.stdout
    assert read_json(str(tmp_path / "job" / "result.json"))["steps"] == 1
    for name in ("modelarts_entry.py", "modelarts_entry_acc.py", "modelarts_entry_perf.py"):
        failed = run(name, "--data_url", tmp_path / "nothing", cwd=tmp_path)
        assert failed.returncode == 1
        assert '[Error] para "data_path" must be config' in failed.stdout


@pytest.mark.parametrize("words", [[], ["--data_path="], ["--data_path=no such folder"]])
def test_a_case_without_data_says_so(tmp_path, words):
    done = _shell("test/train_full_1p.sh", *words, cwd=tmp_path)
    assert done.returncode == 1
    first, second = done.stdout.splitlines()
    assert first == '[Error] para "data_path" must be config'
    start = "none of trainA, trainB, testA, testB in %s/no such folder/selfie2anime, " % tmp_path
    assert second.startswith(start if words and "such" in words[0] else "no --data_path was given")
    assert os.listdir(str(tmp_path)) == []


def _damage(root):
    path = root / "trainA" / "2.png"
    path.write_bytes(path.read_bytes()[:100])


def _leave_one(root):
    for path in sorted((root / "trainA").iterdir())[1:]:
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda root: shutil.rmtree(str(root / "trainB")), "there is no folder {root}/trainB; "),
        (_leave_one, "the number of pictures in {root}/trainA is 1 and must be at least 2"),
        (_damage, "1 of 13 pictures cannot be used, mend or remove them: {root}/trainA/2.png"),
    ],
)
def test_unusable_pictures_are_told_before_anything_is_written(shapes, tmp_path, spoil, sentence):
    root = tmp_path / "data" / DATASET
    spoil(root)
    words = ["--data_path=" + shapes, "--output_path=out"] + TINY
    done = _shell("test/train_full_1p.sh", *words, cwd=tmp_path)
    assert done.returncode == 1
    first, second = done.stdout.splitlines()
    assert first == '[Error] para "data_path" must be config'
    assert second.startswith(sentence.format(root=root))
    assert os.listdir(str(tmp_path)) == ["data"]


@needs_mindspore
def test_the_program_tells_a_damaged_picture_in_one_sentence(shapes, tmp_path):
    _damage(tmp_path / "data" / DATASET)
    done = run("train.py", "--data_path=" + shapes, *TINY, cwd=tmp_path)
    assert done.returncode == 1
    assert "train.py: error: 1 of 13 pictures cannot be used" in done.stdout
    assert "Traceback" not in done.stdout
    assert os.listdir(str(tmp_path)) == ["data"]


def test_help_lists_every_option(tmp_path):
    done = run("train.py", "--help", cwd=tmp_path)
    assert done.returncode == 0
    for name in names():
        assert "--%s " % name in done.stdout, name
    assert "--a_b is --a-b" in done.stdout


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["--bach_size=3"], 2, "unknown option --bach_size=3; did you mean --batch_size?"),
        (["--batch_size=-3"], 2, "--batch_size -3 is too small; it must be at least 1"),
        (["--img-size", "66"], 1, "--img_size 66: it must be a multiple of 4, such as 64"),
        (["--enable_modelarts"], 1, "--enable_modelarts needs --data_url, a folder or a bucket"),
        (["--config_path=no.yaml"], 1, "--config_path no.yaml: there is no such file"),
    ],
)
def test_wrong_options_are_answered_in_one_line(tmp_path, words, status, sentence):
    done = run("train.py", *words, cwd=tmp_path)
    assert (done.returncode, len(done.stdout.splitlines())) == (status, 1), done.stdout
    assert sentence in done.stdout
    assert os.listdir(str(tmp_path)) == []


WRONG = {
    "run_standalone_train_910.sh": ["", "x", "0 1", "0 word --light"],
    "run_distributed_train_910.sh": ["", "table", "table 8", "table 0 0", "table 8 0 1"],
    "run_eval_910.sh": ["", "x", "0 1"],
    "run_standalone_train_gpu.sh": ["", "0", "x data", "0 data 1 2 3 4 5"],
    "run_distributed_train_gpu.sh": ["", "2", "0 data", "2 data 1 2 3 4 5"],
    "run_eval_gpu.sh": ["", "0 data out", "x data out True", "0 data out True file more"],
    "run_infer_310.sh": ["", "a.mindir", "a.mindir data 0 1"],
}


@pytest.mark.parametrize("script", list(WRONG))
def test_a_script_with_wrong_arguments_shows_its_usage(tmp_path, script):
    scripts = os.path.join(FOLDER, "scripts")
    assert sorted(WRONG) == sorted(name for name in os.listdir(scripts) if name.endswith(".sh"))
    for words in WRONG[script]:
        done = _shell("scripts/" + script, *words.split(), cwd=tmp_path)
        assert done.returncode == 1, (words, done.stdout)
        assert done.stdout.startswith("Usage: bash ")
        assert script in done.stdout
        assert done.stdout.count("\n") == 1
    assert os.listdir(str(tmp_path)) == []


@needs_mindspore
def test_the_910_scripts_train_and_evaluate_from_any_directory(shapes, tmp_path):
    words = ["--data_path=" + shapes, "--output_path=o"] + TINY[:-2] + ["--log_freq=1"]
    done = _shell(
        "scripts/run_standalone_train_910.sh", 0, "--iteration=1", *words, cwd=tmp_path,
        DEVICE_TARGET="CPU",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-2] == " [*] Training finished!"
    assert done.stdout.splitlines()[-1].startswith("report: ")
    assert "device CPU" in (tmp_path / "logs" / "train.log").read_text()
    assert read_json(str(tmp_path / "o" / DATASET / "checkpoint" / "training.json"))["steps"] == 1
    done = _shell("scripts/run_eval_910.sh", 0, *words, cwd=tmp_path, DEVICE_TARGET="CPU")
    assert done.returncode == 0, done.stdout
    assert " [*] Testing finished!" in (tmp_path / "logs" / "eval.log").read_text()
    assert (tmp_path / "o" / DATASET / "test" / "B2A_2.png").exists()
    failed = _shell("scripts/run_eval_910.sh", 0, "--chh=3", cwd=tmp_path)
    assert failed.returncode == 2  # and not that of tee


def test_the_distributed_script_needs_its_rank_table(tmp_path):
    done = _shell("scripts/run_distributed_train_910.sh", "no.json", 2, 0, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "RANK_TABLE no.json: there is no such file\n")


@needs_mindspore
@pytest.mark.parametrize("bucket", [False, True])
def test_a_modelarts_job_whose_boot_file_is_the_training(shapes, tmp_path, bucket):
    settings = {"iteration": 1, "img_size": 32, "ch": 4, "n_res": 1, "n_dis": 4, "light": True}
    settings.update(dataset=DATASET, device_target="CPU", enable_modelarts=True)
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(settings))
    words, environment = ["--config_path=job.yaml", "--train_url=results"], {}
    if bucket:
        words += ["--data_url=obs://pictures/data", "--train_url=obs://results/job 1"]
        _moxing(tmp_path / "platform", tmp_path / "obs")
        os.makedirs(str(tmp_path / "obs"))
        shutil.move(shapes, str(tmp_path / "obs" / "pictures_data"))
        environment = {"PYTHONPATH": str(tmp_path / "platform"), "TMPDIR": str(tmp_path / "tmp")}
        os.makedirs(environment["TMPDIR"])
    else:
        words += ["--data_url=" + shapes]
    done = run("train.py", *words, cwd=tmp_path, **environment)
    assert done.returncode == 0, done.stdout
    results = tmp_path / ("obs/results_job 1" if bucket else "results") / DATASET
    assert (results / "checkpoint" / "model-0000001.ckpt").exists()
    assert (results / "img" / "A2B_0000001.png").exists()
    assert ("Dataset downloaded: " in done.stdout) == bucket
    assert ("Start to copy output directory" in done.stdout) == bucket
    assert not (tmp_path / "dataset").exists()
    if bucket:  # what it holds is gone on with
        done = run("train.py", *words, "--iteration=2", "--resume", cwd=tmp_path, **environment)
        assert "continuing after step 1" in done.stdout
        assert (results / "checkpoint" / "model-0000002.ckpt").exists()


def _moxing(folder, buckets):
    """Writes a module that stands in for the platform's: obs://a/b is `buckets`/a_b."""
    folder.mkdir()
    (folder / "moxing.py").write_text(
        "import os, subprocess\n"
        "class file:\n"
        "    def place(url):\n"
        "        return url.replace('/', '_').replace('obs:__', %r) if '://' in url else url\n"
        "    def exists(url):\n"
        "        return os.path.exists(file.place(url))\n"
        "    def copy_parallel(source, target):\n"
        "        os.makedirs(file.place(target), exist_ok=True)\n"
        "        words = [file.place(source) + '/.', file.place(target)]\n"
        "        subprocess.check_call(['cp', '-r'] + words)\n" % (str(buckets) + "/")
    )


def _job(tmp_path, **urls):
    return Config(enable_modelarts=True, **{name: str(url) for name, url in urls.items()})


def test_folders_of_a_job_are_used_where_they_are(tmp_path):
    seen = []
    config = _job(tmp_path, data_url=tmp_path, train_url="out", checkpoint_url=tmp_path)
    assert modelarts.run(config, lambda config: seen.append(config) or 5) == 5
    changed = {"data_path": str(tmp_path), "output_path": "out", "load_path": str(tmp_path)}
    assert seen == [dataclasses.replace(config, **changed)]
    assert modelarts.run(Config(), lambda config: config) == Config()
    with pytest.raises(UserError, match=r"there is no folder .*nothing; give a folder or a bucket"):
        modelarts.run(_job(tmp_path, data_url=tmp_path / "nothing", train_url="out"), seen.append)
    with pytest.raises(UserError, match="--enable_modelarts needs --train_url"):
        modelarts.run(_job(tmp_path, data_url=tmp_path), seen.append)
    assert len(seen) == 1


def test_a_bucket_without_moxing_is_told(tmp_path):
    with pytest.raises(UserError, match=r"buckets \(obs://\.\.\.\) need ModelArts' moxing"):
        modelarts.run(_job(tmp_path, data_url="obs://a/b", train_url="out"), lambda config: 0)


def test_results_are_copied_out_also_when_the_work_fails(tmp_path, monkeypatch):
    copied = []

    def copy_parallel(source, target):
        copied.append((sorted(os.listdir(source)), target))

    def work(config):
        with open(os.path.join(config.output_path, "half"), "w"):
            raise UserError("a loss is nan")

    file = types.SimpleNamespace(copy_parallel=copy_parallel, exists=lambda url: False)
    monkeypatch.setitem(sys.modules, "moxing", types.SimpleNamespace(file=file))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(UserError, match="a loss is nan"):
        modelarts.run(_job(tmp_path, data_url=tmp_path, train_url="obs://r"), work)
    assert copied == [(["half"], "obs://r")]
