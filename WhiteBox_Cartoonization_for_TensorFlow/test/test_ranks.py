# SPDX-License-Identifier: Apache-2.0
"""Two ranks do what one does with twice the batch, in the pretraining and after it."""

import json
import os
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import FOLDER, TINY, draw_data, write_vgg

from harness.launch import launch

STEPS = 3
# A small rate: Adam makes steps of noise where a gradient is next to nothing.
WORDS = TINY + ["--seed=3", "--threads=1", "--lr=2e-5", "--image_steps=0"]
WORDS += ["--pretrain_iter=%d" % STEPS, "--total_iter=%d" % STEPS]


def _train(dataset, out, ranks):
    """Pretrains and trains with 4 pictures a step in all, by train.py as its users start it."""
    words = WORDS + ["--batch_size=%d" % (4 // ranks), "--output_path=%s" % out]
    program = os.path.join(FOLDER, "train_code", "train.py")
    logs = [str(out / ("rank_%d.log" % rank)) for rank in range(ranks)]
    command = [sys.executable, program, "--data_path=%s" % dataset] + words
    assert launch(command, logs) == 0, "see the output above"


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The output folders of one rank and of two."""
    folder = tmp_path_factory.mktemp("both")
    dataset = draw_data(folder / "data")
    write_vgg(os.path.join(dataset, "dataset", "vgg19_no_fc.npz"))
    for ranks in (1, 2):
        _train(dataset, folder / str(ranks), ranks)
    return folder / "1", folder / "2"


def _read(folder):
    reader = tf.train.NewCheckpointReader(str(folder / "checkpoint" / ("model-%d" % STEPS)))
    tensors = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    with (folder / "checkpoint" / "log.jsonl").open() as file:
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


@pytest.mark.parametrize("training", ["pretrain", "train_cartoon"])
def test_two_ranks_train_as_one_with_twice_the_batch(both, training):
    one, its_log = _read(both[0] / training)
    two, their_log = _read(both[1] / training)
    _check_close(one, two)
    # The losses are the mean over the ranks, not those of rank 0.
    for mine, theirs in zip(its_log, their_log):
        for name in mine:
            if "loss" in name:
                np.testing.assert_allclose(theirs[name], mine[name], 1e-4, 1e-7, err_msg=name)
