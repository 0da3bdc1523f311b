"""Damage that decoders keep to themselves is told; what lacks no pixel is read."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PIL")
from photographs import encoded
from PIL import Image

from pyhash.errors import ImageError
from pyhash.images import load, opened

KINDS: list[dict[str, Any]] = [
    {},
    {"optimize": True},
    {"subsampling": 0},
    {"progressive": True},
    {"restart_marker_blocks": 7},
    {"progressive": True, "restart_marker_rows": 1},
]


def scene(seed: int = 0, mode: str = "RGB") -> Image.Image:
    """Soft colours with grain, so that every block has something to say."""
    rng = np.random.default_rng(seed)
    soft = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8)).resize((331, 243), Image.Resampling.BICUBIC)
    grain = np.asarray(soft) + rng.normal(0, 6, (243, 331, 1))
    return Image.fromarray(np.uint8(np.clip(grain, 0, 255))).convert(mode)


def reason_of(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        load(data)
    return caught.value.reason


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", KINDS, ids=str)
@pytest.mark.parametrize("share", [0.5, 0.75, 0.9])
def test_a_jpeg_cut_short_is_refused_with_and_without_an_end(mode: str, options: dict[str, Any], share: float) -> None:
    data = encoded(scene(mode=mode), "JPEG", quality=90, **options)
    part = data[: int(len(data) * share)]
    for end in (b"", b"\xff", b"\xff\xd9", b"\xff\xd9" + bytes(100)):
        assert reason_of(part + end).startswith(("truncated: ", "damaged: "))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", KINDS, ids=str)
def test_a_jpeg_that_lacks_no_pixel_is_read(mode: str, options: dict[str, Any]) -> None:
    data = encoded(scene(mode=mode), "JPEG", quality=90, **options)
    expected = load(data)
    variants = {
        "no end": data[:-2],
        "half an end": data[:-1],
        "fill bytes": data[:-2] + b"\xff" * 40 + data[-2:],
        "filled up to a round size": data[:-2] + bytes(300) + data[-2:],
        "more behind its end": data + b"another file" * 20,
    }
    for name, variant in variants.items():
        np.testing.assert_array_equal(load(variant), expected, name)


@pytest.mark.parametrize("options", [{}, {"optimize": True}], ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_a_jpeg_of_two_halves_or_with_a_hole_is_refused(options: dict[str, Any], seed: int) -> None:
    data = encoded(scene(seed), "JPEG", quality=90, **options)
    other = encoded(scene(seed + 50), "JPEG", quality=70, **options)
    middle = len(data) // 2
    for broken in (data[:middle] + other[len(other) // 2 :], data[:middle] + data[middle + 500 :]):
        assert reason_of(broken).startswith(("truncated: ", "damaged: "))


def test_a_progressive_jpeg_without_its_last_scans_is_refused() -> None:
    data = encoded(scene(), "JPEG", quality=90, progressive=True)
    scans = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"]
    assert len(scans) == 10
    for scan in scans[1:]:
        assert reason_of(data[:scan] + b"\xff\xd9") == "truncated: the file ends too early"


def test_a_jpeg_of_several_scans_one_after_the_other() -> None:
    """Sequential, a scan for each component, as scanners of printed pages write them."""
    planes = [encoded(plane, "JPEG", quality=90) for plane in scene().convert("YCbCr").split()]
    tables = [plane[plane.index(b"\xff\xdb") : plane.index(b"\xff\xc0")] for plane in planes]
    codes = planes[0][planes[0].index(b"\xff\xc4") : planes[0].index(b"\xff\xda")]
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, 243, 331, 3) + b"".join(bytes((n, 0x11, 0)) for n in (1, 2, 3))
    coded = [plane[plane.index(b"\xff\xda") + 10 : -2] for plane in planes]
    scans = [b"\xff\xda\0\x08\x01" + bytes((n, 0, 0, 63, 0)) + part for n, part in enumerate(coded, 1)]
    start = b"\xff\xd8" + tables[0] + frame + codes
    expected = load(encoded(scene(), "JPEG", quality=90, subsampling=0))
    assert np.abs(load(start + b"".join(scans) + b"\xff\xd9").astype(int) - expected).mean() < 3
    np.testing.assert_array_equal(load(start + b"".join(scans)), load(start + b"".join(scans) + b"\xff\xd9"))
    for n in range(3):
        cut = [*scans[:n], scans[n][: len(scans[n]) // 2], *scans[n + 1 :]]
        assert reason_of(start + b"".join(cut) + b"\xff\xd9").startswith("truncated: ")
    assert reason_of(start + scans[0] + scans[1] + b"\xff\xd9").startswith("truncated: ")


def test_damage_is_seen_when_a_jpeg_is_decoded_at_a_smaller_scale() -> None:
    for options in KINDS:
        data = encoded(scene().resize((1324, 972)), "JPEG", quality=90, **options)
        with opened(data, at_least=200) as image:
            assert image.pixels().shape == (243, 331, 3)
        with pytest.raises(ImageError), opened(data[: len(data) // 2] + b"\xff\xd9", at_least=200):
            pass


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


def png_parts() -> tuple[bytes, bytes]:
    """Return the header's and the pixels' data."""
    rows = b"".join(b"\0" + row.tobytes() for row in np.asarray(scene()))
    return struct.pack(">IIBBBBB", 331, 243, 8, 2, 0, 0, 0), zlib.compress(rows)


def test_a_png_that_lacks_no_pixel_is_read() -> None:
    header, pixels = png_parts()
    data = png((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    for cut in (1, 8, 12, 16):  # of the end, and of the checksum
        np.testing.assert_array_equal(load(data[:-cut]), np.asarray(scene()))


def test_damaged_png() -> None:
    header, pixels = png_parts()
    half = len(pixels) // 2
    assert reason_of(png((b"IHDR", header), (b"IDAT", pixels[:half]), (b"IEND", b""))).startswith("truncated")
    data = png((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    assert reason_of(data[: len(data) // 2]).startswith("truncated")
    for hole in (1, 200, half):
        broken = bytearray(data)
        broken[len(data) // 2 : len(data) // 2 + hole] = bytes(hole)
        assert reason_of(bytes(broken)).startswith("damaged: the checksum of its pixels is wrong")


PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def rows_of(pixels: Any, interlaced: bool) -> list[bytes]:
    """Return the rows of an image as a PNG has them, those of each pass after the other."""
    passes = PASSES if interlaced else [(0, 0, 1, 1)]
    parts = [pixels[y::down, x::across] for x, y, across, down in passes]
    return [b"\0" + row.tobytes() for part in parts if part.size for row in part]


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("shape", [(243, 331, 3), (3, 2, 3), (1, 5, 3)])
def test_a_png_whose_data_end_before_its_rows_do(interlaced: bool, dark: bool, shape: tuple[int, ...]) -> None:
    pixels = np.asarray(scene().resize((shape[1], shape[0]))).copy()
    if dark:
        pixels[-1] = 0
    header = struct.pack(">IIBBBBB", shape[1], shape[0], 8, 2, 0, 0, interlaced)
    rows = rows_of(pixels, interlaced)
    whole = png((b"IHDR", header), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b""))
    np.testing.assert_array_equal(load(whole), pixels)
    for n in range(0, len(rows), max(1, len(rows) // 7)):
        part = zlib.compress(b"".join(rows[:n]))
        with pytest.raises(ImageError):
            load(png((b"IHDR", header), (b"IDAT", part), (b"IEND", b"")))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "LA", "I;16"])
def test_a_png_that_ends_in_zeros_is_whole(mode: str) -> None:
    picture = Image.new(mode, (13, 9), 0)
    assert load(encoded(picture, "PNG")).shape == (9, 13, 3)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000"])
@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_other_files_cut_short_are_refused(kind: str, share: float) -> None:
    data = encoded(scene(), kind)
    end = {"GIF": b"\0;", "JPEG2000": b"\xff\xd9"}.get(kind, b"")
    assert reason_of(data[: int(len(data) * share)] + end).startswith(("truncated: ", "damaged: "))


@pytest.mark.parametrize(("kind", "lacking"), [("GIF", 1), ("GIF", 2), ("JPEG2000", 1), ("JPEG2000", 2)])
def test_other_files_that_lack_no_pixel_are_read(kind: str, lacking: int) -> None:
    data = encoded(scene(), kind)
    np.testing.assert_array_equal(load(data[:-lacking]), load(data))
