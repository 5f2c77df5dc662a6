# SPDX-License-Identifier: Apache-2.0
"""The file of VGG-19: the only module that knows how it lies on disk.

A .npy with a pickled dictionary, of which only the arrays are taken and nothing is run, a .npz of
plain arrays, or a MatConvNet .mat. Kernels are (height, width, in, out), in the files and here.
"""

import os
import pickle
import re
import tokenize
import zipfile
import zlib
from typing import Dict, Tuple

import numpy as np
from scipy.io import loadmat

from harness.errors import UserError

try:
    from scipy.io.matlab import MatReadError
except ImportError:  # SciPy before 1.8
    from scipy.io.matlab.miobase import MatReadError

LAYERS = ["conv%d_%d" % (b, i) for b, n in enumerate((2, 2, 4, 4), 1) for i in range(1, n + 1)]
MARKS = {".npy": b"\x93NUMPY", ".npz": b"PK\x03\x04", ".mat": b"MATLAB"}  # how they begin
NAMES = ("vgg19_no_fc.npy", "imagenet-vgg-verydeep-19.mat", "vgg19_no_fc.npz")
SOURCE = "https://www.vlfeat.org/matconvnet/models/imagenet-vgg-verydeep-19.mat"
NPZ_NAMES = (("%s/kernel", "%s/bias"), ("%s_W", "%s_b"), ("%s/weights", "%s/biases"))
_WEB_PAGE = (b"<!doctype", b"<html", b"<head", b"<?xml")
_LFS_POINTER = b"version https://git-lfs"

# What SciPy, NumPy and pickle raise for files that are cut off or damaged.
DAMAGE = (ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, OSError)
DAMAGE += (RuntimeError, TypeError, ValueError, MatReadError, zipfile.BadZipFile, zlib.error)
DAMAGE += (pickle.UnpicklingError, tokenize.TokenError, SystemError, UnboundLocalError)

Pair = Tuple[np.ndarray, np.ndarray]


class WeightsError(UserError):
    """A file of weights that cannot be used; the message says what is wrong with it."""


def find_vgg(folder: str) -> str:
    """Returns the path of the first of the files NAMES in `folder`.

    Raises:
      WeightsError: if none is there.
    """
    for name in NAMES:
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            return path
    text = "there is no VGG-19 in %s (%s); give --vgg, such as the file from %s"
    raise WeightsError(text % (folder, ", ".join(NAMES), SOURCE))


def read_vgg(path: str) -> Dict[str, Pair]:
    """Reads the convolutions conv1_1 to conv4_4 of VGG-19; what follows in the file is ignored.

    Args:
      path: a .npy of {"conv1_1": [kernel, bias], ...}, BGR; a .npz with arrays named
        conv1_1/kernel and conv1_1/bias, conv1_1_W and conv1_1_b, or conv1_1/weights and
        conv1_1/biases, BGR; or a .mat of MatConvNet, which is RGB and becomes BGR here.

    Returns:
      By name and in order: kernel float32 [3, 3, in, out], of which conv1_1 takes BGR, and bias
      float32 [out]. They may be narrower than the published ones.

    Raises:
      WeightsError: if the file is missing, damaged, of another kind, not such a network, or a
        pickle of anything else than arrays.
    """
    ending = os.path.splitext(path)[1].lower()
    try:
        with open(path, "rb") as file:
            _check_kind(path, ending, file.read(512))
            file.seek(0)
            read = {".npy": _read_npy, ".npz": _read_npz, ".mat": _read_mat}[ending]
            try:
                pairs = read(path, file)
            except WeightsError:
                raise
            except DAMAGE as error:
                raise damaged(path, error) from error
    except OSError as error:
        text = "%s cannot be opened: %s; give --vgg a file that can be read, such as that from %s"
        raise WeightsError(text % (path, error.strerror, SOURCE)) from error
    return _layers(path, pairs)


def floats(path: str, name: str, value) -> np.ndarray:
    """Returns `value` as a new float32 array; raises WeightsError unless it is finite numbers."""
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        kind = value.dtype if isinstance(value, np.ndarray) else type(value).__name__.strip("_")
        text = "%s of %s holds %s; it must be an array of floating-point numbers, mend the file"
        raise WeightsError(text % (name, path, kind))
    with np.errstate(over="ignore"):
        array = np.array(value, np.float32, order="C")
    if not np.isfinite(array).all():
        text = "%s of %s has NaN or infinite values; all must be finite, download it again"
        raise WeightsError(text % (name, path))
    return array


