# SPDX-License-Identifier: Apache-2.0
"""The options of a model that is none, for the tests of the doctor."""

import dataclasses

from harness.options import option
from harness.platform_options import CommonOptions


@dataclasses.dataclass(frozen=True)
class Config(CommonOptions):
    """A model that is none."""

    data_path: str = option("", "data", may_change=True)
    output_path: str = option("", "output", may_change=True)
    steps: int = option(1000, "steps to train", low=1, may_change=True)
    batch_size: int = option(4, "pictures of a step", low=1)
    rate: float = option(0.1, "learning rate", low=0)
    seed: int = option(0, "seed")
    keep: int = option(2, "checkpoints that stay", low=1, may_change=True)
    log_path: str = option("", "a file for notes", may_change=True)
    memory_mb: int = option(1, "what the training says it took", may_change=True)
    fault: str = option(
        "",
        "what goes wrong",
        choices=("killed", "sentence", "forever", "oom", "full"),
        may_change=True,
    )
    continue_train: bool = option(False, "go on", may_change=True)
