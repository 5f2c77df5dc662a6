# SPDX-License-Identifier: Apache-2.0
"""The test phase: translate a folder, compare with targets where there are some, show both."""

import base64
import html
import io
import os
from typing import List, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from harness import fid, report
from harness.errors import UserError
from harness.files import write_json, write_text
from harness.gallery import Pair, write_tested
from harness.images import list_images, read_image, write_image
from pix2pix import data
from pix2pix.config import FID_PROTOCOL
from pix2pix.serving import Translate, translate_picture

PAGE_ROWS = 200  # index.html shows so many pictures at the most


class Job(NamedTuple):
    """One picture to translate: the name of its output, its files, whether it has a target."""

    name: str
    pair: data.Pair
    has_target: bool


def find_jobs(config) -> List[Job]:
    """Returns what to translate: the pictures of --input_dir, else the pairs of val/ or test/.

    Raises:
      UserError: if there are none, an output would replace another one or an input, or FID is asked
        for and cannot be measured.
    """
    if config.input_dir:
        for output in (config.test_dir, os.path.join(config.test_dir, "inputs")):
            if os.path.realpath(config.input_dir) == os.path.realpath(output):
                text = "--input_dir %s would be written to; choose another --test_dir"
                raise UserError(text % config.input_dir)
        names = {}
        for path in list_images(config.input_dir):
            stem = os.path.splitext(os.path.basename(path))[0]
            if stem in names:
                text = "%s and %s would both be written as %s.png; rename one"
                raise UserError(text % (names[stem].a, path, stem))
            names[stem] = data.Pair(path, "")
        return [Job(stem, pair, False) for stem, pair in names.items()]
    splits = [split for split in ("val", "test") if data.has_split(config.data_path, split)]
    if not splits:
        text = "there is no val/ or test/ in %s; add one, or give --input_dir"
        raise UserError(text % config.data_path)
    pairs = data.find_pairs(config.data_path, splits[0])
    if config.inception:
        fid.check(config.inception, len(pairs))
    data.check_pairs(pairs)
    return [Job("test_%04d" % number, pair, True) for number, pair in enumerate(pairs, 1)]


def evaluate(config, jobs: List[Job], translate: Translate, around=None) -> dict:
    """Translates `jobs`, writes PNGs, index.html and metrics.json into config.test_dir, says so.

    `around` are the surroundings that the report shows.

    Returns:
      {"pictures": n, and with targets "l1" (mean of |x - y| in [-1, 1]), "psnr" (dB) and "ssim",
      means over the pictures, taken of the 8-bit pictures that were written; with --inception
      "fid", of the translations to the targets}.
    """
    rows, each = [], []
    for job in tqdm(jobs, unit="picture", disable=None):
        condition, target = _read(job, config)
        if not each and not job.has_target:
            _warn_of_scale(condition, config)
        fake = data.to_uint8(translate_picture(translate, data.to_float(condition)))
        pictures = {"inputs": condition, "": fake, "targets": target}
        for folder, pixels in pictures.items():
            if pixels is not None:
                path = os.path.join(config.test_dir, folder, job.name + ".png")
                write_image(path, pixels)
        score = {} if target is None else compare(fake, target)
        each.append(dict(picture=job.name, source=os.path.basename(job.pair.a), **score))
        if len(rows) < PAGE_ROWS:
            rows.append(page_row(each[-1], [p for p in pictures.values() if p is not None]))
    metrics = {"pictures": len(each)}
    for key in ("l1", "psnr", "ssim"):
        if key in each[0]:
            metrics[key] = float(np.mean([score[key] for score in each]))
    if config.inception:
        folders = (os.path.join(config.test_dir, "targets"), config.test_dir)
        sets = [[os.path.join(f, job.name + ".png") for job in jobs] for f in folders]
        metrics["fid"] = fid.fid(*sets, config.inception, FID_PROTOCOL)
    write_json(os.path.join(config.test_dir, "metrics.json"), {"mean": metrics, "each": each})
    around = dict(around or {}, data=data.fingerprint([job.pair for job in jobs]))
    _write_report(config, each, metrics, around)
    index = os.path.join(config.test_dir, "index.html")
    write_text(index, page(rows, metrics))
    print("%s; see %s" % (describe(metrics), index), flush=True)
    return metrics


