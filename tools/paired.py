# SPDX-License-Identifier: Apache-2.0
"""How far pictures are from their targets: L1, PSNR and SSIM.

TARGETS and OUTPUTS are folders of pictures of equal sizes and equal names, endings and numbers of
pictures in them apart. One line of JSON goes to stdout.
"""

import argparse
import json
import os
import sys
from typing import Dict, Iterator, Tuple

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "shared"))

import numpy as np

from harness.ahead import Ahead
from harness.errors import UserError, run_program
from harness.files import write_json
from harness.images import read_image
from tools.fid.images import find_images
from tools.folders import require

MOST_DB = 100.0  # the PSNR of equal pictures
LISTED = 10  # names in a message


def compare(output: np.ndarray, target: np.ndarray) -> Dict[str, float]:
    """Returns {"l1", "psnr", "ssim"} of two pictures.

    SSIM is that of Wang et al. 2004, equation 13, with the authors' Gaussian window of 11 pixels,
    as a mean over the channels and all windows that lie inside.

    Args:
      output: uint8 [H, W, 3], H and W at least 11.
      target: the same.

    Returns:
      "l1": mean absolute difference in [-1, 1], 0 to 2; "psnr": dB, at most 100; "ssim": -1 to 1.
    """
    from skimage.metrics import structural_similarity

    apart = (output.astype(np.float64) - target) / 255
    squared = max(float(np.mean(apart**2)), 10 ** (-MOST_DB / 10))
    ssim = structural_similarity(
        target,
        output,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        channel_axis=2,
    )
    l1, psnr = 2 * float(np.mean(np.abs(apart))), -10 * float(np.log10(squared))
    return {"l1": l1, "psnr": psnr, "ssim": float(ssim)}


def pairs(targets: str, outputs: str) -> Dict[str, Tuple[str, str]]:
    """Returns {name: (target, output)} of the pictures of equal names in two folders.

    Raises:
      UserError: if a picture has no partner, or two have one name.
    """
    named = [_named(folder) for folder in (targets, outputs)]
    alone = sorted(set(named[0]) ^ set(named[1]))
    if alone:
        text = "%d pictures are in one of %s and %s only, such as %s; give folders of equal names"
        raise UserError(text % (len(alone), targets, outputs, ", ".join(alone[:LISTED])))
    return {name: (path, named[1][name]) for name, path in named[0].items()}


def _named(folder):
    named: Dict[str, str] = {}
    for path in find_images(folder):
        name = os.path.splitext(os.path.relpath(path, folder))[0]
        if name in named:
            raise UserError("%s and %s have one name; rename one" % (named[name], path))
        named[name] = path
    return named


def scores(found: Dict[str, Tuple[str, str]]) -> Iterator[Tuple[str, Dict[str, float]]]:
    """Yields (name, what `compare` says) of each pair of `pairs`.

    Raises:
      UserError: if a picture cannot be read, is too small, or the two have different sizes.
    """
    paths = list(found.values())
    with Ahead(lambda i: [read_image(path) for path in paths[i]], len(paths) - 1) as ahead:
        for number, name in enumerate(found):
            target, output = ahead(number)
            if target.shape != output.shape or min(target.shape[:2]) < 11:
                sizes = ["%d x %d" % (x.shape[1], x.shape[0]) for x in (target, output)]
                text = "%s is %s, %s is %s; they must have one size, at least 11 x 11"
                path, other = paths[number]
                raise UserError(text % (path, sizes[0], other, sizes[1]))
            yield name, compare(output, target)


def main() -> int:
    """Compares what the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.paired",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("targets", metavar="TARGETS")
    parser.add_argument("outputs", metavar="OUTPUTS")
    parser.add_argument("--each", metavar="OUT.json", help="also write the values of each picture")
    options = parser.parse_args()
    require("skimage")
    found = dict(scores(pairs(options.targets, options.outputs)))
    if options.each:
        write_json(options.each, found)
    values = list(found.values())
    mean = {key: float(np.mean([one[key] for one in values])) for key in values[0]}
    protocol = "means over the pictures; L1 in [-1, 1], PSNR in dB, SSIM with a window of 11"
    print(json.dumps(dict(mean, pictures=len(found), protocol=protocol)))
    return 0


if __name__ == "__main__":
    run_program(main)
