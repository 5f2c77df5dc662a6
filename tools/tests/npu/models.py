# SPDX-License-Identifier: Apache-2.0
"""Trains the TensorFlow models on drawn data with the double of npu_bridge, as a person would."""

import glob
import importlib.util
import json
import os
import subprocess
import sys
from typing import NamedTuple, Tuple

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
SECONDS = 900


class Model(NamedTuple):
    """One model and how it trains for a few seconds.

    Attributes:
      folder: its folder.
      program: what trains.
      words: options of a tiny training on the data in data/ that saves and logs every step.
      steps: the option of the number of steps.
      resume: the option that goes on after the newest checkpoint.
      optimizers: {scope of an optimiser: first words of the names of what it trains}.
      use: the program and options that make pictures with what was trained, but for neural style.
      made: pattern of these pictures.
    """

    folder: str
    program: str
    words: Tuple[str, ...]
    steps: str
    resume: str
    optimizers: dict
    use: Tuple[str, ...] = ()
    made: str = ""


MODELS = {
    "pix2pix": Model(
        "Pix2Pix_ID0359_for_TensorFlow",
        "main.py",
        ("--phase=train", "--data_path=data", "--ngf=4", "--ndf=4", "--batch_size=1")
        + ("--print_freq=1", "--save_latest_freq=1", "--sample_freq=0"),
        "--train_steps",
        "--continue_train",
        {"discriminator_train": "discriminator/", "generator_train": "generator/"},
        ("main.py", "--phase=test", "--data_path=data", "--ngf=4", "--ndf=4", "--test_dir=made"),
        "made/**/*.png",
    ),
    "stargan": Model(
        "StarGAN_ID1472_for_TensorFlow",
        "main.py",
        ("--data_path=data", "--image_size=32", "--d_repeat_num=3", "--g_conv_dim=4")
        + ("--d_conv_dim=4", "--g_repeat_num=1", "--batch_size=2", "--d_train_repeat=1")
        + ("--selected_attrs", "Black_Hair", "Blond_Hair", "Male", "--save_steps=0")
        + ("--summary_steps=1", "--checkpoint_steps=1"),
        "--training_iterations",
        "--continue_train",
        {"discriminator_train": "D/", "generator_train": "G/"},
        ("main.py", "--phase=test", "--data_path=data", "--batch_size=2"),
        "model_output/results/generates/*.jpg",
    ),
    "whitebox": Model(
        "WhiteBox_Cartoonization_for_TensorFlow",
        "train_code/train.py",
        ("--data_path=data", "--output_path=out", "--patch_size=16", "--batch_size=1")
        + ("--superpixels=8", "--superpixel_workers=1", "--d_width=4", "--subjects=scenery")
        + ("--pretrained=data/start", "--log_steps=1", "--save_steps=1", "--image_steps=0"),
        "--total_iter",
        "--continue_train",
        {"generator_train": "generator/", "discriminator_train": "discriminator"},
        ("test_code/cartoonize.py", "--output_path=out", "--input=data/dataset/face_photo"),
        "out/cartoonized_scenery/*.*g",
    ),
    "neural_style": Model(
        "NEURAL-STYLE_ID2068_for_TensorFlow",
        "neural_style.py",
        ("--content=data/1-content.jpg", "--styles=data/1-style.jpg", "--output=out.png")
        + ("--network=data/imagenet-vgg-verydeep-19.mat", "--print_iterations=1")
        + ("--save_iterations=1",),
        "--iterations",
        "--continue_train",
        {"adam": "image"},
    ),
}


class Done(NamedTuple):
    """A finished training.

    Attributes:
      status: its exit status.
      printed: what it printed, standard output and errors.
      calls: what was recorded.
    """

    status: int
    printed: str
    calls: list

    def of(self, ending: str) -> list:
        """Returns the recorded calls that a model made whose names end so, in their order."""
        return [c for c in self.calls if c["call"].endswith(ending) and c["depth"] == 0]


