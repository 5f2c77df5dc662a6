# SPDX-License-Identifier: Apache-2.0
"""Every option of StarGAN, one line each: name, type, default, meaning."""

import dataclasses
import os
from typing import Tuple

from harness.options import option
from harness.platform_options import PlatformOptions

FID_PROTOCOL = "legacy_tensorflow"  # of tools/fid, as TTUR, which measured the earlier folder


@dataclasses.dataclass(frozen=True)
class Config(PlatformOptions):
    """StarGAN: the defaults are the paper's for CelebA (Choi et al. 2018, sections 5.2 and 7)."""

    phase: str = option("train", "what to do", choices=("train", "test"), may_change=True)
    dataset: str = option(
        "celeba",
        "celeba: pictures with attributes; classes: one folder per class; both: trained jointly",
        choices=("celeba", "classes", "both"),
    )
    data_path: str = option(
        "./datasets",
        "folder with CelebA/Img/img_align_celeba and CelebA/Anno/list_attr_celeba.txt, or RaFD/",
        may_change=True,
    )
    image_root: str = option("", "folder of the CelebA pictures, if elsewhere", may_change=True)
    metadata_path: str = option("", "the CelebA attribute file, if elsewhere", may_change=True)
    class_root: str = option(
        "",
        "folder of the class folders, if elsewhere",
        aliases=("rafd_image_dir",),
        may_change=True,
    )
    selected_attrs: Tuple[str, ...] = option(
        ("Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young"), "CelebA attributes to learn"
    )
    c_dim: int = option(0, "number of attributes, or of classes; 0: as many as there are", low=0)
    num_test: int = option(
        -1, "pictures kept for the test phase; -1: 1999, and a tenth below 20000 pictures", low=-1
    )
    crop_size: int = option(
        178,
        "side of the centre crop, pixels of a 178x218 picture (others in proportion); 0: largest",
        low=0,
        high=178,
        aliases=("celeba_crop_size",),
    )
    image_size: int = option(
        128, "side of the pictures, pixels, a multiple of 2 to the power of --d_repeat_num", low=8
    )
    flip: bool = option(True, "mirror half of the training pictures")

    training_iterations: int = option(
        200_000,
        "discriminator steps to train",
        low=1,
        aliases=("train_steps",),
        may_change=True,
    )
    train_epochs: int = option(0, "epochs to train instead", low=0, may_change=True)
    batch_size: int = option(16, "pictures per step and device", low=1)
    d_train_repeat: int = option(
        5, "discriminator steps per generator step", low=1, aliases=("n_critic",)
    )
    init_learning_rate: float = option(1e-4, "Adam's learning rate", low=0, aliases=("lr",))
    beta1: float = option(0.5, "Adam's first momentum term", low=0, high=0.999999)
    beta2: float = option(0.999, "Adam's second momentum term", low=0, high=0.999999)
    lr_decay: str = option(
        "paper",
        "paper: linearly to zero; legacy: by INIT/NUM_STEP_DECAY at each update, as published",
        choices=("paper", "legacy"),
    )
    lr_update_step: int = option(10, "steps between two updates of a falling rate", low=1)
    num_step_decay: int = option(
        0, "the rate falls over so many last steps; 0: half of them", low=0
    )
    lambda_cls: float = option(1.0, "weight of the classification loss", low=0)
    lambda_rec: float = option(10.0, "weight of the reconstruction loss", low=0)
    lambda_gp: float = option(10.0, "weight of the gradient penalty", low=0)
    seed: int = option(0, "of weights, order, mirroring and targets", low=0, high=2**31 - 1)

    g_conv_dim: int = option(64, "channels of the generator's first layer", low=1)
    d_conv_dim: int = option(64, "channels of the discriminator's first layer", low=1)
    g_repeat_num: int = option(6, "residual blocks of the generator", low=0)
    d_repeat_num: int = option(6, "strided convolutions of the discriminator", low=1)

    output_dir: str = option("./model_output", "folder of everything written", may_change=True)
    continue_train: bool = option(
        False, "go on after the newest checkpoint, if there is one", may_change=True
    )
    summary_steps: int = option(100, "steps between log lines; 0 is never", low=0, may_change=True)
    checkpoint_steps: int = option(
        1000, "steps between checkpoints; 0 saves the end only", low=0, may_change=True
    )
    keep_checkpoints: int = option(
        3, "how many of the newest checkpoints stay", low=2, may_change=True
    )
    save_steps: int = option(500, "steps between sample grids; 0 is never", low=0, may_change=True)

    ckpt_path: str = option(
        "",
        "train: a checkpoint, or a run's folder, whose networks it starts from; test: which to use",
        may_change=True,
    )
    checkpoint: str = option(
        "", "test: a checkpoint's path, or its name in OUTPUT_DIR/checkpoint", may_change=True
    )
    test_concatenate: bool = option(
        True, "test: strips of all translations; else a folder per target", may_change=True
    )
    input_dir: str = option("", "test: translate the pictures of this folder", may_change=True)
    target: Tuple[str, ...] = option(
        (), 'test: translations to make, each such as "Blond_Hair=1 Male=0"', may_change=True
    )
    classifier: str = option(
        "", "test: classifier.npz, to measure attribute accuracy", may_change=True
    )
    inception: str = option(
        "", "test: Inception weights, to measure FID with tools/fid", may_change=True
    )

    def __post_init__(self):
        """Checks the options that depend on each other; names in one text become several."""
        names = tuple(" ".join(self.selected_attrs).replace(",", " ").split())
        object.__setattr__(self, "selected_attrs", names)
        if len(set(names)) < len(names) or not names:
            text = "--selected_attrs %s: name each attribute once"
            raise ValueError(text % " ".join(names))
        multiple = max(4, 2**self.d_repeat_num)  # 64: what the discriminator's 6 layers need
        if self.image_size % multiple:
            text = "--image_size %d: it must be a multiple of %d (with --d_repeat_num=%d)"
            raise ValueError(text % (self.image_size, multiple, self.d_repeat_num))
        if self.dataset == "celeba" and self.c_dim not in (0, len(names)):
            text = "--c_dim %d does not match the %d of --selected_attrs (%s); leave --c_dim out"
            raise ValueError(text % (self.c_dim, len(names), " ".join(names)))
        if self.inception and (self.test_concatenate or self.input_dir):
            text = "--inception needs the translations of the test pictures one by one; "
            raise ValueError(text + "add --test_concatenate=False and leave --input_dir out")

    @property
    def loss_weights(self) -> dict:
        """{loss in the log: its weight in what its network learns from}."""
        weights = {"D/loss_real": 1.0, "D/loss_fake": 1.0, "D/loss_cls": self.lambda_cls}
        weights.update({"D/loss_gp": self.lambda_gp, "G/loss_fake": 1.0})
        return dict(weights, **{"G/loss_rec": self.lambda_rec, "G/loss_cls": self.lambda_cls})

    @property
    def run_folder(self) -> str:
        """The folder of this run's checkpoints, log and settings."""
        return os.path.join(self.output_dir, "checkpoint")
