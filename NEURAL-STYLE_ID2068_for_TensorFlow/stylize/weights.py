# SPDX-License-Identifier: Apache-2.0
"""The file of VGG-19: the only module that knows how the weights lie on disk.

A MatConvNet .mat in its two layouts, a .npz of plain arrays, or a .npy with a pickled dictionary.
Kernels are (height, width, in, out), in the files and here.
"""

import hashlib
import os
import pickle
import tokenize
import zipfile
import zlib
from typing import Dict, List, NamedTuple, Sequence, Tuple

import numpy as np
from scipy.io import loadmat

from harness.errors import UserError

try:
    from scipy.io.matlab import MatReadError
except ImportError:  # SciPy before 1.8
    from scipy.io.matlab.miobase import MatReadError

_PLACES = [(b, i, n) for b, n in enumerate((2, 2, 4, 4, 4), 1) for i in range(1, n + 1)]
CONVOLUTIONS = ["conv%d_%d" % (block, index) for block, index, _ in _PLACES]
LAYERS = [  # in order, without pool5
    layer
    for block, index, last in _PLACES
    for layer in ("conv%d_%d" % (block, index), "relu%d_%d" % (block, index), "pool%d" % block)
    if index == last or not layer.startswith("pool")
][:-1]
ENDINGS = {".mat": "rgb", ".npz": "rgb", ".npy": "bgr"}  # and their usual order of the channels
MARKS = {".mat": b"MATLAB", ".npz": b"PK\x03\x04", ".npy": b"\x93NUMPY"}  # how they begin
WEB_PAGE = (b"<!doctype", b"<html", b"<head", b"<?xml")
CHANNEL_ORDERS = ("auto", "rgb", "bgr")
MEAN_PIXEL = (123.68, 116.779, 103.939)  # of the published network, RGB
PUBLISHED = "imagenet-vgg-verydeep-19.mat"
SOURCE = "https://www.vlfeat.org/matconvnet/models/" + PUBLISHED
PUBLISHED_SHA256 = "abdb57167f82a2a1fbab1e1c16ad9373411883f262a1a37ee5db2e6fb0044695"
KERNEL_NAMES = ("%s_W", "%s/kernel", "%s/weights", "%s/filter")
BIAS_NAMES = ("%s_b", "%s/bias", "%s/biases")

# What SciPy and NumPy raise for files that are cut off or damaged, found by damaging files.
_DAMAGE = (ArithmeticError, EOFError, LookupError, MemoryError, OSError, RuntimeError)
_DAMAGE += (TypeError, UnboundLocalError, ValueError, MatReadError, zipfile.BadZipFile, zlib.error)
_BAD_NUMPY = (pickle.UnpicklingError, AttributeError, ImportError, tokenize.TokenError)


class WeightsError(UserError):
    """A file of weights that cannot be used; the message says what is wrong with it."""


class Network(NamedTuple):
    """VGG-19 or its first layers.

    `layers`: by name and in order, kernel float32 [3, 3, in, out], RGB in, and bias float32 [out];
    `mean_pixel`: float64 [3], RGB, 0..255; `description`: one line that tells which file it is.
    """

    layers: Dict[str, Tuple[np.ndarray, np.ndarray]]
    mean_pixel: np.ndarray
    description: str


def read_network(
    path: str,
    legacy_transposed_kernels: bool = False,
    channel_order: str = "auto",
    allow_pickle: bool = False,
) -> Network:
    """Reads the convolutions of VGG-19 from a .mat, .npz or .npy file.

    Args:
      path: the file; it may end after any layer, and what follows conv5_4 is ignored.
      legacy_transposed_kernels: swaps height and width of the kernels; the code published with
        neural-style does, though the files are not stored so.
      channel_order: "rgb", "bgr", or "auto", which is bgr for .npy and else rgb. It says how the
        channels of conv1_1 and of the mean pixel lie in the file.
      allow_pickle: reads Python pickles too, which can run code.

    Raises:
      WeightsError: if the file is missing, damaged, of another kind, or not such a network.
    """
    if channel_order not in CHANNEL_ORDERS:
        text = "the channel order is %r; allowed are %s, choose one of them"
        raise WeightsError(text % (channel_order, ", ".join(CHANNEL_ORDERS)))
    with _open(path) as file:
        ending = _check_kind(path, file)
        digest = _sha256(file)
        file.seek(0)
        read = {".mat": _read_mat, ".npz": _read_npz, ".npy": _read_npy}[ending]
        pairs, mean, layout = read(path, file, allow_pickle)
    layers = _layers(path, pairs)
    if legacy_transposed_kernels:
        layers = {n: (np.ascontiguousarray(k.swapaxes(0, 1)), b) for n, (k, b) in layers.items()}
        layout += ", kernels transposed"
    order = ENDINGS[ending] if channel_order == "auto" else channel_order
    mean = np.array(MEAN_PIXEL) if mean is None else _mean_pixel(path, mean, order)
    if order == "bgr":
        kernel, bias = layers["conv1_1"]
        layers["conv1_1"] = np.ascontiguousarray(kernel[:, :, ::-1]), bias
        layout += ", stored as BGR"
    known = digest == PUBLISHED_SHA256
    origin = "the published " + PUBLISHED if known else "unknown, SHA-256 %s..." % digest[:12]
    words = (os.path.basename(path), layout, _last(layers), origin)
    return Network(layers, mean, "%s (%s, ends after %s, %s)" % words)


