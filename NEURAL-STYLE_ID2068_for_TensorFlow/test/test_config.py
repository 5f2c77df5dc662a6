# SPDX-License-Identifier: Apache-2.0
"""Options that depend on each other, the names of pictures on the way, layers and weights."""

import re

import pytest

from harness.options import parse
from stylize.config import Config, checkpoint_name
from stylize.training import used_layers


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"content_layers": ("relu4_2", "relu6_1", "fc6")},
            "--content_layers relu6_1 fc6: VGG-19 has the layers conv1_1 relu1_1 conv1_2 relu1_2 "
            "pool1 conv2_1 ",
        ),
        ({"style_layers": ("pool5",)}, "--style_layers pool5: VGG-19 has the layers conv1_1 "),
        (
            {"content_layers": ("relu1_1", "relu2_1", "relu3_1")},
            "--content_layers relu1_1 relu2_1 relu3_1: one or two, which --content_weight_blend "
            "weighs",
        ),
        (
            {"styles": ("a", "b"), "style_blend_weights": (0.5,)},
            "--style_blend_weights has 1 values and there are 2 --styles; give one for each style",
        ),
        (
            {"styles": ("a",), "style_scales": (1.0, 0.5)},
            "--style_scales has 2 values and there are 1 --styles; give one for each style",
        ),
        (
            {"styles": ("a", "b", "c"), "style_masks": ("x", "y")},
            "--style_masks has 2 values and there are 3 --styles; give one for each style",
        ),
        (
            {"styles": ("a", "b"), "style_blend_weights": (0.0, 0.0)},
            "--style_blend_weights: one must be above 0",
        ),
        (
            {"scales": (256, 512), "width": 512},
            "--width and --scales: the last of --scales is the width; give one",
        ),
        (
            {"scales": (256, 512, 1024), "iterations": (3, 4)},
            "--iterations has 2 values; give one, or one for each of the 3 --scales",
        ),
        ({"iterations": (3, 4)}, "--iterations has 2 values; give one, or one for each"),
        ({"initial_noiseblend": -0.5}, "--initial_noiseblend -0.5: it must be in 0..1, or -1"),
        (
            {"checkpoint_output": "a_{}.jpg"},
            "--checkpoint_output and --checkpoint_iterations: give both or none",
        ),
        (
            {"checkpoint_iterations": 5},
            "--checkpoint_output and --checkpoint_iterations: give both or none",
        ),
        (
            {"checkpoint_output": "a.jpg", "checkpoint_iterations": 5},
            "--checkpoint_output a.jpg: it needs {} or %d where the step goes, and the ending of "
            "a picture, such as way/{}.jpg",
        ),
        (
            {"progress_write": True, "print_iterations": 0},
            "--print_iterations 0 leaves nothing for --progress_write and --progress_plot; give",
        ),
        ({"checkpoint_output": "a_%d", "checkpoint_iterations": 5}, "--checkpoint_output a_%d: "),
        ({"style_layers": ("relu1_1", "relu2_1", "relu1_1")}, "--style_layers relu1_1 relu2_1 "),
        ({"content_layers": ("relu4_2", "relu4_2")}, "--content_layers relu4_2 relu4_2: "),
    ],
)
def test_options_that_do_not_fit_together_are_refused(options, sentence):
    with pytest.raises(ValueError, match="^" + re.escape(sentence)):
        Config(**options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"styles": ("a", "b"), "style_blend_weights": (0.0, 2.0), "style_scales": (0.5, 2.0)},
        {"styles": ("a",), "style_masks": ("x",)},
        {"scales": (256, 512), "iterations": (3, 4)},
        {"scales": (256, 512), "iterations": (3,)},
        {"width": 300, "iterations": (3,)},
        {"initial_noiseblend": -1.0},
        {"initial_noiseblend": 0.0},
        {"checkpoint_output": "a_%d.jpg", "checkpoint_iterations": 5},
        {"content_layers": ("conv1_1", "pool4"), "style_layers": ("relu5_4",)},
    ],
)
def test_options_that_fit_together_are_taken(options):
    config = Config(**options)
    assert all(getattr(config, name) == value for name, value in options.items())


