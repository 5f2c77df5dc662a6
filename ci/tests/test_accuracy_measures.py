# SPDX-License-Identifier: Apache-2.0
import json
import pathlib

import drawing
import measures
import numpy as np
import pytest

NEURAL, PIX2PIX, STARGAN, UGATIT, WHITEBOX = sorted(measures.METRICS)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return {
        model: drawing.draw(model, tmp_path_factory.mktemp("data") / model)
        for model in measures.METRICS
    }


def measure(model, data, output, metrics=None):
    result = {"model": model, "metrics": metrics or {}}
    (output / "result.json").write_text(json.dumps(result))
    return measures.measure(model, data[model], output)


def pairs(data):
    for number in range(1, 9):
        yield number, *np.split(measures.read(data[PIX2PIX] / "val" / f"{number}.png"), 2, axis=1)


def test_pix2pix_targets_are_ideal_blurred_ones_have_no_texture(data, tmp_path):
    for number, photo, _ in pairs(data):
        drawing.write(tmp_path / "test" / f"test_{number:04d}.png", photo)
    ideal = measure(PIX2PIX, data, tmp_path)
    assert ideal["colour_error"] == 0
    assert ideal["texture_energy"] == 1
    for number, photo, _ in pairs(data):
        blurred = np.kron(measures.smooth(photo, 16), np.ones((16, 16, 1)))
        drawing.write(tmp_path / "test" / f"test_{number:04d}.png", blurred)
    blurred = measure(PIX2PIX, data, tmp_path)
    assert blurred["colour_error"] < 2
    assert blurred["texture_energy"] < 0.3


def test_a_picture_that_is_missing_is_told(data, tmp_path):
    for number, photo, _ in pairs(data):
        drawing.write(tmp_path / "test" / f"test_{number:04d}.png", photo)
    (tmp_path / "test" / "test_0008.png").unlink()
    with pytest.raises(RuntimeError, match=r"left 7 test_.* not 8"):
        measure(PIX2PIX, data, tmp_path)


def test_pix2pix_label_maps_for_photos_have_other_colours(data, tmp_path):
    for number, _, labels in pairs(data):
        drawing.write(tmp_path / "test" / f"test_{number:04d}.png", labels)
    assert measure(PIX2PIX, data, tmp_path)["colour_error"] > 50


def write_translations(data, output, translate):
    """Writes `translate(picture, mask, wanted colour)` of 24 drawn faces for each hair colour."""
    paths = sorted((data[STARGAN] / "CelebA" / "Img" / "img_align_celeba").iterdir())[:24]
    for number, path in enumerate(paths, 1):
        source = measures.read(path)[10:99]
        drawing.write(output / "results" / "src" / f"{number}-images.jpg", source)
        for wanted, colour in enumerate(drawing.HAIR.values(), 1):
            fake = translate(source, (source[..., 2] < 120)[..., None], np.array(colour))
            folder = output / "results" / f"generate{wanted}"
            drawing.write(folder / f"{number}-images.jpg", fake)


def test_stargan_a_shape_in_the_wanted_colour_is_ideal(data, tmp_path):
    write_translations(data, tmp_path, lambda x, mask, colour: np.where(mask, colour, x))
    found = measure(STARGAN, data, tmp_path, {"reconstruction_l1": 0.1})
    assert found["wanted_colour"] == 1
    assert found["colour_error"] < 8
    assert found["background_change"] < 2
    assert found["shape_overlap"] > 0.95
    assert found["reconstruction_l1"] == 0.1


@pytest.mark.parametrize(
    ("metric", "translate"),
    [
        ("wanted_colour", lambda x, mask, colour: x),
        ("background_change", lambda x, mask, colour: np.where(mask, colour, 255 - x)),
        ("shape_overlap", lambda x, mask, colour: np.where(np.roll(mask, 40, 1), colour, 230)),
    ],
)
def test_stargan_each_thing_that_is_wrong_has_a_metric_of_its_own(
    metric, translate, data, tmp_path
):
    write_translations(data, tmp_path, translate)
    found = measure(STARGAN, data, tmp_path, {"reconstruction_l1": 0.1})
    wrong = {
        "wanted_colour": found["wanted_colour"] < 0.2 and found["colour_error"] > 40,
        "background_change": found["background_change"] > 30,
        "shape_overlap": found["shape_overlap"] < 0.7,
    }
    assert wrong[metric]


