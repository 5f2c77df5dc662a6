# SPDX-License-Identifier: Apache-2.0
"""The loop over steps and the settings of a run, without a framework."""

import dataclasses
import json
import os
import signal

import numpy as np
import pytest

from harness import settings
from harness.errors import UserError
from harness.files import read_json, read_jsonl, write_json
from harness.loop import Loop, NotFiniteError, Periods
from harness.options import option

LOSSES = np.random.RandomState(0).rand(20)


class Counter(Loop):
    """A loop whose training is nothing but what was saved and recorded."""

    def __init__(self, folder, last_step, periods, **words):
        super().__init__(str(folder), last_step, periods, {"device": "none"}, 4, **words)
        self.saved, self.recorded = [], []

    def save(self, step):
        self.saved.append(step)

    def saved_steps(self):
        return self.saved

    def record(self, step, values):
        self.recorded.append((step, values))


def _read_batch(step):
    return 10 * step


def _run(loop, first_step=1, stop_at=0, losses=LOSSES):
    """Runs `loop`, which gets SIGTERM in the step `stop_at`; returns the steps it did."""
    done = []
    loop.open(first_step)
    try:
        for step, batch in loop.steps(_read_batch):
            assert batch == 10 * step
            if step == stop_at:
                os.kill(os.getpid(), signal.SIGTERM)
            loop.end_step(loop.signalled)
            loop.log(step, {"loss": losses[step]}, rate=0.5)
            done.append(step)
    finally:
        loop.close()
    return done


def test_a_loop_saves_logs_and_sums_up(tmp_path):
    write_json(str(tmp_path / "training.json"), {"steps": "of an earlier run"})
    (tmp_path / "log.jsonl").write_text('{"step": 9}\n')
    loop = Counter(tmp_path, 7, Periods(log=2, save=3, keep_every=5), ranks=2)
    assert _run(loop) == list(range(1, 8))
    assert loop.saved == [3, 5, 6, 7]
    log = read_jsonl(str(tmp_path / "log.jsonl"))
    assert [record["step"] for record in log] == [2, 4, 6, 7]
    assert [record["loss"] for record in log] == [LOSSES[step] for step in (2, 4, 6, 7)]
    measured = ["seconds_per_step", "images_per_second", "memory_mb"]
    assert list(log[0]) == ["step", "loss", "rate", *measured]
    assert [dict(values, step=step) for step, values in loop.recorded] == log
    training = read_json(str(tmp_path / "training.json"))
    wanted = {"steps": 7, "first_step": 1, "stopped": False, "ranks": 2, "batch": 4}
    wanted.update(losses={"loss": LOSSES[7]}, surroundings={"device": "none"})
    assert {key: training[key] for key in wanted} == wanted
    assert training["images_per_second"] == pytest.approx(4 / training["seconds_per_step"])


def test_a_signal_ends_the_loop_after_its_step_and_it_goes_on_from_there(tmp_path, capsys):
    handler = signal.getsignal(signal.SIGTERM)
    loop = Counter(tmp_path, 9, Periods(log=1, save=0))
    assert _run(loop, stop_at=4) == [1, 2, 3, 4]
    assert (loop.stopped, loop.asked_to_stop, loop.saved) == (True, True, [4])
    assert capsys.readouterr().out == "stopped at step 4\n"
    assert read_json(str(tmp_path / "training.json"))["stopped"] is True
    assert signal.getsignal(signal.SIGTERM) is handler
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')  # as a kill would leave it
    rest = Counter(tmp_path, 9, Periods(log=1, save=0))
    assert _run(rest, first_step=5, stop_at=9) == [5, 6, 7, 8, 9]
    assert (rest.stopped, rest.asked_to_stop) == (False, True)  # there was nothing left to stop
    log = read_jsonl(str(tmp_path / "log.jsonl"))
    assert [record["step"] for record in log] == list(range(1, 10))


def test_other_ranks_train_and_leave_the_files_to_rank_0(tmp_path, capsys):
    loop = Counter(tmp_path, 5, Periods(log=1, save=2), rank=1, ranks=2)
    assert _run(loop, stop_at=3) == [1, 2, 3]
    assert (loop.saved, loop.recorded, os.listdir(str(tmp_path))) == ([2, 3], [], [])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("save", "sentence"),
    [(2, "the last good checkpoint is that of step 4"), (0, "no checkpoint is saved")],
)
def test_a_loss_that_is_not_finite_names_the_last_good_checkpoint(tmp_path, save, sentence):
    losses = LOSSES.copy()
    losses[5] = np.inf
    loop = Counter(tmp_path, 9, Periods(log=1, save=save))
    with pytest.raises(NotFiniteError, match=r"^loss is inf at step 5; %s\. " % sentence):
        _run(loop, losses=losses)
    assert [step for step, _ in loop.recorded] == [1, 2, 3, 4]
    assert not (tmp_path / "training.json").exists()


@dataclasses.dataclass(frozen=True)
class Config:
    rate: float = option(0.5, "learning rate")
    steps: int = option(6, "steps", may_change=True)


AROUND = {"device": "none", "numpy": "1.0"}


def _check(folder, saved, config, around=AROUND, resume=False):
    return settings.check(str(folder), saved, config, around, config.steps, resume)


def test_a_run_is_complete_only_if_its_settings_agree(tmp_path, capsys):
    assert _check(tmp_path, [], Config()) is False
    before = (tmp_path / "config.json").read_text()
    with pytest.raises(UserError, match=r"other settings: --rate was 0\.5 and is 0\.7; give"):
        _check(tmp_path, [3, 6], Config(rate=0.7))
    assert capsys.readouterr().out == ""
    assert (tmp_path / "config.json").read_text() == before
    for steps in (6, 4):  # as many as there are, and fewer
        assert _check(tmp_path, [3, 6], Config(steps=steps)) is True
        assert capsys.readouterr().out == "the run in %s is complete: 6 steps\n" % tmp_path


def test_a_run_goes_on_only_when_asked_to_and_says_what_is_different(tmp_path, capsys):
    _check(tmp_path, [], Config())
    with pytest.raises(UserError, match="holds a run up to step 3; add --continue_train"):
        _check(tmp_path, [3], Config())
    now = dict(AROUND, numpy="2.0")
    assert _check(tmp_path, [3], Config(), now, resume=True) is True
    assert capsys.readouterr().out.startswith("numpy was 1.0 and is 2.0: going on, but not bit-")
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["surroundings"] == now
    assert config["must_agree"] == {"rate": 0.5}
