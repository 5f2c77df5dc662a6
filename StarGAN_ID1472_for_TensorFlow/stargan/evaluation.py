# SPDX-License-Identifier: Apache-2.0
"""The test phase: translate the test pictures or a folder of own ones, measure, show.

Axes: M pictures, S image_size, L labels of a data set.
"""

import contextlib
import glob
import os
import re
from typing import List, NamedTuple, Optional

import numpy as np
from tqdm import tqdm

from harness import fid, report
from harness.errors import UserError
from harness.files import write_json, write_text
from harness.gallery import Pair, fingerprint, write_tested
from harness.images import grid, list_images, write_image
from stargan import data, measures
from stargan.classifier import Classifier
from stargan.config import FID_PROTOCOL
from stargan.labels import DataError, encode, find_sources
from stargan.page import describe, page
from stargan.serving import Translate
from stargan.targets import Target, default_targets, labels_for, parse_targets
from tf_runtime import device as devices
from tf_runtime.run import surroundings

PAGE_ROWS = 100  # index.html and report.html show so many pictures at the most
PROTOCOLS = {
    "reconstruction_l1": "mean |x - G(G(x, c'), c)| in [-1, 1]",
    "attribute_accuracy": "share of translations in which our classifier sees the wanted label, "
    "pictures that did not have it",
    "attribute_accuracy_untranslated": "the same of the pictures before",
    "fid": "tools/fid, %s; translated against real" % FID_PROTOCOL,
}
# Folders and names of what is written of the test pictures, and of own ones.
TESTED = (r"src|src_images|generates|(generate|real)\d+", r"\d+-images\.(jpg|png)")
OWN = (r"strips|own\d+", r".*\.png")
CHUNK = 64  # pictures that are in memory at once


class Job(NamedTuple):
    """Pictures of one data set to translate.

    Attributes:
      number: that of their data set.
      paths: the files.
      names: the names of their outputs, without an ending.
      labels: what they show, float32 [M, L], or None where that is not known.
    """

    number: int
    paths: List[str]
    names: List[str]
    labels: Optional[np.ndarray]


def find_jobs(config, sources) -> List[Job]:
    """Returns what to translate: the pictures of --input_dir, else the test pictures of the data.

    Args:
      config: the options.
      sources: the data sets of the training, for their labels.

    Raises:
      UserError: if there are none, or if the data have other labels than the training had.
    """
    if config.input_dir:
        names = {}
        for path in list_images(config.input_dir):
            stem = os.path.splitext(os.path.basename(path))[0]
            if stem in names:
                text = "%s and %s would both be written as %s; rename one"
                raise UserError(text % (names[stem], path, stem))
            names[stem] = path
        data.check_pictures(list(names.values()))
        return [Job(0, list(names.values()), list(names), None)]
    jobs, first = [], 1
    for number, (source, trained) in enumerate(zip(find_sources(config), sources)):
        if source.names != trained.names:
            text = "the data have the labels %s, the training had %s; give its data"
            raise DataError(text % (" ".join(source.names), " ".join(trained.names)))
        data.check_pictures(source.test.paths)
        count = len(source.test.paths)
        names = ["%d-images" % index for index in range(first, first + count)]
        jobs.append(Job(number, source.test.paths, names, source.test.labels))
        first += count
    if first == 1:
        raise UserError("no picture is kept for testing; give --num_test, or --input_dir")
    return jobs