@pytest.mark.parametrize(
    ("pattern", "step", "name"),
    [
        ("a_{}.png", 12, "a_12.png"),
        ("a_{:05d}.png", 12, "a_00012.png"),
        ("a_%d.png", 12, "a_12.png"),
        ("a_%04d.png", 12, "a_0012.png"),
        ("%s/a.png", 3, "3/a.png"),
        ("a_%d", None, None),
        ("{}{:03d}.png", None, None),
        ("{step}.png", None, None),
        ("{.x}.png", None, None),
        ("{.png", None, None),
        ("a.png", None, None),
        ("a_%.png", None, None),
        ("a_%d_%d.png", None, None),
        ("100%%.png", None, None),
    ],
)
def test_the_step_takes_its_place_in_a_name(pattern, step, name):
    if name is None:
        with pytest.raises(ValueError, match=r"^--checkpoint_output .*: it needs \{\} or %d where"):
            checkpoint_name(pattern, 0)
    else:
        assert checkpoint_name(pattern, step) == name


def test_layers_have_weights_that_sum_to_one():
    content, style = used_layers(Config())
    assert content == {"relu4_2": 1.0}
    assert style == {"relu%d_1" % block: pytest.approx(0.2) for block in range(1, 6)}
    words = {"content_weight_blend": 0.25, "style_layer_weight_exp": 2.0}
    content, style = used_layers(Config(style_layers=("relu3_1", "conv1_1"), **words))
    assert content == {"relu4_2": 0.25, "relu5_2": 0.75}
    assert style == {"relu3_1": pytest.approx(1 / 3), "conv1_1": pytest.approx(2 / 3)}
    assert list(style) == ["relu3_1", "conv1_1"]


def test_layers_of_weight_0_are_left_out():
    content, style = used_layers(Config(content_weight_blend=0.0, style_layer_weight_exp=0.0))
    assert content == {"relu5_2": 1.0}
    assert style == {"relu1_1": 1.0}
    for blend in (0.0, 0.3):  # which weighs two
        content, _ = used_layers(Config(content_layers=("conv3_1",), content_weight_blend=blend))
        assert content == {"conv3_1": 1.0}


def test_spellings_and_names_of_the_reference_code_are_understood(capsys):
    words = "--content-weight-blend 0.5 --style a b --style-blend-weights 1 2 --epsilon=1e-3"
    words += " --preserve-colors --train_steps=7 --initial-noiseblend=0.5 --no-overwrite"
    config, given = parse(Config, words.split())
    assert (config.content_weight_blend, config.eps, config.iterations) == (0.5, 1e-3, (7,))
    assert (config.styles, config.style_blend_weights) == (("a", "b"), (1.0, 2.0))
    assert (config.preserve_colors, config.initial_noiseblend) == (True, 0.5)
    assert "overwrite" in given
    assert not config.overwrite
    for wrong, sentence in (
        ("--iterations 5 0", "--iterations 0 is too small; it must be at least 1"),
        ("--scales 15", "--scales 15 is too small; it must be at least 16"),
        ("--content_weight_blend=1.1", "--content_weight_blend 1.1 is too large"),
        ("--tv_weight=-1", "--tv_weight -1.0 is too small"),
        ("--style_weight=nan", "--style_weight nan is too small"),
        ("--batch_size=2", "--batch_size 2 is too large"),
        ("--optimizer=sgd", "invalid choice: 'sgd'"),
    ):
        with pytest.raises(SystemExit) as caught:
            parse(Config, ("--scales 32 64 " * ("5 0" in wrong) + wrong).split())
        assert caught.value.code == 2
        assert sentence in capsys.readouterr().err
