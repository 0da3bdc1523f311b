"""More than 8 bits become 8 by what the data hold, in every container."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PIL")
from photographs import encoded, photo
from PIL import Image

from pyhash.errors import ImageError
from pyhash.images import load

DEPTHS = [8, 10, 12, 14, 16]
COLOURS = {1: 0, 3: 2, 4: 6, 2: 4}  # channels -> PNG's number


def deep(depth: int, channels: int = 3) -> Any:
    """Values of so many bits, the highest among them, shape (h, w, channels)."""
    values = np.random.default_rng(depth).integers(0, 1 << depth, (24, 31, channels), np.uint16)
    values[0, 0] = (1 << depth) - 1
    return values


def png(values: Any, *more: tuple[bytes, bytes]) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, COLOURS[channels], 0, 0, 0)
    chunks = [(b"IHDR", header), *more, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


def tiff(
    values: Any,
    photometric: int,
    order: str = "<",
    deflate: bool = False,
    extra: int | None = None,
    apart: bool = False,
) -> bytes:
    """A TIFF file of 16 bits a sample, (h, w, channels), all tags written out."""
    height, width, channels = values.shape
    planes = np.moveaxis(values, 2, 0) if apart else [values]
    strips = [plane.astype(order + "u2").tobytes() for plane in planes]
    if deflate:
        strips = [zlib.compress(strip) for strip in strips]
    data = struct.pack(order + "HHI", 0x4949 if order == "<" else 0x4D4D, 42, 8 + sum(map(len, strips)))
    offsets = [8 + sum(map(len, strips[:n])) for n in range(len(strips))]
    tags: dict[int, tuple[str, list[int]]] = {
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [16] * channels),
        259: ("H", [8 if deflate else 1]),
        262: ("H", [photometric]),
        273: ("I", offsets),
        277: ("H", [channels]),
        278: ("I", [height]),
        279: ("I", [len(strip) for strip in strips]),
        284: ("H", [2 if apart else 1]),
    }
    if extra is not None:
        tags[338] = "H", [extra]
    table, more = b"", b""
    behind = 8 + sum(map(len, strips)) + 2 + 12 * len(tags) + 4
    for tag, (kind, numbers) in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(numbers)}{kind}", *numbers)
        if len(packed) > 4:
            more += packed
            packed = struct.pack(order + "I", behind + len(more) - len(packed))
        table += struct.pack(order + "HHI", tag, {"H": 3, "I": 4}[kind], len(numbers)) + packed.ljust(4, b"\0")
    return data + b"".join(strips) + struct.pack(order + "H", len(tags)) + table + bytes(4) + more


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG2000"])
def test_grey_of_each_depth_in_16_bits(depth: int, kind: str) -> None:
    values = deep(depth, 1)[:, :, 0]
    options = {"irreversible": False} if kind == "JPEG2000" else {}
    result = load(encoded(Image.fromarray(values), kind, **options))
    np.testing.assert_array_equal(result, np.repeat((values >> (depth - 8))[:, :, None], 3, 2))


@pytest.mark.parametrize("depth", DEPTHS)
def test_colours_of_each_depth_in_a_16_bit_png(depth: int) -> None:
    values = deep(depth)
    np.testing.assert_array_equal(load(png(values)), values >> (depth - 8))


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("most", [None, 65535])
@pytest.mark.parametrize("channels", [1, 3])
def test_pnm_of_each_depth_whatever_the_largest_could_be(depth: int, most: int | None, channels: int) -> None:
    values = deep(depth, channels)
    most = most or (1 << depth) - 1
    pixels = values.astype(np.uint8 if most == 255 else ">u2").tobytes()
    result = load(f"P{5 if channels == 1 else 6} 31 24 {most}\n".encode() + pixels)
    assert np.abs(result.astype(int) - (values >> (depth - 8))).max() <= 1


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("deflate", [False, True])
def test_colours_of_each_depth_in_a_16_bit_tiff(depth: int, order: str, deflate: bool) -> None:
    values = deep(depth)
    np.testing.assert_array_equal(load(tiff(values, 2, order, deflate)), values >> (depth - 8))


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("order", "<>")
def test_planes_apart_in_a_16_bit_tiff(depth: int, order: str) -> None:
    values = deep(depth)
    np.testing.assert_array_equal(load(tiff(values, 2, order, apart=True)), values >> (depth - 8))


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_has_a_depth_of_its_own(depth: int, channels: int) -> None:
    values = deep(depth, channels)
    values[:, :, -1] = 0xFFFF
    opaque = np.broadcast_to(values[:, :, :-1] >> (depth - 8), (24, 31, 3))
    np.testing.assert_array_equal(load(png(values)), opaque)
    if channels == 4:
        np.testing.assert_array_equal(load(tiff(values, 2, extra=2)), opaque)
    values[3, 4, -1] = 0
    assert load(png(values))[3, 4].tolist() == [255, 255, 255]


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_colour_that_is_transparent_has_the_depth_of_the_others(depth: int, channels: int) -> None:
    values = deep(depth, channels)
    values[5, 6] = (1 << depth) - 2
    key = (b"tRNS", struct.pack(f">{channels}H", *values[5, 6]))
    result = load(png(values, key))
    expected = np.broadcast_to(values >> (depth - 8), (24, 31, 3)).copy()
    like = (expected == expected[5, 6]).all(axis=2) if channels == 3 else (values == values[5, 6]).all(axis=2)
    assert 1 <= like.sum() < like.size // 2
    expected[like] = 255
    np.testing.assert_array_equal(result, expected)


def test_colours_that_were_multiplied_by_alpha_are_not_guessed() -> None:
    values = deep(16, 4)
    values[:, :, -1] = 0xFFFF
    np.testing.assert_array_equal(load(tiff(values, 2, extra=1)), values[:, :, :3] >> 8)
    with pytest.raises(ImageError, match="16-bit colours multiplied by their alpha, of which few bits are used"):
        load(tiff(deep(8, 4), 2, extra=1))


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("deflate", [False, True])
def test_white_may_be_the_smallest_value(depth: int, order: str, deflate: bool) -> None:
    values = deep(depth, 1)
    expected = 255 - (values[:, :, 0] >> (depth - 8))
    np.testing.assert_array_equal(load(tiff(values, 0, order, deflate))[:, :, 1], expected)


def test_scans_of_8_bits_in_16_are_not_black() -> None:
    grey = photo()[:, :, 0]
    np.testing.assert_array_equal(load(encoded(Image.fromarray(grey.astype(np.uint16)), "TIFF"))[:, :, 0], grey)


@pytest.mark.parametrize("most", [255, 1023, 4095, 16383, 65535])
def test_32_bit_integers_and_whole_floats_by_their_depth(most: int) -> None:
    values = np.linspace(0, most, 600).round().reshape(20, 30)
    expected = values.astype(int) >> (most.bit_length() - 8)
    for dtype in (np.int32, np.float32):
        np.testing.assert_array_equal(load(encoded(Image.fromarray(values.astype(dtype)), "TIFF"))[:, :, 0], expected)


@pytest.mark.parametrize(
    "values",
    [
        np.linspace(-7, 11, 600),
        np.linspace(0, 2.5, 600),
        np.linspace(-1000, 300000, 600).astype(np.int32),
        np.linspace(1e6, 2e9, 600).astype(np.int32),
    ],
    ids=["signed", "over 1", "signed integers", "large integers"],
)
def test_values_of_no_usual_depth_by_their_range(values: Any) -> None:
    image = Image.fromarray(values.reshape(20, 30).astype(values.dtype if values.dtype == np.int32 else np.float32))
    result = load(encoded(image, "TIFF"))[:, :, 0].ravel()
    assert (result[0], result[-1]) == (0, 255)
    np.testing.assert_allclose(result, np.linspace(0, 255, 600), atol=1)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (np.float32(2.5), "pixels that are all 2.5, and nothing says between which values"),
        (np.int32(-1), "pixels that are all -1, and nothing says between which values"),
        (np.float32("nan"), "floating-point pixels none of which is a number"),
        (np.float32("inf"), "floating-point pixels none of which is a number"),
    ],
)
def test_pixels_that_nothing_is_known_of_are_refused(value: Any, reason: str) -> None:
    with pytest.raises(ImageError, match=f"^<bytes>: {reason}$"):
        load(encoded(Image.fromarray(np.full((4, 4), value)), "TIFF"))
    if np.isfinite(value):
        with pytest.raises(ImageError):
            load(Image.fromarray(np.full((4, 4), value)))