def available(network: Network) -> List[str]:
    """Returns the names of the layers that the network has, in order: conv, relu and pool."""
    return LAYERS[: 1 + LAYERS.index(_last(network.layers))]


def check_layers(network: Network, names: Sequence[str]) -> None:
    """Raises WeightsError if the network lacks one of the layers `names`; it lists the relu."""
    present = available(network)
    missing = " ".join(name for name in names if name not in present)
    if missing:
        choice = " ".join(name for name in present if name.startswith("relu"))
        text = "the layers %s are not in %s; choose --content_layers and --style_layers from %s"
        raise WeightsError(text % (missing, network.description, choice))


def _last(layers) -> str:
    return "relu" + list(layers)[-1][len("conv") :]


def _open(path):
    if os.path.isdir(path):
        raise WeightsError("%s is a folder; give the file of the network in it" % path)
    try:
        return open(path, "rb")
    except FileNotFoundError as error:
        text = "there is no file %s; give --network, such as %s from %s"
        raise WeightsError(text % (path, PUBLISHED, SOURCE)) from error
    except OSError as error:
        text = "%s cannot be opened: %s; give a file that can be read"
        raise WeightsError(text % (path, error.strerror)) from error


def _check_kind(path, file) -> str:
    """Returns the ending; raises WeightsError if the file does not begin as it says."""
    ending, start = os.path.splitext(path)[1].lower(), file.read(512)
    if ending not in ENDINGS:
        text = "%s ends in %r; allowed are %s, convert the weights to one of them"
        raise WeightsError(text % (path, ending, ", ".join(ENDINGS)))
    if not start:
        raise WeightsError("%s is empty; download it again" % path)
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(WEB_PAGE):
        text = "%s is a web page, saved in place of the file; download it from %s"
        raise WeightsError(text % (path, SOURCE))
    if start.startswith(b"\x80"):
        text = "%s is a bare Python pickle, which is not read; save the weights as .npz"
        raise WeightsError(text % path)
    if ending == ".mat" and start.startswith((b"MATLAB 7.3", b"\x89HDF")):
        text = "%s is a MATLAB 7.3 file (HDF5), which is not read; save it with -v7 in MATLAB"
        raise WeightsError(text % path)
    if not start.startswith(MARKS[ending]):  # np.load would take it for a pickle
        text = "%s begins with %r, not as a %s file does; download it again or mend the ending"
        raise WeightsError(text % (path, start[:8], ending))
    return ending


def _sha256(file) -> str:
    file.seek(0)
    digest = hashlib.sha256()
    for chunk in iter(lambda: file.read(1 << 20), b""):
        digest.update(chunk)
    return digest.hexdigest()


def _damaged(path, error) -> WeightsError:
    reason = " ".join(("%s: %s" % (type(error).__name__, error)).split())[:120]
    text = "%s cannot be read (%s); it is incomplete or damaged, download it again"
    return WeightsError(text % (path, reason))


def _not_trusted(path) -> WeightsError:
    text = "%s is a Python pickle, which can run code when read; give --allow_pickle if you trust "
    return WeightsError(text % path + "where it comes from")


def _read_mat(path, file, _):
    """Returns {name: (kernel, bias)} as in the file, the average image and the layout."""
    try:
        content = loadmat(file, variable_names=["layers", "meta", "normalization"])
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    if "layers" not in content:
        text = "%s has no variable layers, as MatConvNet files have; download it from %s"
        raise WeightsError(text % (path, SOURCE))
    pairs = {}
    for cell in np.ravel(content["layers"]):
        name = "".join(map(str, np.ravel(_field(cell, "name"))))
        if name in CONVOLUTIONS:
            pairs[name] = _pair(path, name, _field(cell, "weights"))
    image, layout = _field(_field(content.get("meta"), "normalization"), "averageImage"), "meta"
    if image is None:
        image, layout = _field(content.get("normalization"), "averageImage"), "normalization"
    if image is None:
        text = "%s has no averageImage in meta.normalization or normalization; download it again"
        raise WeightsError(text % path)
    return pairs, image, "MatConvNet with " + layout


