# SPDX-License-Identifier: Apache-2.0
"""The page: a tab per model, with weights, pictures, controls, and the answer beside them."""

import os
from collections.abc import Iterator
from typing import NamedTuple

import gradio as gr
import numpy as np
from PIL import Image

from harness.errors import UserError
from tools.demo import finding, shown, uploads
from tools.demo.panels import PANELS, Panel, Photo, check_photos
from tools.demo.processes import Workers
from tools.folders import ROOT

TITLE = "Image translation"
HEAD = "<div class='head'><h1>%s</h1><p>Five models on this machine: nothing leaves it, and no "
HEAD += "picture is kept.</p></div>"
CSS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "page.css")
FONT = ("Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
MONO = ("Consolas", "Menlo", "DejaVu Sans Mono", "monospace")
WAITING = "The result appears here"
SHOWN = 34  # letters of a path


class Desk(NamedTuple):
    """What the page works with.

    Attributes:
      workers: that translate.
      given: {name of a model: weights of the command line}.
      folder: where Gradio puts uploads.
    """

    workers: Workers
    given: dict[str, str]
    folder: str


def drop(label: str) -> gr.File:
    """Returns a place to drop a file; the upload is the only file that there is of it."""
    place = gr.File(label=label, height=130)
    place.preprocess = lambda payload: payload.path if payload else None  # its own makes one more
    return place


def theme() -> gr.themes.Base:
    """Returns the look; only fonts that a system has, as none is fetched."""
    fonts, mono = ([gr.themes.Font(name) for name in names] for names in (FONT, MONO))
    return gr.themes.Base(
        primary_hue="teal", neutral_hue="slate", radius_size="md", font=fonts, font_mono=mono
    ).set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
        button_primary_text_color="white",
        button_primary_text_color_dark="white",
        link_text_color="*primary_700",
        link_text_color_dark="*primary_300",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_200",
        block_title_text_color="*neutral_800",
        block_title_text_color_dark="*neutral_100",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
    )


