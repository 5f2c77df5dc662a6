# SPDX-License-Identifier: Apache-2.0
"""What all models share: `fid`, `paired`, `export`, `weights`, and `shared`, the vendored source.

tools/README.md shows the programs at work. They may import a model folder; no folder imports them,
it calls the program.
"""
