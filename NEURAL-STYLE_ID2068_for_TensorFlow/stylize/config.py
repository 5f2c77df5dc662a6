# SPDX-License-Identifier: Apache-2.0
"""Every option of neural style, one line each: name, type, default, meaning."""

import dataclasses
from typing import Tuple

from harness.images import EXTENSIONS
from harness.options import option
from harness.platform_options import PlatformOptions
from stylize.weights import LAYERS


@dataclasses.dataclass(frozen=True)
class Config(PlatformOptions):
    """Neural style: weights and layers as in the reference code (Gatys et al., CVPR 2016)."""

    content: Tuple[str, ...] = option(
        (), "pictures, a folder of pictures, or a video, to stylise (required)", may_change=True
    )
    styles: Tuple[str, ...] = option(
        (), "pictures whose style is taken (required)", aliases=("style",), may_change=True
    )
    output: str = option(
        "", "picture to write; of several a folder; of a video a video or folder", may_change=True
    )
    network: str = option(
        "imagenet-vgg-verydeep-19.mat",
        "VGG-19: the MatConvNet file, or an .npz or .npy dictionary of its layers",
        may_change=True,
    )
    overwrite: bool = option(False, "replace output that exists", may_change=True)

    iterations: Tuple[int, ...] = option(
        (1000,),
        "steps; several numbers: of each of --scales",
        low=1,
        aliases=("train_steps", "train_epochs"),
        may_change=True,
    )
    width: int = option(0, "width of the output, pixels; 0 is the content's own", low=0)
    scales: Tuple[int, ...] = option(
        (), "widths of a coarse-to-fine run, pixels, such as 256 512 1024", low=16
    )
    initial: str = option("", "picture to start from", may_change=True)
    initial_noiseblend: float = option(
        -1.0, "share of noise in the start, 0 to 1; -1: 0 with --initial, else 1", low=-1, high=1
    )
    seed: int = option(0, "of the noise", low=0, high=2**31 - 1)

    content_layers: Tuple[str, ...] = option(
        ("relu4_2", "relu5_2"), "layers of the content loss, one or two, see the blend"
    )
    content_weight_blend: float = option(
        1.0, "weight of the first content layer, the second has the rest", low=0, high=1
    )
    style_layers: Tuple[str, ...] = option(
        ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"), "layers of the style loss"
    )
    style_layer_weight_exp: float = option(
        1.0, "each style layer's weight is the one's before it times this", low=0, high=1000
    )
    style_blend_weights: Tuple[float, ...] = option(
        (), "weight of each style, made to sum to 1; without, equal", low=0
    )
    style_scales: Tuple[float, ...] = option(
        (), "width of each style over that of the output; without, 1", low=0.01
    )
    style_masks: Tuple[str, ...] = option(
        (), "a grey picture per style, white where the output takes that style", may_change=True
    )
    content_weight: float = option(5.0, "weight of the content loss", low=0)
    style_weight: float = option(500.0, "weight of the style loss", low=0)
    tv_weight: float = option(100.0, "weight of the total variation loss", low=0)
    pooling: str = option("max", "max, or avg as the paper prefers", choices=("max", "avg"))
    preserve_colors: bool = option(False, "keep the content's colours", may_change=True)
    legacy_transposed_kernels: bool = option(
        False, "read kernels with height and width swapped, as the reference code does"
    )
    channel_order: str = option(
        "auto",
        "of the network file; auto: bgr for .npy, else rgb",
        choices=("auto", "rgb", "bgr"),
    )
    allow_pickle: bool = option(
        False, "read a network that is a Python pickle, which can run code", may_change=True
    )

    optimizer: str = option("adam", "adam, or the paper's lbfgs", choices=("adam", "lbfgs"))
    learning_rate: float = option(10.0, "Adam's step size, in grey levels", low=0)
    beta1: float = option(0.9, "Adam's first momentum term", low=0, high=0.999999)
    beta2: float = option(0.999, "Adam's second momentum term", low=0, high=0.999999)
    eps: float = option(1e-8, "Adam's epsilon", low=1e-30, aliases=("epsilon",))
    strips: str = option(
        "auto",
        "compute the two largest blocks in strips: half of the memory, a third slower",
        choices=("auto", "on", "off"),
    )
    batch_size: int = option(1, "pictures per step", low=1, high=1)

    video: bool = option(
        False, "the pictures are frames: each starts from the result before it", may_change=True
    )
    print_iterations: int = option(
        10, "steps between lines with the losses; 0 is never", low=0, may_change=True
    )
    checkpoint_output: str = option(
        "", "pictures on the way, with {} or %d for the step: way/{}.jpg", may_change=True
    )
    checkpoint_iterations: int = option(
        0, "steps between pictures on the way", low=0, may_change=True
    )
    save_iterations: int = option(
        100, "steps between saved states; 0 saves the end only; lbfgs begins anew there", low=0
    )
    continue_train: bool = option(
        False, "go on where a stopped run of the same output ended", may_change=True
    )
    progress_write: bool = option(False, "write progress.txt beside the output", may_change=True)
    progress_plot: bool = option(False, "write progress.png beside the output", may_change=True)

    def __post_init__(self):
        """Checks the options that depend on each other."""
        for name in ("content_layers", "style_layers"):
            unknown = [layer for layer in getattr(self, name) if layer not in LAYERS]
            if unknown:
                text = "--%s %s: VGG-19 has the layers %s"
                raise ValueError(text % (name, " ".join(unknown), " ".join(LAYERS)))
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                text = "--%s %s: name each layer once"
                raise ValueError(text % (name, " ".join(getattr(self, name))))
        if len(self.content_layers) > 2:
            text = "--content_layers %s: one or two, which --content_weight_blend weighs"
            raise ValueError(text % " ".join(self.content_layers))
        for name in ("style_blend_weights", "style_scales", "style_masks"):
            count, wanted = len(getattr(self, name)), len(self.styles)
            if count and wanted and count != wanted:
                text = "--%s has %d values and there are %d --styles; give one for each style"
                raise ValueError(text % (name, count, wanted))
        if self.style_blend_weights and sum(self.style_blend_weights) == 0:
            raise ValueError("--style_blend_weights: one must be above 0")
        if list(self.scales) != sorted(set(self.scales)):
            text = "--scales %s: each must be above the one before"
            raise ValueError(text % " ".join(map(str, self.scales)))
        if self.scales and self.width:
            raise ValueError("--width and --scales: the last of --scales is the width; give one")
        if len(self.iterations) not in (1, max(1, len(self.scales))):
            text = "--iterations has %d values; give one, or one for each of the %d --scales"
            raise ValueError(text % (len(self.iterations), len(self.scales)))
        if -1 < self.initial_noiseblend < 0:
            text = "--initial_noiseblend %s: it must be in 0..1, or -1"
            raise ValueError(text % self.initial_noiseblend)
        if bool(self.checkpoint_output) != bool(self.checkpoint_iterations):
            raise ValueError("--checkpoint_output and --checkpoint_iterations: give both or none")
        if self.checkpoint_output:
            checkpoint_name(self.checkpoint_output, 0)
        if (self.progress_write or self.progress_plot) and not self.print_iterations:
            text = "--print_iterations 0 leaves nothing for --progress_write and --progress_plot"
            raise ValueError(text + "; give a period")

    @property
    def loss_weights(self) -> dict:
        """{loss in the log: its weight in the total}."""
        weights = {"content": self.content_weight, "style": self.style_weight}
        return dict(weights, tv=self.tv_weight)

    @property
    def losses_are_weighted(self) -> bool:
        """Whether the log's losses have their weights in them."""
        return True

    @property
    def steps(self) -> Tuple[int, ...]:
        """The steps of each of `scales`; one number without any."""
        return self.iterations * (max(1, len(self.scales)) if len(self.iterations) == 1 else 1)


def checkpoint_name(pattern: str, step: int) -> str:
    """Returns the name of the picture after `step`: `pattern` with {} or %d filled in.

    Raises:
      ValueError: if there is no place for the step in `pattern`, or another one as well, or if it
        has not the ending of a picture.
    """
    try:
        name = pattern.format(step) if "{" in pattern else pattern % step
    except (TypeError, ValueError, LookupError, AttributeError):
        name = pattern
    if name == pattern or not name.lower().endswith(EXTENSIONS):
        text = "--checkpoint_output %s: it needs {} or %%d where the step goes, and the ending of a"
        raise ValueError((text + " picture, such as way/{}.jpg") % pattern)
    return name
