# SPDX-License-Identifier: Apache-2.0
"""What the doctor finds first, what it says mends it, what it measures: of a model that is none."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from harness import doctor
from harness.errors import UserError
from harness.files import write_json, write_text
from harness.trial import duration

HERE = os.path.dirname(os.path.abspath(__file__))
SHARED = os.path.join(os.path.dirname(HERE), "shared")
NAMES = "RANK_ID RANK_SIZE RANK_TABLE_FILE RANK_ADDRESSES DEVICE_ID ASCEND_DEVICE_ID"
MODEL = "Fake_for_TensorFlow"


@pytest.fixture(scope="module")
def top(tmp_path_factory):
    """A repository with two models, and packages that are there by name alone."""
    top = tmp_path_factory.mktemp("仓库 r")
    for name in (MODEL, "Fancy_for_TensorFlow"):
        shutil.copytree(os.path.join(HERE, "doctor"), str(top / name))
        shutil.copytree(os.path.join(SHARED, "harness"), str(top / name / "harness"))
        lines = 'tensorflow==9.1; python_version >= "3.7"\ntensorflow==1.0; python_version < "3.7"'
        (top / name / "requirements.txt").write_text(lines + "\nSome_Thing==2.5\n")
    shutil.copytree(os.path.join(SHARED, "harness"), str(top / "tools" / "shared" / "harness"))
    for name in ("tensorflow-9.1.dist-info", "some_thing-2.5.dist-info"):
        (top / "packages" / name).mkdir(parents=True)
    (top / "my data").mkdir()
    (top / "my data" / "1.png").write_text("")
    return top


def ask(top, *words, **environment):
    """Returns (exit status, what was printed, the JSON of it) of the doctor in the first model."""
    cwd = environment.pop("cwd", top / MODEL)
    packages = [str(top / "packages"), environment.pop("PYTHONPATH", "")]
    environment = dict(
        os.environ, PYTHONPATH=os.pathsep.join(filter(None, packages)), **environment
    )
    for name in NAMES.split():
        if environment.get(name) == os.environ.get(name):
            environment.pop(name, None)
    command = [sys.executable, "-m", "harness.doctor"] + list(map(str, words))
    around = {"cwd": str(cwd), "env": environment, "timeout": 100}
    done = subprocess.run(command, capture_output=True, check=False, **around)
    text = done.stdout.decode()
    return (
        done.returncode,
        text or done.stderr.decode(),
        json.loads(text) if "--json" in words else {},
    )


def case(top, tmp_path, *words, **environment):
    """As `ask` about a case with data, in JSON."""
    words = (
        "--json",
        "--data_path=%s" % (top / "my data"),
        "--output_path",
        tmp_path / "out",
    ) + words
    return ask(top, *words, **environment)


def texts(values, topic):
    return [one["text"] for one in values["findings"] if one["topic"] == topic]


def test_where_nothing_stands_in_the_way_the_time_is_that_of_the_steps_tried(top, tmp_path):
    note = tmp_path / "note"
    words = ("--steps=1001", "--profiling", "--log_path", note)
    table = {"RANK_TABLE_FILE": "/none"}
    status, _, values = case(top, tmp_path, *words, **table)
    assert status == 0
    assert values["ok"] is True
    assert values["problem"] is None
    assert values["model"] == MODEL
    assert texts(values, "data") == ["1 files, pretraining 500 steps, training 1001 steps"]
    assert values["measured"]["seconds"] == 10 + 1000 * 0.25
    text = "training: about 4 min for 1001 steps, at 0.25 s a step (from 3, the first of 10 s)"
    assert texts(values, "time") == [text]  # no pretraining, as the trial did none
    assert values["measured"]["disk_bytes"] == pytest.approx(3 * 2**20, abs=2000)
    tried = note.read_text().splitlines()
    assert tried[1:] == ["3", "False"]
    assert os.path.dirname(tried[0]) == str(tmp_path)  # on the disk of the output
    assert os.listdir(str(tmp_path)) == ["note"]  # nothing is left there


def test_the_text_begins_with_the_problem_and_what_mends_it(top, tmp_path):
    status, text, _ = ask(
        top, "--data_path", top / "my data", "--output_path", tmp_path, "--fault=oom"
    )
    lines = text.splitlines()
    assert status == 1
    assert lines[0].startswith(MODEL + ": too little memory for this training (")
    assert lines[1] == "mend it with: a smaller --batch_size (it is 4)"
    assert lines[2] == ""
    marks = {line[:10].split()[0]: line[9] for line in lines[3:]}
    assert marks["trial"] == "!"
    assert marks["data"] == " "
    assert len({line.index(line[11:].strip()) for line in lines[3:]}) == 1  # aligned


def test_without_a_trial_nothing_runs(top, tmp_path):
    status, _, values = case(top, tmp_path, "--no_trial", "--fault=sentence")
    assert status == 0
    assert values["measured"] == {}
    assert values["not_checked"] == ["trial"]
    assert texts(values, "device") == [
        "--device=auto takes cpu, there is no npu_bridge and TensorFlow sees no GPU; "
        "device: cpu, by hand"
    ]


def test_without_data_the_rest_is_looked_at_and_what_is_left_out_is_said(top):
    status, _, values = ask(top, "--json")
    assert status == 0
    assert values["not_checked"] == ["data"]
    status, text, _ = ask(top)
    assert status == 0
    assert text.splitlines()[:3] == [
        MODEL + ": nothing stands in the way of what was checked",
        "data, time, memory and room on the disk were not checked; to have that checked: "
        "--data_path=FOLDER",
        "",
    ]


def test_a_model_folder_works_under_any_name(top, tmp_path):
    shutil.copytree(str(top / MODEL), str(tmp_path / "mine"))
    status, _, values = ask(top, "--json", cwd=tmp_path / "mine")
    assert (status, values["model"]) == (0, "mine")
    assert texts(values, "packages") == ["tensorflow 9.1, all as pinned"]
    assert doctor.find_model("mi", str(tmp_path / "mine")) == str(tmp_path / "mine")
    (tmp_path / "mine" / "requirements.txt").unlink()
    status, text, _ = ask(top, cwd=tmp_path / "mine")
    assert status == 1
    assert "requirements.txt: No such file or directory; copy the whole model folder" in text
    assert len(text.splitlines()) == 1


def test_a_package_that_is_missing_comes_with_the_command_for_it_alone(top, tmp_path):
    names = [str(top / "packages" / name) for name in ("some_thing-2.5.dist-info", "away")]
    os.rename(*names)
    try:
        status, _, values = case(top, tmp_path)
    finally:
        os.rename(*names[::-1])
    assert status == 1
    assert values["problem"]["text"] == "not installed: some-thing==2.5"
    assert values["problem"]["remedy"] == sys.executable + " -m pip install some-thing==2.5"
    assert values["findings"][-1]["text"].startswith("left out until that is mended")


def test_wrong_data_are_told_in_the_words_of_the_model(top, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    status, _, values = case(top, tmp_path, "--data_path", empty)
    assert status == 1
    assert values["problem"]["text"] == "there is no picture in %s; put some there" % empty
    assert texts(values, "time") == []  # nothing was tried


def test_an_output_that_cannot_be_written(top, tmp_path):
    (tmp_path / "file").write_text("")
    status, _, values = case(top, tmp_path, "--output_path", tmp_path / "file" / "out")
    assert status == 1
    assert values["problem"]["text"].startswith("cannot write into %s" % (tmp_path / "file"))
    assert values["problem"]["remedy"] == "another --output_path"


def test_the_output_of_another_model(top, tmp_path):
    write_json(str(tmp_path / "out" / "case.json"), {"model": "Other_for_TensorFlow"})
    status, _, values = case(top, tmp_path)
    assert status == 1
    assert "holds the results of Other_for_TensorFlow" in values["problem"]["text"]


def _leave_a_run(tmp_path, rate=0.1):
    folder = tmp_path / "out" / "checkpoint"
    write_json(str(folder / "config.json"), {"must_agree": {"rate": rate}})
    write_text(str(folder / "log.jsonl"), '{"step": 300}\n{"step": 400}\n{"st')
    return folder


def test_a_run_that_is_there_can_go_on(top, tmp_path):
    folder = _leave_a_run(tmp_path)
    status, _, values = case(top, tmp_path)
    assert status == 1
    assert values["problem"]["text"] == "%s holds a run up to step 400" % folder
    assert values["problem"]["remedy"] == "--continue_train, or another --output_path"
    status, _, values = case(top, tmp_path, "--continue_train")
    assert status == 0
    assert texts(values, "run") == ["goes on after step 400 in %s" % folder]
    assert values["measured"]["seconds"] == 10 + 599 * 0.25  # of those that are left


def test_a_run_with_other_settings_cannot_go_on(top, tmp_path):
    folder = _leave_a_run(tmp_path, rate=0.5)
    status, _, values = case(top, tmp_path, "--continue_train", "--rate=0.125")
    assert status == 1
    text = "the run in %s has other settings: --rate was 0.5 and is 0.125" % folder
    assert values["problem"]["text"] == text


def test_an_earlier_case_is_moved_and_that_is_said(top, tmp_path):
    _leave_a_run(tmp_path)
    write_json(str(tmp_path / "out" / "case.json"), {"model": MODEL})
    status, _, values = case(top, tmp_path, "--no_trial")
    assert status == 0
    assert "moves to previous/" in texts(values, "run")[0]
    assert os.path.exists(str(tmp_path / "out" / "checkpoint" / "config.json"))


def test_a_device_that_is_not_there(top, tmp_path):
    status, _, values = case(top, tmp_path, "--device=npu")
    assert status == 1
    assert values["problem"]["text"] == "--device npu: there is none; use --device auto"


def test_several_npus_need_a_rank_table(top, tmp_path):
    status, _, values = case(top, tmp_path, "--device=npu", "--rank_size=2")
    assert status == 1
    assert values["problem"]["topic"] == "ranks"
    assert "2 NPUs need RANK_TABLE_FILE" in values["problem"]["text"]


def test_an_environment_of_ranks_that_cannot_be(top, tmp_path):
    status, _, values = case(top, tmp_path, RANK_SIZE="2", RANK_ID="2")
    assert status == 1
    assert "RANK_ID 2 with RANK_SIZE 2" in values["problem"]["text"]


def test_the_trial_is_of_one_rank_and_says_so(top, tmp_path):
    note = tmp_path / "note"
    words = ("--rank_size=3", "--memory_mb=100", "--log_path", note)
    status, _, values = case(top, tmp_path, *words, RANK_SIZE="3", RANK_ID="1")
    assert status == 0
    assert len(note.read_text().splitlines()) == 3  # no name of the ranks' environment
    assert texts(values, "time")[0].endswith(", of one rank alone)")
    assert values["measured"]["peak_memory_bytes"] == 3 * 100 * 2**20


@pytest.mark.parametrize("fault", ["killed", "oom"])
def test_too_little_memory_names_what_to_make_smaller(top, tmp_path, fault):
    status, _, values = case(top, tmp_path, "--fault=" + fault)
    assert status == 1
    assert values["problem"]["text"].startswith("too little memory for this training (")
    assert values["problem"]["remedy"] == "a smaller --batch_size (it is 4)"


def test_what_is_as_small_as_can_be_is_not_named(top, tmp_path):
    status, _, values = case(top, tmp_path, "--batch_size=1", "--memory_mb=1e12")
    assert status == 1
    assert values["problem"]["text"].startswith("too little memory: about ")
    assert values["problem"]["remedy"] == "a machine with more memory"


def test_checkpoints_that_the_disk_cannot_hold(top, tmp_path):
    status, _, values = case(top, tmp_path, "--keep=1e12")
    assert status == 1
    assert values["problem"]["text"].startswith("the disk is too full: about ")
    assert values["problem"]["remedy"] == "another --output_path, or free some"


def test_a_disk_that_cannot_hold_the_trial(top, tmp_path):
    status, _, values = case(top, tmp_path, "--fault=full")
    assert status == 1
    assert values["problem"]["text"].startswith("a checkpoint of the trial could not be written; ")
    assert values["problem"]["remedy"] == "another --output_path, or free some"


def test_the_last_sentence_of_a_trial_that_fails_is_the_problem(top, tmp_path):
    status, _, values = case(top, tmp_path, "--fault=sentence")
    assert status == 1
    assert values["problem"]["text"] == "the stars are not right; wait"
    assert os.listdir(str(tmp_path)) == []


def test_a_trial_that_takes_too_long_ends_with_all_that_it_started(top, tmp_path):
    note = tmp_path / "note"
    words = ("--fault=forever", "--log_path", note, "--trial_seconds=3")
    status, _, values = case(top, tmp_path, *words)
    assert status == 1
    assert values["problem"]["text"] == "the trial did not end within 3 s"
    assert is_over(note.read_text())


def is_over(number):
    """Whether a process has ended, be it that nobody has waited for it yet."""
    stat = "/proc/%s/stat" % number
    if not os.path.exists(stat):
        return True
    with open(stat) as file:
        return file.read().split()[2] == "Z"


def test_a_signal_ends_the_trial_and_leaves_nothing(top, tmp_path):
    note = tmp_path / "note"
    words = [MODEL, "--data_path=%s" % (top / "my data"), "--output_path=%s" % (tmp_path / "out")]
    words += ["--fault=forever", "--log_path=%s" % note]
    paths = [str(top / "packages"), str(top / "tools" / "shared")]
    started = subprocess.Popen(
        [sys.executable, "-m", "harness.doctor"] + words,
        cwd=str(top),
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(paths)),
    )
    for _ in range(600):
        if note.exists():
            break
        time.sleep(0.1)
    started.terminate()
    assert started.wait(60) == 130
    assert is_over(note.read_text())
    assert os.listdir(str(tmp_path)) == ["note"]


def test_an_option_that_does_not_exist_is_a_mistake_as_in_every_program(top):
    status, text, _ = ask(top, "--batchsize=3")
    assert status == 2
    assert "unknown option --batchsize=3; did you mean --batch_size?" in text
    status, text, _ = ask(top, "--trial_second=3")
    assert status == 2
    assert text.startswith("doctor: ")
    assert "did you mean --trial_seconds?" in text


def test_words_are_the_doctors_own_or_the_cases():
    words = [
        "--json",
        "--data-path=a b",
        "--no-trial",
        "--trial-seconds",
        "5",
        "--content",
        "a",
        "b",
    ]
    own, rest = doctor.split(words)
    assert own == ["--json", "--no-trial", "--trial-seconds", "5"]
    assert rest == ["--data-path=a b", "--content", "a", "b"]


def test_conda_that_is_not_there(top):
    status, text, _ = ask(top, "--conda_name=env", PATH=os.path.dirname(sys.executable))
    assert status == 1
    assert "--conda_name env: conda is not on the PATH" in text


def test_in_the_root_the_machine_alone_or_the_model_that_is_named(top):
    where = {"cwd": top, "PYTHONPATH": str(top / "tools" / "shared")}
    status, text, _ = ask(top, **where)
    assert status == 0
    assert text.startswith("this machine: nothing stands in the way of what was checked\nno model ")
    assert "tensorflow 9.1" in text
    status, text, _ = ask(top, "fak", "--data_path=my data", "--no_trial", **where)
    assert status == 0
    assert text.startswith(MODEL + ": nothing")
    assert "1 files" in text  # relative to where it was started
    status, text, _ = ask(top, "fa", **where)
    assert status == 1
    assert "fa: the model must be one of Fake_for_TensorFlow, Fancy_for_TensorFlow" in text
    status, text, _ = ask(top, "--data_path=my data", **where)
    assert status == 1
    assert "--data_path=my data: only a model takes that; name it first" in text


def test_a_model_is_found_by_its_path_and_from_another_ones_folder(top):
    here = str(top / MODEL)
    assert doctor.find_model("", here) == here
    assert doctor.find_model("FANCY", here) == str(top / "Fancy_for_TensorFlow")
    assert doctor.find_model(here, SHARED) == here
    with pytest.raises(UserError, match="or how one of them begins"):
        doctor.find_model("nothing", here)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(45, "45 s"), (119, "2 min"), (12000, "3 h 20 min"), (3600 * 51.4, "2 days 3 h")],
)
def test_times_in_words(seconds, text):
    assert duration(seconds) == text
