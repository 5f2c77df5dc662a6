# SPDX-License-Identifier: Apache-2.0
"""Every option of White-box Cartoonization, one line each: name, type, default, meaning."""

import dataclasses
import os
from typing import Tuple

from harness.options import option
from harness.platform_options import PlatformOptions

SUBJECTS = ("face", "scenery")
FID_PROTOCOL = "legacy_pytorch"  # of tools/fid, as pytorch-fid, which measured the earlier folder


def _full_precision():
    """Returns the option --precision_mode with full float32 as its default."""
    fields = {field.name: field for field in dataclasses.fields(PlatformOptions)}
    words = fields["precision_mode"].metadata
    return option("force_fp32", words["text"], choices=words["choices"])


@dataclasses.dataclass(frozen=True)
class TrainingOptions(PlatformOptions):
    """Data and training; pretraining has these too."""

    data_path: str = option(
        "./dataset", "folder of the data, or the folder above its folder dataset", may_change=True
    )
    REAL_PATH: str = option(
        "",
        "folder of the four image folders and vgg19_no_fc.npy, if not DATA_PATH",
        aliases=("real_path",),
        may_change=True,
    )
    output_path: str = option("./output", "folder of everything written", may_change=True)
    subjects: Tuple[str, ...] = option(
        SUBJECTS, "what to train with; with both every fifth batch is faces", choices=SUBJECTS
    )
    patch_size: int = option(
        256, "side of the training patches, pixels, a multiple of 16", low=16, high=4096
    )
    load_size: int = option(
        0,
        "shorter side that pictures get before the crop, pixels; 0: as they are, small ones "
        "enlarged to PATCH_SIZE",
        low=0,
    )
    batch_size: int = option(16, "pictures of each kind per step and device", low=1)
    train_epochs: int = option(
        0,
        "epochs to train instead of TOTAL_ITER, each as many photos as there are of all subjects",
        low=0,
        may_change=True,
    )
    adv_train_lr: float = option(2e-4, "Adam's learning rate", low=0, aliases=("lr",))
    seed: int = option(0, "of weights, order, crops and colours", low=0, high=2**31 - 1)
    continue_train: bool = option(
        False, "go on after the newest checkpoint, if there is one", may_change=True
    )
    log_steps: int = option(50, "steps between log lines; 0 is never", low=0, may_change=True)
    save_steps: int = option(
        500, "steps between checkpoints; 0 saves the end only", low=0, may_change=True
    )
    keep_checkpoints: int = option(3, "how many to go on from stay", low=2, may_change=True)
    keep_generators: int = option(20, "how many generators stay", low=1, may_change=True)
    image_steps: int = option(500, "steps between sample grids; 0 is never", low=0, may_change=True)

    def __post_init__(self):
        """Checks the options that depend on each other."""
        if self.patch_size % 16:
            text = "--patch_size %d: it must be a multiple of 16, such as 256"
            raise ValueError(text % self.patch_size)
        if 0 < self.load_size < self.patch_size:
            text = "--load_size %d is below --patch_size %d; raise it, or leave it out"
            raise ValueError(text % (self.load_size, self.patch_size))


@dataclasses.dataclass(frozen=True)
class PretrainConfig(TrainingOptions):
    """Pretraining."""

    total_iter: int = option(
        50_000, "steps to train", low=1, aliases=("train_steps",), may_change=True
    )

    @property
    def folder(self) -> str:
        """The folder of this run's generators, images, checkpoints and logs."""
        return os.path.join(self.output_path, "pretrain")