def read_arrays(path: str, file, names) -> Dict[str, np.ndarray]:
    """Returns those arrays of the .npz in `file` that are in `names`, without running pickles.

    Raises:
      WeightsError: if one of them is pickled.
      Exception: one of DAMAGE, if the file is damaged.
    """
    zipfile.ZipFile(file).close()  # for a file cut off, NpzFile prints a traceback too
    file.seek(0)
    arrays = {}
    with np.load(file, allow_pickle=False) as archive:
        for name in names:
            try:
                arrays.update({name: archive[name]} if name in archive.files else {})
            except ValueError as error:
                if "allow_pickle" not in str(error):
                    raise
                text = "%s of %s is pickled, which could run code, and is not trusted; it must be "
                raise WeightsError(text % (name, path) + "a plain array, save it so") from error
    return arrays


def damaged(path: str, error: Exception) -> WeightsError:
    """Returns the error for a file that cannot be read because of `error`."""
    reason = " ".join(("%s: %s" % (type(error).__name__, error)).split())[:120]
    text = "%s cannot be read (%s); it is incomplete or damaged, use another or download it again"
    return WeightsError(text % (path, reason))


def check_start(path: str, start: bytes) -> None:
    """Raises WeightsError if `start`, of a file, says that the download went wrong."""
    if not start:
        raise WeightsError("%s is empty; use another, or make or download it again" % path)
    if start.startswith(_LFS_POINTER):
        text = "%s is a pointer of Git LFS, not the file; fetch it with git lfs pull"
        raise WeightsError(text % path)
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_WEB_PAGE):
        raise WeightsError("%s is a web page, saved in place of the file; download it again" % path)


def _check_kind(path, ending, start) -> None:
    """Raises WeightsError if the file that begins with `start` is not what its ending says."""
    if ending not in MARKS:
        text = "%s ends in %r; allowed are %s, convert the weights to one of them"
        raise WeightsError(text % (path, ending, ", ".join(MARKS)))
    check_start(path, start)
    if start.startswith(b"\x80"):
        text = "%s is a bare Python pickle, which is not read; save the weights as .npz"
        raise WeightsError(text % path)
    if ending == ".mat" and start.startswith((b"MATLAB 7.3", b"\x89HDF")):
        text = "%s is a MATLAB 7.3 file (HDF5), which is not read; save it with -v7 in MATLAB"
        raise WeightsError(text % path)
    if not start.startswith(MARKS[ending]):
        text = "%s begins with %r, not as a %s file does; download it again or mend the ending"
        raise WeightsError(text % (path, start[:8], ending))


class _DType:
    """Stands in for numpy.dtype in a pickle: `code` such as f4, and the `order` of the bytes."""

    def __init__(self, code, *_):
        self.code, self.order = code, "="

    def __setstate__(self, state):
        self.order = state[1]


class _Array:
    """Stands in for a NumPy array or scalar in a pickle, with the state that NumPy would get.

    NumPy's own would believe a forged state, such as objects at addresses that the file gives.
    """

    def __init__(self, *_):
        self._state = None

    def __setstate__(self, state):
        self._state = state

    def value(self):
        """Returns the array, or the list of its objects; ValueError if it is neither."""
        if self._state is None:
            raise ValueError("a scalar or an array without its values")
        _, shape, dtype, fortran, data = self._state
        if isinstance(data, list):
            return data
        if not re.match(r"[<>=|][fiu][1248]$", dtype.order + dtype.code):
            raise ValueError("numbers of the kind %s%s" % (dtype.order, dtype.code))
        data = data.encode("latin1") if isinstance(data, str) else data  # str: of Python 2
        flat = np.frombuffer(data, np.dtype(dtype.order + dtype.code))
        return flat.reshape(shape, order="F" if fortran else "C")


def _encode(text, *_):
    """Stands in for _codecs.encode, by which protocols 0 to 2 hold bytes."""
    return text.encode("latin1")


_ALLOWED = {"numpy ndarray": _Array, "numpy dtype": _DType, "collections OrderedDict": dict}
_ALLOWED.update({"numpy.core.multiarray " + name: _Array for name in ("_reconstruct", "scalar")})
_ALLOWED.update({"numpy._core.multiarray " + name: _Array for name in ("_reconstruct", "scalar")})
_ALLOWED["_codecs encode"] = _encode


