# SPDX-License-Identifier: Apache-2.0
"""The options: published defaults, what a resumed run may change, answers to wrong values."""

import dataclasses

import pytest

from harness.options import must_agree, parse
from whitebox.config import CartoonizeConfig, Config, EvaluateConfig, PretrainConfig
from whitebox.training import pretrain_config


def read(cls, *words):
    return parse(cls, list(words), prog="program")[0]


def test_the_defaults_are_the_published_ones():
    config, pretraining = Config(), PretrainConfig()
    for options in (config, pretraining):
        assert (options.patch_size, options.batch_size, options.adv_train_lr) == (256, 16, 2e-4)
        assert (options.data_path, options.output_path) == ("./dataset", "./output")
        assert options.subjects == ("face", "scenery")
        assert (options.log_steps, options.save_steps, options.keep_generators) == (50, 500, 20)
    assert (config.total_iter, config.pretrain_iter) == (100_000, 50_000)
    assert pretraining.total_iter == 50_000
    assert (config.lambda_surface, config.lambda_texture, config.lambda_tv) == (0.1, 1, 1e4)
    assert (config.lambda_structure, config.lambda_content) == (200, 200)
    assert (config.superpixels, config.use_enhance, config.d_width) == (200, False, 32)
    cartoonizing = CartoonizeConfig()
    assert (cartoonizing.max_side, cartoonizing.smooth) == (720, 5e-3)
    assert cartoonizing.save_folder == "cartoonized_scenery"


def test_the_presets_are_recommended_and_published():
    assert not Config().is_published
    assert read(Config, "--preset", "published").is_published


def test_the_folders_are_below_the_output():
    assert Config(output_path="o", save_dir="mine").folder == "o/mine"
    assert Config().folder == "./output/train_cartoon"
    assert PretrainConfig(output_path="o").folder == "o/pretrain"


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--train_steps=7"], "total_iter", 7),
        (["--lr=0.5"], "adv_train_lr", 0.5),
        (["--real-path", "x y"], "REAL_PATH", "x y"),
        (["--REAL_PATH=x"], "REAL_PATH", "x"),
        (["--use_enhance"], "use_enhance", True),
        (["--use_enhance", "False"], "use_enhance", False),
        (["--no_use_enhance"], "use_enhance", False),
        (["--subjects", "scenery"], "subjects", ("scenery",)),
        (["--total_iter=1e5"], "total_iter", 100_000),
        (["--patch-size", "64"], "patch_size", 64),
        (["--load_size=256"], "load_size", 256),
    ],
)
def test_flags_and_their_other_spellings(words, name, value):
    assert getattr(read(Config, *words), name) == value


@pytest.mark.parametrize(
    ("cls", "words", "sentence"),
    [
        (Config, ["--patch_size=40"], "--patch_size 40: it must be a multiple of 16, such as 256"),
        (PretrainConfig, ["--patch_size=40"], "--patch_size 40: it must be a multiple of 16"),
        (Config, ["--patch_size=0"], "--patch_size 0 is too small; it must be at least 16"),
        (Config, ["--save_dir=../up"], "--save_dir ../up: it must be the name of a folder"),
        (Config, ["--save_dir="], "--save_dir '': it must be the name of a folder"),
        (Config, ["--patch_size=8192"], "--patch_size 8192 is too large; it must be at most 4096"),
        (Config, ["--load_size=255"], "--load_size 255 is below --patch_size 256; raise it"),
        (Config, ["--batch_size=0"], "--batch_size 0 is too small; it must be at least 1"),
        (Config, ["--keep_checkpoints=1"], "--keep_checkpoints 1 is too small; it must be at"),
        (Config, ["--adv_train_lr=-1"], "--adv_train_lr -1.0 is too small; it must be at least 0"),
        (Config, ["--adv_train_lr=nan"], "--adv_train_lr nan is too small"),
        (Config, ["--lambda_tv=inf"], "--lambda_tv inf: it must be finite"),
        (Config, ["--seed=3000000000"], "--seed 3000000000 is too large; it must be at most"),
        (Config, ["--preset=paper"], "--preset: invalid choice: 'paper'"),
        (Config, ["--subjects", "cat"], "--subjects: invalid choice: 'cat'"),
        (Config, ["--use_enhance=maybe"], "'maybe' is neither True nor False"),
        (Config, ["--total_itr=3"], "unknown option --total_itr=3; did you mean --total_iter?"),
        (PretrainConfig, ["--lambda_tv=1"], "unknown option --lambda_tv=1"),
        (CartoonizeConfig, ["--tile=30"], "--tile 30: it must be a multiple of 4, such as 1024"),
        (CartoonizeConfig, ["--strength=1.5"], "--strength 1.5 is too large; it must be at most 1"),
        (EvaluateConfig, ["--result=x"], "unknown option --result=x; did you mean --results?"),
    ],
)
def test_a_wrong_option_is_answered_in_one_line(cls, words, sentence, capsys):
    with pytest.raises(SystemExit) as caught:
        read(cls, *words)
    message = capsys.readouterr().err
    assert caught.value.code == 2
    assert sentence in message
    assert len(message.splitlines()) == 1


def test_what_decides_the_weights_may_not_change_on_resume():
    names = "subjects patch_size load_size batch_size adv_train_lr seed preset use_enhance d_width "
    names += "superpixels precision_mode loss_scale threads lambda_surface lambda_texture "
    names += "lambda_structure lambda_content lambda_tv precision_mode_v2 use_mixlist deterministic"
    assert set(must_agree(Config())) == set(names.split())


def test_a_pretraining_inside_a_training_has_its_options():
    words = ["--patch_size=32", "--load_size=48", "--batch_size=3", "--seed=5", "--subjects=face"]
    words += ["--data_path=d", "--output_path=o", "--device=cpu", "--save_steps=7", "--lr=0.1"]
    config = read(Config, "--pretrain_iter=9", "--train_epochs=3", "--total_iter=8", *words)
    expected = dataclasses.asdict(read(PretrainConfig, *words))
    assert expected["patch_size"] == 32
    assert dataclasses.asdict(pretrain_config(config)) == dict(expected, total_iter=9)
