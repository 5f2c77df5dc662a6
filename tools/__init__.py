# SPDX-License-Identifier: Apache-2.0
"""What all models share: `fid`, `paired`, `export`, `weights`, and `shared`, the vendored source.

Each is a program (`python -m tools.fid --help`); tools/README.md shows them at work. They may import
a model folder; no folder imports them, it calls the program.
"""