def _write_report(config, each, metrics, around) -> None:
    folder, pairs = config.test_dir, []
    for score in each:
        name = score["picture"] + ".png"
        target = os.path.join(folder, "targets", name) if "l1" in score else ""
        paths = (os.path.join(folder, "inputs", name), os.path.join(folder, name), target)
        pairs.append(Pair(score["source"], *paths))
    to_targets = "of the 8-bit pictures to their targets, mean over %d" % len(each)
    protocol = {"l1": "mean |output - target| in [-1, 1], " + to_targets}
    protocol.update(psnr="dB, " + to_targets, ssim="Wang et al. 2004, " + to_targets)
    protocol["fid"] = "tools/fid, %s; outputs against targets" % FID_PROTOCOL
    protocol = {name: text for name, text in protocol.items() if name in metrics}
    write_tested(folder, pairs, metrics, protocol, around)
    report.write(folder, config)


def _warn_of_scale(pixels, config):
    height, width = pixels.shape[:2]
    if not config.test_size and max(height, width) > 1.5 * config.load_size:
        text = "pictures of %dx%d are translated at their own size; if training shrank such ones"
        text += " to %d, add --test_size=%d to translate them at that scale"
        print(text % (width, height, config.load_size, config.fine_size), flush=True)


def _read(job, config):
    """Returns (condition, target or None), uint8, resized to test_size where it is given."""
    if job.has_target:
        condition, target = data.read_pair(job.pair, config)
    else:
        condition, target = read_image(job.pair.a, config.input_nc), None
    # Targets are compared at the size of training, as published; other pictures keep theirs.
    side = config.test_size or (config.fine_size if job.has_target else 0)
    if side:
        condition = data.resize(condition, side, side)
        target = None if target is None else data.resize(target, side, side)
    return condition, target


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the structural similarity (Wang et al. 2004, equation 13), -1 to 1.

    The mean over the channels and all Gaussian windows of 11 pixels that lie inside.

    Args:
      a: uint8 [H, W, C], H and W at least 11.
      b: the same.
    """
    weights = np.exp(-np.square(np.arange(-5, 6) / 1.5) / 2)
    weights /= weights.sum()

    def average(x):
        height, width = x.shape[0] - 10, x.shape[1] - 10
        x = sum(weight * x[i : i + height] for i, weight in enumerate(weights))
        return sum(weight * x[:, i : i + width] for i, weight in enumerate(weights))

    a, b = a.astype(np.float64), b.astype(np.float64)
    mean_a, mean_b, product = average(a), average(b), average(a * b)
    squares = np.square(mean_a) + np.square(mean_b)
    variances = average(np.square(a) + np.square(b)) - squares
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (squares + c1)
    return float(np.mean(luminance * (2 * (product - mean_a * mean_b) + c2) / (variances + c2)))


def compare(fake: np.ndarray, target: np.ndarray) -> dict:
    """Returns {"l1", "psnr", "ssim"} of two uint8 [H, W, C]; equal pictures have 100 dB."""
    difference = data.to_float(fake) - data.to_float(target)
    square = max(float(np.mean(np.square(difference / 2.0))), 1e-10)
    return {
        "l1": float(np.mean(np.abs(difference))),
        "psnr": -10.0 * float(np.log10(square)),
        "ssim": ssim(fake, target),
    }


def page(rows: List[str], metrics: dict) -> str:
    """Returns a self-contained HTML page: inputs, outputs, targets and their scores."""
    text = describe(metrics)
    if len(rows) < metrics["pictures"]:
        text += "; the first %d of them" % len(rows)
    lines = [
        "<!doctype html><meta charset='utf-8'><title>Pix2Pix test</title>",
        "<style>body{font:16px sans-serif;margin:2em;max-width:60em}",
        "td{padding:4px;vertical-align:top}img{width:100%;max-width:18em}small{color:#555}</style>",
        "<h1>Pix2Pix test</h1><p>%s</p>" % html.escape(text),
        "<table><tr><th>input<th>output" + ("<th>target" if "l1" in metrics else ""),
    ]
    return "\n".join(lines + rows) + "\n</table>\n"


def page_row(score: dict, pictures: List[np.ndarray]) -> str:
    """Returns the two table rows of one picture; `score` is its entry in metrics.json."""
    note = "%(picture)s (%(source)s)" % score
    if "l1" in score:
        note += ": L1 %(l1).4f, PSNR %(psnr).2f dB, SSIM %(ssim).4f" % score
    cells = "".join("<td><img alt='' src='%s'>" % _embed(pixels) for pixels in pictures)
    return "<tr><td colspan=3><small>%s</small>\n<tr>%s" % (html.escape(note), cells)


def _embed(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(
        buffer, "JPEG", quality=90
    )
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def describe(metrics: dict) -> str:
    """Returns the result in one line."""
    text = "%(pictures)d pictures" % metrics
    if "l1" in metrics:
        text += "; to the targets: L1 %(l1).4f, PSNR %(psnr).2f dB, SSIM %(ssim).4f" % metrics
    if "fid" in metrics:
        text += ", FID %(fid).2f" % metrics
    return text
