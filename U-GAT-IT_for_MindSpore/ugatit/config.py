# SPDX-License-Identifier: Apache-2.0
"""Every option of U-GAT-IT, one line each; default_config.yaml holds the same keys and defaults."""

import dataclasses
import os

from harness.options import option
from harness.platform_options import CommonOptions

DEVICES = ("auto", "Ascend", "GPU", "CPU")
AUTO_PERIODS = {"epoch": (1, 10), "iteration": (1000, 100_000)}  # print_freq and save_freq of 0


@dataclasses.dataclass(frozen=True)
class Config(CommonOptions):
    """U-GAT-IT: the defaults are those of the paper (Kim et al. 2020)."""

    config_path: str = option(
        "",
        "YAML file of options; the command line goes first (default default_config.yaml)",
        may_change=True,
    )
    device: str = option(
        "auto",
        "auto takes the Ascend NPU, else the GPU, that this MindSpore has, else the CPU",
        choices=DEVICES + ("npu", "gpu", "cpu"),
        aliases=("device_target",),
        may_change=True,
    )
    device_id: int = option(
        -1, "number of the NPU or GPU; -1: $DEVICE_ID, else 0", low=-1, may_change=True
    )
    mode: str = option(
        "auto",
        "graph: the whole step is compiled; auto: on NPU and GPU, on a CPU it is slower",
        choices=("auto", "graph", "pynative"),
    )
    distributed: bool = option(
        False, "train with all ranks of msrun, mpirun or a rank table; RANK_SIZE > 1 says so too"
    )
    loss_scale: float = option(
        0.0,
        "scale of the losses before their gradients; 0: adapted in float16, none in float32",
        low=0,
    )
    save_graphs: bool = option(False, "write MindSpore's graphs to --graph_path", may_change=True)
    graph_path: str = option("graph_path", "folder of the graphs", may_change=True)
    profiling: bool = option(
        False, "profile the run", aliases=("enable_profiling",), may_change=True
    )

    enable_modelarts: bool = option(
        False,
        "copy --data_url and --checkpoint_url in, the results to --train_url",
        may_change=True,
    )
    data_url: str = option("", "ModelArts: folder or bucket of the data", may_change=True)
    train_url: str = option("", "ModelArts: folder or bucket of the results", may_change=True)
    checkpoint_url: str = option(
        "", "ModelArts: folder or bucket of earlier results", may_change=True
    )

    phase: str = option("train", "what to do", choices=("train", "test"), may_change=True)
    dataset: str = option("selfie2anime", "name of the data set and of its folder")
    data_path: str = option(
        "dataset", "folder that holds DATASET/{trainA,trainB,testA,testB}", may_change=True
    )
    output_path: str = option("results", "folder of everything written", may_change=True)
    load_path: str = option(
        "",
        "an earlier OUTPUT_PATH to go on from (--resume) or to evaluate; default: OUTPUT_PATH",
        aliases=("ckpt_path",),
        may_change=True,
    )

    epoch: int = option(100, "epochs to train", low=1, aliases=("train_epochs",), may_change=True)
    iteration: int = option(
        0, "steps to train instead; 0: --epoch", low=0, aliases=("train_steps",), may_change=True
    )
    repeats: int = option(3, "an epoch shows the larger domain so many times", low=1)
    batch_size: int = option(1, "pairs of pictures per step and device", low=1)
    freq_unit: str = option(
        "auto",
        "unit of --print_freq and --save_freq; auto: iteration where --iteration is given",
        choices=("auto", "epoch", "iteration"),
        may_change=True,
    )
    print_freq: int = option(
        0,
        "how often samples, latest weights and state are saved; 0: 1 epoch or 1000 iterations",
        low=0,
        may_change=True,
    )
    save_freq: int = option(
        0,
        "how often weights are saved that stay; 0: 10 epochs or 100000 iterations",
        low=0,
        may_change=True,
    )
    log_freq: int = option(
        50, "steps between log lines; 0 is never", low=0, aliases=("log_steps",), may_change=True
    )
    keep_checkpoints: int = option(
        2, "how many of the newest training states stay", low=2, may_change=True
    )
    lr: float = option(1e-4, "Adam's learning rate", low=0, aliases=("learning_rate",))
    decay_flag: bool = option(True, "let the learning rate fall linearly to zero at the end")
    decay_epoch: int = option(0, "epoch after which it falls; 0: the middle of the training", low=0)
    weight_decay: float = option(1e-4, "times each weight is added to its gradient", low=0)
    use_global_norm: bool = option(False, "clip the gradients of a step to a global norm of 1")
    resume: bool = option(
        False,
        "go on after the newest state, if there is one",
        aliases=("continue_train",),
        may_change=True,
    )
    seed: int = option(1, "of weights, order, flips and crops", low=0, high=2**31 - 1)

    adv_weight: float = option(1.0, "weight of the adversarial loss", low=0)
    cycle_weight: float = option(10.0, "weight of the cycle loss", low=0)
    identity_weight: float = option(10.0, "weight of the identity loss", low=0)
    cam_weight: float = option(1000.0, "weight of the class activation map loss", low=0)

    light: bool = option(
        False, "the light generator: its style comes from averages, 41 MB not 1 GB"
    )
    ch: int = option(64, "channels of the first layers", low=1)
    n_res: int = option(4, "residual blocks before and after the attention", low=1)
    n_dis: int = option(
        6,
        "layers of a discriminator: the global one has one more, the local one less",
        low=3,
        high=12,
    )
    img_size: int = option(256, "side of the pictures, pixels, a multiple of 4", low=16)
    img_ch: int = option(3, "channels of the pictures: 3 or 1 (grey)", low=1, high=3)
    variant: str = option(
        "paper",
        "pytorch or mindspore: compute as the published weights of that code expect",
        choices=("paper", "pytorch", "mindspore"),
    )
    amp_level: str = option(
        "auto",
        "O0: float32; O2: convolutions and dense layers in float16; auto: O2 on NPU and GPU",
        choices=("auto", "O0", "O2"),
    )

    direction: str = option(
        "both",
        "evaluation and export: which translation",
        choices=("both", "A2B", "B2A"),
        may_change=True,
    )
    input_dir: str = option(
        "", "evaluation: translate the pictures of this folder", may_change=True
    )
    checkpoint: str = option(
        "",
        "evaluation: number of the weights in OUTPUT_PATH/DATASET/model; default: latest",
        may_change=True,
    )
    compute_metrics: bool = option(
        False, "evaluation: measure the kernel Inception distance (KID)", may_change=True
    )
    inception: str = option(
        "",
        "evaluation: Inception weights for tools/fid; without: a named surrogate",
        aliases=("inception_ckpt_path",),
        may_change=True,
    )
    gen_a2b_ckpt: str = option(
        "",
        "evaluation and export: weights of A2B; default: the latest of OUTPUT_PATH/DATASET",
        aliases=("genA2B_ckpt",),
        may_change=True,
    )
    gen_b2a_ckpt: str = option(
        "",
        "evaluation and export: weights of B2A; default: the latest of OUTPUT_PATH/DATASET",
        aliases=("genB2A_ckpt",),
        may_change=True,
    )
    mindir_outdir: str = option(
        "./mindir_result",
        "export: folder of the files",
        aliases=("MINDIR_outdir",),
        may_change=True,
    )
    export_file_format: str = option(
        "MINDIR",
        "export: format; AIR needs an Ascend NPU",
        choices=("MINDIR", "ONNX", "AIR"),
        may_change=True,
    )
    bifile_inputdir: str = option(
        "./bifile_in", "preprocess.py: folder of the binary inputs it writes", may_change=True
    )
    bifile_outputdir: str = option(
        "./bifile_out", "postprocess.py: folder of the binary results it reads", may_change=True
    )
    eval_outputdir: str = option(
        "./infer_output_img", "postprocess.py: folder of the pictures it writes", may_change=True
    )

    def __post_init__(self):
        """Checks the options that depend on each other."""
        if self.img_size % 4:
            text = "--img_size %d: it must be a multiple of 4, such as %d"
            raise ValueError(text % (self.img_size, self.img_size // 4 * 4))
        if not self.output_path:
            raise ValueError("--output_path is empty; give a folder")
        if self.img_ch == 2:
            raise ValueError("--img_ch 2: it must be 1 (grey) or 3 (colour)")
        least = smallest_size(self.n_dis + 1)
        if self.phase == "train" and self.img_size < least:
            text = "--n_dis %d needs --img_size of at least %d, it is %d; lower --n_dis"
            raise ValueError(text % (self.n_dis, least, self.img_size))

    @property
    def continue_train(self) -> bool:
        """What the test scripts call `resume`."""
        return self.resume

    @property
    def folder(self) -> str:
        """The folder of this run: OUTPUT_PATH/DATASET."""
        return os.path.join(self.output_path, self.dataset)

    @property
    def loss_weights(self) -> dict:
        """{loss in the log: its weight in what the generators learn from}."""
        weights = {"adv_loss": self.adv_weight, "cycle_loss": self.cycle_weight}
        return dict(weights, identity_loss=self.identity_weight, cam_loss=self.cam_weight)

    @property
    def target(self) -> str:
        """The device as MindSpore calls it, or "auto"."""
        return {"npu": "Ascend", "gpu": "GPU", "cpu": "CPU"}.get(self.device, self.device)

    @property
    def unit(self) -> str:
        """What --print_freq and --save_freq count: "epoch" or "iteration"."""
        if self.freq_unit != "auto":
            return self.freq_unit
        return "iteration" if self.iteration else "epoch"

    def periods(self, steps_per_epoch: int):
        """Returns (steps between states, steps between weights that stay)."""
        length = steps_per_epoch if self.unit == "epoch" else 1
        given = (self.print_freq, self.save_freq)
        return tuple((n or auto) * length for n, auto in zip(given, AUTO_PERIODS[self.unit]))


def smallest_size(n_layers: int) -> int:
    """Returns the least picture side for a discriminator, whose last map must be 2 pixels wide."""
    # All but the last two layers halve the map, the one before the last takes a pixel.
    return max(16, -(-3 * 2 ** (n_layers - 2) // 4) * 4)
