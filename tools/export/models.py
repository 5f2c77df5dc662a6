# SPDX-License-Identifier: Apache-2.0
"""The TensorFlow models as an export sees them: the trained network, its nodes, its pictures.

Every class offers the same. A run is described by a feed, {input node: float32 [N, ...]}.
"""

import dataclasses
import os
from typing import Dict, List, Tuple

import numpy as np
from PIL import Image

from harness.errors import UserError
from harness.images import list_images, read_image
from harness.options import option
from tools.folders import model_folders

Feed = Dict[str, np.ndarray]
BATCH = 4  # pictures of one size that are compared together
MAX_SIDE = 720  # White-box: the shorter side of larger pictures, as its published scripts have it


class Pix2Pix:
    """`input` [N, H, W, C] -> `output`: multiples of 256.

    Args:
      options: of the export.
      config: the model's own.
      given: names of those that were given.

    Attributes:
      inputs: names of the input nodes.
      output: name of the output node.
      channels: of the pictures it takes.
      has_labels: whether write_pb writes .pb.json, which names the labels, too.
      drawn: (height, width) of the pictures that are drawn where none are given.
    """

    multiple, has_labels = 256, False
    drawn = ((256, 256), (256, 256), (256, 512))

    def __init__(self, options, config, given):
        from pix2pix import data, serving

        _check_size(options.size, self.multiple)
        config = dataclasses.replace(config, checkpoint=_existing(options.ckpt))
        self.checkpoint = serving.find_checkpoint(config)
        self._config = serving.trained_config(config, given, self.checkpoint)
        self._size, self._data, self._serving = options.size, data, serving
        self.inputs, self.output = [serving.INPUT], serving.OUTPUT
        self.channels = self._config.input_nc

    @staticmethod
    def config_class():
        """Returns the dataclass of the model's own options."""
        from pix2pix.config import Config

        return Config

    @property
    def shapes(self) -> Dict[str, List[int]]:
        """The shapes of one picture's feed, for compilers that want them whole."""
        side = self._size or self._config.fine_size
        return {self.inputs[0]: [1, side, side, self.channels]}

    def build(self, session) -> None:
        """Adds the network that was trained to the default graph and loads its weights."""
        from tf_runtime.checkpoints import restore

        self._serving.build_inference(self._config)
        restore(session, self.checkpoint, _variables("generator"))

    def write_pb(self, path: str) -> None:
        """Writes what the folder's own frozen_graph.py does."""
        self._serving.export(self._config, self.checkpoint, path)

    def feeds(self, pictures: List[np.ndarray]) -> List[Feed]:
        """Returns the feeds of uint8 pictures [H, W, C]: the first alone, then all in batches."""
        return _batches([self._prepare(pixels) for pixels in pictures], self.inputs[0])

    def _prepare(self, pixels):
        if self._size:
            pixels = self._data.resize(pixels, self._size, self._size)
        rows, columns = (-side % self.multiple for side in pixels.shape[:2])
        padded = np.pad(pixels, [(0, rows), (0, columns), (0, 0)], "symmetric")
        return self._data.to_float(padded)


class StarGan:
    """`x_real` [N, S, S, 3], `c_trg` [N, L] -> `G/Tanh`: pictures of the training's size.

    See Pix2Pix.
    """

    channels, has_labels = 3, True
    drawn = ((218, 178),) * 3

    def __init__(self, options, config, given):
        from stargan import data, serving

        config = dataclasses.replace(config, checkpoint=_existing(options.ckpt))
        self.checkpoint = serving.find_checkpoint(config)
        self._config, self._sources = serving.load_training(config, given, self.checkpoint)
        side = self._config.image_size
        if options.size not in (0, side):
            text = "--size %d: this network takes pictures of %d pixels, those of its training; "
            raise UserError((text + "leave the option out") % (options.size, side))
        self._data, self._serving = data, serving
        self.inputs, self.output = [serving.IMAGES, serving.LABELS], serving.OUTPUT

    @staticmethod
    def config_class():
        """Returns the dataclass of the model's own options."""
        from stargan.config import Config

        return Config

    @property
    def shapes(self) -> Dict[str, List[int]]:
        """The shapes of one picture's feed, for compilers that want them whole."""
        side, width = self._config.image_size, self._serving.label_width(self._sources)
        return dict(zip(self.inputs, ([1, side, side, 3], [1, width])))

    def build(self, session) -> None:
        """Adds the network that was trained to the default graph and loads its weights."""
        from tf_runtime.checkpoints import restore

        self._serving.build_inference(self._config, self._sources)
        restore(session, self.checkpoint, _variables("G/"))

    def write_pb(self, path: str) -> None:
        """Writes what the folder's own frozen_graph.py does: the .pb, and .pb.json beside it."""
        self._serving.export(self._config, self._sources, self.checkpoint, path)

    def feeds(self, pictures: List[np.ndarray]) -> List[Feed]:
        """Returns the first picture with one target, then every picture with each of them."""
        from stargan.targets import default_targets, labels_for

        sources = self._sources
        own = np.zeros([1, len(sources[0].names)], np.float32)  # what they show is not known
        labels = [labels_for(target, sources, 0, own) for target in default_targets(sources)]
        labels, feeds = np.concatenate(labels), []
        for pixels in pictures:
            prepared = self._data.prepare(pixels, sources[0].kind, self._config)
            images = np.stack([self._data.to_float(prepared)] * len(labels))
            feeds.append(dict(zip(self.inputs, (images, labels))))
        return [{name: values[:1] for name, values in feeds[0].items()}] + feeds


