# SPDX-License-Identifier: Apache-2.0
"""python -m tools.demo.workers MODEL FOLDER: a worker, with the package of the model folder."""

import importlib
import sys

if __name__ == "__main__":
    name, folder = sys.argv[1:]
    sys.path.insert(0, folder)  # before the page's own harness: some folders' has more
    from tools.demo.workers import protocol

    protocol.serve(lambda: importlib.import_module("tools.demo.workers." + name))
