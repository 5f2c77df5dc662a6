# SPDX-License-Identifier: Apache-2.0
"""Draws a small data set for each model, in seconds, for training runs whose result is measured.

What is drawn has colours, places and textures that plain code can measure, so that no learnt judge
is needed. The same seed gives the same bytes (with one release of NumPy and Pillow).

`python ci/drawing.py MODEL FOLDER` draws one; MODEL may be the beginning of a model folder's name.
"""

import argparse
import os
import pathlib
import sys
import tempfile

import numpy as np
from PIL import Image, ImageFilter

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Pix2Pix: by label its colour in the map, two colours of its stripes, and their direction.
LABELS = (
    ((0, 0, 200), (225, 215, 195), (225, 215, 195), (0, 0)),  # plain
    ((0, 200, 200), (205, 95, 60), (125, 45, 30), (0, 1)),  # stripes that lie
    ((250, 220, 0), (90, 150, 220), (20, 50, 110), (1, 0)),  # stripes that stand
    ((220, 0, 0), (120, 190, 90), (30, 80, 20), (1, 1)),  # checks
)
STRIPE = 8  # pixels

# StarGAN: the colour of the shape by attribute; its background is blue.
HAIR = {"Black_Hair": (25, 25, 40), "Blond_Hair": (240, 205, 60), "Brown_Hair": (150, 70, 25)}
OTHERS = ("Male", "Young")  # a frame, and a light background

# U-GAT-IT: colours of shape and background of the two domains. Equal backgrounds: with others too
# few things would tie a shape to its place, as only pictures of two domains are compared.
DOMAINS = {"A": ((40, 60, 170), (205, 205, 205)), "B": ((190, 50, 30), (205, 205, 205))}

# White-box: the colours of photos, which cartoons have more saturated.
MUTED = ((150, 110, 100), (110, 140, 105), (100, 115, 150), (160, 150, 110), (130, 105, 140))

# Neural style: stripes of the style and what the network takes away from red, green and blue.
STYLE = ((230, 90, 40), (70, 190, 40))
MEAN_PIXEL = (140.0, 115.0, 60.0)
WIDTHS = (16, 24, 32, 32, 32)  # channels of the blocks of a drawn VGG-19
CONVOLUTIONS = (2, 2, 4, 4, 4)  # of its blocks


def shape_mask(rng, height, width, least=0.2):
    """Returns a bool (height, width) mask of a disc, square or diamond at a random place.

    Its radius is `least` to `least` + 0.1 of the shorter side.
    """
    radius = (least + 0.1 * rng.uniform()) * min(height, width)
    middle = [rng.uniform(1.3 * radius, length - 1.3 * radius) for length in (height, width)]
    rows, cols = np.mgrid[:height, :width] + 0.5
    down, across = np.abs(rows - middle[0]), np.abs(cols - middle[1])
    kind = rng.randint(3)
    if kind == 0:
        return down**2 + across**2 < radius**2
    if kind == 1:
        return np.maximum(down, across) < radius * 0.9
    return down + across < radius * 1.2


def box(rng, side, least, most):
    """Returns slices of a random rectangle with sides of least to most pixels."""
    size = rng.randint(least, most + 1, 2)
    top, left = [rng.randint(0, side - length + 1) for length in size]
    return slice(top, top + size[0]), slice(left, left + size[1])


def write(path: pathlib.Path, pixels) -> None:
    """Writes pixels, clipped to 0..255, as a picture; a JPEG with little loss."""
    path.parent.mkdir(parents=True, exist_ok=True)
    jpeg = path.suffix == ".jpg"
    words = {"quality": 95, "subsampling": 0} if jpeg else {"compress_level": 1}
    Image.fromarray(np.uint8(np.clip(np.rint(pixels), 0, 255))).save(path, **words)


