# SPDX-License-Identifier: Apache-2.0
"""A .pb written under one TensorFlow version gives the same pictures under the other.

TF1_PYTHON and TF2_PYTHON name the Pythons of the two environments; ci/test.sh sets them.
"""

import os
import pathlib
import subprocess

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PYTHONS = {name: os.environ.get(name + "_PYTHON") for name in ("TF1", "TF2")}

# Of each folder: a program that writes a .pb and what its session gives, and one that runs the .pb.
PIX2PIX_WRITE = """
import sys, numpy as np, tensorflow.compat.v1 as tf
sys.path.insert(0, sys.argv[1])
from pix2pix import serving
from pix2pix.config import Config
from tf_runtime.device import choose
place, config = sys.argv[2], Config(ngf=8, device="cpu", precision_mode="force_fp32")
device = choose(config)
with tf.Graph().as_default(), tf.Session() as session:
    serving.build_inference(config)
    session.run(tf.global_variables_initializer())
    tf.train.Saver().save(session, place + "/model-1", write_meta_graph=False)
serving.export(config, place + "/model-1", place + "/model.pb")
batch = np.random.RandomState(0).uniform(-1, 1, [2, 256, 512, 3]).astype(np.float32)
with serving.CheckpointTranslator(config, place + "/model-1", device) as translate:
    np.savez(place + "/session.npz", batch=batch, output=translate(batch))
"""
PIX2PIX_READ = """
import sys, numpy as np
sys.path.insert(0, sys.argv[1])
from pix2pix import serving
from pix2pix.config import Config
from tf_runtime.device import choose
place = sys.argv[2]
device = choose(Config(device="cpu", precision_mode="force_fp32"))
with serving.GraphTranslator(place + "/model.pb", device) as translate:
    np.savez(place + "/graph.npz", output=translate(np.load(place + "/session.npz")["batch"]))
"""
STARGAN_WRITE = """
import sys, numpy as np, tensorflow.compat.v1 as tf
sys.path.insert(0, sys.argv[1])
from stargan import serving
from stargan.config import Config
from tf_runtime.device import choose
place, config = sys.argv[2], Config(g_conv_dim=8, device="cpu", precision_mode="force_fp32")
device, sources = choose(config), serving.named_sources([{"kind": "celeba", "names": "abcde"}])
with tf.Graph().as_default(), tf.Session() as session:
    serving.build_inference(config, sources)
    session.run(tf.global_variables_initializer())
    tf.train.Saver().save(session, place + "/model-1", write_meta_graph=False)
serving.export(config, sources, place + "/model-1", place + "/model.pb")
rng = np.random.RandomState(0)
batch = rng.uniform(-1, 1, [3, 128, 128, 3]).astype(np.float32)
labels = rng.randint(0, 2, [3, 5]).astype(np.float32)
with serving.CheckpointTranslator(config, sources, place + "/model-1", device) as translate:
    np.savez(place + "/session.npz", batch=batch, labels=labels, output=translate(batch, labels))
"""
STARGAN_READ = """
import sys, numpy as np
sys.path.insert(0, sys.argv[1])
from stargan import serving
from stargan.config import Config
from tf_runtime.device import choose
place, config = sys.argv[2], Config(device="cpu", precision_mode="force_fp32")
stored = np.load(place + "/session.npz")
sources, device = serving.named_sources([{"kind": "celeba", "names": "abcde"}]), choose(config)
with serving.GraphTranslator(config, sources, place + "/model.pb", device) as translate:
    np.savez(place + "/graph.npz", output=translate(stored["batch"], stored["labels"]))
"""
WHITEBOX_WRITE = """
import sys, numpy as np, tensorflow.compat.v1 as tf
sys.path.insert(0, sys.argv[1])
from tf_runtime.device import choose
from whitebox import exporting, generators, serving
from whitebox.config import CartoonizeConfig
place, device = sys.argv[2], choose(CartoonizeConfig(device="cpu"))
rng = np.random.RandomState(0)
arrays = {n: rng.normal(0, 0.05, s) for n, s in generators.GENERATOR_SHAPES.items()}
generators.write_generator(place + "/generator.npz", arrays)
exporting.export(place + "/generator.npz", place + "/model.pb")
batch = rng.uniform(-1, 1, [2, 36, 52, 3]).astype(np.float32)
with tf.Graph().as_default(), tf.Session() as session:
    images, output = serving.build_inference()
    serving.assign(session, generators.read_generator(place + "/generator.npz"))
    output = session.run(output, {images: batch})
np.savez(place + "/session.npz", batch=batch, output=output)
"""
WHITEBOX_READ = """
import sys, numpy as np, tensorflow.compat.v1 as tf
sys.path.insert(0, sys.argv[1])
from tf_runtime.device import choose
from whitebox import serving
from whitebox.config import CartoonizeConfig
place, device = sys.argv[2], choose(CartoonizeConfig(device="cpu"))
stored = np.load(place + "/session.npz")
with tf.Graph().as_default(), tf.Session() as session:
    graph = serving.read_graph(place + "/model.pb")
    tensors = tf.import_graph_def(graph, return_elements=["input:0", "add_1:0"])
    np.savez(place + "/graph.npz", output=session.run(tensors[1], {tensors[0]: stored["batch"]}))
"""
PROGRAMS = {
    "Pix2Pix_ID0359_for_TensorFlow": (PIX2PIX_WRITE, PIX2PIX_READ),
    "StarGAN_ID1472_for_TensorFlow": (STARGAN_WRITE, STARGAN_READ),
    "WhiteBox_Cartoonization_for_TensorFlow": (WHITEBOX_WRITE, WHITEBOX_READ),
}


@pytest.mark.skipif(not all(PYTHONS.values()), reason="needs both TensorFlow versions")
@pytest.mark.parametrize("folder", PROGRAMS)
@pytest.mark.parametrize(("writer", "reader"), [("TF1", "TF2"), ("TF2", "TF1")])
def test_a_frozen_graph_gives_the_other_versions_output(tmp_path, writer, reader, folder):
    for name, code in zip((writer, reader), PROGRAMS[folder]):
        command = [PYTHONS[name], "-c", code, str(ROOT / folder), str(tmp_path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    session = np.load(tmp_path / "session.npz")["output"]
    graph = np.load(tmp_path / "graph.npz")["output"]
    assert session.std() > 0.01
    assert np.abs(session - graph).max() <= 1e-4
