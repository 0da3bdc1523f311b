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
from PIL.PngImagePlugin import PngInfo

from pyhash.images import load

ORIENTATIONS = range(1, 9)


# The types of numbers that EXIF knows, and how each is packed.
TYPES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 11: "f"}


def exif_with_orientation(value, order="<", kind=3):
    mark = b"II" if order == "<" else b"MM"
    number = struct.pack(order + TYPES[kind], value).ljust(4, b"\0")
    tag = struct.pack(order + "HHI", 0x0112, kind, 1) + number
    return b"Exif\0\0" + mark + struct.pack(order + "HIH", 42, 8, 1) + tag + struct.pack(order + "I", 0)


def xmp(value, as_element=False):
    space = 'xmlns:tiff="http://ns.adobe.com/tiff/1.0/"'
    said = (
        f"{space}><tiff:Orientation>{value}</tiff:Orientation>"
        if as_element
        else f'{space} tiff:Orientation="{value}">'
    )
    rdf = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
    return (
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{rdf}"><rdf:Description {space}{said}'
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


def as_pillow_turns_it(data):
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))


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


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_exif_of_any_type(order, kind, format):
    options = {"lossless": True} if format == "WEBP" else {}
    data = encoded(Image.fromarray(photo()), format, exif=exif_with_orientation(6, order, kind), **options)
    np.testing.assert_array_equal(load(data), as_pillow_turns_it(data))
    assert kind not in (3, 4) or load(data).shape == (60, 40, 3)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("as_element", [False, True])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_in_xmp(orientation, as_element, format):
    text, picture = xmp(orientation, as_element), Image.fromarray(photo())
    if format == "PNG":
        more = PngInfo()
        more.add_itxt("XML:com.adobe.xmp", text.decode())
        data = encoded(picture, format, pnginfo=more)
    elif format == "TIFF":
        data = encoded(picture, format, tiffinfo={700: text})
    else:
        data = encoded(picture, format, xmp=text, **({"lossless": True} if format == "WEBP" else {}))
    np.testing.assert_array_equal(load(data), as_pillow_turns_it(data))
    assert load(data).shape == ((40, 60, 3) if orientation < 5 else (60, 40, 3))


def test_exif_comes_before_xmp():
    data = encoded(Image.fromarray(photo()), "JPEG", exif=exif_with_orientation(3), xmp=xmp(6))
    np.testing.assert_array_equal(load(data), as_pillow_turns_it(data))
    assert load(data).shape == (40, 60, 3)


def test_exif_in_the_text_of_a_png():
    """As ImageMagick writes it."""
    exif = exif_with_orientation(6)
    more = PngInfo()
    more.add_text("Raw profile type exif", f"\nexif\n{len(exif):8}\n{exif.hex()}\n", zip=True)
    data = encoded(Image.fromarray(photo()), "PNG", pnginfo=more)
    np.testing.assert_array_equal(load(data), as_pillow_turns_it(data))
    assert load(data).shape == (60, 40, 3)


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
