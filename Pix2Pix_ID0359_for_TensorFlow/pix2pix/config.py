# SPDX-License-Identifier: Apache-2.0
"""Every option of Pix2Pix, one line each: name, type, default, meaning."""

import dataclasses
import os

from harness.options import option
from harness.platform_options import PlatformOptions

FID_PROTOCOL = "clean"  # of tools/fid; no FID was published


@dataclasses.dataclass(frozen=True)
class Config(PlatformOptions):
    """Pix2Pix: the defaults are the paper's for the facades (Isola et al. 2017, section 6.2)."""

    phase: str = option("train", "what to do", choices=("train", "test"), may_change=True)
    data_path: str = option("./datasets/facades", "folder with train/ and val/", may_change=True)
    dataset_name: str = option("facades", "first part of the run's folder name", may_change=True)
    which_direction: str = option(
        "BtoA",
        "A is the left half of a pair, B the right one; facades have the labels on the right",
        choices=("AtoB", "BtoA"),
        aliases=("direction",),
    )

    epoch: int = option(200, "epochs to train", low=1, aliases=("train_epochs",), may_change=True)
    train_steps: int = option(0, "steps to train; 0 takes --epoch", low=0, may_change=True)
    batch_size: int = option(1, "pairs per step and device", low=1)
    train_size: int = option(100_000_000, "use at most so many training pairs", low=1)
    learning_rate: float = option(2e-4, "Adam's learning rate", low=0, aliases=("lr",))
    beta1: float = option(0.5, "Adam's first momentum term", low=0, high=0.999999)
    niter: int = option(
        0, "epochs at full rate, then linearly to zero at --epoch; 0 never lowers it", low=0
    )
    L1_lambda: float = option(100.0, "weight of the L1 loss", low=0)
    d_loss_weight: float = option(0.5, "factor on the discriminator's loss while it learns", low=0)
    seed: int = option(0, "of weights, order, jitter and dropout", low=0, high=2**31 - 1)

    fine_size: int = option(256, "side of the training crop, pixels, a multiple of 256", low=256)
    load_size: int = option(
        286, "side the pictures are resized to before the crop, pixels", low=256
    )
    flip: bool = option(True, "mirror half of the training pairs")
    serial_batches: bool = option(False, "take the pairs in the order of their names")
    serial_batch_iter: int = option(1, "with --serial_batches, the first pair to take", low=1)

    ngf: int = option(64, "channels of the generator's first layer", low=1)
    ndf: int = option(64, "channels of the discriminator's first layer", low=1)
    input_nc: int = option(3, "channels of the condition, 1 is grey", choices=(1, 3))
    output_nc: int = option(3, "channels of the translation, 1 is grey", choices=(1, 3))
    legacy_bottleneck_norm: bool = option(
        False, "normalise the 1x1 bottleneck as published weights need"
    )

    checkpoint_dir: str = option("./checkpoint", "folder of the runs", may_change=True)
    sample_dir: str = option("./sample", "folder of the sample grids", may_change=True)
    log_dir: str = option("./logs", "folder for TensorBoard", may_change=True)
    continue_train: bool = option(
        False, "go on after the newest checkpoint, if there is one", may_change=True
    )
    print_freq: int = option(50, "steps between log lines; 0 is never", low=0, may_change=True)
    save_latest_freq: int = option(
        500, "steps between checkpoints; 0 saves the end only", low=0, may_change=True
    )
    save_epoch_freq: int = option(
        50, "epochs between checkpoints that stay for good; 0 is never", low=0, may_change=True
    )
    keep_checkpoints: int = option(
        3, "how many of the newest checkpoints stay", low=2, may_change=True
    )
    sample_freq: int = option(100, "steps between sample grids; 0 is never", low=0, may_change=True)
    blacklist_path: str = option(
        "",
        "folder of an ops_info.json of your own; the older form of --mixlist_file",
        may_change=True,
    )

    test_dir: str = option("./test", "folder of the test phase's pictures", may_change=True)
    input_dir: str = option("", "test: translate the pictures of this folder", may_change=True)
    checkpoint: str = option("", "test: this checkpoint instead of the newest", may_change=True)
    test_size: int = option(
        0,
        "test: resize pictures to this side; 0: pairs to --fine_size, others keep theirs",
        low=0,
        may_change=True,
    )
    stochastic: bool = option(False, "test: keep the dropout noise, seeded", may_change=True)
    inception: str = option(
        "",
        "Inception weights, to measure FID with tools/fid at the end of the test phase",
        may_change=True,
    )

    def __post_init__(self):
        """Checks the options that depend on each other; --blacklist_path sets --mixlist_file."""
        if self.blacklist_path and not self.mixlist_file:
            path = os.path.join(self.blacklist_path, "ops_info.json")
            object.__setattr__(self, "mixlist_file", path)
        for name, size in (("fine_size", self.fine_size), ("test_size", self.test_size)):
            if size % 256:
                raise ValueError(
                    "--%s %d: it must be a multiple of 256, such as 256 or 512" % (name, size)
                )
        if self.load_size < self.fine_size:
            text = (
                "--load_size %d is below --fine_size %d; the crop must fit into the resized picture"
            )
            raise ValueError(text % (self.load_size, self.fine_size))
        if self.inception and self.input_dir:
            text = "--inception compares with targets, which own pictures do not have; leave "
            raise ValueError(text + "--inception or --input_dir %s out" % self.input_dir)

    @property
    def loss_weights(self) -> dict:
        """{loss in the log: its weight in what its network learns from}."""
        weights = {"d_loss": self.d_loss_weight, "g_loss_adversarial": 1.0}
        return dict(weights, g_loss_l1=self.L1_lambda)

    @property
    def run_folder(self) -> str:
        """The folder of this run's checkpoints, log and settings."""
        name = "%s_%d_%d" % (self.dataset_name, self.batch_size, self.fine_size)
        return os.path.join(self.checkpoint_dir, name)
