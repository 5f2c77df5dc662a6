# SPDX-License-Identifier: Apache-2.0
"""Some arrays of an .npz: asked for by name, checked, and the others left alone."""

import zipfile

import numpy as np
import pytest

from harness.errors import UserError
from tools.weights import files, npz


@pytest.fixture
def stored(tmp_path):
    """Returns (path, arrays) of numbers, beside texts and pickled objects."""
    rng = np.random.RandomState(0)
    arrays = {"mu": rng.standard_normal(5), "sigma": rng.standard_normal([40, 40]).astype(">f4")}
    arrays["count"] = np.int64(rng.randint(2, 99))
    path = str(tmp_path / "x.npz")
    np.savez(path, protocol=np.str_("pytorch"), other=np.array([{}, None]), **arrays)
    return path, arrays


def test_only_the_arrays_asked_for_are_read_and_others_may_be_of_any_type(stored):
    path, arrays = stored
    found = npz.read(path, ["sigma", "count"])
    assert sorted(found) == ["count", "sigma"]
    for name, array in found.items():
        assert array.dtype.isnative
        np.testing.assert_array_equal(array, arrays[name])
    for name in ("protocol", "other"):
        for reader in (npz.read, npz.headers):
            with pytest.raises(UserError, match=r"%s\.npy is no array of numbers" % name):
                reader(path, ["mu", name])
    for reader in (npz.read, npz.headers, files.read, files.describe):
        with pytest.raises(UserError, match="is no array of numbers"):
            reader(path)


def test_headers_tell_type_and_shape_of_those_that_are_there(stored):
    path, arrays = stored
    found = npz.headers(path, ("mu", "sigma", "count", "absent"))
    assert {name: header[:2] for name, header in found.items()} == {
        name: (array.dtype, array.shape) for name, array in arrays.items()
    }


def test_an_array_that_is_not_there_is_named_with_those_that_are(stored):
    text = r"x\.npz has no array sigmas, means; it has protocol, other, mu, sigma, count"
    with pytest.raises(UserError, match=text):
        npz.read(stored[0], ["sigmas", "mu", "means"])


def test_values_not_asked_for_may_be_damaged_and_headers_read_none(stored):
    path, arrays = stored
    with open(path, "rb") as file:
        whole = file.read()
    place = whole.index(arrays["sigma"].tobytes()) + 6000
    with open(path, "wb") as file:
        file.write(whole[:place] + b"\xff" + whole[place + 1 :])
    np.testing.assert_array_equal(npz.read(path, ["mu"])["mu"], arrays["mu"])
    assert npz.headers(path, ["sigma"])["sigma"].shape == (40, 40)
    with pytest.raises(UserError, match="damaged"):
        npz.read(path, ["sigma"])


def test_a_zip_of_other_things_has_no_arrays_and_no_zip_is_an_error(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(str(path), "w") as archive:
        archive.writestr("mu", b"no array")
    assert npz.headers(str(path)) == {}
    path.write_bytes(b"no zip file")
    for name, text in ((str(path), "is damaged"), (str(tmp_path / "y"), "cannot read")):
        for reader in (npz.headers, npz.read):
            with pytest.raises(UserError, match=text):
                reader(name, ["mu"])