@dataclasses.dataclass(frozen=True)
class Config(TrainingOptions):
    """White-box Cartoonization: the defaults are those of the published code."""

    total_iter: int = option(
        100_000, "adversarial steps to train", low=1, aliases=("train_steps",), may_change=True
    )
    preset: str = option(
        "recommended",
        "published: superpixels of the colours as the released weights saw them, made while the "
        "step waits, and losses that depend on PATCH_SIZE",
        choices=("recommended", "published"),
    )
    pretrained: str = option(
        "",
        "generator to start from: a checkpoint's path or an .npz; default: the newest in "
        "pretrain/saved_models of the data, else it is pretrained first",
        may_change=True,
    )
    pretrain_iter: int = option(
        50_000, "steps of the pretraining, where it is needed", low=1, may_change=True
    )
    vgg: str = option(
        "",
        "VGG-19: .npy, .npz or MatConvNet's .mat; default: vgg19_no_fc.npy or "
        "imagenet-vgg-verydeep-19.mat in REAL_PATH",
        may_change=True,
    )
    save_dir: str = option(
        "train_cartoon", "name of the run's folder in OUTPUT_PATH", may_change=True
    )
    lambda_surface: float = option(
        0.1, "weight of the adversarial loss on smoothed pictures", low=0
    )
    lambda_texture: float = option(1.0, "weight of the adversarial loss on grey pictures", low=0)
    lambda_structure: float = option(200.0, "weight of the distance to the superpixels", low=0)
    lambda_content: float = option(200.0, "weight of the distance to the photo", low=0)
    lambda_tv: float = option(1e4, "weight of the total variation", low=0)
    use_enhance: bool = option(
        False,
        "structure by selective search and adaptive colours instead of SLIC and mean colours, "
        "with either preset",
    )
    superpixels: int = option(200, "segments of a picture", low=2)
    superpixel_workers: int = option(
        0, "processes that make superpixels; 0 takes one per core", low=0, may_change=True
    )
    d_width: int = option(32, "channels of the discriminators' first layers", low=1, high=1024)
    inception: str = option(
        "", "Inception weights, to measure FID with tools/fid at the end of a case", may_change=True
    )

    def __post_init__(self):
        """Checks the options that depend on each other."""
        super().__post_init__()
        if (
            self.save_dir in ("", ".", "..", "pretrain")
            or os.path.basename(self.save_dir) != self.save_dir
        ):
            text = "--save_dir %s: it must be the name of a folder, other than pretrain"
            raise ValueError(text % (self.save_dir or "''"))

    @property
    def folder(self) -> str:
        """The folder of this run's generators, images, checkpoints and logs."""
        return os.path.join(self.output_path, self.save_dir)

    @property
    def loss_weights(self) -> dict:
        """{loss in the log: its weight in what its network learns from}, section 3.4."""
        weights = {"g_loss_blur": self.lambda_surface, "g_loss_gray": self.lambda_texture}
        weights.update(photo_loss=self.lambda_content, superpixel_loss=self.lambda_structure)
        return dict(weights, tv_loss=self.lambda_tv, d_loss_gray=1.0, d_loss_blur=1.0)

    @property
    def is_published(self) -> bool:
        """Whether to do as the code that made the released weights."""
        return self.preset == "published"


@dataclasses.dataclass(frozen=True)
class CartoonizeConfig(PlatformOptions):
    """Cartoonizing pictures and videos."""

    input: str = option(
        "", "picture, folder (with those below it), video, or - for a picture from stdin"
    )
    output: str = option("", "picture, folder or video to write, or - for stdout")
    weights: str = option(
        "", "a checkpoint's path, an .npz, or a .pb; default: the newest generator of the training"
    )
    data_path: str = option(
        "./dataset", "without --input: its scenery_photo (or photo_scenery) is cartoonized"
    )
    output_path: str = option(
        "./output", "where the training saved; without --output takes the folder SAVE_FOLDER"
    )
    save_folder: str = option(
        "cartoonized_scenery", "name of the folder in OUTPUT_PATH, without --output"
    )
    save_dir: str = option("train_cartoon", "name of the training's folder in OUTPUT_PATH")
    raw: bool = option(False, "write pictures as PNG, exactly what the network gives")
    max_side: int = option(
        720,
        "larger pictures are reduced until their shorter side is so many pixels, as published; "
        "0: never",
        low=0,
    )
    strength: float = option(
        1.0, "1 is the cartoon, 0 the photo, between them a mixture", low=0, high=1
    )
    smooth: float = option(
        5e-3,
        "epsilon of the last guided filter; 0 leaves the filter out; a .pb has its own",
        low=0,
    )
    tile: int = option(
        1024, "larger pictures are done in tiles of so many pixels; 0: in one piece", low=0
    )
    batch_size: int = option(4, "pictures of one size that are done together", low=1)
    overwrite: bool = option(True, "replace outputs that exist; else skip their pictures")
    precision_mode: str = _full_precision()

    def __post_init__(self):
        """Checks the options that depend on each other."""
        if self.tile % 4:
            raise ValueError("--tile %d: it must be a multiple of 4, such as 1024" % self.tile)


@dataclasses.dataclass(frozen=True)
class EvaluateConfig(PlatformOptions):
    """Evaluating a folder of cartoons."""

    results: str = option("", "folder of the cartoons; default OUTPUT_PATH/cartoonized_scenery")
    data_path: str = option("./dataset", "folder of the data, as in the training")
    REAL_PATH: str = option("", "as in the training", aliases=("real_path",))
    output_path: str = option("./output", "folder that metrics.json is written to")
    subjects: Tuple[str, ...] = option(
        SUBJECTS,
        "with what it was trained; scenery is compared where it is among them",
        choices=SUBJECTS,
    )
    batch_size: int = option(16, "pictures that are computed together", low=1)
    vgg: str = option("", "VGG-19, as in the training")
    precision_mode: str = _full_precision()
    inception: str = option("", "Inception weights, to measure FID with tools/fid instead")
