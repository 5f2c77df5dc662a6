# SPDX-License-Identifier: Apache-2.0
"""Draw a small set of facades: label maps and photo-like pictures of the same layouts.

Every file is a pair laid out as in the CMP facades set: 512x256, photo left (A), labels right (B).
The same seed gives the same bytes; files of an earlier, longer run in the folder are kept.
"""

import argparse
import os
from collections import namedtuple

import numpy as np
from PIL import Image, ImageFilter

SIZE = 256  # width and height of each half of a pair
PALETTE = {
    "background": (0, 0, 222),  # sky, neighbour houses and street
    "wall": (0, 48, 255),
    "window": (0, 128, 255),
    "door": (0, 208, 255),
    "deco": (32, 255, 224),  # window heads
    "sill": (112, 255, 144),
    "balcony": (192, 255, 64),
    "blind": (255, 240, 0),  # shutters
    "roof": (255, 160, 0),  # CMP's colour of mouldings
    "cornice": (255, 80, 0),
    "pillar": (255, 0, 0),
    "shop": (174, 0, 0),
}
WALLS = (  # course height and stone length (pixels, drawn at 512), joint, unevenness, colour
    (8, 20, 0.12, 0.09, (0.72, 0.45, 0.35)),  # brick with light joints
    (512, 512, 0.0, 0.0, (0.86, 0.72, 0.48)),  # stucco
    (512, 512, 0.0, 0.0, (0.85, 0.63, 0.52)),
    (22, 46, -0.2, 0.05, (0.75, 0.71, 0.64)),  # stone with dark joints
)
TILES = (7, 10, -0.25, 0.08, (0.62, 0.33, 0.26))
LIGHT, WOOD, STONE = (0.74, 0.73, 0.70), (0.42, 0.25, 0.15), np.array((0.90, 0.87, 0.80))
SHADOWS = {"cornice": 6, "balcony": 6, "sill": 3, "deco": 3}  # heights in finished pixels
OPTIONS = (("train", 48, 1), ("val", 12, 1), ("seed", 0, 0))  # name, default, least
# A rectangle in pixels of the finished picture; rise: height of its arched top / its width.
Part = namedtuple("Part", "kind x0 y0 x1 y1 rise", defaults=(0.0,))