class Outputs:
    """The files of the test phase in `folder`, under their documented names.

    With --test_concatenate strips: src_images/ the picture as often as there are targets,
    generates/ its translations; else src/ and one folder per target, generate1/ and so on. Own
    pictures: strips/ with the picture and its translations, and own1/ and so on per target.
    """

    def __init__(self, config, folder: str, targets: List[Target]):
        self._folder, self._targets = folder, targets
        self._own, self._strips = bool(config.input_dir), config.test_concatenate
        place = os.path.realpath(folder)
        if self._own and (os.path.realpath(config.input_dir) + os.sep).startswith(place + os.sep):
            text = "--input_dir %s lies in %s, which is written to; choose another folder"
            raise UserError(text % (config.input_dir, folder))
        self.pairs = []
        folders, names = OWN if self._own else TESTED
        is_ours = os.path.exists(os.path.join(folder, "metrics.json"))
        for path in glob.glob(os.path.join(glob.escape(folder), "*", "*")):
            place, name = path.split(os.sep)[-2:]
            if is_ours and re.fullmatch(folders, place) and re.fullmatch(names, name):
                os.remove(path)  # of an earlier test phase, whose pictures must not mix with these

    def write(self, name: str, path: str, picture: np.ndarray, fakes: List[np.ndarray]) -> None:
        """Writes the picture of `path` and its translations, uint8 [S, S, 3], and notes them."""
        singles = self._own or not self._strips
        if self._own:
            titles = ["source"] + [target.title for target in self._targets]
            self._write("strips", name + ".png", grid([[picture] + fakes], titles))
        elif self._strips:
            before = self._write("src_images", name + ".jpg", np.hstack([picture] * len(fakes)))
            after = self._write("generates", name + ".jpg", np.hstack(fakes))
            titles = ", ".join(target.title for target in self._targets)
            self._note(name + ": " + titles, before, after)
        else:
            path = self._write("src", name + ".jpg", picture)
        if singles:
            place, ending = ("own%d", ".png") if self._own else ("generate%d", ".jpg")
            for number, fake in enumerate(fakes, 1):
                after = self._write(place % number, name + ending, fake)
                self._note("%s: %s" % (name, self._targets[number - 1].title), path, after)

    def _write(self, folder, name, pixels) -> str:
        path = os.path.join(self._folder, folder, name)
        write_image(path, pixels)
        return path

    def _note(self, title, before, after) -> None:
        if len(self.pairs) < PAGE_ROWS:
            self.pairs.append(Pair(title, before, after))


def test(config, sources, trained: str, translator, folder: str) -> dict:
    """Runs the test phase with the checkpoint or exported file `trained`; see `evaluate`.

    `translator` is the class of `serving` that reads it.
    """
    jobs, device = find_jobs(config, sources), devices.choose(config)
    print("translating with %s" % trained, flush=True)
    with contextlib.ExitStack() as stack:
        judge = None
        if config.classifier:
            judge = stack.enter_context(Classifier(config.classifier, device.threads))
        translate = stack.enter_context(translator(config, sources, trained, device))
        words = (config, jobs, sources, translate, folder, judge, surroundings(device))
        return evaluate(*words)


def evaluate(config, jobs, sources, translate, folder, judge=None, around=None) -> dict:
    """Translates `jobs`, writes pictures, index.html and metrics.json into `folder`, says so.

    Args:
      config: the options.
      jobs: from `find_jobs`.
      sources: the data sets of the training.
      translate: from a translator, a `serving.Translate`.
      folder: for the outputs.
      judge: an open `classifier.Classifier` of the first data set, or None.
      around: the surroundings that the report shows.

    Returns:
      {"pictures": n, and where it can be measured "reconstruction_l1" (mean |x - G(G(x, c'), c)| in
      [-1, 1]), "attribute_accuracy", "attribute_accuracy_untranslated" and "fid"}: means over the
      targets.
    """
    targets = parse_targets(config.target, sources) or default_targets(sources)
    if judge and judge.names != sources[0].names:
        text = "--classifier %s knows the labels %s, the checkpoint %s; train one for these"
        words = (config.classifier, " ".join(judge.names), " ".join(sources[0].names))
        raise UserError(text % words)
    if config.inception:
        fid.check(config.inception, *[len(_as_asked(one, jobs, sources)) for one in targets])
    outputs, rows, tally = Outputs(config, folder, targets), [], Tally(sources, targets, judge)
    with tqdm(total=sum(len(job.paths) for job in jobs), unit="picture", disable=None) as bar:
        for job in jobs:
            for first in range(0, len(job.paths), CHUNK):
                part = slice(first, first + CHUNK)
                kind = sources[job.number].kind
                pictures = [data.read_picture(path, kind, config) for path in job.paths[part]]
                own = _own_labels(job, part, np.stack(pictures), sources, judge)
                fakes = tally.translate(job, np.stack(pictures), own, translate)
                words = (job.names[part], job.paths[part], pictures, zip(*fakes))
                for name, path, picture, columns in zip(*words):
                    outputs.write(name, path, picture, list(columns))
                    if len(rows) < PAGE_ROWS:
                        rows.append((name, [picture] + list(columns)))
                    bar.update()
    each = tally.results()
    if config.inception:
        _measure_fid(config, jobs, sources, targets, each, folder)
    metrics = {"pictures": sum(len(job.paths) for job in jobs)}
    for key in ("reconstruction_l1", "accuracy", "accuracy_untranslated", "fid"):
        values = [one[key] for one in each if key in one]
        if values:
            metrics[("attribute_" if "accuracy" in key else "") + key] = float(np.mean(values))
    judged = {"held_out_accuracy": judge.accuracy} if judge else {}
    write_json(os.path.join(folder, "metrics.json"), {"mean": metrics, "targets": each, **judged})
    write_text(os.path.join(folder, "index.html"), page(rows, each, metrics, judged))
    protocol = {name: text for name, text in PROTOCOLS.items() if name in metrics}
    around = dict(around or {}, data=fingerprint([path for job in jobs for path in job.paths]))
    write_tested(folder, outputs.pairs, metrics, protocol, around)
    report.write(folder, config)
    index = os.path.join(folder, "index.html")
    print("Saved testing files.\n%s; see %s" % (describe(metrics), index))
    return metrics


