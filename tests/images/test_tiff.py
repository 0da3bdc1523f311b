"""TIFF files: which of their pages is read, and samples of every kind."""

from __future__ import annotations

import io
import zlib
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PIL")
from photographs import encoded, photo
from PIL import Image
from raws import ASCII, LONG, SHORT, page, tiff

from pyhash.errors import ImageError
from pyhash.images import load

PIXELS = photo()
SMALL = 255 - PIXELS[::4, ::4]
REDUCED, MASK = {254: (LONG, [1])}, {254: (LONG, [4])}


# Which page


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("below", [False, True])
def test_a_thumbnail_is_not_taken_for_the_image(order: str, big: bool, below: bool) -> None:
    if big and order == ">":
        with pytest.raises(ImageError, match="a BigTIFF image with the highest bytes first"):
            load(tiff([page(PIXELS)], order, big))
        return
    whole = page(PIXELS)
    thumbnail = page(SMALL) | REDUCED
    chain = [thumbnail | {"below": [page(SMALL) | REDUCED, whole]}] if below else [thumbnail, whole, page(SMALL)]
    np.testing.assert_array_equal(load(tiff(chain, order, big)), PIXELS)


def test_the_first_page_is_read_unless_it_is_a_thumbnail_of_another() -> None:
    for chain in (
        [page(SMALL), page(PIXELS)],
        [page(SMALL) | {"below": [page(PIXELS)]}],
        [page(SMALL) | REDUCED, page(PIXELS) | REDUCED],
        [page(SMALL) | REDUCED, page(SMALL[:2])],
        [page(SMALL) | REDUCED],
    ):
        np.testing.assert_array_equal(load(tiff(chain)), SMALL)
    mask = page(PIXELS[:, :, 0] & 1) | MASK
    np.testing.assert_array_equal(load(tiff([mask, page(PIXELS), page(SMALL)])), PIXELS)


def test_pages_that_go_in_a_circle() -> None:
    data = bytearray(tiff([page(SMALL) | REDUCED | {"below": [page(SMALL) | REDUCED]}]))
    below = data.find((330).to_bytes(2, "little"))
    data[below + 8 : below + 12] = (8).to_bytes(4, "little")
    np.testing.assert_array_equal(load(bytes(data)), SMALL)


# What samples


def predicted(values: Any, predictor: int, order: str) -> bytes:
    """Rows (h, w, channels) as differences from one pixel to the next: of whole values, or of bytes by their place."""
    if predictor == 1:
        return values.astype(values.dtype.newbyteorder(order)).tobytes()
    if predictor == 2:
        whole = values.view(f"u{values.dtype.itemsize}")
        whole = np.diff(whole, axis=1, prepend=np.zeros_like(whole[:, :1]))
        return whole.astype(whole.dtype.newbyteorder(order)).tobytes()
    big = np.ascontiguousarray(values.astype(values.dtype.newbyteorder(">")))
    height, width, channels = values.shape
    planes = big.view(np.uint8).reshape(height, width * channels, -1).transpose(0, 2, 1).reshape(height, -1, channels)
    return np.diff(planes, axis=1, prepend=np.zeros_like(planes[:, :1])).tobytes()


def lzw(data: bytes) -> bytes:
    picture = Image.frombytes("L", (len(data), 1), data)
    file = encoded(picture, "TIFF", compression="tiff_lzw")
    with Image.open(io.BytesIO(file)) as opened:
        tags = opened.tag_v2  # type: ignore[attr-defined]
        return file[tags[273][0] :][: tags[279][0]]


def of_kind(dtype: Any, channels: int) -> Any:
    values = PIXELS if channels == 3 else PIXELS[:, :, :1]
    values = values / 255 if np.dtype(dtype).kind == "f" else values >> 1 if dtype == np.int8 else values
    return values.astype(dtype)


def like(dtype: Any, channels: int) -> Any:
    values = PIXELS if channels == 3 else np.repeat(PIXELS[:, :, :1], 3, 2)
    return values >> 1 if dtype == np.int8 else values


KINDS = [np.float16, np.float32, np.float64, np.int8, np.int16, np.int32, np.uint32, np.uint64]


@pytest.mark.parametrize("dtype", KINDS, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("compression", "predictor"), [(1, 1), (8, 1), (8, 2), (8, 3), (5, 1), (5, 2), (5, 3)])
def test_samples_of_every_kind(dtype: Any, channels: int, order: str, compression: int, predictor: int) -> None:
    values = of_kind(dtype, channels)
    if predictor == 3 and values.dtype.kind != "f":
        pytest.skip("whole numbers are not predicted by bytes")
    data = predicted(values, predictor, order)
    data = {1: bytes, 8: zlib.compress, 5: lzw}[compression](data)
    tags = page(values) | {259: (SHORT, [compression]), 317: (SHORT, [predictor]), "data": data}
    assert np.abs(load(tiff([tags], order)).astype(int) - like(dtype, channels)).max() <= 1


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("layout", ["strips", "tiles", "planes"])
def test_samples_in_strips_tiles_and_planes(dtype: Any, order: str, layout: str) -> None:
    values = of_kind(dtype, 3)
    height, width = values.shape[:2]
    parts: list[Any]
    if layout == "strips":
        parts = [values[y : y + 7] for y in range(0, height, 7)]
    elif layout == "tiles":
        padded = np.pad(values, ((0, -height % 16), (0, -width % 16), (0, 0)))
        parts = [padded[y : y + 16, x : x + 16] for y in range(0, height, 16) for x in range(0, width, 16)]
    else:
        parts = [values[y : y + 7, :, plane] for plane in range(3) for y in range(0, height, 7)]
    coded = [zlib.compress(part.astype(part.dtype.newbyteorder(order)).tobytes()) for part in parts]
    tags = page(values) | {259: (SHORT, [8]), 278: (LONG, [7]), 284: (SHORT, [2 if layout == "planes" else 1])}
    tags["data"] = b"".join(coded)
    starts = np.cumsum([0, *map(len, coded[:-1])]).tolist()
    file = tiff([tags | {"starts": starts, "tiles": 16 if layout == "tiles" else 0}], order)
    assert np.abs(load(file).astype(int) - PIXELS).max() <= 1


