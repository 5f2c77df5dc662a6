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
FOLDER = ROOT / "Pix2Pix_ID0359_for_TensorFlow"
PYTHONS = {name: os.environ.get(name + "_PYTHON") for name in ("TF1", "TF2")}

WRITE = """
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
READ = """
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


@pytest.mark.skipif(not all(PYTHONS.values()), reason="needs both TensorFlow versions")
@pytest.mark.parametrize(("writer", "reader"), [("TF1", "TF2"), ("TF2", "TF1")])
def test_a_frozen_graph_gives_the_sessions_output_under_the_other_version(tmp_path, writer, reader):
    for python, code in ((PYTHONS[writer], WRITE), (PYTHONS[reader], READ)):
        command = [python, "-c", code, str(FOLDER), str(tmp_path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    session = np.load(tmp_path / "session.npz")["output"]
    graph = np.load(tmp_path / "graph.npz")["output"]
    assert session.std() > 0.01
    assert np.abs(session - graph).max() <= 1e-4
