# SPDX-License-Identifier: Apache-2.0
"""Runs made in code for the tests of their reports, and pages read as data."""

import html.parser
import json
import os

import numpy as np

from harness import report
from harness.files import write_json
from harness.images import write_image

WORDS = ["python3", "main.py", "--phase=train", "--name=two words"]


class Page(html.parser.HTMLParser):
    """What a browser would make of a page: its tags, its JSON, its visible text."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.data, self.texts, self._inside = [], [], [], []
        with open(path, encoding="utf-8") as file:
            self.source = file.read()
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        """Notes a tag."""
        self.tags.append((tag, dict(attrs)))
        self._inside = [tag, dict(attrs).get("type")]

    def handle_endtag(self, tag):
        """Notes that a tag ends."""
        self._inside = []

    def handle_data(self, data):
        """Notes what a reader sees, and data."""
        if self._inside == ["script", "application/json"]:
            self.data.append(json.loads(data))
        elif self._inside[:1] not in (["script"], ["style"]):
            self.texts.append(data)

    @property
    def text(self):
        """All that a reader sees, in one line."""
        return " ".join(" ".join(self.texts).split())

    def lines(self, name):
        """Returns the line of that name."""
        return next(one for data in self.data for one in data["lines"] if one["name"] == name)


def draw(path, rng, side=24):
    """Writes a random picture."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    write_image(path, rng.randint(0, 256, (side, side + 8, 3)).astype(np.uint8))


def make_run(folder, seed=0, steps=60, **config):
    """Makes the folder of a training with sample grids; returns its path."""
    rng, folder = np.random.RandomState(seed), str(folder)
    log = []
    for step in range(10, 10 * steps + 1, 10):
        record = {"step": step, "d_loss": rng.rand() + 0.1, "g_l1": 30 + rng.rand()}
        record.update(learning_rate=2e-4, images_per_second=5 + rng.rand(), memory_mb=900 + step)
        log.append(record)
    os.makedirs(folder, exist_ok=True)
    write_lines(os.path.join(folder, "log.jsonl"), log)
    samples = [{"step": step, "picture": "sample/%d.png" % step} for step in (100, 200, 300)]
    for sample in samples:
        draw(os.path.join(folder, sample["picture"]), rng)
    write_lines(os.path.join(folder, "samples.jsonl"), samples)
    values = {"options": {"batch": 4, "lr": 0.5}, "defaults": {"batch": 1, "lr": 0.5}}
    values.update(surroundings={"device": "cpu", "data": "8 pictures"}, command=WORDS)
    values.update(loss_weights={"d_loss": 0.5, "g_l1": 100.0})
    write_json(os.path.join(folder, "config.json"), dict(values, **config))
    training = {"steps": 10 * steps, "stopped": False, "images_per_second": 5.25}
    training.update(seconds_per_step=0.19, peak_memory_mb=2048, duration_seconds=3725.2)
    training.update(share_of_time_waiting_for_data=0.01, losses={"d_loss": 0.4, "g_l1": 30.5})
    write_json(
        os.path.join(folder, "training.json"), dict(training, surroundings=values["surroundings"])
    )
    return folder


def make_test(folder, seed=0, names=("1.jpg", "2.jpg"), **more):
    """Makes the folder of a test phase; returns its path."""
    rng, folder, pairs = np.random.RandomState(seed), str(folder), []
    for number, title in enumerate(names):
        pair = {key: "%s_%d.png" % (key, number) for key in ("before", "after", "target")}
        for name in pair.values():
            draw(os.path.join(folder, name), rng)
        pairs.append(dict(pair, title=title))
    values = {"pairs": pairs, "metrics": {"fid": 12.5}, "protocol": {"fid": "clean, 8 pictures"}}
    around = {"device": "cpu", "data": "2 pictures, 0a0b0c0d"}
    values.update(command=["python3", "main.py", "--phase=test"], surroundings=around)
    write_json(os.path.join(folder, "tested.json"), dict(values, **more))
    return folder


def make_case(folder, **result):
    """Makes the output folder of a case; returns its path."""
    folder = str(folder)
    make_run(os.path.join(folder, "ckpt", "run"))
    make_test(os.path.join(folder, "test"))
    case = {"model": "Some_Model", "preset": "full", "working_directory": "/my data"}
    case["command"] = ["bash", "/models/test/full.sh", "--name=two words"]
    write_json(
        os.path.join(folder, "case.json"), dict(case, run_folder="ckpt/run", tested=["test"])
    )
    accuracy = {"metric": "FID", "value": 12.5, "protocol": "clean, 8 pictures"}
    values = {"accuracy": accuracy, "exit_status": 0, "start": "2026-01-02T03:04:05+00:00"}
    write_json(os.path.join(folder, "result.json"), dict(values, **result))
    return folder


def write_lines(path, records):
    """Writes one JSON object a line."""
    with open(path, "w", encoding="utf-8") as file:
        file.write("".join(json.dumps(record) + "\n" for record in records))


def change(path, **values):
    """Changes values in a JSON file."""
    with open(path, encoding="utf-8") as file:
        before = json.load(file)
    write_json(path, dict(before, **values))


def page_of(folder):
    """Returns the page that a report of the folder is."""
    report.write(str(folder))
    return Page(os.path.join(str(folder), "report.html"))
