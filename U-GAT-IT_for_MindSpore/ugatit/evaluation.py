# SPDX-License-Identifier: Apache-2.0
"""Evaluation: translate the test pictures or a folder of own ones, measure, show.

FOLDER/test holds A_1.png, A2B_1.png, B_1.png, B2A_1.png and so on, heat/, metrics.json,
index.html, tested.json and report.html; FOLDER/test/own NAME_A2B.png, NAME_B2A.png, input/, heat/
and the pages.
"""

import glob
import html
import os
import re
import sys
import urllib.parse
from typing import Dict, List, NamedTuple, Tuple

import numpy as np
from tqdm import tqdm

from harness import fid, report
from harness.errors import UserError
from harness.files import write_json, write_text
from harness.gallery import Pair, fingerprint, write_tested
from harness.images import list_images, write_image
from ugatit import data, measures
from ugatit.device import connect
from ugatit.pictures import to_uint8
from ugatit.run import surroundings
from ugatit.samples import heat_map
from ugatit.serving import Translator, find_weights

DIRECTIONS = ("A2B", "B2A")
TESTED = r"(A|B|A2B|B2A)_\d+\.png"  # what is written of the test pictures


class Item(NamedTuple):
    """A picture to translate, and where its results go below the folder of the results."""

    path: str
    source: str
    translation: str
    heat: str


class Row(NamedTuple):
    """A translated picture: its item, and its mean differences after a cycle and by identity."""

    item: Item
    cycle_l1: float
    identity_l1: float


def evaluate(config) -> int:
    """Translates what the options ask for and writes pictures, index.html and metrics.json.

    Returns:
      0, or 1 if an own picture was left out because it cannot be read.

    Raises:
      UserError: if pictures, weights or Inception are missing or damaged, before any work.
    """
    own = bool(config.input_dir)
    folder = os.path.join(config.folder, "test", *(["own"] if own else []))
    jobs, left_out = find_own(config, folder) if own else (find_tests(config), 0)
    place = connect(config)
    try:
        translators = load(config, list(jobs), place.half)
    except UserError:
        print(" [*] Load FAILURE", flush=True)
        raise
    print(" [*] Load SUCCESS", flush=True)
    if not own:
        clear(folder)
    rows = {name: translate(config, name, jobs[name], translators, folder) for name in jobs}
    if not own:
        metrics = measure(config, rows, folder)
        write_json(os.path.join(folder, "metrics.json"), metrics)
    write_text(os.path.join(folder, "index.html"), page(rows, own))
    paths = [row.item.path for each in rows.values() for row in each]
    around = surroundings(place, fingerprint(paths))
    _write_report(config, rows, {} if own else metrics, folder, around)
    if left_out:
        print("%d pictures were left out, see above" % left_out, flush=True)
    print("see %s\n [*] Testing finished!" % os.path.join(folder, "index.html"), flush=True)
    return 1 if left_out else 0


def _write_report(config, rows, metrics, folder, around) -> None:
    pairs = []
    for name, each in rows.items():
        for item in (row.item for row in each):
            places = [os.path.join(folder, place) for place in (item.source, item.translation)]
            pairs.append(Pair("%s: %s" % (name, os.path.basename(item.path)), *places))
    values, protocol = {}, ", ".join("%s %s" % one for one in metrics.pop("protocol", {}).items())
    texts = {"cycle_l1": "mean |x - G(F(x))| in [-1, 1]", "identity_l1": "mean |x - G(x)|"}
    for name, found in metrics.items():
        known = {key: value for key, value in found.items() if value is not None}
        values.update(("%s %s" % (name, key), value) for key, value in known.items())
    protocols = {key: texts.get(key.split()[1], protocol) for key in values}
    write_tested(folder, pairs, values, protocols, around)
    report.write(folder, config)


def wanted(config) -> Tuple[str, ...]:
    """Returns the directions that --direction asks for."""
    return DIRECTIONS if config.direction == "both" else (config.direction,)


