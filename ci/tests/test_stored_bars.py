# SPDX-License-Identifier: Apache-2.0
"""What ci/baselines/accuracy.json says: a bar catches each broken variant."""

import pathlib

import accuracy
import broken
import measures
import pytest
import trainings
import verdicts

BASELINES = pathlib.Path(accuracy.__file__).parent / "baselines" / "accuracy.json"
STORED = verdicts.read_baselines(BASELINES)["values"]
VARIANTS = [(model, name) for model, names in broken.VARIANTS.items() for name in names]


@pytest.mark.parametrize(("model", "variant"), VARIANTS)
def test_every_stored_variant_misses_a_stored_bar(model, variant):
    begin = f"{model}/drawn/"
    values = {
        name[len(begin) :]: entry["broken"][variant]
        for name, entry in STORED.items()
        if name.startswith(begin)
    }
    assert values.keys() == measures.METRICS[model].keys()
    assert accuracy.missed(model, values, STORED)


@pytest.mark.parametrize("model", measures.METRICS)
def test_no_stored_seed_of_the_right_model_misses_a_stored_bar(model):
    entries = {n: entry for n, entry in STORED.items() if n.startswith(f"{model}/drawn/")}
    counts = {len(entry["samples"]) for entry in entries.values()}
    assert len(counts) == 1
    assert min(counts) >= 2
    for index in range(*counts):
        values = {n.rpartition("/")[2]: entry["samples"][index] for n, entry in entries.items()}
        assert accuracy.missed(model, values, STORED) == []


def test_every_model_has_settings_metrics_and_variants():
    assert set(trainings.SETTINGS) == set(measures.METRICS) == set(broken.VARIANTS)
    assert all("untrained" in variants for variants in broken.VARIANTS.values())