def _field(struct, name):
    """Returns a field of a MATLAB struct, or None."""
    names = getattr(getattr(struct, "dtype", None), "names", None) or ()
    return struct[name].flat[0] if name in names and struct.size else None


def _pair(path, name, value) -> tuple:
    if isinstance(value, np.ndarray) and value.dtype == object:
        value = list(value.flat)
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        text = "%s of %s is not a kernel and a bias; give a network where it is"
        raise WeightsError(text % (name, path))
    return tuple(value)


def _read_npz(path, file, allow_pickle):
    """Returns {name: (kernel, bias)} as in the file, the mean pixel or None, and the layout."""
    forms = KERNEL_NAMES + BIAS_NAMES
    wanted = [form % name for name in CONVOLUTIONS for form in forms] + ["mean_pixel"]
    try:
        zipfile.ZipFile(file).close()  # for one cut off, NpzFile prints a traceback too
        file.seek(0)
        with np.load(file, allow_pickle=allow_pickle, encoding="latin1") as archive:
            content = {key: archive[key] for key in wanted if key in archive.files}
    except _DAMAGE + _BAD_NUMPY as error:
        if not allow_pickle and "allow_pickle" in str(error):  # what NumPy says of an object array
            raise _not_trusted(path) from error
        raise _damaged(path, error) from error
    found = {n: [content[f % n] for f in forms if f % n in content] for n in CONVOLUTIONS}
    pairs = {name: _pair(path, name, arrays) for name, arrays in found.items() if arrays}
    return pairs, content.get("mean_pixel"), ".npz"


def _read_npy(path, file, allow_pickle):
    """Returns {name: (kernel, bias)} as in the file, no mean pixel, and the layout."""
    if not allow_pickle:  # a .npy of several arrays is always one
        raise _not_trusted(path)
    try:
        content = np.load(file, allow_pickle=True, encoding="latin1")
    except _DAMAGE + _BAD_NUMPY as error:
        raise _damaged(path, error) from error
    content = content.item() if getattr(content, "shape", None) == () else None
    if not isinstance(content, dict):
        text = '%s is not a dictionary; it must be {"conv1_1": [kernel, bias], ...}, make it so'
        raise WeightsError(text % path)
    pairs = {name: _pair(path, name, content[name]) for name in CONVOLUTIONS if name in content}
    return pairs, None, ".npy"


def _layers(path, pairs) -> Dict[str, Tuple[np.ndarray, np.ndarray]]:
    """Returns the layers as float32 and in order; raises WeightsError if they are no VGG-19."""
    present = [name for name in CONVOLUTIONS if name in pairs]
    if not present:
        text = "%s has no layer conv1_1 nor any other of VGG-19; give a file such as %s"
        raise WeightsError(text % (path, PUBLISHED))
    for wanted, name in zip(CONVOLUTIONS, present):
        if wanted != name:
            text = "%s has no layer %s before %s; give a file where none is missing"
            raise WeightsError(text % (path, wanted, name))
    layers, channels = {}, 3
    for name in present:
        kernel, bias = (_floats(path, name, value) for value in pairs.pop(name))
        if kernel.ndim != 4 or kernel.shape[:3] != (3, 3, channels) or not kernel.shape[3]:
            text = "the kernel of %s in %s has the shape %s; it must be (3, 3, %d, out), convert it"
            raise WeightsError(text % (name, path, kernel.shape, channels))
        channels = kernel.shape[3]
        if bias.size != channels or max(bias.shape or (1,)) != channels:
            text = "the bias of %s in %s has the shape %s; it must have %d values, mend the file"
            raise WeightsError(text % (name, path, bias.shape, channels))
        layers[name] = kernel, bias.reshape(-1)
    return layers


def _floats(path, name, value, kind=np.float32) -> np.ndarray:
    try:
        array = np.array(value, kind, order="C")  # a copy, so that the file's can go
    except (TypeError, ValueError) as error:
        text = "%s of %s holds %s, not an array of numbers; mend the file"
        raise WeightsError(text % (name, path, type(value).__name__)) from error
    if not np.isfinite(array).all():
        text = "%s of %s has NaN or infinite values; all must be finite, download it again"
        raise WeightsError(text % (name, path))
    return array


def _mean_pixel(path, value, order) -> np.ndarray:
    """Returns float64 [3], RGB, of three values or of an average image [H, W, 3]."""
    image = _floats(path, "the mean pixel", value, np.float64)
    mean = image.mean(axis=(0, 1)) if image.ndim == 3 and image.size > 3 else image.reshape(-1)
    if mean.shape != (3,) or not ((mean >= 0) & (mean <= 255)).all():
        text = "the mean pixel of %s is %s; it must be three values in 0..255, mend the file"
        raise WeightsError(text % (path, mean[:4]))
    return mean[::-1].copy() if order == "bgr" else mean