def drawing(model: Model):
    """Returns the module of a model folder that draws its test data."""
    before = list(sys.path)
    path = os.path.join(ROOT, model.folder, "test", "conftest.py")
    spec = importlib.util.spec_from_file_location("drawing_" + model.folder[:4], path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


def draw(name: str, folder) -> None:
    """Draws the data of a model in data/ of `folder`, a pathlib path."""
    draws, data = drawing(MODELS[name]), folder / "data"
    if name == "pix2pix":
        draws.draw_set(data)
    elif name == "stargan":
        draws.draw_celeba(data)
    elif name == "whitebox":
        draws.draw_data(data)
        draws.write_vgg(data / "dataset" / "vgg19_no_fc.npz")
        done = pretrain(folder, "master")
        if done.status:
            raise RuntimeError(done.printed)
    else:
        draws.draw_data(data)


def link_data(drawn, folder) -> None:
    """Makes what `draw` made in the folder `drawn` the data of another folder; pathlib paths."""
    (folder / "data").symlink_to(drawn / "data")


def environment(release: str, folder, **more) -> dict:
    """Returns the environment of a training with the double that records in `folder`."""
    left_out = (
        "CM_WORKER_SIZE",
        "CM_CHIEF_IP",
        "RANK_ID",
        "RANK_SIZE",
        "JOB_ID",
        "DEVICE_ID",
        "ASCEND_DEVICE_ID",
        "AOE_MODE",
        "RANK_TABLE_FILE",
    )
    variables = {key: value for key, value in os.environ.items() if key not in left_out}
    record = os.path.join(str(folder), "calls.jsonl")
    variables.update(PYTHONPATH=HERE, NPU_BRIDGE_RELEASE=release, NPU_BRIDGE_RECORD=record)
    return dict(variables, **more)


def run(command, folder, variables) -> Done:
    """Runs a command in `folder`; what it records is new in calls.jsonl."""
    record = variables["NPU_BRIDGE_RECORD"]
    if os.path.exists(record):
        os.remove(record)
    done = subprocess.run(
        [str(word) for word in command],
        cwd=str(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=variables,
        timeout=SECONDS,
        check=False,
    )
    calls = []
    if os.path.exists(record):
        with open(record, encoding="utf-8") as file:
            calls = [json.loads(line) for line in file]
    return Done(done.returncode, done.stdout, calls)


def train(name: str, folder, release: str, steps: int, *words, **variables) -> Done:
    """Trains a model on the data that `draw` has drawn in `folder`.

    Args:
      name: of MODELS.
      folder: pathlib path.
      release: of npu_bridge.
      steps: number of the last step.
      words: further options.
      variables: further environment.
    """
    model = MODELS[name]
    command = [sys.executable, os.path.join(ROOT, model.folder, model.program)]
    command += list(model.words) + ["--device=npu", "%s=%d" % (model.steps, steps)]
    return run(command + list(words), folder, environment(release, folder, **variables))


def use(name: str, folder, release: str) -> Done:
    """Makes pictures with what `train` has trained in `folder`."""
    model = MODELS[name]
    command = [sys.executable, os.path.join(ROOT, model.folder, model.use[0])]
    words = ["--device=npu"] + list(model.use[1:])
    return run(command + words, folder, environment(release, folder))


def pretrain(folder, release: str) -> Done:
    """Pretrains White-box's generator for a step; leaves it in data/start of `folder`."""
    model = MODELS["whitebox"]
    program = os.path.join(ROOT, model.folder, "train_code", "pretrain.py")
    words = ["--device=npu", "--total_iter=1"] + [w for w in model.words if "ize=" in w]
    words += ["--data_path=data", "--output_path=first", "--subjects=scenery"]
    done = run([sys.executable, program] + words, folder, environment(release, folder))
    for path in glob.glob(
        os.path.join(str(folder), "first", "pretrain", "saved_models", "model-1.*")
    ):
        ending = os.path.basename(path)[len("model-1") :]
        os.rename(path, os.path.join(str(folder), "data", "start" + ending))
    return done


def checkpoint(folder, step: int) -> dict:
    """Returns {name: array} of the training's checkpoint after `step` somewhere below `folder`."""
    import tensorflow.compat.v1 as tf

    pattern = os.path.join(str(folder), "**", "*-%d.index" % step)
    paths = [path[: -len(".index")] for path in glob.glob(pattern, recursive=True)]
    readers = [tf.train.NewCheckpointReader(path) for path in paths]
    (reader,) = [one for one in readers if one.has_tensor("global_step")]  # of weights: without
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
