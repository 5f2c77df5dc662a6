# SPDX-License-Identifier: Apache-2.0
"""What plain code measures of a training on drawn pictures (ci/drawing.py): no learnt judge.

Every function takes the drawn data and the output folder of test/train_full_1p.sh and returns
{name of METRICS: value}. Pictures are uint8 (height, width, 3).
"""

import pathlib
import re
import sys
from typing import NamedTuple

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "tools" / "shared"))

import numpy as np
from drawing import DOMAINS, HAIR, LABELS, MEAN_PIXEL
from PIL import Image

from harness.files import read_json, read_log

# Pictures of a test phase, of what ci/drawing.py draws and ci/trainings.py asks for.
COUNTS = {"pix2pix": 8, "stargan": 24, "ugatit": 10, "whitebox": 32}
SHAPE_BELOW = {"stargan": (2, 120), "ugatit": (1, 135)}  # channel and level: a shape is darker


class Metric(NamedTuple):
    """What a value is: its unit, which direction is better, and the least width of its band.

    `least` is in the unit of the value: differences of that size say nothing.
    """

    unit: str
    better: str
    least: float


METRICS = {
    "Pix2Pix_ID0359_for_TensorFlow": {
        "colour_error": Metric("grey levels", "lower", 4.0),
        "texture_energy": Metric("share of the targets'", "higher", 0.1),
    },
    "StarGAN_ID1472_for_TensorFlow": {
        "wanted_colour": Metric("share", "higher", 0.1),
        "colour_error": Metric("grey levels", "lower", 4.0),
        "background_change": Metric("grey levels", "lower", 4.0),
        "shape_overlap": Metric("IoU", "higher", 0.05),
        "reconstruction_l1": Metric("in [-1, 1]", "lower", 0.01),
    },
    "U-GAT-IT_for_MindSpore": {
        "colour_distance": Metric("share of the domains'", "lower", 0.1),
        "shape_overlap": Metric("IoU", "higher", 0.05),
        "cycle_l1": Metric("in [-1, 1]", "lower", 0.02),
    },
    "WhiteBox_Cartoonization_for_TensorFlow": {
        "grain": Metric("share of the photos'", "lower", 0.05),
        "saturation": Metric("share of the photos'", "higher", 0.1),
        "hue_kept": Metric("correlation", "higher", 0.05),
        "content_kept": Metric("correlation", "higher", 0.05),
    },
    "NEURAL-STYLE_ID2068_for_TensorFlow": {
        "loss_left": Metric("share of the start's", "lower", 0.001),
        "style_distance": Metric("|G - A| / |A|", "lower", 0.02),
        "style_colours": Metric("share of the style's", "higher", 0.1),
        "content_kept": Metric("correlation", "higher", 0.05),
        "blue_moved": Metric("grey levels", "lower", 4.0),
    },
}


def read(path) -> np.ndarray:
    """Returns the picture in `path`, float (height, width, 3), 0..255."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), float)


def smooth(pixels, size: int) -> np.ndarray:
    """Returns the means of `pixels` (height, width, ...) over squares of `size` pixels."""
    height, width = (side // size * size for side in pixels.shape[:2])
    shape = (height // size, size, width // size, size, *pixels.shape[2:])
    return pixels[:height, :width].reshape(shape).mean((1, 3))


def correlation(first, second) -> float:
    """Returns the correlation of two arrays of one size; 0 where one of them is constant."""
    a, b = (np.ravel(values) - np.mean(values) for values in (first, second))
    norm = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / norm) if norm > 1e-9 else 0.0


def overlap(first, second) -> float:
    """Returns intersection over union of two bool masks; 1 where both are empty."""
    union = np.sum(first | second)
    return float(np.sum(first & second) / union) if union else 1.0


def pictures(folder: pathlib.Path, pattern: str, count: int) -> dict:
    """Returns {number in its name: picture} of the files in `folder` that match.

    Raises:
      RuntimeError: if there are not `count`.
    """
    found = sorted(folder.glob(pattern))
    if len(found) != count:
        raise RuntimeError(f"the training left {len(found)} {pattern} in {folder}, not {count}")
    numbers = [int(re.search(r"(\d+)(-images)?$", path.stem).group(1)) for path in found]
    return dict(zip(numbers, map(read, found)))


def measure_pix2pix(data, output, result):
    """Compares the label maps' regions in the outputs with those of the drawn photos."""
    errors, energies = [], []
    for number, fake in pictures(output / "test", "test_*.png", COUNTS["pix2pix"]).items():
        photo, labels = np.split(read(data / "val" / f"{number}.png"), 2, axis=1)
        for label, (colour, *_) in enumerate(LABELS):
            inside = smooth((labels == colour).all(2).astype(float), 32) == 1
            for row, col in np.argwhere(inside):
                place = slice(32 * row, 32 * row + 32), slice(32 * col, 32 * col + 32)
                patch, wanted = fake[place], photo[place]
                errors.append(np.abs(patch.mean((0, 1)) - wanted.mean((0, 1))).mean())
                if label:
                    energies.append((patch.mean(2).std(), wanted.mean(2).std()))
    fakes, targets = np.sum(energies, 0)
    return {
        "colour_error": np.mean(errors),
        "texture_energy": fakes / targets,
    }