def build(desk: Desk) -> gr.Blocks:
    """Returns the page, not yet started."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(60, 600)) as page:
        gr.HTML(HEAD % TITLE)
        with gr.Tabs():
            for model in finding.MODELS:
                with gr.Tab(model.title, id=model.name, elem_id="tab-" + model.name):
                    build_panel(page, desk, PANELS[model.name](model))
    return page


def build_panel(page: gr.Blocks, desk: Desk, panel: Panel) -> None:
    """Adds the tab of one model and what its components do."""
    model, quiet = panel.model, {"show_progress": "hidden", "api_visibility": "private"}
    gr.HTML("<p class='task'>%s</p>" % model.task)
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            weights = gr.Dropdown(
                [],
                label="Weights",
                info="Found on this machine, or a path.",
                allow_custom_value=True,
                filterable=True,
            )
            hint = gr.HTML(elem_classes="quiet")
            with gr.Row():
                drops = [drop(label) for label in panel.drops]
            photos = [gr.State(None, time_to_live=3600) for _ in drops]
            controls = panel.controls()
            with gr.Row():
                start = gr.Button(panel.action, variant="primary")
                stop = gr.Button("Stop", visible=model.name == "style")
        with gr.Column(scale=5, min_width=320):
            message = gr.HTML(elem_classes="quiet")
            result = gr.HTML(shown.pictures(_first(panel), WAITING))
    answer = gr.State(None, time_to_live=3600)

    def look():
        found = finding.find(model, desk.given.get(model.name, ""))
        choices = [(_short(path), path) for path in found]
        chosen = found[0] if found else ""
        return [gr.update(choices=choices, value=chosen or None), *choose(chosen)]

    def choose(path):
        try:
            path = finding.resolve(model, path or "")
            return ["", *panel.chosen(path)]
        except UserError as error:
            places = ("quickstart/", os.path.basename(model.path) + "/test/output/")
            missing = shown.missing(model.title, places, model.howto)
            return [shown.problem(str(error)) if path else missing, *panel.chosen("")]

    def show_photos(*dropped):
        there = [photo for photo in dropped if photo is not None]
        parts = panel.shown(there, {}) if dropped[0] is not None else _first(panel)
        return shown.pictures(parts, WAITING)

    def show_again(kept, *values):
        if kept is None:
            return gr.skip()
        return shown.pictures(panel.shown(kept[0], kept[1], *values))

    def translate(path, *values):
        yield from answers(desk, panel, path, values[: len(drops)], values[len(drops) :])

    page.load(look, None, [weights, hint, *controls], **quiet)
    weights.change(choose, weights, [hint, *controls], queue=False, **quiet)
    for place, photo in zip(drops, photos, strict=True):
        place.upload(_taker(desk), place, [photo, place, message], **quiet).then(
            show_photos, photos, result, **quiet
        ).then(lambda: None, None, answer, **quiet)
    words = {"concurrency_id": model.name, "concurrency_limit": 1, "api_visibility": "private"}
    inputs, outputs = [weights, *photos, *controls], [message, result, answer]
    start.click(translate, inputs, outputs, show_progress="minimal", **words)
    stop.click(lambda: desk.workers.stop(model), None, None, queue=False, **quiet)
    if model.name == "whitebox":
        words = {"trigger_mode": "always_last", **quiet}
        controls[0].change(show_again, [answer, *controls], result, **words)
    elif model.name != "style":
        words["trigger_mode"] = "always_last"
        for control in controls:
            control.input(_if_answered(translate), [answer, *inputs], outputs, **words)


def _if_answered(translate):
    """Returns `translate` that does nothing before there was a first answer."""

    def again(kept, *values):
        if kept is not None:
            yield from translate(*values)
        else:
            yield gr.skip(), gr.skip(), gr.skip()

    return again


def _first(panel) -> list[shown.Shown]:
    """Returns the frames before there is a picture."""
    last = "Painted" if panel.model.name == "style" else "After"
    names = panel.drops if len(panel.drops) > 1 else ("Before",)
    return [shown.Shown(name, None) for name in (*names, last)]


def _short(path) -> str:
    """Returns the end of a path, as much as the field shows."""
    path = os.path.relpath(path, ROOT) if path.startswith(ROOT + os.sep) else path
    return path if len(path) <= SHOWN else "\u2026" + path[-SHOWN + 1 :]


def _taker(desk):
    """Returns what makes a Photo of an upload, which is removed at once."""

    def take(path):
        if path is None:
            return gr.skip(), None, ""
        try:
            pixels = uploads.read_upload(path)
        except UserError as error:
            return gr.skip(), None, shown.problem(str(error))
        finally:
            uploads.forget(path, desk.folder)
        return Photo(pixels, os.path.splitext(os.path.basename(path))[0]), None, ""

    return take


def answers(desk: Desk, panel: Panel, path: str, photos, values) -> Iterator[tuple]:
    """Yields (message, pictures, (photos, answer) to keep) on the way and at the end."""
    skip = gr.skip()
    try:
        check_photos(panel, photos)
        weights = finding.resolve(panel.model, path or "")
        with desk.workers.job_folder() as folder:
            names = dict(zip(("picture", "style"), _write(folder, photos), strict=False))
            words = dict(panel.request(*values), folder=folder, **names)
            for event in desk.workers.ask(panel.model, weights, **words):
                if event["event"] == "starting":
                    text = "Starting %s; this takes some seconds, once" % panel.model.title
                    yield shown.remark(text), skip, skip
                    continue
                answer = {
                    name: _read(value) for name, value in event.items() if _is_in(value, folder)
                }
                said = panel.words(event)
                html = shown.pictures(panel.shown(photos, answer, *values), WAITING)
                is_done = event["event"] == "done"
                kept = (photos, answer) if is_done else skip
                yield shown.remark(said) if said else "", html, kept
    except UserError as error:
        yield shown.problem(str(error)), skip, skip


def _write(folder, photos) -> list[str]:
    paths = []
    for number, photo in enumerate(photos):
        paths.append(os.path.join(folder, "input-%d.png" % number))
        Image.fromarray(photo.pixels).save(paths[-1], compress_level=1)
    return paths


def _is_in(value, folder) -> bool:
    return isinstance(value, str) and value.startswith(folder + os.sep)


def _read(path) -> np.ndarray:
    """Returns a picture of an answer, uint8 [H, W, 3], and removes its file."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    os.remove(path)
    return pixels
