# SPDX-License-Identifier: Apache-2.0
"""A double of npu_bridge: as strict as the documents, on a CPU, for TensorFlow 1.15.

`modules` makes the package npu_bridge of one release from `table`; `sessions` watches tf.Session
and asks `rules`; `loss_scale` and `collectives` simulate what the models use, `world` checks the
ranks and `fusion` what they send together, `record` writes down every call. All else of npu_bridge
is there, checks its arguments, and is not implemented.

  NPU_BRIDGE_RELEASE    r1.5, r1.10 or master (the default)
  NPU_BRIDGE_RECORD     file that takes one JSON object per call
  NPU_BRIDGE_OVERFLOW   "1,2": which applications of gradients overflow, counted from 1 in every
                        process and optimiser; "generator_train:1,2;@1:3" by scope or on one rank
  NPU_BRIDGE_INF_NAN    1: the device keeps infinities (master only)
  NPU_BRIDGE_EXCHANGE   an empty folder through which the ranks meet
  NPU_BRIDGE_VALUES     a folder that takes all variables of every rank when its session is closed
"""


class ContractError(RuntimeError):
    """Something that the real npu_bridge would refuse, or take silently for something else."""
