# SPDX-License-Identifier: Apache-2.0
"""How far a folder of cartoons is from the photos and from real cartoons (section 4.4)."""

import os
from typing import Dict, List

import numpy as np
import tensorflow.compat.v1 as tf
from PIL import Image

from harness import fid, report
from harness.files import write_json
from harness.gallery import Pair, write_tested
from harness.images import list_images, read_image
from tf_runtime import device as devices
from tf_runtime.run import surroundings
from whitebox import data
from whitebox.config import FID_PROTOCOL
from whitebox.vgg import Vgg
from whitebox.weights import find_vgg, read_vgg

SIDE = 256  # pixels of the pictures whose features are compared


def evaluate(config) -> Dict[str, float]:
    """Compares RESULTS with the photos and the cartoons of a subject, prints and writes it.

    With an Inception file FID to both, through tools/fid. Else a named surrogate: the Fréchet
    distance of the mean VGG-19 features (conv4_4) of whole pictures. And how much flatter the
    cartoons are: their mean total variation over that of the photos.

    Args:
      config: an EvaluateConfig.

    Raises:
      UserError: if a folder or file is missing; before anything is computed.
    """
    domain = data.find_domains(config)[-1]  # scenery, where there are both
    results = list_images(config.results)
    if config.inception:
        fid.check(config.inception, len(results), len(domain.photos), len(domain.cartoons))
    else:
        layers = read_vgg(config.vgg or find_vgg(data.find_root(config)))
    metrics = {"pictures": float(len(results)), "photos": float(len(domain.photos))}
    metrics["cartoons"] = float(len(domain.cartoons))
    words = (len(results), config.results, len(domain.photos), len(domain.cartoons), domain.subject)
    print("%d pictures of %s, %d photos and %d cartoons (%s)" % words, flush=True)
    device = devices.choose(config)
    ratio = metrics["total_variation_ratio"] = _variation(results) / _variation(domain.photos)
    print("total variation over that of the photos: %.4f" % ratio, flush=True)
    if config.inception:
        for kind, paths in (("photo", domain.photos), ("cartoon", domain.cartoons)):
            value = fid.fid(paths, results, config.inception, FID_PROTOCOL)
            metrics["fid_" + kind] = value
            print("FID:  %.4f" % value, flush=True)
    else:
        of_results, of_photos, of_cartoons = _features(
            [results, domain.photos, domain.cartoons], layers, config.batch_size, device
        )
        metrics["vgg19_frechet_photo"] = frechet_distance(of_results, of_photos)
        metrics["vgg19_frechet_cartoon"] = frechet_distance(of_results, of_cartoons)
        metrics["vgg19_frechet_photo_to_cartoon"] = frechet_distance(of_photos, of_cartoons)
        for name, what in (
            ("photo", "to the photos"),
            ("cartoon", "to the cartoons"),
            ("photo_to_cartoon", "of the photos to the cartoons"),
        ):
            value = metrics["vgg19_frechet_" + name]
            print("VGG-19 Frechet distance %s: %.4f" % (what, value), flush=True)
    write_json(os.path.join(config.output_path, "metrics.json"), metrics)
    photos = {_stem(path): path for path in domain.photos}
    paths = [path for path in results if _stem(path) in photos]
    pairs = [Pair(os.path.basename(path), photos[_stem(path)], path) for path in paths]
    around = dict(surroundings(device), data=data.fingerprint([domain]))
    write_tested(config.output_path, pairs, metrics, _protocols(metrics), around)
    report.write(config.output_path, config)
    return metrics


def _stem(path) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _protocols(metrics) -> Dict[str, str]:
    """Returns {name: how it was measured} of the metrics that are not counts."""
    texts = {
        "total": "of the cartoons over that of the photos, at %d pixels" % SIDE,
        "fid": "tools/fid, %s" % FID_PROTOCOL,
        "vgg19": "of conv4_4's means over pictures of %d pixels; a surrogate, no FID" % SIDE,
    }
    kinds = {name: name.split("_")[0] for name in metrics}
    return {name: texts[kind] for name, kind in kinds.items() if kind in texts}


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Returns |m1 - m2|^2 + Tr(S1 + S2 - 2 (S1 S2)^(1/2)) of features [N, C] and [M, C]."""
    means = first.mean(0) - second.mean(0)
    roots = [(f - f.mean(0)) / np.sqrt(max(len(f) - 1, 1)) for f in (first, second)]
    # The trace of (S1 S2)^(1/2) is the sum of the singular values of the product of their roots.
    product = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    traces = sum(np.square(root).sum() for root in roots)
    return float(np.square(means).sum() + traces - 2 * product)


def _variation(paths) -> float:
    """Returns the mean total variation of pictures, grey levels per pixel."""
    values = []
    for path in paths:
        pixels = _picture(path).astype(np.float64)
        values.append(sum(np.abs(np.diff(pixels, axis=axis)).mean() for axis in (0, 1)))
    return float(np.mean(values))


def _picture(path) -> np.ndarray:
    picture = Image.fromarray(read_image(path))
    return np.asarray(picture.resize((SIDE, SIDE), Image.BICUBIC))


def _features(sets, layers, batch_size, device) -> List[np.ndarray]:
    """Returns float64 [N, 512] for each list of paths: conv4_4's means over the picture."""
    vgg = Vgg(layers, device.name == "cpu" and not device.mixed)
    with tf.Graph().as_default():
        images = tf.placeholder(tf.float32, [batch_size, SIDE, SIDE, 3])
        means = tf.reduce_mean(tf.nn.relu(vgg(images)), [1, 2])
        with tf.Session(config=devices.session_config(device)) as session:
            vgg.load(session)
            found = []
            for paths in sets:
                rows = []
                for first in range(0, len(paths), batch_size):
                    batch = [_picture(path) for path in paths[first : first + batch_size]]
                    filled = np.stack(batch + [batch[0]] * (batch_size - len(batch)))
                    value = session.run(means, {images: data.to_float(filled)})
                    rows.append(value[: len(batch)].astype(np.float64))
                found.append(np.concatenate(rows))
    return found