def _own_labels(job, part, pictures, sources, judge):
    """Returns the pictures' own labels, [M, L]: known, else what the classifier sees, else 0."""
    if job.labels is not None:
        return job.labels[part]
    if judge:
        return judge.see(pictures).astype(np.float32)
    return np.zeros([len(pictures), len(sources[job.number].names)], np.float32)


class Tally:
    """Translates chunks of pictures and counts what can be measured of them, per target."""

    def __init__(self, sources, targets: List[Target], judge):
        self._sources, self._targets, self._judge = sources, targets, judge
        self._differences = [[] for _ in targets]
        self._seen = [[] for _ in targets]  # (before, after, own, wanted) of the target's labels

    def translate(self, job: Job, pictures: np.ndarray, own: np.ndarray, translate: Translate):
        """Returns the translations, uint8 [M, S, S, 3], of `pictures`, one array per target."""
        images, back = data.to_float(pictures), encode(self._sources, job.number, own)
        is_known = job.labels is not None
        before = self._judge.see(pictures) if self._judge and is_known else None
        results = []
        for number, target in enumerate(self._targets):
            wanted = labels_for(target, self._sources, job.number, own)
            fakes = translate(images, wanted)
            results.append(data.to_uint8(fakes))
            if is_known:
                difference = np.abs(images - translate(fakes, back)).mean(axis=(1, 2, 3))
                self._differences[number].extend(difference)
            if before is not None and target.source == job.number == 0:
                after = self._judge.see(results[-1])
                for name in target.values:
                    column = self._sources[0].names.index(name)
                    columns = (before, after, own > 0.5, wanted > 0.5)
                    self._seen[number].append([values[:, column] for values in columns])
        return results

    def results(self) -> List[dict]:
        """Returns one dictionary of numbers per target, with its title."""
        each = []
        for target, differences, seen in zip(self._targets, self._differences, self._seen):
            one = {"target": target.title}
            if differences:
                one["reconstruction_l1"] = float(np.mean(differences))
            if seen:
                one.update(measures.attribute_accuracy(*np.concatenate(seen, axis=1)))
            each.append(one)
        return each


def _as_asked(target: Target, jobs, sources):
    """Returns [(path, name)] of the test pictures that are as a target asks.

    One that turns a label over is compared with all of them.
    """
    job, names = jobs[target.source], sources[target.source].names
    asked = [(names.index(name), value) for name, value in target.values.items()]
    return [
        (path, name)
        for path, name, labels in zip(job.paths, job.names, job.labels)
        if all(value in (None, labels[column]) for column, value in asked)
    ]


def _measure_fid(config, jobs, sources, targets, each, folder) -> None:
    """Adds "fid" per target: its translations against the real pictures, written beside them."""
    for number, (target, one) in enumerate(zip(targets, each), 1):
        job, real = jobs[target.source], []
        for path, name in _as_asked(target, jobs, sources):  # JPEG, as the translations are
            real.append(os.path.join(folder, "real%d" % number, name + ".jpg"))
            pixels = data.read_picture(path, sources[job.number].kind, config)
            write_image(real[-1], pixels)
        place = os.path.join(folder, "generate%d" % number)
        fake = [os.path.join(place, name + ".jpg") for name in job.names]
        one["fid"] = fid.fid(real, fake, config.inception, FID_PROTOCOL)
        print("%s FID:  %.3f" % (target.title, one["fid"]), flush=True)