def cut(canvas, part):
    """Return the part's view of a square canvas (any whole multiple of SIZE, 3 channels)."""
    x0, y0, x1, y1 = np.clip(part[1:5], 0, SIZE) * (len(canvas) // SIZE)
    return canvas[y0:y1, x0:x1]


def outline(height, width, part):
    """Return a bool (height, width, 1) mask: True inside of the arched or sloped outline."""
    rows = np.arange(height)[:, None, None] + 0.5
    across = np.abs(np.arange(width)[:, None] + 0.5 - width / 2) / (width / 2)
    if part.kind == "roof":
        return across <= 1 - 1.4 * (height - rows) / width
    return np.clip(1 - rows / max(part.rise * width, 0.1), 0, 1) ** 2 + across**2 <= 1


def draw_bay(rng, plan, middle, top, bottom, level):
    """Return the Parts of one window and its trimmings on a floor from row top to row bottom."""
    tall, half, rise = bottom - top, plan["half"], plan["rise"][level]
    x0, x1, y0, y1 = middle - half, middle + half, top + tall // 4, top + int(tall * 0.84)
    parts = [Part("window", x0, y0, x1, y1, rise)]
    if plan["blind"] and level and not rise:
        leaf = max(4, half * 2 // 3)
        parts += [Part("blind", x0 - leaf, y0, x0, y1), Part("blind", x1, y0, x1 + leaf, y1)]
    if plan["deco"][level] and not rise:
        parts.append(Part("deco", x0 - 3, y0 - max(4, tall // 9), x1 + 3, y0 - 1))
    if plan["balcony"][level] and level and rng.rand() < 0.6:
        return [*parts, Part("balcony", x0 - 5, y1 - tall // 5, x1 + 5, y1 + 3)]
    return [*parts, Part("sill", x0 - 2, y1, x1 + 2, y1 + 3)]


def draw_layout(rng):
    """Return a random facade as a list of Part, back to front."""
    left, right = (0, SIZE) + rng.randint(0, 2, 2) * rng.randint(10, 34, 2) * (1, -1)
    street, skyline, roof = SIZE - rng.randint(9, 16), rng.randint(70, 120), rng.choice([0, 20, 28])
    top, floors, columns = roof + rng.randint(14, 40), rng.randint(2, 5), rng.randint(3, 7)
    pitch, storey = (right - left) / columns, (street - top) / (floors + 1.2)
    plan = {
        "half": int(min(pitch * rng.uniform(0.2, 0.26), storey * 0.36)),
        "rise": rng.choice([0.0, 0.0, 0.5, 0.25], floors + 1),
        "deco": rng.rand(floors + 1) < 0.4,
        "balcony": rng.rand(floors + 1) < 0.4,
        "blind": rng.rand() < 0.3,
    }
    parts = [Part("neighbour", 0, skyline, SIZE, SIZE), Part("street", 0, street, SIZE, SIZE)]
    parts += [Part("wall", left, top, right, street), Part("roof", left, top - roof, right, top)]
    base = int(top + floors * storey)  # where the ground floor begins
    if rng.rand() < 0.35:
        joins = (left + pitch * np.arange(1, columns)).astype(int)
        parts += [Part("pillar", join - 2, top, join + 3, base) for join in joins]
    middles = (left + pitch * (np.arange(columns) + 0.5)).astype(int)
    for level in range(1, floors + 1):
        y0, y1 = int(top + (level - 1) * storey), int(top + level * storey)
        for middle in middles:
            parts += draw_bay(rng, plan, middle, y0 + 3, y1, level)
        if rng.rand() < (0.9 if level == floors else 0.25):
            parts.append(Part("cornice", left, y1 - 1, right, y1 + 4))
    shops, wide, door = 0.75 * (rng.rand() < 0.6), int(pitch * 0.42), rng.choice(middles)
    for middle in middles[middles != door]:
        if rng.rand() < shops:
            parts.append(Part("shop", middle - wide, base + 7, middle + wide, street - 1))
        else:
            parts += draw_bay(rng, plan, middle, base, street - 3, 0)
    parts.append(Part("door", door - 10, base + 9, door + 10, street, plan["rise"][0]))
    parts.append(Part("cornice", left - 3, top - 4, right + 3, top + 5))
    return [part for part in parts if part.x1 > part.x0 and part.y1 > part.y0]


def cloud(rng, height, width, cell):
    """Return smooth noise, float (height, width, 1) of about 0..1, with bumps of cell pixels."""
    grid = np.float32(rng.rand(height // cell + 2, width // cell + 2))
    return np.array(Image.fromarray(grid).resize((width, height), Image.BICUBIC))[..., None]


def panes(height, width, border, columns, rows, bar):
    """Return a bool (height, width, 1) mask: True on panes, False on the border and the bars."""
    masks = []
    for length, count in ((height, rows), (width, columns)):
        place, pane = np.arange(length) - border, (length - 2 * border + bar) / count
        masks.append((place >= 0) & (place < length - 2 * border) & (place % pane < pane - bar))
    return (masks[0][:, None] & masks[1])[..., None]


def blend(low, high, amount):
    """Return the mix of two colours (..., 3) by amount (..., 1): 0 gives low, 1 gives high."""
    return low + np.subtract(high, low) * np.clip(amount, 0, 1)


def masonry(rng, height, width, style):
    """Return a wall, float (height, width, 3): courses of stones or bricks, stains and grain."""
    course, length, joint, tone, colour = style
    rows = np.arange(height)[:, None]
    cols = np.arange(width) + rows // course % 2 * (length // 2)
    light = rng.randn(height // course + 1, width // length + 2)[rows // course, cols // length]
    light = 0.85 + light * tone + joint * ((rows % course < 2) | (cols % length < 2))
    stains = 0.16 * cloud(rng, height, width, 60) + 0.1 * cloud(rng, height, width, 5)
    return (light[..., None] + stains) * colour


def paint(rng, part, under, style):
    """Return the look of a part over what is under it; both float (height, width, 3) of 0..1."""
    kind, (tall, wide) = part.kind, under.shape[:2]
    row, col = np.arange(tall)[:, None, None], np.arange(wide)[:, None]
    down, across = (row + 0.5) / tall, (col + 0.5) / wide
    glass = blend((0.42, 0.51, 0.61), (0.07, 0.09, 0.12), down * 1.3)  # reflects the sky
    glass = glass + 0.12 * ((down + 0.6 * across + rng.rand()) % 1 < 0.2)
    relief = STONE * (1.05 - 0.35 * down)
    if kind in ("wall", "roof"):
        return masonry(rng, tall, wide, style if kind == "wall" else TILES)
    if kind == "neighbour":
        return np.where(panes(tall, wide, 14, 9, 5, 20), (0.36, 0.38, 0.42), 0.64)
    if kind == "street":
        return blend((0.62, 0.61, 0.60), (0.36, 0.36, 0.38), (row - 6) / 3)
    if kind == "window":
        arch = np.pad(outline(tall - 8, wide - 8, part), ((4, 4), (4, 4), (0, 0)), "constant")
        holes = arch & panes(tall, wide, 4, 2, 3 if tall > 2 * wide else 2, 3)
        return np.where(holes, glass, LIGHT) * np.where((row < 3) | (col < 3), 0.5, 1)
    if kind == "door":
        light = 0.7 + 0.5 * panes(tall, wide, 6, 2, 3, 6) * (1 - down * 3 % 1)
        fanlight = (down < 0.28) & panes(tall, wide, 5, 3, 4, 3)
        return np.where(fanlight, glass, light * WOOD)
    if kind == "shop":
        lit = glass * 0.8 + np.clip(1.4 * down - 0.5, 0, 1) * (0.35, 0.25, 0.10)
        sign = blend((0.55, 0.16, 0.12), STONE, abs(down - 0.12) < 0.04)
        return np.where(down < 0.24, sign, np.where(panes(tall, wide, 5, 3, 1, 4), lit, 0.2))
    if kind == "balcony":
        bars = np.where((col % 6 < 2) | (down < 0.1), 0.12, under * 0.75)
        return np.where(down > 0.75, relief * 1.15, bars)
    if kind == "blind":
        return (1.15 - 0.12 * (row % 5)) * (0.25, 0.42, 0.33)
    if kind == "pillar":
        return STONE * (1.1 - 0.9 * abs(across - 0.35))
    return relief * (1 - 0.3 * ((kind == "cornice") & (col % 12 < 6) & (abs(down - 0.65) < 0.15)))


def draw_pair(rng):
    """Return a photo and its label map of one random facade, both uint8 (256, 256, 3)."""
    style, large = WALLS[rng.randint(len(WALLS))], SIZE * 2
    label = np.full((SIZE, SIZE, 3), PALETTE["background"], np.uint8)
    down = np.linspace(0, 1, large)[:, None, None]
    clouds = cloud(rng, large * 3, large, 110)[::3] + 0.4 * cloud(rng, large * 2, large, 30)[::2]
    photo = blend(blend((0.40, 0.60, 0.88), (0.84, 0.90, 0.96), down * 2.5), 0.97, 1.6 * clouds - 1)
    for part in draw_layout(rng):
        crop, view = cut(label, part), cut(photo, part)
        inside = outline(*crop.shape[:2], part)
        crop[:] = np.where(inside, PALETTE.get(part.kind, PALETTE["background"]), crop)
        view[:] = np.where(outline(*view.shape[:2], part), paint(rng, part, view, style), view)
        shade = cut(photo, part._replace(y0=part.y1, y1=part.y1 + SHADOWS.get(part.kind, 0)))
        shade *= np.linspace(0.5, 1, len(shade))[:, None, None]
    light = 1.05 - 0.1 * down + rng.uniform(-0.12, 0.12) * (down.transpose(1, 0, 2) - 0.5)
    image = Image.fromarray(np.uint8(np.clip(photo * light, 0, 1) * 255))
    image = image.filter(ImageFilter.GaussianBlur(0.8)).resize((SIZE, SIZE), Image.BOX)
    return np.uint8(np.clip(image + rng.randn(SIZE, SIZE, 1) * 3, 0, 255)), label


def main(words=None):
    """Run the command line on words (default: the process's arguments); exit with 2 if wrong."""
    parser = argparse.ArgumentParser(description="Draw pairs of facade photos and label maps.")
    parser.add_argument("folder", metavar="OUTPUT_FOLDER")
    for name, usual, least in OPTIONS:
        parser.add_argument("--" + name, type=int, default=usual, help=f"{least} or more")
    given = vars(parser.parse_args(words))
    for name, usual, least in OPTIONS:
        if not least <= given[name] < 2**31:
            text = f"--{name} is {given[name]}, but only {least} to {2**31 - 1} is allowed: "
            parser.exit(2, f"{text}pass a number in that range, for example --{name} {usual}.\n")
    for stream, split in enumerate(("train", "val")):
        os.makedirs(os.path.join(given["folder"], split), exist_ok=True)
        for number in range(1, given[split] + 1):
            pair = np.hstack(draw_pair(np.random.RandomState([given["seed"], stream, number])))
            path = os.path.join(given["folder"], split, f"{number:04d}.jpg")
            Image.fromarray(pair).save(path + ".part", "JPEG", quality=95, subsampling=0)
            os.replace(path + ".part", path)  # a file has its name only when complete
    print(f"Wrote {given['train']} train and {given['val']} val pairs to {given['folder']}.")


if __name__ == "__main__":
    main()
