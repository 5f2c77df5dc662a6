# SPDX-License-Identifier: Apache-2.0
"""Workers: their answers, their deaths, and that one does not disturb another."""

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from harness.errors import UserError
from tools.demo import finding
from tools.demo.processes import Worker, WorkerError, Workers

ROOT = Path(__file__).resolve().parents[3]
FAKE = """
import json, sys, time
for line in sys.stdin:
    request = json.loads(line)
    if request["do"] == "die":
        sys.exit("the fake has no memory left")
    if request["do"] == "sleep":
        time.sleep(60)
    if request["do"] == "babble":
        print("<html>", flush=True)
    if request["do"] == "fail":
        print(json.dumps({"event": "failed", "sentence": "no such label"}), flush=True)
    if request["do"] == "count":
        for i in range(request["to"]):
            print(json.dumps({"event": "progress", "step": i}), flush=True)
    print(json.dumps({"event": "done", "got": request}), flush=True)
"""


@pytest.fixture
def worker(tmp_path):
    made = Worker("Fake", [sys.executable, "-c", FAKE], str(tmp_path), 20)
    yield made
    made.close()


def touch(path, when=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    if when:
        os.utime(str(path), (when, when))
    return path


def test_a_worker_answers_in_order_and_reports_on_the_way(worker):
    events = list(worker.ask("count", to=3))
    assert [event.get("step") for event in events] == [0, 1, 2, None]
    assert list(worker.ask("echo", word="é"))[-1]["got"] == {"do": "echo", "word": "é"}


def test_a_refusal_is_its_sentence_and_the_worker_stays(worker):
    with pytest.raises(UserError, match="no such label"):
        list(worker.ask("fail"))
    assert worker.is_alive


def test_a_worker_that_dies_is_told_with_its_last_words(worker, capsys):
    with pytest.raises(WorkerError, match=r"Fake ended with status 1: the fake has no memory left"):
        list(worker.ask("die"))
    with pytest.raises(WorkerError, match="ended with status 1"):
        list(worker.ask("echo"))
    assert "no memory left" in capsys.readouterr().err


def test_a_silent_or_babbling_worker_is_ended(tmp_path):
    for do, words in (("sleep", "did not answer for 1 seconds"), ("babble", "no JSON")):
        worker = Worker("Fake", [sys.executable, "-c", FAKE], str(tmp_path), 1)
        began = time.perf_counter()
        with pytest.raises(WorkerError, match=words):
            list(worker.ask(do))
        assert time.perf_counter() - began < 10
        assert not worker.is_alive


def test_one_job_at_a_time(worker):
    results = []

    def ask(number):
        results.append([event.get("step") for event in worker.ask("count", to=200 + number)])

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(len, results)) == [201, 202, 203]
    for steps in results:
        assert steps == [*range(len(steps) - 1), None], "answers of two jobs were mixed"


def test_leaving_a_job_ends_its_worker(worker):
    events = worker.ask("count", to=10_000)
    next(events)
    events.close()
    assert not worker.is_alive


SERVED = """
import sys
sys.path[:0] = [{root!r}, {root!r} + "/tools/shared"]
from types import SimpleNamespace
from harness.errors import UserError
from tools.demo.workers import protocol
def open_model(weights):
    print("a library talks on stdout")
    if weights == "bad": raise UserError("bad is damaged")
    def answer(request, report):
        report(step=1)
        return {{"weights": weights, "half": 1 / request["by"]}}
    return answer
protocol.serve(lambda: SimpleNamespace(open_model=open_model))
"""


def test_the_workers_end_keeps_the_protocol_clean_and_survives_errors(tmp_path):
    code = SERVED.format(root=str(ROOT))
    worker = Worker("Served", [sys.executable, "-c", code], str(tmp_path), 30)
    try:
        with pytest.raises(UserError, match=r"^bad is damaged$"):
            list(worker.ask("open", weights="bad"))
        assert list(worker.ask("open", weights="w")) == [{"event": "done"}]
        with pytest.raises(UserError, match="ZeroDivisionError: "):
            list(worker.ask("translate", by=0))
        worker.stop()  # nothing is under way
        events = list(worker.ask("translate", by=4))
        assert events[0] == {"event": "progress", "step": 1}
        assert (events[1]["weights"], events[1]["half"]) == ("w", 0.25)
    finally:
        worker.close()
    assert "a library talks" in (tmp_path / "worker.log").read_text()


