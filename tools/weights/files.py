# SPDX-License-Identifier: Apache-2.0
"""Weight files of any kind: which it is, what is in it, and its arrays by name.

The kind is found in the content, not in the file's name. All arrays together may have 16 GiB, and
a file cannot declare much more than it holds.
"""

import os
import re
from typing import Dict, List, Tuple

import numpy as np

from harness.errors import UserError
from tools.weights import graphs, matconvnet, mindspore_file, npz, pytorch, torch_files, values
from tools.weights.archives import Archive
from tools.weights.limits import told

PYTORCH, SAFETENSORS, NPZ, MAT = "PyTorch", "safetensors", "NumPy .npz", "MATLAB .mat"
CHECKPOINT, GRAPH = "TensorFlow checkpoint", "TensorFlow graph"
ONNX, MINDSPORE = "ONNX", "MindSpore checkpoint"
Description = List[Tuple[str, Tuple[int, ...], str]]

_SAFE = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "BOOL": "?"}
_SAFE.update({"%s%d" % (s, 8 * n): "<%s%d" % (s.lower(), n) for s in "IU" for n in (1, 2, 4, 8)})
_OTHERS = {
    b"\x89HDF": "an HDF5 file (Keras, or MATLAB 7.3)",
    b"\x93NUMPY": "a single array; an .npz has names",
    b"\x80": "a Python pickle that torch.save did not write",
    b"\x1f\x8b": "packed with gzip; unpack it",
}


def kind(path: str) -> str:
    """Returns the kind of a weight file: one of the constants of this module.

    Args:
      path: a file; for a TensorFlow checkpoint also its name without an ending.

    Raises:
      UserError: if there is no such file, or it is of no kind that can be read.
    """
    if graphs.checkpoint_prefix(path):
        return CHECKPOINT
    if os.path.isdir(path) or not os.path.exists(path):
        text = "%s is a folder; name a file" if os.path.isdir(path) else "there is no %s"
        raise UserError(text % path)
    with told(path), open(path, "rb") as file:
        start = file.read(4096)
    if torch_files.is_stream(start):
        return PYTORCH
    if start.startswith(b"PK"):
        with Archive(path) as archive:
            names = archive.names()
        if not names:
            raise UserError("%s is a zip file with nothing in it; get the file again" % path)
        return NPZ if all(name.endswith(".npy") for name in names) else PYTORCH
    if start.startswith(b"MATLAB 5.0 MAT-file"):
        return MAT
    if start[5:9] == b"\0\0\0{":  # after the length of the header, less than a TiB
        return SAFETENSORS
    if mindspore_file.is_checkpoint(start):
        return MINDSPORE
    if re.match(rb"\n[\x80-\xff]{0,9}[\x00-\x7f]\n", start):
        return GRAPH
    if start[:1] == b"\x08":
        return ONNX
    what = [text for begin, text in _OTHERS.items() if start.startswith(begin)]
    text = "%s is %s; what is read: %s"
    raise UserError(text % (path, (what or ["of an unknown kind, or damaged"])[0], _known()))


def _known():
    return ", ".join(sorted(_READERS))


def read(path: str) -> Dict[str, np.ndarray]:
    """Returns {name: array} of a weight file of any kind.

    bfloat16 becomes float32. Arrays may be read-only: copy one before changing it.

    Raises:
      UserError: if there is no such file, it is damaged, or of no kind that can be read.
    """
    return _READERS[kind(path)](path)


def describe(path: str) -> Description:
    """Returns (name, shape, type) of each array in a weight file, most without reading values.

    Raises:
      UserError: as `read`.
    """
    return _DESCRIBERS[kind(path)](path)


def ends(path: str) -> Dict[str, List[str]]:
    """Returns the "inputs" and "outputs" of a graph; {} for files without one."""
    reader = {GRAPH: graphs.ends_of_graph, ONNX: graphs.ends_of_onnx}.get(kind(path))
    return reader(path) if reader else {}


def _safetensors(path):
    """Returns [(name, entry)], sorted; an entry has "shape", "dtype" and "data"."""
    try:
        from safetensors import SafetensorError, deserialize
    except ImportError:
        text = "%s needs the package safetensors, which is not installed here; see "
        raise UserError((text + "tools/requirements.txt") % path) from None
    with told(path), open(path, "rb") as file:
        content = file.read()
    try:
        entries = sorted(deserialize(content), key=lambda item: item[0])
    except SafetensorError as error:
        raise UserError("%s is damaged or no safetensors: %s" % (path, error)) from error
    if not entries:
        raise UserError("%s holds no tensors; get the file again" % path)
    for name, entry in entries:
        if entry["dtype"] not in _SAFE:
            text = "%s: %s has the type %s; what is read: %s"
            raise UserError(text % (path, name, entry["dtype"], ", ".join(sorted(_SAFE))))
    return entries


def _describe_safetensors(path):
    return [
        (name, tuple(entry["shape"]), _safe_name(entry["dtype"]))
        for name, entry in _safetensors(path)
    ]


def _safe_name(code):
    return "bfloat16" if code == "BF16" else np.dtype(_SAFE[code]).name


def _read_safetensors(path):
    arrays = {}
    for name, entry in _safetensors(path):
        array = np.frombuffer(entry["data"], _SAFE[entry["dtype"]])
        if entry["dtype"] == "BF16":
            array = values.from_bfloat16(array)
        arrays[name] = array.reshape(entry["shape"])
    return arrays


_READERS = {
    PYTORCH: pytorch.read,
    SAFETENSORS: _read_safetensors,
    NPZ: npz.read,
    MAT: matconvnet.read,
    CHECKPOINT: graphs.read_bundle,
    GRAPH: graphs.read_graph,
    ONNX: graphs.read_onnx,
    MINDSPORE: mindspore_file.read,
}
_DESCRIBERS = {
    PYTORCH: pytorch.describe,
    SAFETENSORS: _describe_safetensors,
    NPZ: npz.describe,
    MAT: matconvnet.describe,
    CHECKPOINT: graphs.describe_bundle,
    GRAPH: graphs.describe_graph,
    ONNX: graphs.describe_onnx,
    MINDSPORE: mindspore_file.describe,
}