def measure_stargan(data, output, result):
    """Looks at the colour of the shape that the source shows, and at what is around it."""
    channel, level = SHAPE_BELOW["stargan"]
    palette = np.array(list(HAIR.values()), float)
    sources = pictures(output / "results" / "src", "*-images.jpg", COUNTS["stargan"])
    hits, errors, changes, overlaps = [], [], [], []
    for wanted in range(len(HAIR)):
        folder = output / "results" / f"generate{wanted + 1}"
        for number, fake in pictures(folder, "*-images.jpg", COUNTS["stargan"]).items():
            source = sources[number]
            inside = source[..., channel] < level
            nearest = [
                np.argmin(np.square(palette - pixels[inside].mean(0)).sum(1))
                for pixels in (source, fake)
            ]
            if nearest[0] == wanted:
                continue
            hits.append(nearest[1] == wanted)
            errors.append(np.abs(fake[inside].mean(0) - palette[wanted]).mean())
            changes.append(np.abs(fake - source)[~inside].mean())
            overlaps.append(overlap(inside, fake[..., channel] < level))
    return {
        "wanted_colour": np.mean(hits),
        "colour_error": np.mean(errors),
        "background_change": np.mean(changes),
        "shape_overlap": np.mean(overlaps),
        "reconstruction_l1": result["metrics"]["reconstruction_l1"],
    }


def measure_ugatit(data, output, result):
    """Compares shape and colours of both translations with the domain they should be in."""
    channel, level = SHAPE_BELOW["ugatit"]
    folder = output / "results" / "selfie2anime" / "test"
    distances, overlaps = [], []
    for own, other in ("AB", "BA"):
        wanted, scale = (
            DOMAINS[other][0],
            np.abs(np.subtract(DOMAINS[own], DOMAINS[other])[0]).mean(),
        )
        sources = pictures(folder, f"{own}_*.png", COUNTS["ugatit"])
        fakes = pictures(folder, f"{own}2{other}_*.png", COUNTS["ugatit"])
        for number, fake in fakes.items():
            inside = sources[number][..., channel] < level
            distances.append(np.abs(fake[inside].mean(0) - wanted).mean() / scale)
            overlaps.append(overlap(inside, fake[..., channel] < level))
    cycles = [result["metrics"][f"{name}_cycle_l1"] for name in ("A2B", "B2A")]
    return {
        "colour_distance": np.mean(distances),
        "shape_overlap": np.mean(overlaps),
        "cycle_l1": np.mean(cycles),
    }


def chroma(pixels):
    """Returns `pixels` without their grey."""
    return pixels - pixels.mean(2, keepdims=True)


def grain(pixels) -> float:
    """Returns the median deviation of the steps between neighbours, which edges do not change."""
    return float(np.median(np.abs(np.diff(pixels.mean(2), axis=1))))


def measure_whitebox(data, output, result):
    """Compares the cartoons of the scenery photos with the photos."""
    rows = []
    fakes = pictures(output / "cartoonized_scenery", "*.*g", COUNTS["whitebox"])
    for number, fake in fakes.items():
        photo = read(data / "scenery_photo" / f"{number}.png")
        coarse = [smooth(pixels, 8) for pixels in (fake, photo)]
        colours = [chroma(pixels) for pixels in coarse]
        rows.append(
            (
                grain(fake) / grain(photo),
                np.abs(colours[0]).mean() / np.abs(colours[1]).mean(),
                correlation(*colours),
                correlation(*[pixels.mean(2) for pixels in coarse]),
            )
        )
    return dict(zip(METRICS[result["model"]], np.mean(rows, 0)))


def measure_style(data, output, result):
    """Compares the picture with the style's colours, the content, and the network's blue."""
    painted = read(output / "11.jpg")
    content, style = (read(data / f"1-{name}.png") for name in ("content", "style"))
    contrasts = [np.std(pixels[..., 0] - pixels[..., 1]) for pixels in (painted, style)]
    totals = [record["total"] for record in read_log(str(output / "11.jpg.run" / "log.jsonl"))]
    found = read_json(str(output / "11.jpg.run" / "metrics.json"))
    seen = [smooth(pixels[..., :2].mean(2), 8) for pixels in (painted, content)]
    return {
        "loss_left": found["total"] / totals[0],
        "style_distance": found["gram_distance"],
        "style_colours": contrasts[0] / contrasts[1],
        "content_kept": correlation(*seen),
        "blue_moved": np.abs(painted[..., 2].mean() - MEAN_PIXEL[2]),
    }


MEASURES = dict(
    zip(
        METRICS,
        (measure_pix2pix, measure_stargan, measure_ugatit, measure_whitebox, measure_style),
    )
)


def measure(model: str, data: pathlib.Path, output: pathlib.Path) -> dict:
    """Returns {name: float} of a finished case of `model`.

    Args:
      model: name of its folder.
      data: what ci/drawing.py drew for it.
      output: the case's --output_path.

    Raises:
      RuntimeError: if the case left no result or no pictures.
    """
    path = output / "result.json"
    if not path.exists():
        raise RuntimeError(f"the training left no {path}")
    values = MEASURES[model](data, output, read_json(str(path)))
    return {name: float(value) for name, value in values.items()}