class _Unpickler(pickle.Unpickler):
    """Reads dictionaries, lists and arrays, the latter as _Array, and refuses everything else."""

    def __init__(self, path, file):
        super().__init__(file, encoding="latin1")
        self._path = path

    def find_class(self, module, name):
        allowed = _ALLOWED.get(module + " " + name)
        if allowed is None:
            text = "%s is a pickle that asks for %s.%s, which could run code, and is not trusted; "
            text += "it must hold arrays only, use another file"
            raise WeightsError(text % (self._path, module[:80], name[:80]))
        return allowed


def _read_npy(path, file) -> Dict[str, tuple]:
    """Returns {name: (kernel, bias)} as in the file."""
    if np.lib.format.read_magic(file) == (1, 0):
        _, _, dtype = np.lib.format.read_array_header_1_0(file)
    else:
        _, _, dtype = np.lib.format.read_array_header_2_0(file)
    content = _Unpickler(path, file).load() if dtype.kind == "O" else None
    content = content.value() if isinstance(content, _Array) else None
    if not isinstance(content, list) or len(content) != 1 or not isinstance(content[0], dict):
        text = '%s is not a dictionary; it must be {"conv1_1": [kernel, bias], ...}, make it so'
        raise WeightsError(text % path)
    return {name: _pair(path, name, content[0][name]) for name in LAYERS if name in content[0]}


def _read_npz(path, file) -> Dict[str, tuple]:
    """Returns {name: (kernel, bias)} as in the file."""
    names = [form % name for name in LAYERS for form in sum(NPZ_NAMES, ())]
    arrays = read_arrays(path, file, names)
    return {
        name: (arrays[kernel % name], arrays[bias % name])
        for name in LAYERS
        for kernel, bias in NPZ_NAMES
        if kernel % name in arrays and bias % name in arrays
    }


def _read_mat(path, file) -> Dict[str, tuple]:
    """Returns {name: (kernel, bias)} of the file, conv1_1 made BGR."""
    pairs = {}
    for cell in np.ravel(loadmat(file, variable_names=["layers"]).get("layers", ())):
        name = "".join(map(str, np.ravel(_field(cell, "name"))))
        if name in LAYERS:
            pairs[name] = _pair(path, name, _field(cell, "weights"))
    if "conv1_1" in pairs:
        kernel, bias = pairs["conv1_1"]
        pairs["conv1_1"] = kernel[:, :, ::-1], bias
    return pairs


def _field(struct, name):
    """Returns a field of a MATLAB struct, or None."""
    names = getattr(getattr(struct, "dtype", None), "names", None) or ()
    return struct[name].flat[0] if name in names and struct.size else None


def _pair(path, name, value) -> tuple:
    value = value.value() if isinstance(value, _Array) else value
    if isinstance(value, np.ndarray) and value.dtype == object:
        value = list(value.flat)
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        text = "%s of %s is not a kernel and a bias; give a network where it is"
        raise WeightsError(text % (name, path))
    return tuple(part.value() if isinstance(part, _Array) else part for part in value)


def _layers(path, pairs) -> Dict[str, Pair]:
    """Returns the layers as float32 and in order; raises WeightsError if they are no VGG-19."""
    missing = [name for name in LAYERS if name not in pairs]
    if missing:
        text = "%s has no layer %s of conv1_1 to conv4_4; give a VGG-19 where none is missing"
        raise WeightsError(text % (path, ", ".join(missing[:3])))
    layers, channels = {}, 3
    for name in LAYERS:
        kernel, bias = (floats(path, name, value) for value in pairs.pop(name))
        if kernel.ndim != 4 or kernel.shape[:3] != (3, 3, channels) or not kernel.shape[3]:
            text = "the kernel of %s in %s has the shape %s; it must be (3, 3, %d, out), convert it"
            raise WeightsError(text % (name, path, kernel.shape, channels))
        channels = kernel.shape[3]
        if bias.size != channels or max(bias.shape or (1,)) != channels:
            text = "the bias of %s in %s has the shape %s; it must have %d values, mend the file"
            raise WeightsError(text % (name, path, bias.shape, channels))
        layers[name] = kernel, bias.reshape(-1)
    return layers