@dataclasses.dataclass(frozen=True)
class WhiteBoxOptions:
    """White-box Cartoonization."""

    smooth: float = option(5e-3, "epsilon of the guided filter; 0 leaves the filter out", low=0)


class WhiteBox:
    """`input` [N, H, W, 3] -> `add_1`: BGR, multiples of 4, with the guided filter.

    See Pix2Pix.
    """

    channels, multiple, has_labels = 3, 4, False
    drawn = ((256, 256), (256, 256), (192, 320))

    def __init__(self, options, config, given):
        from whitebox import data, pictures, serving
        from whitebox.generators import read_generator

        _check_size(options.size, self.multiple)
        self.checkpoint, self._smooth = options.ckpt, config.smooth
        self._arrays = read_generator(self.checkpoint)
        self._size, self._data, self._serving = options.size, data, serving
        self._shrink = pictures.shrink
        self.inputs, self.output = [serving.INPUT], serving.OUTPUT

    @staticmethod
    def config_class():
        """Returns the dataclass of the model's own options."""
        return WhiteBoxOptions

    @property
    def shapes(self) -> Dict[str, List[int]]:
        """The shapes of one picture's feed, for compilers that want them whole."""
        side = self._size or 256
        return {self.inputs[0]: [1, side, side, 3]}

    def build(self, session) -> None:
        """Adds the network that was trained to the default graph and loads its weights."""
        self._serving.build_inference(None, self._smooth)
        self._serving.assign(session, self._arrays)

    def write_pb(self, path: str) -> None:
        """Writes what the folder's own ckpt2pb.py does."""
        from whitebox import exporting

        exporting.export(self.checkpoint, path, self._size, self._smooth)

    def feeds(self, pictures: List[np.ndarray]) -> List[Feed]:
        """Returns the feeds of uint8 pictures [H, W, 3]: the first alone, then all in batches."""
        return _batches([self._prepare(pixels) for pixels in pictures], self.inputs[0])

    def _prepare(self, pixels):
        image = self._shrink(Image.fromarray(pixels), MAX_SIDE)
        if self._size:
            image = image.resize((self._size, self._size), Image.BICUBIC)
        return self._data.to_float(self._serving.pad(np.asarray(image)[np.newaxis])[0])


MODELS = {"pix2pix": Pix2Pix, "stargan": StarGan, "whitebox": WhiteBox}  # by their packages


def find_model(folder: str):
    """Returns the class for a model folder.

    Raises:
      UserError: if the folder has no TensorFlow network to export.
    """
    for package, model in MODELS.items():
        if os.path.isdir(os.path.join(folder, package)):
            return model
    name = os.path.basename(folder)
    if name.endswith("MindSpore"):
        text = "--model %s is a model for MindSpore; export it with tools/export/ckpt_to_mindir.py"
        raise UserError(text % name)
    others = [n for n in model_folders() if n != name and n.endswith("TensorFlow")]
    text = "--model %s has no network to export, it optimises each picture; choose one of %s"
    raise UserError(text % (name, ", ".join(others)))


def comparison_pictures(folder: str, model, count: int) -> Tuple[List[np.ndarray], str]:
    """Returns (uint8 pictures [H, W, C], words that say where they are from).

    They are the first `count` of `folder`, or without a folder smooth random ones.

    Raises:
      UserError: if the folder is missing, or has no picture or one that cannot be read.
    """
    if folder:
        paths = list_images(folder)[:count]
        return [read_image(path, model.channels) for path in paths], "%d pictures of %s" % (
            len(paths),
            os.path.abspath(folder),
        )
    rng, pictures = np.random.RandomState(0), []
    for height, width in model.drawn:
        noise = Image.fromarray(rng.randint(0, 256, (9, 9, 3)).astype(np.uint8))
        pixels = np.asarray(noise.resize((width, height), Image.BICUBIC))
        pictures.append(np.ascontiguousarray(pixels[:, :, : model.channels]))
    return pictures, "%d smooth random pictures, seed 0" % len(pictures)


def _existing(checkpoint) -> str:
    """Returns `checkpoint` if its .index is there; raises UserError if not."""
    name = checkpoint[: -len(".index")] if checkpoint.endswith(".index") else checkpoint
    if not os.path.isfile(name + ".index"):
        text = "--ckpt %s: there is no %s.index; give a checkpoint, such as RUN/model-200000"
        raise UserError(text % (checkpoint, name))
    return name


def _check_size(size, multiple) -> None:
    if size % multiple:
        text = "--size %d: it must be a multiple of %d, or 0 for any"
        raise UserError(text % (size, multiple))


def _variables(scope):
    import tensorflow.compat.v1 as tf

    return tf.global_variables(scope)


def _batches(pictures, name) -> List[Feed]:
    feeds, batch = [{name: pictures[0][np.newaxis]}], []
    for picture in pictures:
        if batch and (batch[0].shape != picture.shape or len(batch) == BATCH):
            feeds.append({name: np.stack(batch)})
            batch = []
        batch.append(picture)
    return feeds + [{name: np.stack(batch)}]
