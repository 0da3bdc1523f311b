"""Camera RAW by its preview or its sensor's data, and what is no camera RAW."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PIL")
from photographs import encoded, photo
from PIL import Image
from raws import ASCII, LONG, SHORT, dng, page, preview, sensor, tiff

from pyhash.errors import ImageError
from pyhash.images import load, raw

PIXELS = photo(128, 96)
TURNS = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_270, 8: Image.Transpose.ROTATE_90}


def shown(pixels: Any, width: int, height: int, orientation: int = 1) -> Any:
    picture = Image.fromarray(pixels).resize((width, height))
    turn = TURNS[orientation]
    return np.asarray(picture if turn is None else picture.transpose(turn))


def is_like(pixels: Any, expected: Any) -> bool:
    return pixels.shape == expected.shape and bool(np.corrcoef(pixels.ravel(), expected.ravel())[0, 1] > 0.99)


@pytest.fixture
def rawpy() -> None:
    pytest.importorskip("rawpy")


@pytest.mark.usefixtures("rawpy")
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("is_dng", [True, False], ids=["DNG", "like NEF"])
@pytest.mark.parametrize("orientation", TURNS)
def test_the_preview_is_read(order: str, is_dng: bool, orientation: int) -> None:
    picture = Image.fromarray(PIXELS).resize((96, 72))
    data = dng(PIXELS, preview(picture), orientation=orientation, order=order, is_dng=is_dng)
    assert is_like(load(data), shown(PIXELS, 96, 72, orientation))
    assert load(data, size=16).shape == (16, 16, 3)


@pytest.mark.usefixtures("rawpy")
@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("sides", [None, (60, 45)], ids=["none", "small"])
def test_the_sensor_is_read_where_no_preview_is_large_enough(orientation: int, sides: tuple[int, int] | None) -> None:
    previews = [] if sides is None else [preview(Image.fromarray(255 - PIXELS).resize(sides))]
    data = dng(PIXELS, *previews, orientation=orientation)
    assert is_like(load(data), shown(PIXELS, 128, 96, orientation))


@pytest.mark.usefixtures("rawpy")
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_the_largest_preview_is_read(order: tuple[int, ...]) -> None:
    sides = [(66, 50), (96, 72), (80, 60)]
    previews = [preview(Image.fromarray(PIXELS).resize(sides[n])) for n in order]
    assert load(dng(PIXELS, *previews)).shape == (72, 96, 3)


@pytest.mark.usefixtures("rawpy")
@pytest.mark.parametrize("orientation", [6, 8])
@pytest.mark.parametrize("says", [None, 1, "the same"])
@pytest.mark.parametrize("turned", [False, True])
def test_a_preview_is_turned_once(orientation: int, says: Any, turned: bool) -> None:
    upright = shown(PIXELS, 96, 72, orientation)
    options = {}
    if says is not None:
        options["exif"] = Image.Exif()
        options["exif"][0x112] = orientation if says == "the same" else says
    picture = Image.fromarray(upright if turned else shown(PIXELS, 96, 72))
    assert is_like(load(dng(PIXELS, preview(picture, **options), orientation=orientation)), upright)


@pytest.mark.usefixtures("rawpy")
def test_a_preview_that_says_how_it_lies_is_believed() -> None:
    exif = Image.Exif()
    exif[0x112] = 1
    picture = Image.fromarray(shown(PIXELS, 96, 72, 3))
    assert is_like(load(dng(PIXELS, preview(picture, exif=exif), orientation=3)), shown(PIXELS, 96, 72, 3))


@pytest.mark.usefixtures("rawpy")
def test_what_is_cut_is_never_made_up() -> None:
    """Its preview, which comes last, is read where it is whole."""
    data = dng(PIXELS, preview(Image.fromarray(PIXELS).resize((96, 72))))
    by_sensor = load(dng(PIXELS))
    ends = 0
    for length in range(len(data) - 1, 0, -199):
        try:
            np.testing.assert_array_equal(load(data[:length]), by_sensor)
            ends += 1
        except ImageError as error:
            assert error.reason == "truncated: the file ends too early"  # noqa: PT017
    assert ends > 10


@pytest.mark.usefixtures("rawpy")
def test_a_whole_preview_counts_where_the_sensors_data_are_cut() -> None:
    data = dng(PIXELS, preview(Image.fromarray(PIXELS).resize((96, 72))), last="sensor")
    assert is_like(load(data[:-5000]), shown(PIXELS, 96, 72))


@pytest.mark.usefixtures("rawpy")
def test_damaged_files_never_end_the_process() -> None:
    random = np.random.default_rng(5)
    for data in dng(PIXELS), dng(PIXELS, preview(Image.fromarray(PIXELS).resize((96, 72)))):
        for _ in range(150):
            broken = bytearray(data)
            for at in random.integers(0, 900, 4):
                broken[at] = random.integers(256)
            try:
                assert load(bytes(broken)).ndim == 3
            except ImageError as error:
                assert error.reason  # noqa: PT017


@pytest.mark.usefixtures("rawpy")
def test_large_sensors_are_refused_before_they_are_read() -> None:
    with pytest.raises(ImageError, match=r"128 x 96 pixels, over the limit of 10,000"):
        load(dng(PIXELS), max_pixels=10_000)


BEGINNINGS = [
    b"II*\0\x10\0\0\0CR\2\0",
    b"MMOR\0\0\0\x08",
    b"IIRO\x08\0\0\0",
    b"IIRS\x08\0\0\0",
    b"IIU\0\x18\0\0\0",
    b"FUJIFILMCCD-RAW 0201",
    b"FOVb\0\0\2\0",
    b"\0MRM\0\0\0\0",
    b"II\x1a\0\0\0HEAPCCDR",
    b"\0\0\0\x18ftypcrx \0\0\0\1crx isom",
    b"II*\0\x08\0\0\0IIIITwaR",
    dng(PIXELS),
    dng(PIXELS, is_dng=False),
    tiff([page(PIXELS[::8, ::8]), sensor(PIXELS)]),
    tiff([page(PIXELS[::8, ::8]) | {254: (LONG, [1]), 271: (ASCII, b"Maker\0")}]),
    tiff([page(PIXELS[::8, ::8]) | {259: (SHORT, [34713])}]),
]


@pytest.mark.parametrize("data", BEGINNINGS, ids=lambda data: repr(data[:12]))
@pytest.mark.parametrize("name", ["a.nef", "a.tif"])
def test_raw_is_told_by_content_and_names_its_package_where_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, name: str
) -> None:
    monkeypatch.setitem(sys.modules, "rawpy", None)
    (tmp_path / name).write_bytes(data.ljust(600, b"\0"))
    with pytest.raises(ImageError) as caught:
        load(tmp_path / name)
    wanted = "a camera RAW image, for which a package is missing: pip install 'pyhash-retrieval[raw]'"
    assert caught.value.reason == wanted


@pytest.mark.usefixtures("rawpy")
@pytest.mark.parametrize("data", BEGINNINGS[:11], ids=lambda data: repr(data[:12]))
def test_what_begins_as_raw_and_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError, match=r"^<bytes>: (a camera RAW image that|truncated|damaged)"):
        load(data.ljust(600, b"\0"))


def test_a_plain_tiff_of_a_camera_is_read_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rawpy", None)
    data = encoded(Image.fromarray(PIXELS), "TIFF", tiffinfo={271: "Maker", 272: "Model"})
    (tmp_path / "a.nef").write_bytes(data)
    np.testing.assert_array_equal(load(tmp_path / "a.nef"), PIXELS)


def test_files_over_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rawpy")
    monkeypatch.setattr(raw, "MAX_RAW_BYTES", 1 << 14)
    with pytest.raises(ImageError, match="a camera RAW image of over 0 MiB, which is the limit"):
        load(dng(PIXELS))
