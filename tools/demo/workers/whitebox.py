# SPDX-License-Identifier: Apache-2.0
"""White-box with a checkpoint, an .npz or a .pb. Request: "picture", "folder".

The answer is the whole cartoon; the page mixes it with the photo.
"""

import numpy as np

from tf_runtime.device import choose
from tools.demo.workers.protocol import read_picture, write_picture
from whitebox.config import CartoonizeConfig
from whitebox.serving import Cartoonizer


def open_model(weights: str):
    """Returns the model; see `tools.demo.workers`."""
    config = CartoonizeConfig()
    words = (config.smooth, config.strength, config.tile, 1)
    cartoonize = Cartoonizer(weights, choose(config), *words).__enter__()  # while the worker lives

    def answer(request, _):
        cartoon = cartoonize(read_picture(request["picture"])[np.newaxis])[0]
        return {"after": write_picture(request["folder"], "after", cartoon)}

    return answer
