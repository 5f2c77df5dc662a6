# SPDX-License-Identifier: Apache-2.0
"""The test phase's result in one line, and as a self-contained HTML page."""

import base64
import html
import io
from typing import List

from PIL import Image

from harness.images import grid


def describe(metrics: dict) -> str:
    """Returns the result in one line."""
    text = "%(pictures)d pictures" % metrics
    if "reconstruction_l1" in metrics:
        text += "; reconstruction L1 %(reconstruction_l1).4f" % metrics
    if "attribute_accuracy" in metrics:
        text += "; the classifier sees the wanted label in %.1f %% of the translations, in %.1f %% "
        text += "of the pictures before"
        shares = ("attribute_accuracy", "attribute_accuracy_untranslated")
        text %= tuple(100 * metrics[key] for key in shares)
    if "fid" in metrics:
        text += "; FID %(fid).2f" % metrics
    return text


def page(rows, each: List[dict], metrics: dict, judged: dict) -> str:
    """Returns a self-contained HTML page: the measures per target and a strip per picture."""
    keys = ("reconstruction_l1", "accuracy", "accuracy_untranslated", "changed", "fid")
    keys = [key for key in keys if any(key in one for one in each)]
    lines = [
        "<!doctype html><meta charset='utf-8'><title>StarGAN test</title>",
        "<style>body{font:16px sans-serif;margin:2em}td,th{padding:2px 12px;text-align:right}",
        "img{max-width:100%}small{color:#555}</style>",
        "<h1>StarGAN test</h1><p>%s</p>" % html.escape(describe(metrics)),
        "<table><tr><th>target" + "".join("<th>%s" % key.replace("_", " ") for key in keys),
    ]
    for one in each:
        cells = "".join("<td>%.4g" % one[key] if key in one else "<td>" for key in keys)
        lines.append("<tr><th>%s%s" % (html.escape(one["target"]), cells))
    lines.append("</table>")
    for name, share in judged.get("held_out_accuracy", {}).items():
        text = "The classifier is right about %s in %.1f %% of the real test pictures."
        lines.append("<small>%s</small><br>" % html.escape(text % (name, 100 * share)))
    titles = ["source"] + [one["target"] for one in each]
    for name, pictures in rows:
        lines.append(
            "<p><small>%s</small><br><img alt='' src='%s'>"
            % (html.escape(name), _embed(grid([pictures], titles)))
        )
    return "\n".join(lines) + "\n"


def _embed(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
