"""JPEG XL, by the package that reads it."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PIL")
from photographs import encoded, photo
from PIL import Image

from pyhash.errors import ImageError
from pyhash.images import load

PIXELS = photo()
# 12 x 8 pixels, red and then blue.
ANIMATION = base64.b64decode("/woBBU0AICYIBAEAPABLGIsVgF3k/wAikU2Bjj8IBAUAPABLGIsVgF3k/wAi4tCBjj8=")


@pytest.fixture
def plugin() -> None:
    pytest.importorskip("pillow_jxl")


def boxes(data: bytes) -> Iterator[bytes]:
    while data:
        length = int.from_bytes(data[:4]) or len(data)
        yield data[:length]
        data = data[length:]


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize("use_container", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA"])
def test_it_is_read_by_content(tmp_path: Path, use_container: bool, mode: str) -> None:
    picture = Image.fromarray(PIXELS).convert(mode)
    data = encoded(picture, "JXL", lossless=True, use_container=use_container)
    assert data.startswith(b"\xff\x0a") != use_container
    (tmp_path / "a.jpg").write_bytes(data)
    np.testing.assert_array_equal(load(tmp_path / "a.jpg"), np.asarray(picture.convert("RGB")))
    assert load(data, size=20).shape == (20, 20, 3)


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize("sides", [(8, 8), (256, 256), (9, 16), (1, 1), (3, 9001), (1280, 720), (255, 170), (7, 6)])
@pytest.mark.parametrize("use_container", [False, True])
def test_its_size_is_known_before_it_is_decoded(sides: tuple[int, int], use_container: bool) -> None:
    data = encoded(Image.new("RGB", sides), "JXL", use_container=use_container, effort=1)
    n_pixels = sides[0] * sides[1]
    assert load(data, max_pixels=n_pixels).shape == (sides[1], sides[0], 3)
    with pytest.raises(ImageError, match=f"{sides[0]} x {sides[1]} pixels, over the limit of {n_pixels - 1:,} pixels"):
        load(data[: len(data) // 2 + 30], max_pixels=n_pixels - 1)


@pytest.mark.usefixtures("plugin")
@pytest.mark.filterwarnings("ignore:Using JPEG reconstruction")
@pytest.mark.parametrize("whole", [True, False], ids=["as a JPEG", "as pixels"])
def test_what_was_a_jpeg_is_turned_once(tmp_path: Path, whole: bool) -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    Image.fromarray(PIXELS).save(tmp_path / "a.jpg", quality=95, exif=exif)
    with Image.open(tmp_path / "a.jpg") as picture:
        data = encoded(picture, "JXL")
    assert b"jbrd" in data
    if not whole:
        parts = [box for box in boxes(data) if box[4:8] not in (b"jbrd", b"brob")]
        body = b"Exif" + bytes(4) + exif.tobytes()[6:]
        data = b"".join([*parts[:2], (4 + len(body)).to_bytes(4) + body, *parts[2:]])
    difference = np.abs(load(data).astype(int) - load(tmp_path / "a.jpg"))
    assert difference.mean() < 3


@pytest.mark.usefixtures("plugin")
def test_exif_turns_what_the_decoder_does_not() -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    data = encoded(Image.fromarray(PIXELS), "JXL", lossless=True, exif=exif.tobytes())
    np.testing.assert_array_equal(load(data), np.rot90(PIXELS, -1))


@pytest.mark.usefixtures("plugin")
def test_animations_are_refused() -> None:
    """The package gives their last frame."""
    with pytest.raises(ImageError, match="an animation in JPEG XL"):
        load(ANIMATION)


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize("use_container", [False, True])
def test_what_is_cut_or_damaged_is_refused(use_container: bool) -> None:
    data = encoded(Image.fromarray(PIXELS), "JXL", use_container=use_container)
    for length in (*range(2, 80), *range(80, len(data), 41)):
        with pytest.raises(ImageError) as caught:
            load(data[:length])
        assert caught.value.reason.startswith(("damaged: ", "not an image")), length
    random = np.random.default_rng(2)
    for _ in range(100):
        broken = bytearray(data)
        broken[random.integers(len(data))] ^= 1 << random.integers(8)
        try:
            load(bytes(broken))
        except ImageError as error:
            assert error.reason  # noqa: PT017


@pytest.mark.parametrize("data", [b"\xff\x0a" + bytes(60), b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(60)])
def test_it_names_its_package_where_that_is_missing(monkeypatch: pytest.MonkeyPatch, data: Any) -> None:
    monkeypatch.setitem(sys.modules, "pillow_jxl.JpegXLImagePlugin", None)
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    with pytest.raises(ImageError) as caught:
        load(data)
    wanted = "a JPEG XL image, for which a package is missing: pip install 'pyhash-retrieval[jxl]'"
    assert caught.value.reason == wanted
