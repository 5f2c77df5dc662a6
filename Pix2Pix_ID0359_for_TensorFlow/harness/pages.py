# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/harness/pages.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""A page as a list of blocks, written as one HTML file that needs neither network nor server.

Needs jinja2, and plotly where there are Curves. Whatever a block holds is shown as text: names of
files and words of a command cannot become part of the page. page.html beside it is the template.
"""

import base64
import io
import math
import numbers
import os
import re
from typing import Dict, List, NamedTuple, Sequence, Tuple, Union

from PIL import Image

from harness.files import write_text
from harness.images import ImageError, read_image

POINTS = 2000  # a line is drawn with so many at the most
PAIRS, PAIR_SIDE = 12, 512  # pairs of Sliders, and their longest side in pixels
FRAMES, FRAME_SIDES = 24, (1200, 2400)  # steps of a Scrubber, and the most pixels of a picture
_NUMBER = re.compile(r"[-+]?\.?\d[\d.,]*(e[-+]?\d+)?( ?\S+)?|-?")


class Numbers(NamedTuple):
    """Headline numbers.

    Attributes:
      title: of the block; may be "".
      figures: (label, value, remark), all text.
    """

    title: str
    figures: Sequence[Tuple[str, str, str]]


class Table(NamedTuple):
    """A table of text.

    Attributes:
      title: of the block.
      columns: their headings.
      rows: one text per column each; columns of numbers are set to the right.
      note: a sentence below.
      marks: for each row "", "good" or "bad"; empty: no row is marked.
      folded: whether it is shown on demand only.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    marks: Sequence[str] = ()
    folded: bool = False


class Curves(NamedTuple):
    """Lines over an axis, with logarithmic scales, smoothing and the values of all lines at once.

    Attributes:
      title: of the block.
      x: what the horizontal axis shows.
      lines: {name: (xs, ys)}; what is not finite is not drawn, long lines are thinned.
      note: a sentence below.
      y: what the vertical axis shows.
      log: the axes that are logarithmic at first: "", "x", "y" or "xy".
      smoothing: weight of the past in the exponential moving average at first, 0 to 0.99.
      small: whether half the width is enough, where two fit beside each other.
    """

    title: str
    x: str
    lines: Dict[str, Tuple[Sequence, Sequence[float]]]
    note: str = ""
    y: str = ""
    log: str = ""
    smoothing: float = 0.0
    small: bool = False


class Sliders(NamedTuple):
    """Pictures before and after, one over the other with a handle between, one pair at a time.

    Attributes:
      title: of the block.
      pairs: (label, path before, path after, path of the target or "").
      note: a sentence below.
    """

    title: str
    pairs: Sequence[Tuple[str, str, str, str]]
    note: str = ""


class Scrubber(NamedTuple):
    """Pictures of the steps of a run, one step at a time.

    Attributes:
      title: of the block.
      pictures: (step, path), or (step, paths) to show some beside each other.
      note: a sentence below.
      labels: what stands above each of the paths of a step; may be empty.
    """

    title: str
    pictures: Sequence[Tuple[int, Union[str, Sequence[str]]]]
    note: str = ""
    labels: Sequence[str] = ()


class Commands(NamedTuple):
    """Commands to copy.

    Attributes:
      title: of the block.
      commands: (label, text).
    """

    title: str
    commands: Sequence[Tuple[str, str]]


class Notes(NamedTuple):
    """Sentences.

    Attributes:
      title: of the block.
      lines: the sentences.
      kind: "warning" or "remark".
    """

    title: str
    lines: Sequence[str]
    kind: str = "remark"


_CONTENT = {Numbers: "figures", Table: "rows", Curves: "lines", Sliders: "pairs"}
_CONTENT.update({Scrubber: "pictures", Commands: "commands", Notes: "lines"})


def render(title: str, subtitle: str, blocks: Sequence) -> str:
    """Returns the page, without empty blocks and, as it says then, pictures that cannot be read.

    Raises:
      ImportError: if jinja2, or plotly where there are Curves, is not installed.
    """
    import jinja2  # a training goes on without it

    blocks = [block for block in blocks if getattr(block, _CONTENT[type(block)])]
    has_curves = any(isinstance(block, Curves) for block in blocks)
    words = {"autoescape": True, "trim_blocks": True, "lstrip_blocks": True}
    words["loader"] = jinja2.FileSystemLoader(os.path.dirname(os.path.abspath(__file__)))
    template = jinja2.Environment(undefined=jinja2.StrictUndefined, **words).get_template(
        "page.html"
    )
    shown = [dict(_prepare(block), place="part-%d" % n) for n, block in enumerate(blocks, 1)]
    plotly = _plotly() if has_curves else ""
    return template.render(title=title, subtitle=subtitle, blocks=shown, plotly=plotly)


