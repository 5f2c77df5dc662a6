# SPDX-License-Identifier: Apache-2.0
"""The command line of ci/performance.py."""

import argparse
import os
import pathlib
import shutil

import outputs
import scripts
import timing

PARTS = ("cases", "steps", "growth")


def find_folder(parser, name: str) -> pathlib.Path:
    """Returns the folder that `name` is, or the model's that begins so."""
    path = pathlib.Path(name)
    if name and path.is_dir():
        _, problem = scripts.attempt(timing.name_of, path)
        return parser.error(problem) if problem else path.resolve()
    return scripts.ROOT / scripts.find_model(parser, name)


def read(words=None, text: str = "") -> argparse.Namespace:
    """Reads the command line, of a program that `text` describes; a mistake is status 2."""
    parser = outputs.Parser(
        "performance",
        prog="performance.py",
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("folders", nargs="*", metavar="FOLDER", help="folder or beginning of its name")
    add("--only", nargs="+", choices=PARTS, help="these parts alone")
    add("--growth", action="store_true", help="the growth part alone, as --only growth")
    add("--repeats", type=int, default=5, help="of cases and steps (%(default)s)")
    add("--count", type=int, default=4, help="steps per repeat (%(default)s)")
    add("--full", action="store_true", help="the cases with the script's own settings")
    add("--data_path", action="append", default=[], metavar="NAME=PATH", help="for --full")
    add("--tf1", action="store_true", help="TensorFlow 1.15 in place of 2")
    add("--with_option", action="append", default=[], metavar="=--OPTION=VALUE")
    add("--versus", action="append", default=[], metavar="NAME=COMMAND")
    add("--ranks", type=int, nargs="+", metavar="N", help="1 and more, such as 1 2")
    add("--json", type=pathlib.Path, help="also write the figures here")
    options = parser.parse_args(words)
    options.output = options.output.resolve()
    if sum(map(bool, (options.only, options.growth, options.full))) > 1:
        parser.error("--only, --growth and --full: give one of them")
    part = ["growth"] if options.growth else ["cases"] if options.full else list(PARTS)
    options.only = options.only or part
    options.folders = [find_folder(parser, name) for name in options.folders]
    options.with_option = [word.removeprefix("=") for word in options.with_option]
    for name in ("repeats", "count"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} {getattr(options, name)}: it must be at least 1")
    if any("=" not in text for text in options.data_path):
        parser.error(f"--data_path {' '.join(options.data_path)}: it must be NAME=PATH")
    pairs = [text.partition("=") for text in options.data_path]
    options.data_path = {find_folder(parser, n).name: pathlib.Path(p) for n, _, p in pairs}
    check(parser, options)
    if not options.folders:
        names = [scripts.find_model(parser, model.name) for model in timing.MODELS]
        options.folders = [scripts.ROOT / name for name in names]
    return options


def check(parser, options) -> None:
    """Ends the program where options do not go together."""
    names = [timing.name_of(folder) for folder in options.folders]
    if len(set(names)) < len(names):
        parser.error(f"{', '.join(names)}: name each model once")
    ranks, cores = options.ranks or [1], len(os.sched_getaffinity(0))
    if ranks[0] != 1 or ranks != sorted(set(ranks)) or ranks[-1] > cores:
        parser.error(f"--ranks {ranks}: give 1 and then larger ones, up to the {cores} cores")
    if options.ranks and (options.versus or options.update or not shutil.which("taskset")):
        parser.error("--ranks goes without --versus and --update, and needs taskset to bind cores")
    if any("=" not in text for text in options.versus):
        parser.error(f"--versus {options.versus}: it must be NAME=COMMAND")
    if options.update and options.with_option:
        parser.error("--update is of the models as they are; leave --with_option out")
    if options.versus and "steps" not in options.only:
        parser.error("--versus takes turns with the steps; add them to --only, or leave it out")
    if options.update and not options.full and options.repeats < 2:
        parser.error("--update needs at least --repeats 2: the bands come from them")
    if options.full:
        missing = [f.name for f in options.folders if f.name not in options.data_path]
        if missing or not options.folders:
            parser.error(f"--full needs --data_path NAME=PATH for {', '.join(missing) or 'MODEL'}")
    wrong = [str(path) for path in options.data_path.values() if not path.exists()]
    if wrong or (options.data_path and not options.full):
        parser.error(f"--data_path is for --full and must exist: {', '.join(wrong)}")
    for folder in options.folders if options.full else ():
        output = options.output / "full" / folder.name
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            parser.error(f"{output} is not empty; move it away or choose another --output")
