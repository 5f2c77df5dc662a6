# SPDX-License-Identifier: Apache-2.0
"""A dataclass as a command line."""

import dataclasses
from typing import Tuple

import pytest

from harness import options
from harness.options import option


@dataclasses.dataclass(frozen=True)
class Base:
    """Inherited options."""

    device: str = option("cpu", "device", choices=("cpu", "gpu"))


@dataclasses.dataclass(frozen=True)
class Config(Base):
    """Own options."""

    batch_size: int = option(1, "pictures per step", low=1, high=64)
    rate: float = option(1e-3, "learning rate", low=0, aliases=("lr", "learning_rate"))
    flip: bool = option(True, "mirror")
    weights: Tuple[float, ...] = option((1.0,), "weights", low=0)
    steps: int = option(10, "steps", low=0, may_change=True)

    def __post_init__(self):
        """Refuses an odd combination."""
        if self.steps == 13:
            raise ValueError("--steps 13: bad luck")


def _parse(*words):
    return options.parse(Config, list(words))


@pytest.mark.parametrize(
    "words",
    [
        ["--batch_size=4", "--flip=False"],
        ["--batch-size", "4", "--no_flip"],
        ["--batch-size=4", "--flip", "false"],
        ["--batch_size", "4e0", "--no-flip"],
    ],
)
def test_every_spelling_means_the_same(words):
    config, given = _parse(*words)
    assert config == Config(batch_size=4, flip=False)
    assert given == {"batch_size", "flip"}


def test_defaults_aliases_switches_and_lists():
    assert _parse() == (Config(), set())
    assert _parse("--lr", "0.5")[0].rate == 0.5
    assert _parse("--learning-rate=0.5")[0].rate == 0.5
    assert _parse("--flip")[0].flip is True
    assert _parse("--weights", "1", "2.5", "--steps=3")[0].weights == (1.0, 2.5)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--batch_size=0"], "--batch_size 0 is too small; it must be at least 1"),
        (["--batch_size=65"], "--batch_size 65 is too large; it must be at most 64"),
        (["--rate=nan"], "--rate nan is too small"),
        (["--weights", "1", "-2"], "--weights -2.0 is too small"),
        (["--batch_size=inf"], "'inf' is not a whole number"),
        (["--rate=inf"], "--rate inf: it must be finite"),
        (["--batch_size=2.5"], "'2.5' is not a whole number"),
        (["--rate=fast"], "'fast' is not a number"),
        (["--flip=perhaps"], "'perhaps' is neither True nor False"),
        (["--device=tpu"], "invalid choice: 'tpu'"),
        (["--bathc_size=2"], "unknown option --bathc_size=2; did you mean --batch_size?"),
        (["--batch"], "unknown option --batch"),
        (["stray"], "unknown option stray"),
        (["--steps=13"], "--steps 13: bad luck"),
    ],
)
def test_mistakes_are_one_line_and_status_2(words, sentence, capsys):
    with pytest.raises(SystemExit) as ended:
        _parse(*words)
    printed = capsys.readouterr().err
    assert ended.value.code == 2
    assert sentence in printed
    assert len(printed.splitlines()) == 1


def test_help_shows_type_default_range_and_text(capsys):
    with pytest.raises(SystemExit) as ended:
        _parse("--help")
    printed = capsys.readouterr().out
    assert ended.value.code == 0
    for words in ("Own options", "Inherited options", "pictures per step", "default 1, at least 1"):
        assert words in printed


def test_several_classes_share_one_command_line_and_extras_are_kept():
    extras = []
    configs, given = options.parse_several(
        [Base, Config], ["--device=gpu", "--steps=2", "--job=7"], extras=extras
    )
    assert configs[0].device == "gpu"
    assert configs[1].steps == 2
    assert given == [{"device": "gpu"}, {"steps": 2}]
    assert extras == ["--job=7"]


def test_words_for_is_the_way_back():
    values = {"batch_size": 4, "flip": False, "weights": (1.0, 2.0), "rate": 0.25}
    assert _parse(*options.words_for(values))[0] == Config(**values)


def test_must_agree_leaves_out_what_may_change():
    assert set(options.must_agree(Config())) == {"device", "batch_size", "rate", "flip", "weights"}
