"""Looks beside a slow, obvious cosine transform; borders; turned and mirrored images; thumbnails."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PIL")
from photographs import encoded
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from pyhash.images import Look, load, look_codes, look_of, opened, turned

# Orientation as EXIF numbers it -> how Pillow turns such an image upright.
WAYS = (
    None,
    Image.Transpose.FLIP_LEFT_RIGHT,
    Image.Transpose.ROTATE_180,
    Image.Transpose.FLIP_TOP_BOTTOM,
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
)


def slow_coefficients(cells: Any) -> Any:
    """Return the lowest 8 x 8 coefficients of the orthonormal DCT-II of 32 x 32 values, sum by sum."""
    n = 32
    result = np.zeros((8, 8))
    for u in range(8):
        for v in range(8):
            total = 0.0
            for y in range(n):
                for x in range(n):
                    wave = math.cos(math.pi * (2 * y + 1) * u / (2 * n)) * math.cos(math.pi * (2 * x + 1) * v / (2 * n))
                    total += float(cells[y][x]) * wave
            result[u, v] = total * math.sqrt((1 if u == 0 else 2) / n) * math.sqrt((1 if v == 0 else 2) / n)
    return result


def scene(seed: int = 0, width: int = 320, height: int = 256) -> Image.Image:
    """An image whose cells differ, so that no coefficient is near the median by chance alone."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (9, 11, 3), np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def distances(a: Look, b: Look) -> list[int]:
    """Return the distance of each of both codes."""
    return np.bitwise_count(look_codes(a.blocks) ^ look_codes(b.blocks)).sum(axis=1).tolist()


def look(image: Image.Image) -> Look:
    with opened(image) as decoded:
        return decoded.look()


def test_the_oracle_by_hand() -> None:
    flat = slow_coefficients(np.full((32, 32), 7))
    assert flat[0, 0] == pytest.approx(7 * 32)
    assert np.abs(flat.ravel()[1:]).max() < 1e-9
    wave = [[math.cos(math.pi * (2 * x + 1) * 3 / 64) for x in range(32)]] * 32
    assert slow_coefficients(wave)[0, 3] == pytest.approx(32 * math.sqrt(1 / 2))


def test_blocks_are_those_of_the_slow_transform() -> None:
    grey = scene().convert("L")
    blocks, cells = look_of(grey)
    averages = np.asarray(grey, float).reshape(32, 8, 32, 10).mean((1, 3))
    np.testing.assert_allclose(cells, averages, atol=1.01)  # rounded once along each axis
    np.testing.assert_allclose(blocks[0] / 4, slow_coefficients(cells), atol=0.13)
    np.testing.assert_array_equal(blocks[0], blocks[1])  # no border
    assert (blocks.dtype, blocks.shape, cells.dtype, cells.shape) == (np.int16, (2, 8, 8), np.uint8, (32, 32))


@pytest.mark.parametrize("cells", [np.full((32, 32), 255), np.indices((32, 32)).sum(0) % 2 * 255])
def test_the_largest_values_fit(cells: Any) -> None:
    blocks = look_of(Image.fromarray(cells.astype(np.uint8))).blocks
    np.testing.assert_allclose(blocks[0] / 4, slow_coefficients(cells), atol=0.13)


def test_codes_are_the_coefficients_above_the_median() -> None:
    blocks = np.random.default_rng(0).integers(-999, 999, (5, 2, 8, 8)).astype(np.int16)
    codes = look_codes(blocks)
    assert (codes.dtype, codes.shape) == (np.uint8, (5, 2, 8))
    for block, code in zip(blocks.reshape(-1, 64), codes.reshape(-1, 8), strict=True):
        median = sorted(block[1:])[31]
        assert np.unpackbits(code).tolist() == [0, *(int(value > median) for value in block[1:])]
    np.testing.assert_array_equal(look_codes(blocks[3, 1]), codes[3, 1])


@pytest.mark.parametrize("way", range(8))
def test_looks_of_turned_images_follow_from_one(way: int) -> None:
    image = scene(1)
    other = image if WAYS[way] is None else image.transpose(WAYS[way])
    expected = look_of(other.convert("L")).blocks
    ways = turned(look_of(image.convert("L")).blocks)
    assert ways.shape == (2, 8, 8, 8)
    np.testing.assert_allclose(ways[:, way], expected, atol=4)  # the cells of a turned image are rounded otherwise
    assert np.bitwise_count(look_codes(ways[:, way]) ^ look_codes(expected)).sum(axis=1).max() <= 2
    others = [n for n in range(8) if n != way]
    assert np.bitwise_count(look_codes(ways[:, others]) ^ look_codes(expected)[:, None]).sum(axis=2).min() > 12