def find_own(config, folder: str) -> Tuple[Dict[str, List[Item]], int]:
    """Returns ({direction: pictures of --input_dir}, how many were left out as unreadable).

    Those are reported on stderr.

    Raises:
      UserError: if no picture is left, two would be written to one file, or --input_dir is where
        the results go.
    """
    if config.compute_metrics:
        text = "--compute_metrics measures the test pictures; leave --input_dir %s out"
        raise UserError(text % config.input_dir)
    if (os.path.realpath(config.input_dir) + os.sep).startswith(os.path.realpath(folder) + os.sep):
        text = "--input_dir %s lies in %s, which is written to; choose another folder"
        raise UserError(text % (config.input_dir, folder))
    stems, good = {}, []
    paths = list_images(config.input_dir)
    for path in paths:
        stem = os.path.splitext(os.path.basename(path))[0]
        first = stems.setdefault(stem, path)
        if first != path:
            text = "%s and %s would both be written as %s; rename one"
            raise UserError(text % (first, path, stem))
    for stem, path in stems.items():
        problem = data.problem(path)
        if problem:
            print("left out: %s" % problem, file=sys.stderr, flush=True)
        else:
            good.append((stem, path))
    if not good:
        text = "none of the %d pictures in --input_dir %s can be read; mend or replace them"
        raise UserError(text % (len(paths), config.input_dir))
    jobs = {}
    for name in wanted(config):
        results = ("input/%s.png", "%s_" + name + ".png", "heat/%s_" + name + ".png")
        jobs[name] = [Item(path, *[r % stem for r in results]) for stem, path in good]
    return jobs, len(paths) - len(good)


def find_tests(config) -> Dict[str, List[Item]]:
    """Returns {direction: test pictures}, without a direction that has none.

    Raises:
      UserError: if there is nothing to do, a picture cannot be read, or there are too few of them
        to measure.
    """
    domains = data.find_domains(config, train=False)
    tests = {"A": domains.test_a, "B": domains.test_b}
    root = data.find_root(config)
    names = [name for name in wanted(config) if tests[name[0]]]
    if not names:
        folders = [os.path.join(root, "test" + name[0]) for name in wanted(config)]
        text = "no pictures to translate in %s; add some, or give --input_dir"
        raise UserError(text % " and ".join(folders))
    for domain, paths in tests.items():
        if config.compute_metrics and len(paths) < 2:
            text = "--compute_metrics needs at least 2 pictures in %s, there are %d; add some"
            raise UserError(text % (os.path.join(root, "test" + domain), len(paths)))
    if config.compute_metrics and config.inception:
        fid.check(config.inception)
    data.check_pictures(domains.test_a + domains.test_b)
    return {name: _items(name, tests[name[0]]) for name in names}


def _items(name, paths):
    items = []
    for number, path in enumerate(paths, 1):
        result = "%s_%d.png" % (name, number)
        items.append(Item(path, "%s_%d.png" % (name[0], number), result, "heat/" + result))
    return items


def load(config, names: List[str], half: bool) -> Dict[str, Translator]:
    """Returns {direction: translator} for `names`, and for the other one if its weights fit.

    The other is for cycles and identities only, which are not measured of own pictures.
    """
    translators = {}
    for name in DIRECTIONS:
        if name not in names and config.input_dir:
            continue
        try:
            path = find_weights(config, "gen" + name)
            translators[name] = Translator(config, "gen" + name, path, half)
            print("%s with the weights %s" % (name, path), flush=True)
        except UserError as error:
            if name in names:
                raise
            print("cycles and identities are not measured: %s" % error, flush=True)
    return translators


def clear(folder: str) -> None:
    """Removes the results of earlier test pictures, which must not mix with new ones."""
    for name in ("metrics.json", "index.html", "tested.json", "report.html"):
        if os.path.exists(os.path.join(folder, name)):
            os.remove(os.path.join(folder, name))
    for place in (folder, os.path.join(folder, "heat")):
        for path in glob.glob(os.path.join(glob.escape(place), "*.png")):
            if re.fullmatch(TESTED, os.path.basename(path)):
                os.remove(path)


