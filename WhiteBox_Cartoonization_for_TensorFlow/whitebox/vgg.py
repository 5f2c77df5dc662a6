# SPDX-License-Identifier: Apache-2.0
"""VGG-19 up to conv4_4 (Simonyan and Zisserman, ICLR 2015), which compares pictures by content."""

from typing import Dict, Tuple

import numpy as np
import tensorflow.compat.v1 as tf

from tf_runtime import filtering
from whitebox.weights import LAYERS

MEAN = (103.939, 116.779, 123.68)  # of the pictures it was trained with: blue, green, red in 0..255


class Vgg:
    """The frozen network; no checkpoint holds its weights, no gradient is computed for them.

    Args:
      layers: {name: (kernel [3, 3, in, out], bias [out])} of LAYERS, from `weights.read_vgg`.
      minimal: compute convolutions by minimal filtering where it pays; float32 on a CPU.
    """

    def __init__(self, layers: Dict[str, Tuple[np.ndarray, np.ndarray]], minimal: bool = False):
        self._layers, self._minimal = layers, minimal
        self._feed, self._tensors, self._starts = {}, {}, []

    def load(self, session) -> None:
        """Gives the weights their values in `session`, after the graph was built."""
        session.run(self._starts, self._feed)
        self._feed = {}

    def _tensor(self, name, value):
        """Returns `value` as a tensor that is read from a variable outside the checkpoint."""
        if name not in self._tensors:
            start = tf.placeholder(tf.float32, value.shape)
            self._feed[start] = value
            variable = tf.Variable(start, trainable=False, collections=["vgg"])
            self._starts.append(variable.initializer)
            self._tensors[name] = tf.stop_gradient(variable.read_value())
        return self._tensors[name]

    def _convolve(self, x, name):
        kernel, bias = self._layers[name]
        if self._minimal and filtering.filtering_pays(*kernel.shape[2:]):
            kernel = self._tensor(name + "/filtered", filtering.filter_kernel(kernel))
            x = filtering.filter_lines(x, kernel)
        else:
            x = tf.nn.conv2d(x, self._tensor(name, kernel), [1, 1, 1, 1], "SAME")
        return tf.nn.bias_add(x, self._tensor(name + "/bias", bias))

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Returns what conv4_4 makes of `images`, before its ReLU.

        Args:
          images: float32 [N, H, W, 3] of known size, BGR in [-1, 1].

        Returns:
          [N, H / 8, W / 8, 512].
        """
        x = (images + 1.0) * 127.5 - tf.constant(MEAN)
        for name in LAYERS:
            if name.endswith("_1") and name != "conv1_1":
                x = tf.nn.max_pool(x, [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
            x = self._convolve(x, name)
            if name != LAYERS[-1]:
                x = tf.nn.relu(x)
        return x