def test_a_worker_is_kept_replaced_with_its_weights_and_ended(tmp_path, monkeypatch):
    made = []

    class Fake:
        is_alive = True

        def __init__(self, *words):
            self.asked, self.closed = [], False
            made.append(self)

        def ask(self, do, **words):
            self.asked.append((do, words.get("weights")))
            yield {"event": "done"}

        def leave(self):
            self.closed = True

        close = leave

    monkeypatch.setattr("tools.demo.processes.Worker", Fake)
    monkeypatch.setenv("TF2_PYTHON", sys.executable)
    model, workers = finding.find_model("whitebox"), Workers(str(tmp_path), 10)
    first, second = str(touch(tmp_path / "a.npz")), str(touch(tmp_path / "b.npz"))
    for path in (first, first, second):
        list(workers.ask(model, path))
    assert [one.asked[0] for one in made] == [("open", first), ("open", second)]
    assert [one.closed for one in made] == [True, False]
    touch(tmp_path / "b.npz", 1000)
    list(workers.ask(model, second))
    assert len(made) == 3, "a file written anew is another one"
    workers.close()
    assert all(one.closed for one in made)


def write_program(path, code):
    path.write_text("#!%s\n%s" % (sys.executable, code))
    path.chmod(0o700)
    return str(path)


def wait_for(what):
    for _ in range(200):
        if what():
            return
        time.sleep(0.05)
    pytest.fail("waited in vain")


@pytest.fixture
def slow(tmp_path, monkeypatch):
    """Workers of which that of U-GAT-IT never ends starting, and its thread's list of errors."""
    programs = {
        "tf2": write_program(tmp_path / "quick", FAKE),
        "ms": write_program(tmp_path / "slow", FAKE.replace('"sleep"', '"open"')),
    }
    monkeypatch.setattr("tools.demo.processes.find_python", programs.get)
    monkeypatch.setattr("tools.demo.processes.ENDING", 0.2)
    model, workers, errors = finding.find_model("ugatit"), Workers(str(tmp_path), 20), []

    def ask():
        try:
            list(workers.ask(model, str(tmp_path / "u.ckpt")))
        except UserError as error:
            errors.append(str(error))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    wait_for(lambda: workers._slots[model.name].worker)
    yield workers, errors
    workers.close()
    thread.join(10)
    assert not thread.is_alive()


def test_a_worker_that_starts_does_not_keep_another_waiting(slow, tmp_path):
    workers, errors = slow
    events = list(workers.ask(finding.find_model("whitebox"), str(tmp_path / "w.npz"), word=1))
    assert [event["event"] for event in events] == ["starting", "done"]
    assert errors == []
    assert workers._slots["ugatit"].worker.is_alive


def test_the_end_of_the_page_ends_a_worker_that_starts(slow, tmp_path):
    workers, errors = slow
    began = time.perf_counter()
    workers.close()
    assert time.perf_counter() - began < 10
    assert not workers._slots["ugatit"].worker.is_alive
    wait_for(lambda: errors)
    assert len(errors) == 1
    assert errors[0].startswith("the worker of U-GAT-IT was ended; if this page no longer answers")
    with pytest.raises(WorkerError, match="the page has ended"):
        list(workers.ask(finding.find_model("whitebox"), str(tmp_path / "w.npz")))


def test_work_that_is_stopped_while_its_worker_starts_does_not_begin(tmp_path, monkeypatch):
    program = write_program(tmp_path / "quick", FAKE)
    monkeypatch.setattr("tools.demo.processes.find_python", lambda _: program)
    model, workers = finding.find_model("style"), Workers(str(tmp_path), 20)
    events = workers.ask(model, str(tmp_path / "vgg.mat"))
    assert next(events) == {"event": "starting"}
    workers.stop(model)
    with pytest.raises(UserError, match="stopped before the first step"):
        next(events)
    assert list(workers.ask(model, str(tmp_path / "vgg.mat")))[-1]["event"] == "done"
    workers.close()