def test_opacity_and_other_extra_samples() -> None:
    values = np.dstack([of_kind(np.float32, 3), np.linspace(0, 1, PIXELS[:, :, 0].size).reshape(PIXELS.shape[:2])])
    values = values.astype(np.float32)
    tags = page(values) | {262: (SHORT, [2])}
    opacity = values[:, :, 3:]
    on_white = PIXELS * opacity + 255 * (1 - opacity)
    assert np.abs(load(tiff([tags | {338: (SHORT, [2])}])) - on_white).max() <= 2
    assert np.abs(load(tiff([tags | {338: (SHORT, [0])}])).astype(int) - PIXELS).max() <= 1
    with pytest.raises(ImageError, match="multiplied by their opacity"):
        load(tiff([tags | {338: (SHORT, [1])}]))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_white_may_be_the_smallest_of_fractions(dtype: Any) -> None:
    values = (1 - PIXELS[:, :, 0] / 255).astype(dtype)
    assert np.abs(load(tiff([page(values) | {262: (SHORT, [0])}]))[:, :, 0].astype(int) - PIXELS[:, :, 0]).max() <= 1


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 3])
def test_fractions_of_no_usual_range_are_spread(dtype: Any, channels: int) -> None:
    values = of_kind(dtype, channels) * 40 - 10
    result = load(tiff([page(values)])).astype(int)
    expected = (values.astype(float) - values.min()) * 255 / np.ptp(values)
    assert np.abs(result[:, :, :channels] - expected).max() <= 1


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_that_are_no_numbers_spoil_no_others(dtype: Any, channels: int) -> None:
    values = of_kind(dtype, channels)
    values[0, 0], values[0, 1], values[0, 2] = np.nan, np.inf, -np.inf
    result = load(tiff([page(values)])).astype(int)
    assert np.abs(result[1:] - like(dtype, channels)[1:]).max() <= 1
    assert result[0, 0].tolist() == [0, 0, 0]
    assert (result[0, 1] >= result[0, 3]).all()
    assert (result[0, 2] <= result[0, 3]).all()
    values[:] = np.nan
    with pytest.raises(ImageError, match="none of which is a number"):
        load(tiff([page(values)]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("missing", ["-9999", "-3.4028234663852886e+38", "nan"])
def test_the_number_for_missing_ones_is_none(dtype: Any, missing: str) -> None:
    values = np.linspace(120, 3000.5, PIXELS[:, :, 0].size).reshape(PIXELS.shape[:2]).astype(dtype)
    values[3, 4] = dtype(missing)
    result = load(tiff([page(values) | {42113: (ASCII, missing.encode() + b"\0")}]))[:, :, 0]
    assert (result[0, 0], result[-1, -1], result[3, 4]) == (0, 255, 0)
    assert abs(int(np.median(result)) - 127) <= 1


def test_what_is_cut_or_of_no_known_kind_is_refused() -> None:
    data = tiff([page(of_kind(np.float16, 3))])
    for cut in (1, 1000, 5000):
        with pytest.raises(ImageError, match="truncated: the file ends too early"):
            load(data[:-cut])
    for tags, what in (
        ({258: (SHORT, [24] * 3)}, "3 samples of 24 bits, photometric interpretation 2, compression 1"),
        ({259: (SHORT, [33003])}, "3 samples of 16 bits, photometric interpretation 2, compression 33003"),
        ({339: (SHORT, [6] * 3)}, "3 samples of 16 bits"),
        ({258: (SHORT, [16, 16, 32])}, "3 samples of several numbers of bits"),
    ):
        with pytest.raises(ImageError, match=f"a TIFF image that cannot be read: {what}"):
            load(tiff([page(of_kind(np.float16, 3)) | tags]))
    nowhere = page(of_kind(np.float16, 3))
    del nowhere["data"]
    with pytest.raises(ImageError, match="damaged: it does not say where its pixels are"):
        load(tiff([nowhere]))
    packed = {259: (SHORT, [8]), 317: (SHORT, [9]), "data": zlib.compress(of_kind(np.float16, 3).tobytes())}
    with pytest.raises(ImageError, match="a predictor that cannot be read: 9"):
        load(tiff([page(of_kind(np.float16, 3)) | packed]))


def test_damaged_files_are_refused_or_read() -> None:
    random = np.random.default_rng(1)
    data = tiff([page(SMALL) | REDUCED | {"below": [page(of_kind(np.float16, 3))]}])
    for _ in range(300):
        broken = bytearray(data)
        for at in random.integers(0, 500, 3):
            broken[at] = random.integers(256)
        try:
            assert load(bytes(broken), max_pixels=10**6).ndim == 3
        except ImageError as error:
            assert error.reason  # noqa: PT017
