"""Every depth and colour mode becomes 8-bit RGB, transparency on white."""

import struct
import zlib

import numpy as np
import pytest

pytest.importorskip("PIL")
from photographs import encoded, photo
from PIL import Image

from pyhash.images import load


def test_greyscale():
    grey = photo()[:, :, 0]
    result = load(encoded(Image.fromarray(grey), "PNG"))
    np.testing.assert_array_equal(result, np.repeat(grey[:, :, None], 3, 2))


def test_greyscale_is_resized_as_its_rgb():
    grey = Image.fromarray(photo()[:, :, 0])
    np.testing.assert_array_equal(load(grey, size=16), load(grey.convert("RGB"), size=16))


def test_bilevel():
    result = load(encoded(Image.fromarray(photo()[:, :, 0]).convert("1"), "PNG"))
    assert set(result.ravel()) == {0, 255}


def test_palette():
    picture = Image.fromarray(photo()).quantize(32)
    np.testing.assert_array_equal(load(encoded(picture, "PNG")), np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("transparency", [3, bytes([255] * 3 + [0] + [255] * 28)], ids=["index", "table"])
def test_palette_with_a_transparent_entry_is_laid_on_white(transparency):
    picture = Image.fromarray(photo()).quantize(32)
    expected = np.asarray(picture.convert("RGB")).copy()
    expected[np.asarray(picture) == 3] = 255
    np.testing.assert_array_equal(load(encoded(picture, "PNG", transparency=transparency)), expected)


def test_transparent_gif_is_laid_on_white():
    picture = Image.fromarray(photo()).quantize(32)
    expected = np.asarray(picture.convert("RGB")).copy()
    expected[np.asarray(picture) == 3] = 255
    np.testing.assert_array_equal(load(encoded(picture, "GIF", transparency=3)), expected)


def test_png_colour_key_is_laid_on_white():
    pixels = photo()
    pixels[:10] = (10, 20, 30)
    result = load(encoded(Image.fromarray(pixels), "PNG", transparency=(10, 20, 30)))
    np.testing.assert_array_equal(result[:10], 255)
    np.testing.assert_array_equal(result[10:], pixels[10:])


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_laid_on_white(kind):
    alpha = np.linspace(0, 255, 60).astype(np.uint8) * np.ones((40, 1), np.uint8)
    picture = Image.fromarray(np.dstack([photo(), alpha]))
    data = encoded(picture, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    weight = alpha[:, :, None] / 255
    expected = photo() * weight + 255 * (1 - weight)
    assert np.abs(load(data) - expected).max() <= 1.01


def test_transparent_pixels_do_not_bleed_when_resized():
    """What colour lies under a fully transparent part must not matter."""
    codes = []
    for hidden in (0, 255):
        pixels = np.dstack([photo(), np.full((40, 60), 255, np.uint8)])
        pixels[:, 30:, :3] = hidden
        pixels[:, 30:, 3] = 0
        codes.append(load(Image.fromarray(pixels), size=16, resize="lanczos"))
    np.testing.assert_array_equal(*codes)


def test_opaque_alpha_changes_nothing():
    opaque = np.dstack([photo(), np.full((40, 60), 255, np.uint8)])
    for size in (None, 16):
        np.testing.assert_array_equal(
            load(opaque, size=size, resize="bicubic"), load(photo(), size=size, resize="bicubic")
        )


def test_grey_with_alpha():
    pixels = np.dstack([np.full((4, 4), 100, np.uint8), np.full((4, 4), 0, np.uint8)])
    assert set(load(encoded(Image.fromarray(pixels, "LA"), "PNG")).ravel()) == {255}


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(kind):
    picture = Image.fromarray(photo()).convert("CMYK")
    assert np.abs(load(encoded(picture, kind)).astype(int) - photo()).mean() < 6


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_and_not_clipped(kind):
    values = np.linspace(0, 65535, 40 * 60).reshape(40, 60).astype(np.uint16)
    result = load(encoded(Image.fromarray(values), kind))
    np.testing.assert_array_equal(result[:, :, 0], values >> 8)
    assert result.min() == 0
    assert result.max() == 255


def test_big_endian_16_bit_tiff():
    values = np.linspace(0, 65535, 40 * 60).reshape(40, 60).astype(">u2")
    np.testing.assert_array_equal(load(encoded(Image.fromarray(values), "TIFF"))[:, :, 1], values >> 8)


def png_16_bit_rgb(values):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_16_bit_rgb_png():
    values = np.random.default_rng(0).integers(0, 65536, (8, 9, 3), np.uint16)
    np.testing.assert_array_equal(load(png_16_bit_rgb(values)), values >> 8)


def test_float_tiff_of_0_to_1():
    values = np.linspace(0, 1, 40 * 60).reshape(40, 60).astype(np.float32)
    np.testing.assert_array_equal(load(encoded(Image.fromarray(values), "TIFF"))[:, :, 2], np.round(values * 255))