def translate(config, name: str, items: List[Item], translators, folder: str) -> List[Row]:
    """Translates pictures and writes input, translation and heat map of each."""
    there = translators[name]
    back = translators.get(DIRECTIONS[1 - DIRECTIONS.index(name)])
    rows = []
    for item in tqdm(items, name, unit="picture", disable=None):
        picture = data.read_test(item.path, config)[np.newaxis]
        made, _, heat = there(picture)
        for place, pixels in (
            (item.source, to_uint8(picture[0])),
            (item.translation, to_uint8(made[0])),
            (item.heat, heat_map(heat[0], config.img_size)),
        ):
            write_image(os.path.join(folder, place), pixels)
        cycle = identity = float("nan")
        if back and not config.input_dir:
            cycle = float(np.abs(back(made)[0] - picture).mean())
            identity = float(np.abs(back(picture)[0] - picture).mean())
        rows.append(Row(item, cycle, identity))
    return rows


def measure(config, rows: Dict[str, List[Row]], folder: str) -> dict:
    """Measures the test pictures in `folder`; returns what metrics.json holds, and prints it.

    Returns:
      {direction: {"pictures", with both generators "cycle_l1" and "identity_l1" (mean |x - G(F(x))|
      and |x - G(x)| in [-1, 1]), with --compute_metrics the keys of `measures.distances`}}, and
      "protocol" of the latter.
    """
    metrics = {}
    for name, each in rows.items():
        metrics[name] = {"pictures": len(each)}
        cycle, identity = (float(np.mean([row[i] for row in each])) for i in (1, 2))
        if np.isfinite(cycle):
            metrics[name].update(cycle_l1=cycle, identity_l1=identity)
            print("%s cycle L1 %.4f, identity L1 %.4f" % (name, cycle, identity), flush=True)
    if config.compute_metrics:
        _measure_distances(config, rows, folder, metrics)
        metrics["protocol"] = measures.protocol(config.inception)
    return metrics


def _measure_distances(config, rows, folder, metrics) -> None:
    domains, real = data.find_domains(config, train=False), {}
    for letter, paths in (("A", domains.test_a), ("B", domains.test_b)):
        places = [os.path.join(folder, "%s_%d.png" % (letter, n + 1)) for n in range(len(paths))]
        for path, place in zip(paths, places):
            if not os.path.exists(place):  # the domain was not translated
                write_image(place, to_uint8(data.read_test(path, config)))
        real[letter] = measures.features(places, config.inception)
    for name, each in rows.items():
        made = [os.path.join(folder, row.item.translation) for row in each]
        fake = measures.features(made, config.inception)
        inception = bool(config.inception)
        metrics[name].update(measures.distances(real[name[0]], real[name[2]], fake, inception))
        print(describe(name, metrics[name], inception), flush=True)


def describe(name: str, found: dict, inception: bool) -> str:
    """Returns the distances of a direction as text, in the published code's words for Inception."""
    key = "kid" if inception else measures.SURROGATE
    values = [found[key + part] for part in ("", "_std", "_author_mean", "_author_mean_std")]
    texts = ["not known" if value is None else "%.4f" % value for value in values]
    if inception:
        text = "%s KID %s, deviation %s\nmean_KID_mean :  %s\nmean_KID_stddev :  %s"
        return text % (name, *texts)
    text = "%s distance of random features (a surrogate, no Inception): %s, deviation %s; author's "
    return (text + "mean %s, deviation %s") % (name, *texts)


def page(rows: Dict[str, List[Row]], own: bool) -> str:
    """Returns an HTML page of inputs, translations and heat maps, which lie beside it."""
    lines = [
        "<!doctype html><meta charset='utf-8'><title>U-GAT-IT test</title>",
        "<style>body{font:16px sans-serif;margin:2em}img{max-width:30%;margin:1px}</style>",
        "<h1>U-GAT-IT: %s</h1>" % ("own pictures" if own else "test pictures"),
    ]
    for name, each in rows.items():
        lines.append("<h2>%s: input, translation, heat map of the attention</h2>" % name)
        for row in each:
            title = os.path.basename(row.item.path).encode("utf-8", "replace").decode("utf-8")
            lines.append("<p>%s<br>" % html.escape(title))
            for place in row.item[1:]:
                address = urllib.parse.quote(os.fsencode(place))
                lines.append("<img loading='lazy' alt='' src='%s'>" % html.escape(address))
    return "\n".join(lines) + "\n"
