# SPDX-License-Identifier: Apache-2.0
"""Writes the smallest networks with random weights, through the folders' own code.

python tiny_models.py tensorflow|mindspore ROOT OUTPUT
"""

import json
import os
import sys


def tensorflow(root, output):
    """Writes pix2pix/, stargan/, whitebox.npz and vgg.mat."""
    folders = ["NEURAL-STYLE_ID2068_for_TensorFlow", "WhiteBox_Cartoonization_for_TensorFlow"]
    folders += ["StarGAN_ID1472_for_TensorFlow", "Pix2Pix_ID0359_for_TensorFlow"]
    sys.path[:0] = [os.path.join(root, name) for name in folders]
    sys.path.insert(1, os.path.join(root, folders[0], "test"))
    import numpy as np
    import tensorflow.compat.v1 as tf
    from conftest import write_mat  # neural style's

    from pix2pix import serving as pix2pix
    from pix2pix.config import Config as Pix2PixConfig
    from stargan import serving as stargan
    from stargan.config import Config as StarGanConfig
    from whitebox.generators import GENERATOR_SHAPES, write_generator

    tf.disable_v2_behavior()

    def save(build, folder, name, options):
        os.makedirs(os.path.join(output, folder))
        with tf.Graph().as_default(), tf.Session() as session:
            build()
            session.run(tf.global_variables_initializer())
            path = os.path.join(output, folder, name)
            tf.train.Saver().save(session, path, write_meta_graph=False, write_state=False)
        with open(os.path.join(output, folder, "config.json"), "w", encoding="utf-8") as file:
            json.dump({"options": options}, file)

    config = Pix2PixConfig(ngf=4)
    save(lambda: pix2pix.build_inference(config), "pix2pix", "pix2pix.model-3", {"ngf": 4})
    labels = [{"kind": "celeba", "names": ["Black_Hair", "Blond_Hair", "Male", "Young"]}]
    options = {"image_size": 64, "g_conv_dim": 4, "g_repeat_num": 1}
    config, sources = StarGanConfig(**options), stargan.named_sources(labels)
    save(lambda: stargan.build_inference(config, sources), "stargan", "model-3", options)
    with open(os.path.join(output, "stargan", "labels.json"), "w", encoding="utf-8") as file:
        json.dump(labels, file)
    rng = np.random.RandomState(0)
    arrays = {
        name: (rng.randn(*shape) * 0.03).astype(np.float32)
        for name, shape in GENERATOR_SHAPES.items()
    }
    write_generator(os.path.join(output, "whitebox.npz"), arrays)
    write_mat(os.path.join(output, "vgg.mat"))


def mindspore(root, output):
    """Writes ugatit/, a training's folder."""
    sys.path.insert(0, os.path.join(root, "U-GAT-IT_for_MindSpore"))
    from ugatit.config import Config
    from ugatit.networks import build_generator
    from ugatit.weights import write_weights

    options = {"light": True, "ch": 4, "n_res": 1, "img_size": 32}
    config = Config(phase="test", **options)
    folder = os.path.join(output, "ugatit")
    for name in ("genA2B", "genB2A"):
        path = os.path.join(folder, "tiny_%s_params_latest.ckpt" % name)
        write_weights(build_generator(config, name), path)
    os.makedirs(os.path.join(folder, "checkpoint"))
    with open(os.path.join(folder, "checkpoint", "config.json"), "w", encoding="utf-8") as file:
        json.dump({"options": options}, file)


if __name__ == "__main__":
    {"tensorflow": tensorflow, "mindspore": mindspore}[sys.argv[1]](*sys.argv[2:])
