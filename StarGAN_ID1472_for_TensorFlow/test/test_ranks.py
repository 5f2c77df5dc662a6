# SPDX-License-Identifier: Apache-2.0
"""Two ranks do what one does with twice the batch."""

import json
import os
import sys

import numpy as np
import tensorflow.compat.v1 as tf
from conftest import ATTRIBUTES, FOLDER, TINY

from harness.launch import launch

STEPS = 4
# Weight 0.1: where the sign of one pixel's L1 changes by rounding, the default 10 would be seen.
WORDS = TINY + ["--phase=train", "--training_iterations=%d" % STEPS, "--d_train_repeat=2"]
WORDS += ["--selected_attrs", *ATTRIBUTES, "--seed=3", "--threads=1", "--lambda_rec=0.1"]
WORDS += ["--save_steps=0"]


def _train(dataset, out, ranks):
    """Trains with 4 pictures a step in all, by main.py as its users start it."""
    words = WORDS + ["--batch_size=%d" % (4 // ranks), "--output_dir=%s" % out]
    command = [sys.executable, os.path.join(FOLDER, "main.py"), "--data_path=%s" % dataset]
    logs = [str(out / ("rank_%d.log" % rank)) for rank in range(ranks)]
    assert launch(command + words, logs) == 0, "see the output above"
    reader = tf.train.NewCheckpointReader(str(out / "checkpoint" / ("model-%d" % STEPS)))
    tensors = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    with (out / "checkpoint" / "log.jsonl").open() as file:
        return tensors, [json.loads(line) for line in file]


def _check_close(one, two):
    """Checks that the tensors agree within 1e-5; Adam turns rounding into steps here and there.

    Where a gradient is nothing but rounding, or jumps at 0, Adam's step may go either way.
    """
    assert set(one) == set(two)
    assert sum("Adam" in name for name in one) > 60
    apart = {name: np.abs(two[name] - value) > 1e-5 for name, value in one.items()}
    count, size = (sum(f(values) for values in apart.values()) for f in (np.sum, np.size))
    assert count <= size / 1000, {name: np.sum(values) for name, values in apart.items()}


def test_two_ranks_train_as_one_with_twice_the_batch(celeba, tmp_path):
    one, its_log = _train(celeba, tmp_path / "one", 1)
    two, their_log = _train(celeba, tmp_path / "two", 2)
    _check_close(one, two)
    # The losses are the mean over the ranks, not those of rank 0.
    for mine, theirs in zip(its_log, their_log):
        for name in mine:
            if "loss" in name:
                np.testing.assert_allclose(theirs[name], mine[name], 1e-4, 1e-6, err_msg=name)
