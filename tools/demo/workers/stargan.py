# SPDX-License-Identifier: Apache-2.0
"""StarGAN with a checkpoint or a .pb. Request: "picture", "folder", "labels" that are 1."""

import dataclasses

import numpy as np

from harness.errors import UserError
from stargan import data, serving
from stargan.config import Config
from stargan.labels import encode
from tf_runtime.device import choose
from tools.demo.workers.protocol import read_picture, write_picture


def open_model(weights: str):
    """Returns the model; see `tools.demo.workers`."""
    config = Config(batch_size=1)
    if weights.endswith(".pb"):
        config, sources = serving.load_export(config, set(), weights)
        kind = serving.GraphTranslator
    else:
        checkpoint = serving.find_checkpoint(dataclasses.replace(config, checkpoint=weights))
        config, sources = serving.load_training(config, set(), checkpoint)
        weights, kind = checkpoint, serving.CheckpointTranslator
    translate = kind(config, sources, weights, choose(config)).__enter__()  # while the worker lives

    def answer(request, _):
        number, labels = wanted(sources, request["labels"])
        pixels = data.prepare(read_picture(request["picture"]), sources[number].kind, config)
        made = translate(data.to_float(pixels)[np.newaxis], encode(sources, number, labels))[0]
        folder = request["folder"]
        return {
            "before": write_picture(folder, "before", pixels),
            "after": write_picture(folder, "after", data.to_uint8(made)),
        }

    return answer


def wanted(sources, names):
    """Returns (number of the data set that has the labels `names`, float32 [1, L] with those at 1).

    Raises:
      UserError: if there is no such label, or they are of several data sets or classes.
    """
    owners = {i for i, source in enumerate(sources) for name in names if name in source.names}
    known = [name for source in sources for name in source.names]
    unknown = [name for name in names if name not in known]
    if unknown or len(owners) > 1:
        text = "%s: these weights were not trained with that; there are %s, choose the weights anew"
        raise UserError(text % (", ".join(unknown or names), ", ".join(known)))
    number = owners.pop() if owners else 0
    source = sources[number]
    if source.kind == "classes" and len(names) != 1:
        raise UserError("choose one of the classes %s" % ", ".join(source.names))
    values = [1 if name in names else 0 for name in source.names]
    return number, np.array([values], np.float32)