def test_turned_blocks_by_exif_orientation() -> None:
    for way in range(8):
        exif = Image.Exif()
        exif[0x0112] = way + 1
        data = encoded(scene(2), "PNG", exif=exif)
        with Image.open(io.BytesIO(data)) as image:
            assert ImageOps.exif_transpose(image).size == (load(data).shape[1], load(data).shape[0])
        with opened(data) as decoded:
            np.testing.assert_allclose(decoded.look().blocks, turned(look(scene(2)).blocks)[:, way], atol=4)


@pytest.mark.parametrize("colour", ["white", "black", (40, 90, 160)])
def test_a_border_is_taken_off(colour: Any) -> None:
    image = scene(3)
    framed = Image.open(io.BytesIO(encoded(ImageOps.expand(image, (16, 12, 20, 30), colour), "JPEG", quality=80)))
    whole, inner = distances(look(framed), look(image))
    assert whole > 8
    assert inner <= 6


def test_bars_of_another_colour_on_each_side() -> None:
    image = scene(4)
    framed = Image.new("RGB", (image.width + 100, image.height), "white")
    framed.paste("black", (0, 0, 40, image.height))
    framed.paste(image, (40, 0))
    assert distances(look(framed), look(image))[1] <= 2


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_plain_image_has_no_border(value: int) -> None:
    blocks, grey = look(Image.new("L", (300, 200), value))
    assert blocks[:, 0, 0].tolist() == [value * 32 * 4] * 2
    assert np.abs(blocks.reshape(2, -1)[:, 1:]).max() == 0
    assert set(grey.ravel()) == {value}


@pytest.mark.parametrize(
    ("change", "most"),
    [
        (lambda image: image.resize((160, 128), Image.Resampling.LANCZOS), 4),
        (lambda image: Image.open(io.BytesIO(encoded(image, "JPEG", quality=30))), 6),
        (lambda image: image.point(lambda value: value * 0.7), 6),
        (lambda image: image.convert("L"), 2),
        (lambda image: image.resize((1280, 1024), Image.Resampling.BICUBIC), 4),
    ],
    ids=["half the size", "JPEG", "darker", "grey", "enlarged"],
)
def test_a_copy_looks_alike(change: Any, most: int) -> None:
    image = scene(5)
    assert max(distances(look(change(image)), look(image))) <= most
    assert min(distances(look(scene(6)), look(image))) > 12


def test_transparent_parts_look_white() -> None:
    image = scene(7).convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 100, 256))
    white = scene(7)
    white.paste("white", (0, 0, 100, 256))
    np.testing.assert_allclose(look(image).grey, look(white).grey, atol=1)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 3), (7, 7)])
def test_odd_shapes(size: tuple[int, int]) -> None:
    blocks, grey = look(Image.new("RGB", size, "white"))
    assert (blocks.shape, grey.shape, grey.min()) == ((2, 8, 8), (32, 32), 255)


def test_bytes_and_back() -> None:
    first = look(scene(8))
    blocks, grey = (part.tobytes() for part in first)
    assert (len(blocks), len(grey)) == (256, 1024)
    assert int.from_bytes(blocks[:2], "little", signed=True) == first.blocks[0, 0, 0]
    again = Look.from_bytes(blocks, grey)
    np.testing.assert_array_equal(again.blocks, first.blocks)
    np.testing.assert_array_equal(again.grey, first.grey)


@pytest.mark.parametrize(("size", "shown"), [((640, 480), (160, 120)), ((90, 700), (21, 160)), ((60, 40), (60, 40))])
def test_thumbnails_are_small_and_say_nothing_else(size: tuple[int, int], shown: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x010F] = "a maker"
    data = encoded(scene(9, *size), "JPEG", exif=exif, quality=95)
    with opened(data) as decoded:
        thumbnail = decoded.thumbnail()
    with Image.open(io.BytesIO(thumbnail)) as image:
        assert (image.format, image.size) == ("JPEG", shown)
        assert {"exif", "icc_profile", "xmp"}.isdisjoint(image.info)
        expected = load(data, longest=160, resize="bicubic")
        assert np.corrcoef(np.asarray(image).ravel(), expected.ravel())[0, 1] > 0.9


def test_one_decoding_gives_all(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(scene(9), "JPEG", quality=95)
    decodings = []
    prepare = JpegImageFile.load_prepare
    monkeypatch.setattr(JpegImageFile, "load_prepare", lambda self: decodings.append(1) or prepare(self))
    with opened(data) as decoded:
        pixels, _, _ = decoded.pixels(32, resize="bicubic", crop="center"), decoded.look(), decoded.thumbnail()
        twice = decoded.pixels(32, resize="bicubic", crop="center")
    assert decodings == [1]
    np.testing.assert_array_equal(pixels, twice)
    np.testing.assert_array_equal(pixels, load(data, size=32, resize="bicubic", crop="center"))
