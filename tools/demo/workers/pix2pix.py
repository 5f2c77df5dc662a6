# SPDX-License-Identifier: Apache-2.0
"""Pix2Pix with a checkpoint or a .pb. Request: "picture", "folder", "own_size"."""

import dataclasses

from pix2pix import data, serving
from pix2pix.config import Config
from tf_runtime.device import choose
from tools.demo.workers.protocol import read_picture, write_picture


def open_model(weights: str):
    """Returns the model; see `tools.demo.workers`."""
    config = Config()
    if weights.endswith(".pb"):
        graph = serving.read_graph(weights)
        sizes = [n.attr["shape"].shape.dim for n in graph.node if n.name == serving.INPUT]
        channels = sizes[0][3].size if sizes and len(sizes[0]) == 4 else config.input_nc
        config = dataclasses.replace(config, input_nc=channels)
        translator = serving.GraphTranslator(weights, choose(config))
    else:
        checkpoint = serving.find_checkpoint(dataclasses.replace(config, checkpoint=weights))
        config = serving.trained_config(config, set(), checkpoint)
        translator = serving.CheckpointTranslator(config, checkpoint, choose(config))
    translate = translator.__enter__()  # for as long as the worker lives

    def answer(request, _):
        pixels = read_picture(request["picture"], config.input_nc)
        if not request["own_size"]:
            pixels = data.resize(pixels, config.fine_size, config.fine_size)
        made = data.to_uint8(serving.translate_picture(translate, data.to_float(pixels)))
        folder = request["folder"]
        return {
            "before": write_picture(folder, "before", pixels),
            "after": write_picture(folder, "after", made),
        }

    return answer