def stripes(rng, label, side):
    """Returns the texture of a label, float (side, side, 3), with a random phase."""
    _, light, dark, direction = LABELS[label]
    rows, cols = np.mgrid[:side, :side]
    phases = rng.randint(0, 2 * STRIPE, 2)
    places = [(place + phase) // STRIPE for place, phase in zip((cols, rows), phases)]
    is_dark = sum(part * flag for part, flag in zip(places, direction)) % 2
    return np.where(is_dark[..., None] == 1, dark, light).astype(float)


def draw_pair(rng, side=256):
    """Returns a photo and its label map, float (side, side, 3): rectangles of striped cloth."""
    labels = np.zeros((side, side), int)
    for _ in range(5):
        labels[box(rng, side, side // 4, side // 2)] = rng.randint(1, len(LABELS))
    photo = np.zeros((side, side, 3))
    for label in range(len(LABELS)):
        photo = np.where((labels == label)[..., None], stripes(rng, label, side), photo)
    return photo + rng.randn(side, side, 1) * 2, np.array([row[0] for row in LABELS])[labels]


def draw_pix2pix(folder, rng):
    """Draws train/ and val/ with pairs side by side: photo left, labels right."""
    for split, count in (("train", 40), ("val", 8)):
        for number in range(1, count + 1):
            write(folder / split / f"{number}.png", np.hstack(draw_pair(rng)))


def draw_stargan(folder, rng, count=240):
    """Draws CelebA's layout: shapes on blue; their colour is that of the hair."""
    names = (*HAIR, *OTHERS)
    lines = [str(count), " ".join(names)]
    for number in range(1, count + 1):
        values = np.append(np.eye(len(HAIR), dtype=int)[number % len(HAIR)], rng.randint(0, 2, 2))
        name = f"{number:06d}.jpg"
        inside = np.zeros((109, 89), bool)
        inside[10:99] = shape_mask(rng, 89, 89, 0.28)  # the part that is trained with
        sky = np.array((150, 175, 225)) + 25 * values[-1] + rng.uniform(-12, 12, 3)
        colour = np.array(HAIR[names[number % len(HAIR)]]) + rng.uniform(-10, 10, 3)
        pixels = np.where(inside[..., None], colour, sky)
        if values[-2]:
            pixels[12:97, [2, 3, 85, 86]] = pixels[[12, 13, 95, 96], 2:87] = (200, 60, 180)
        write(folder / "CelebA" / "Img" / "img_align_celeba" / name, pixels)
        lines.append(" ".join([name, *(str(2 * value - 1) for value in values)]))
    table = folder / "CelebA" / "Anno" / "list_attr_celeba.txt"
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text("\n".join(lines) + "\n")


def draw_ugatit(folder, rng):
    """Draws trainA, trainB, testA and testB: shapes on grey, blue ones (A) or red ones (B)."""
    for split, count in (("train", 40), ("test", 10)):
        for domain, colours in DOMAINS.items():
            for number in range(1, count + 1):
                inside = shape_mask(rng, 64, 64)[..., None]
                pixels = np.where(inside, *[colour + rng.uniform(-12, 12, 3) for colour in colours])
                write(folder / f"{split}{domain}" / f"{number}.png", pixels)


def draw_scene(rng, cartoon, side=96):
    """Returns a scene of rectangles and a shape, float (side, side, 3).

    A photo has muted colours, a fall of light and grain; a cartoon strong, flat colours and dark
    outlines.
    """
    places = np.full((side, side), rng.randint(len(MUTED)))
    for _ in range(4):
        places[box(rng, side, side // 4, side // 2)] = rng.randint(len(MUTED))
    places[shape_mask(rng, side, side)] = rng.randint(len(MUTED))
    pixels = np.array(MUTED, float)[places] + rng.uniform(-10, 10)
    if cartoon:
        grey = pixels.mean(2, keepdims=True)
        edges = np.zeros((side, side), bool)
        edges[1:] |= places[1:] != places[:-1]
        edges[:, 1:] |= places[:, 1:] != places[:, :-1]
        return np.where(edges[..., None], 25, grey + 2.5 * (pixels - grey))
    light = np.linspace(*rng.uniform(0.8, 1.2, 2), side)[:, None, None]
    return pixels * light + rng.randn(side, side, 1) * 9


def draw_whitebox(folder, rng):
    """Draws photos and cartoons of both subjects, and a narrow VGG-19 of random weights."""
    for subject, count in (("scenery", 32), ("face", 16)):
        for kind in ("photo", "cartoon"):
            for number in range(1, count + 1):
                scene = draw_scene(rng, kind == "cartoon")
                write(folder / f"{subject}_{kind}" / f"{number}.png", scene)
    np.savez(folder / "vgg19_no_fc.npz", **draw_vgg(rng))


def draw_vgg(rng, blind=()):
    """Returns {"conv1_1_W": kernel, "conv1_1_b": bias, ...} of a narrow VGG-19, random, orthogonal.

    Each layer keeps the mean square of what it gets.

    Args:
      rng: NumPy's RandomState.
      blind: the channels of a picture that the network does not see.
    """
    arrays, channels = {}, 3
    for block, (width, count) in enumerate(zip(WIDTHS, CONVOLUTIONS), 1):
        for index in range(1, count + 1):
            values = np.linalg.qr(rng.randn(9 * channels, width))[0]
            kernel = 2**0.5 * values.reshape(3, 3, channels, -1)
            if channels == 3:
                kernel[:, :, list(blind)] = 0
            name = f"conv{block}_{index}"
            arrays[name + "_W"] = kernel.astype(np.float32)
            arrays[name + "_b"] = np.zeros(kernel.shape[3], np.float32)
            channels = kernel.shape[3]
    return arrays


def draw_style(folder, rng, side=64):
    """Draws a content, a style, and a VGG-19 that does not see blue.

    Blue stays what the network's mean pixel says, so that a wrong order of channels is seen.
    """
    content = np.full((side, side, 3), 200.0)
    content[shape_mask(rng, side, side)] = 50
    picture = Image.fromarray(content.astype(np.uint8)).filter(ImageFilter.GaussianBlur(1))
    write(folder / "1-content.png", np.asarray(picture))
    rows, cols = np.mgrid[:side, :side]
    stripe = ((rows + cols) // 6 % 2)[..., None]
    style = np.where(stripe == 1, *np.array(STYLE)) + rng.randn(side, side, 1) * 3
    write(folder / "1-style.png", style)
    arrays = dict(draw_vgg(rng, blind=[2]), mean_pixel=np.array(MEAN_PIXEL))
    np.savez(folder / "vgg19.npz", **arrays)


DRAWERS = {
    "NEURAL-STYLE_ID2068_for_TensorFlow": draw_style,
    "Pix2Pix_ID0359_for_TensorFlow": draw_pix2pix,
    "StarGAN_ID1472_for_TensorFlow": draw_stargan,
    "U-GAT-IT_for_MindSpore": draw_ugatit,
    "WhiteBox_Cartoonization_for_TensorFlow": draw_whitebox,
}


def draw(model: str, folder: pathlib.Path, seed: int = 0) -> pathlib.Path:
    """Draws the data set of a model as `folder`, whole or not at all: what --data_path takes.

    Args:
      model: name of the model's folder.
      folder: must be empty or missing.
      seed: of all that is random.

    Returns:
      `folder`.

    Raises:
      ValueError: if nothing is known to be drawn for `model`, or `folder` holds something.
    """
    if model not in DRAWERS:
        names = ", ".join(DRAWERS)
        raise ValueError(f"nothing can be drawn for {model}; choose one of {names}")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ValueError(f"{folder} is not an empty folder; give one that is, or a new name")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".drawing-") as temporary:
        aside = pathlib.Path(temporary) / "data"
        aside.mkdir()
        DRAWERS[model](aside, np.random.RandomState(seed))
        os.replace(aside, folder)
    return folder


def main() -> int:
    """Draws the data set named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    names = [name for name in DRAWERS if name.lower().startswith(given.model.lower())]
    if len(names) != 1:
        parser.error(f"MODEL is {given.model!r}; give the beginning of one of {', '.join(DRAWERS)}")
    try:
        print(draw(names[0], given.folder, given.seed))
    except ValueError as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