def write_domains(data, output, translate):
    for own, other in ("AB", "BA"):
        for number in range(1, 11):
            source = measures.read(data[UGATIT] / f"test{own}" / f"{number}.png")
            mask = (source[..., 1] < 135)[..., None]
            folder = output / "results" / "selfie2anime" / "test"
            drawing.write(folder / f"{own}_{number}.png", source)
            fake = translate(source, mask, drawing.DOMAINS[other])
            drawing.write(folder / f"{own}2{other}_{number}.png", fake)


def test_ugatit_the_other_domains_colours_in_the_same_shape_are_ideal(data, tmp_path):
    metrics = {"A2B_cycle_l1": 0.1, "B2A_cycle_l1": 0.3}
    write_domains(data, tmp_path, lambda x, mask, colours: np.where(mask, *map(np.array, colours)))
    found = measure(UGATIT, data, tmp_path, metrics)
    assert found == {"colour_distance": 0, "shape_overlap": 1, "cycle_l1": pytest.approx(0.2)}
    write_domains(data, tmp_path, lambda x, mask, colours: x)
    assert measure(UGATIT, data, tmp_path, metrics)["colour_distance"] > 0.8
    write_domains(data, tmp_path, lambda x, mask, colours: x.transpose(1, 0, 2))
    assert measure(UGATIT, data, tmp_path, metrics)["shape_overlap"] < 0.8


def write_cartoons(data, output, cartoonize):
    for path in (data[WHITEBOX] / "scenery_photo").iterdir():
        drawing.write(output / "cartoonized_scenery" / path.name, cartoonize(measures.read(path)))


def test_whitebox_photos_are_as_they_are_and_flat_strong_ones_are_better(data, tmp_path):
    write_cartoons(data, tmp_path, lambda x: x)
    kept = measure(WHITEBOX, data, tmp_path)
    assert list(kept.values()) == pytest.approx([1, 1, 1, 1])

    def flatten(x):
        flat = np.kron(measures.smooth(x, 4), np.ones((4, 4, 1)))
        grey = flat.mean(2, keepdims=True)
        return grey + 2 * (flat - grey)

    write_cartoons(data, tmp_path, flatten)
    flat = measure(WHITEBOX, data, tmp_path)
    assert flat["grain"] < 0.3
    assert flat["saturation"] == pytest.approx(2, abs=0.1)
    assert min(flat["hue_kept"], flat["content_kept"]) > 0.95


def test_whitebox_swapped_channels_and_another_content_are_seen(data, tmp_path):
    write_cartoons(data, tmp_path, lambda x: x[..., ::-1])
    assert measure(WHITEBOX, data, tmp_path)["hue_kept"] < 0.6
    write_cartoons(data, tmp_path, lambda x: x.transpose(1, 0, 2))
    assert measure(WHITEBOX, data, tmp_path)["content_kept"] < 0.8


def paint(data, output, content, style, blue):
    """Writes a painted picture: `content` of the content's grey, `style` of the style's colours."""
    pictures = [measures.read(data[NEURAL] / f"1-{name}.png") for name in ("content", "style")]
    painted = content * (pictures[0] - 128) + style * measures.chroma(pictures[1]) + 128
    painted[..., 2] = blue
    drawing.write(output / "11.jpg", painted)
    run = output / "11.jpg.run"
    run.mkdir(exist_ok=True)
    (run / "log.jsonl").write_text('{"step": 1, "total": 50.0}\n{"step": 2, "total": 5.0}\n')
    (run / "metrics.json").write_text('{"total": 4.0, "gram_distance": 0.2}')
    return measure(NEURAL, data, output)


def test_a_painting_has_the_contents_grey_and_the_styles_colours(data, tmp_path):
    found = paint(data, tmp_path, 1, 0.8, 60)
    assert found["loss_left"] == pytest.approx(0.08)
    assert found["style_distance"] == 0.2
    assert 0.6 < found["style_colours"] < 0.9
    assert found["content_kept"] > 0.95
    assert found["blue_moved"] < 8  # JPEG
    assert paint(data, tmp_path, 1, 0, 60)["style_colours"] < 0.1
    assert paint(data, tmp_path, -1, 0.8, 60)["content_kept"] < -0.9
    assert paint(data, tmp_path, 1, 0.8, 140)["blue_moved"] > 70


def test_a_training_that_left_no_pictures_is_told(data, tmp_path):
    with pytest.raises(RuntimeError, match=r"left no .*result\.json"):
        measures.measure(PIX2PIX, data[PIX2PIX], pathlib.Path(tmp_path))
    with pytest.raises(RuntimeError, match=r"left 0 test_\*.png in "):
        measure(PIX2PIX, data, tmp_path)
