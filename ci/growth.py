# SPDX-License-Identifier: Apache-2.0
"""How time and memory of a training step grow with the batch and with the size of the pictures.

Small networks, at least four points each, every point a process of its own. The exponent is the
slope of the logarithms: of the least seconds of a step, and of the peak memory above what the
process had before the network was built, against the number of pictures, or of pixels of one. 1 is
proportional; fixed costs make it less, and more than 1 is work or memory that grows faster than the
pictures do.
"""

import math
import pathlib
import sys
from typing import NamedTuple

import scripts
import timing
from verdicts import Measured

LEAST_BANDS = {"time": 0.25, "memory": 0.15}  # of exponents, whatever their size
COUNT = 3  # steps timed at a point


class Axis(NamedTuple):
    """One series of points: what speed.py times, its options, and the one that grows.

    Attributes:
      what: as `timing.Model.steps`.
      options: of every point, as text.
      option: the option that grows.
      points: its values.
      power: 1, or 2 where it is the side of a picture.
    """

    what: str
    options: str
    option: str
    points: tuple[int, ...]
    power: int = 1


_STARGAN = "--g_conv_dim=16 --d_conv_dim=16 --g_repeat_num=2 --d_repeat_num=4"
_UGATIT = "--ch=16 --n_res=1 --n_dis=4"
AXES = {
    "NEURAL-STYLE": {"pixels": Axis("train", "", "side", (160, 240, 352, 512), 2)},
    "Pix2Pix": {
        "batch": Axis("train", "--ngf=16 --ndf=16", "batch_size", (2, 4, 8, 16)),
        "pixels": Axis(
            "train", "--ngf=16 --ndf=16 --load_size=1280", "fine_size", (512, 768, 1024, 1280), 2
        ),
    },
    "StarGAN": {
        "batch": Axis("train", f"{_STARGAN} --image_size=64", "batch_size", (4, 8, 16, 32)),
        "pixels": Axis("train", f"{_STARGAN} --batch_size=4", "image_size", (96, 128, 192, 256), 2),
    },
    "U-GAT-IT": {
        "batch": Axis("train", f"{_UGATIT} --img_size=64", "batch_size", (4, 8, 16, 24)),
        "pixels": Axis("train", _UGATIT, "img_size", (96, 128, 176, 240), 2),
    },
    "WhiteBox": {
        "batch": Axis("train", "--patch_size=64", "batch_size", (4, 8, 16, 32)),
        "pixels": Axis("train", "--batch_size=2", "patch_size", (128, 176, 256, 352), 2),
    },
}


def slope(xs, ys) -> float:
    """Returns the slope of log y over log x, least squares.

    Raises:
      ValueError: if there are fewer than two points, or a number is not above 0.
    """
    if len(xs) < 2 or min(*xs, *ys) <= 0:
        raise ValueError(f"no exponent of {list(ys)} over {list(xs)}: all must be above 0")
    logs = [(math.log(x), math.log(y)) for x, y in zip(xs, ys)]
    x0, y0 = (sum(each) / len(logs) for each in zip(*logs))
    return sum((x - x0) * (y - y0) for x, y in logs) / sum((x - x0) ** 2 for x, _ in logs)


def points(folder: pathlib.Path, axis: Axis, options) -> list[dict]:
    """Returns {"size", "seconds", "memory"} of each point of an axis.

    Raises:
      RuntimeError: if a point cannot be measured.
    """
    python, found = scripts.environment_of(folder.name, options.tf1).python, []
    for value in axis.points:
        words = [python, str(folder / "test" / "speed.py"), axis.what, *axis.options.split()]
        words += [f"--{axis.option}={value}", f"--count={COUNT}", "--device=cpu"]
        words += ["--precision_mode=force_fp32", *options.with_option]
        print(f"growth {folder.name} {axis.option}={value}", file=sys.stderr, flush=True)
        result = timing.run(words)
        memory = result["peak_memory_mb"] - result["base_memory_mb"]
        size = value**axis.power
        found.append({"size": size, "seconds": min(result["seconds"]), "memory": memory})
    return found


def measured(begin: str, found: list[dict]) -> list[Measured]:
    """Returns the exponents of time and memory of an axis.

    Args:
      begin: of their names.
      found: from `points`.
    """
    values, sizes = [], [point["size"] for point in found]
    for what, key in (("time", "seconds"), ("memory", "memory")):
        words = {"unit": "exponent", "floor": 0.0, "least": LEAST_BANDS[what]}
        try:
            exponent = slope(sizes, [point[key] for point in found])
        except ValueError as error:
            exponent, words["note"] = None, str(error)
        values.append(Measured(f"{begin}{what} exponent", exponent, **words))
    return values


def measure(folders: list[pathlib.Path], options, results) -> None:
    """Adds the exponents of folders to performance_results.Results.

    Args:
      folders: of models.
      options: of ci/performance.py.
      results: takes them, as far as they came when it is stopped.
    """
    series = results.details["growth"] = {}
    for folder in folders:
        for name, axis in AXES[timing.model_of(folder).name].items():
            begin = f"{results.begin(folder, 'growth')}{name}/"
            series[begin], problem = scripts.attempt(points, folder, axis, options)
            if problem:
                results.problems[begin] = problem
                del series[begin]
            else:
                results.add(begin, measured, begin, series[begin])
    cells = [
        [name, *(f"{point[key]:.4g}" for key in ("size", "seconds", "memory"))]
        for name, found in series.items()
        for point in found
    ]
    columns = ("what", "pictures or pixels", "s/step", "MiB above the start")
    results.tables["Growth"] = (columns, cells)
