# SPDX-License-Identifier: Apache-2.0
"""The options of the training in numpy."""

import dataclasses

from harness.options import option


@dataclasses.dataclass(frozen=True)
class Config:
    """The model."""

    data_path: str = option("", "data", may_change=True)
    output_path: str = option("", "results", may_change=True)
    batch_size: int = option(1, "pictures per step")
    seed: int = option(0, "of the data")
    total_iter: int = option(4, "steps", may_change=True)
    save_steps: int = option(2, "steps between states", may_change=True)
    allowed: str = option("", "file with the last step that may be done yet", may_change=True)
    fail_at: int = option(0, "the step that fails", may_change=True)
    continue_train: bool = option(False, "go on", may_change=True)
    report: bool = option(True, "write report.html", may_change=True)
