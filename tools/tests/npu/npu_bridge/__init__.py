# SPDX-License-Identifier: Apache-2.0
"""Stands in for npu_bridge where its folder is on PYTHONPATH; see npu_double."""

from npu_double import modules

modules.start()
__getattr__ = modules.attributes_of("npu_bridge")