def write(path: str, title: str, subtitle: str, blocks: Sequence) -> None:
    """Writes the page under `path`, whole or not at all; arguments and errors as of `render`."""
    write_text(path, render(title, subtitle, blocks))


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


def _prepare(block) -> dict:
    """Returns what the template shows of a block."""
    more = {Table: _table, Curves: _curves, Sliders: _sliders, Scrubber: _scrubber}
    values = dict({"note": "", "small": False}, **block._asdict())
    values.update(kind=type(block).__name__.lower(), tone=values.get("kind", ""))
    values.update(more.get(type(block), lambda _: {})(block))
    return values


def _table(table) -> dict:
    columns = list(zip(*table.rows)) or [()] * len(table.columns)
    right = [any(cells) and all(map(_NUMBER.fullmatch, cells)) for cells in columns]
    marks = list(table.marks) or [""] * len(table.rows)
    return {"marked": list(zip(marks, table.rows)), "right": right}


def _curves(curves) -> dict:
    lines, thinned = [], 0
    for name, (xs, ys) in curves.lines.items():
        points = thin(xs, ys)
        thinned = max(thinned, len(ys) if len(ys) > POINTS else 0)
        lines.append({"name": name, "x": [x for x, _ in points], "y": [y for _, y in points]})
    text = "Of %d points of a line, %d at the most are drawn; the extremes are among them."
    notes = [curves.note] + ([text % (thinned, POINTS)] if thinned else [])
    return {"note": " ".join(filter(None, notes)), "lines": lines}


def thin(xs: Sequence, ys: Sequence[float], most: int = POINTS) -> List[tuple]:
    """Returns at most `most` of the points (x, y) in their order, with six digits of y.

    First and last stay, and of equal parts between them the least and the greatest value.
    What is not finite is left out.
    """
    points = [(x, y) for x, y in zip(xs, ys) if isinstance(y, numbers.Real) and math.isfinite(y)]
    if len(points) > most:
        value, parts = [y for _, y in points].__getitem__, most // 2 - 1
        chosen = {0, len(points) - 1}
        for part in range(parts):
            places = range(len(points) * part // parts, len(points) * (part + 1) // parts)
            chosen.update((min(places, key=value), max(places, key=value)))
        points = [points[place] for place in sorted(chosen)]
    return [(x, float("%.6g" % y)) for x, y in points]


def _sliders(sliders) -> dict:
    items = [(label, [path for path in paths if path]) for label, *paths in sliders.pairs]
    return _pictures(items, sliders.note, "pairs", PAIRS, (PAIR_SIDE, PAIR_SIDE))


def _scrubber(scrubber) -> dict:
    steps = [(n, [paths] if isinstance(paths, str) else paths) for n, paths in scrubber.pictures]
    return _pictures(steps, scrubber.note, "steps", FRAMES, FRAME_SIDES)


def _pictures(items, note, what, most, sides) -> dict:
    """Returns what there is to show of `items`, (label, paths), and a note on the others.

    Of more than `most` some are chosen evenly, the first and the last among them.
    """
    last, notes, shown = len(items) - 1, [note] if note else [], []
    chosen = [items[n * last // (most - 1)] for n in range(most)] if last >= most else items
    for label, paths in chosen:
        pictures = [_embed(path, sides) for path in paths]
        if None not in pictures:
            shown.append({"label": label, "pictures": pictures})
    if len(chosen) < len(items):
        notes.append("%d more %s are left out." % (len(items) - len(chosen), what))
    if len(shown) < len(chosen):
        text = "%d %s have pictures that are missing or damaged."
        notes.append(text % (len(chosen) - len(shown), what))
    return {"shown": shown, "note": " ".join(notes)}


def _embed(path, sides):
    """Returns {"uri", "width", "height"} of a picture at most as large as `sides`, or None."""
    try:
        picture = Image.fromarray(read_image(path))
    except ImageError:
        return None
    picture.thumbnail(sides, Image.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88, subsampling=0)
    text = base64.b64encode(buffer.getvalue()).decode("ascii")
    width, height = picture.size
    return {"uri": "data:image/jpeg;base64," + text, "width": width, "height": height}
