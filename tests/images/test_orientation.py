"""Images come upright, as the EXIF block of their file says."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("PIL")
from photographs import encoded, photo
from PIL import Image, ImageOps

from pyhash.images import load

ORIENTATIONS = range(1, 9)


def exif_with_orientation(value, order="<"):
    mark = b"II" if order == "<" else b"MM"
    tags = struct.pack(order + "HHIHH", 0x0112, 3, 1, value, 0)
    return b"Exif\0\0" + mark + struct.pack(order + "HIH", 42, 8, 1) + tags + struct.pack(order + "I", 0)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(photo()), kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    with Image.open(io.BytesIO(data)) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    assert expected.shape[:2] == ((40, 60) if orientation < 5 else (60, 40))
    np.testing.assert_array_equal(load(data), expected)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_damaged_exif_does_not_keep_an_image_from_being_read(data):
    exif = bytearray(exif_with_orientation(6))
    for at in data.draw(st.lists(st.integers(0, len(exif) - 1), max_size=4)):
        exif[at] = data.draw(st.integers(0, 255))
    exif = bytes(exif[: data.draw(st.integers(0, len(exif)))])
    assert load(encoded(Image.fromarray(photo()), "JPEG", exif=exif)).shape in {(40, 60, 3), (60, 40, 3)}


def test_an_orientation_that_does_not_exist_is_upright():
    data = encoded(Image.fromarray(photo()), "JPEG", exif=exif_with_orientation(9))
    assert load(data).shape == (40, 60, 3)


def test_a_pil_image_is_turned_upright_too():
    data = encoded(Image.fromarray(photo()), "PNG", exif=exif_with_orientation(6))
    with Image.open(io.BytesIO(data)) as picture:
        np.testing.assert_array_equal(load(picture), load(data))
