# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/tf_runtime/__init__.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""What every TensorFlow folder needs around its graph; the graph itself stays in the folder.

Reading order: `device` (NPU, GPU or CPU; precision; optimisers), `ranks` (several devices),
`checkpoints` (whole, verified, restored), `run` (`harness.loop` with a session; resume).
Runs unchanged on TensorFlow 1.15.5 and 2.x; npu_bridge is used where it is installed.
"""
