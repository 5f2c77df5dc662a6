# SPDX-License-Identifier: Apache-2.0
"""Neural style with a file of VGG-19.

Request: "picture", "style", "folder", "iterations", "width", "every" steps a preview, "from_noise",
"style_weight", "tv_weight".
"""

import os

import tensorflow.compat.v1 as tf

from stylize import data
from stylize.config import Config
from stylize.memory import choose_strips
from stylize.training import optimise, used_layers
from stylize.weights import available, read_network
from tf_runtime.device import choose
from tools.demo.workers.protocol import read_picture, write_picture


def open_model(weights: str):
    """Returns the model; see `tools.demo.workers`."""
    network = read_network(weights)
    content, style = usable_layers(available(network))

    def answer(request, report):
        folder, every = request["folder"], request["every"]
        config = Config(
            content_layers=content,
            style_layers=style,
            iterations=(request["iterations"],),
            style_weight=request["style_weight"],
            tv_weight=request["tv_weight"],
            initial_noiseblend=1.0 if request["from_noise"] else 0.0,
            checkpoint_output="{}.png",
            checkpoint_iterations=every,
            print_iterations=0,
            save_iterations=0,
            report=False,
        )
        device = choose(config)
        pictures = data.Pictures(
            read_picture(request["picture"]), [read_picture(request["style"])], [], None
        )
        sizes = data.sizes_at(pictures, request["width"], ())
        sized = data.at_width(pictures, request["width"], ())
        layers = tuple(list(weights) for weights in used_layers(config))
        strips = choose_strips(config, *sizes, layers=layers, device=device)

        def preview(image, step):
            pixels = data.to_uint8(image, network.mean_pixel)
            path = write_picture(folder, "preview-%06d" % (step or 0), pixels)
            report(preview=path, step=step or 0)
            return pixels, path

        place = os.path.join(folder, "run")
        with tf.Graph().as_default():
            words = (config, network, sized, request["iterations"], place, device, strips, preview)
            outcome = optimise(*words)
        best = data.to_uint8(outcome.best, network.mean_pixel)
        return {
            "before": write_picture(folder, "before", sized.content),
            "after": write_picture(folder, "after", best),
            "stopped": outcome.asked_to_stop,
            "layers": " ".join(content + style),
        }

    return answer


def usable_layers(layers):
    """Returns (content layers, style layers): the defaults as far as the network has them.

    A network that ends before relu4_2 keeps the content by its last layer.
    """
    config = Config()
    content = tuple(name for name in config.content_layers[:1] if name in layers)
    last = [name for name in layers if name.startswith("relu")][-1]
    style = tuple(name for name in config.style_layers if name in layers)
    return content or (last,), style or (last,)
