# SPDX-License-Identifier: Apache-2.0
"""The generator with its guided filter as a file for other runtimes: .pb, .onnx, .tflite."""

import os
import sys

import tensorflow.compat.v1 as tf

from harness.errors import UserError
from harness.files import atomic_path
from whitebox import serving
from whitebox.generators import read_generator

ENDINGS = (".pb", ".onnx", ".tflite")
OPSET = 15  # of the .onnx


def export(weights: str, path: str, size: int = 0, smooth: float = 5e-3) -> None:
    """Writes the generator in `weights` as `path`, in the format that its ending names.

    Nodes: input [N, H, W, 3] -> add_1 [N, H, W, 3], float32, BGR in [-1, 1], any N. The weights of
    a .tflite are float16. Both TensorFlow versions read a .pb of either.

    Args:
      weights: a checkpoint, or an .npz of its variables.
      path: ends in one of ENDINGS.
      size: side of the pictures that it takes; 0 for any multiples of 4.
      smooth: epsilon of the guided filter; 0 leaves it out.

    Raises:
      UserError: if the weights cannot be read, or the format cannot have what was asked for.
    """
    if not path.endswith(ENDINGS):
        raise UserError("%s: an export ends in %s; choose one" % (path, ", ".join(ENDINGS)))
    if path.endswith(".tflite") and not size and tf.__version__.startswith("1."):
        text = "TensorFlow %s makes a .tflite of one size only; give --patch_size, such as 256"
        raise UserError(text % tf.__version__)
    arrays = read_generator(weights)
    cpu = tf.ConfigProto(device_count={"GPU": 0})
    with tf.Graph().as_default() as graph, tf.Session(graph=graph, config=cpu) as session:
        images, cartoons = serving.build_inference(size or None, smooth, protected=False)
        serving.assign(session, arrays)
        if path.endswith(".tflite"):
            content = _tflite(session, images, cartoons)
        else:
            frozen = _frozen(session)
            content = _onnx(frozen) if path.endswith(".onnx") else frozen.SerializeToString()
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(content)


def _frozen(session) -> tf.GraphDef:
    definition = session.graph.as_graph_def()
    frozen = tf.graph_util.convert_variables_to_constants(session, definition, [serving.OUTPUT])
    with tf.Graph().as_default():  # attributes with default values are what another version lacks
        stripped = tf.train.export_meta_graph(
            graph_def=frozen, strip_default_attrs=True, clear_devices=True
        )
    return stripped.graph_def


def _onnx(frozen) -> bytes:
    import tf2onnx

    model, _ = tf2onnx.convert.from_graph_def(
        frozen,
        input_names=[serving.INPUT + ":0"],
        output_names=[serving.OUTPUT + ":0"],
        opset=OPSET,
    )
    return model.SerializeToString()


def _tflite(session, images, cartoons) -> bytes:
    # 1.15 calls a program that lies beside Python.
    folders = [os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)]
    os.environ["PATH"] = os.pathsep.join(folders)
    converter = tf.lite.TFLiteConverter.from_session(session, [images], [cartoons])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    return converter.convert()
