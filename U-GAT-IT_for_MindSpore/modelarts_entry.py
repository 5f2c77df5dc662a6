# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/modelarts/modelarts_entry.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""ModelArts boot file: runs the full training."""

from harness.errors import run_program
from harness.modelarts import main

if __name__ == "__main__":
    run_program(lambda: main("full"))
