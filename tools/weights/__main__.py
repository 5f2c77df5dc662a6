# SPDX-License-Identifier: Apache-2.0
"""Weight files: `inspect` one, or turn published weights into ours and back, by model.

`python -m tools.weights COMMAND --help` tells what a command takes.
"""

import argparse
import importlib
import os
import sys

sys.path.append(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "shared"))

from harness.errors import UserError, run_program
from tools.folders import enter, find_folder

# Each module has add_arguments(parser) and run(arguments) -> int; only the chosen one is imported.
# name: (module, model folder that is entered before or None, help)
COMMANDS = {
    "inspect": ("tools.weights.inspection", None, "what is in a weight file of any kind"),
    "pix2pix": ("tools.weights.pix2pix", "Pix2Pix", "affinelayer's checkpoints -> ours and back"),
    "stargan": ("tools.weights.stargan", "StarGAN", "yunjey's G and D, Ascend's -> ours and back"),
    "ugatit": ("tools.weights.ugatit", "U-GAT-IT", "znxlwm's .pt, MindSpore's -> ours and back"),
    "whitebox": ("tools.weights.whitebox", "WhiteBox", "the authors' generator -> ours and back"),
}


def main() -> int:
    """Runs the command that the first argument names."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.weights",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    chosen = sys.argv[1] if len(sys.argv) > 1 else None
    for name, (module, folder, text) in COMMANDS.items():
        options = parsers.add_parser(name, help=text, description=text)
        if name == chosen:
            if folder:
                enter(find_folder(folder))
            command = _load(name, module)
            command.add_arguments(options)
    arguments = parser.parse_args()
    return command.run(arguments)


def _load(name, module):
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        text = "%s needs %s, which this Python does not have; use that of the model's folder and "
        raise UserError((text + "tools/requirements*.txt") % (name, error.name)) from error


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    run_program(main)
