"""What a file is, is told by what it holds."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PIL")
from photographs import AVIF, encoded, photo
from PIL import Image

from pyhash.errors import ImageError
from pyhash.images import load


@pytest.mark.parametrize("name", ["a.heic", "a.png", "a.avif", "a"])
def test_the_name_does_not_matter(tmp_path: Path, name: str) -> None:
    data = encoded(Image.fromarray(photo()), "JPEG")
    (tmp_path / name).write_bytes(data)
    np.testing.assert_array_equal(load(tmp_path / name), load(data))


def family(*brands: bytes) -> bytes:
    """The box that begins a file of the family of MP4: the major brand, and those that it is compatible with."""
    body = brands[0] + bytes(4) + b"".join(brands[1:])
    return (8 + len(body)).to_bytes(4) + b"ftyp" + body + bytes(200)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (family(b"isom", b"mp41"), "a video"),
        (family(b"qt  "), "a video"),
        (b"8BPS\0\1" + bytes(60), "a Photoshop file"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"<!DOCTYPE html><html>", "a web page"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "b.jpg").write_bytes(data)
    with pytest.raises(ImageError) as caught:
        load(tmp_path / "b.jpg")
    assert caught.value.reason == f"{reason}, which cannot be read: save it as JPEG, for example"


@pytest.mark.parametrize("kind", [AVIF])
@pytest.mark.parametrize("major", [b"mif1", b"miaf", b"MA1B"])
def test_avif_by_any_of_its_brands(kind: str, major: bytes) -> None:
    data = encoded(Image.fromarray(photo()), kind, quality=85)
    assert data[8:12] == b"avif"
    np.testing.assert_array_equal(load(data[:8] + major + data[12:]), load(data))


# HEIF

# 42 x 26 pixels of ramps, as `ramps` has them.
HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAXxtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAACJpbG9jAA"
    "AAAERAAAEAAQAAAAABoAABAAAAAAAAAScAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRtAAAAAAABAAAA/GlwcnAA"
    "AADcaXBjbwAAAHVodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQApQgEBA3AAAAMAkA"
    "AAAwAAAwAeoCCBBZbqrprm4CGgwIAAAAyAAAADAIRiAAEABkQBwXPBiQAAABNjb2xybmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAABAAAAAQAAA"
    "AChjbGFwAAAAKgAAAAEAAAAaAAAAAf///+oAAAAC////2gAAAAIAAAAQcGl4aQAAAAADCAgIAAAAGGlwbWEAAAAAAAAAAQABBYECAwWEAAABL2"
    "1kYXQAAAEjKAGvDsgiTVSKV4Xzcw141e8dD3Jy+1G/l8+tLt8n0Lw7VuzEk70OFsrs59RzUsrZoyBNxzzCziGPL7N+E+2sHo/WDzUGvcCl2tef"
    "tltk/s6Q3X7OP5CAvbWHHXY/JcOyWQmWpQBq1L//qaAhT1S+w9H/NKJfBB6SG7WcZIQITygW/6dueIgydGIYi2gUvwXmgdAmfa2K31nBaB1mUu"
    "3BttPoVmcVM31XFflRMxfeql5Bift4k3QY+cvz98G4HMe16Yyc9ik1eLagafvyl6MpzqQMcsAPOHPruBpqZjvGBcPxUADE2/UqYufv+gZs/Wls"
    "k5ss/eujRHnh6bxcmrx/jQX6gmjXb6DTm3IKIp2x8FsrZjf2c0D+9u6zqmuLRDGklT/A"
)


def ramps() -> np.ndarray:
    y, x = np.mgrid[:26, :42]
    return np.stack([x * 6, y * 9, np.where((x < 21) & (y < 13), 255, 30)], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("major", [b"heic", b"mif1"])
def test_heif_is_read_where_its_package_is_installed(major: bytes) -> None:
    pytest.importorskip("pi_heif")
    pixels = load(HEIC[:8] + major + HEIC[12:])
    assert pixels.shape == (26, 42, 3)
    assert np.abs(pixels.astype(int) - ramps()).mean() < 6
    assert load(HEIC, size=8).shape == (8, 8, 3)


@pytest.mark.parametrize("length", [30, 300, 600, len(HEIC) - 1])
def test_heif_that_is_cut_is_damaged(length: int) -> None:
    pytest.importorskip("pi_heif")
    with pytest.raises(ImageError, match=r"damaged|truncated"):
        load(HEIC[:length])


@pytest.mark.parametrize("brands", [(b"heic", b"mif1", b"heic"), (b"mif1", b"heic", b"miaf"), (b"msf1", b"hevc")])
def test_heif_names_its_package_where_that_is_missing(monkeypatch: pytest.MonkeyPatch, brands: list[bytes]) -> None:
    for package in ("pi_heif", "pillow_heif"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImageError) as caught:
        load(family(*brands))
    assert caught.value.reason == "a HEIF image, for which a package is missing: pip install 'pyhash-retrieval[heif]'"


# Several images in one file, and rarer formats


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0, "optimize": True}], ids=str)
def test_of_a_file_of_several_jpegs_the_first_is_read(options: dict[str, Any]) -> None:
    first, second = Image.fromarray(photo(320, 240)), Image.fromarray(photo(320, 240, seed=4))
    alone = load(encoded(first, "JPEG", quality=92, **options))
    data = encoded(first, "MPO", save_all=True, append_images=[second], quality=92, **options)
    np.testing.assert_array_equal(load(data), alone)
    np.testing.assert_array_equal(
        load(data[: len(data) * 3 // 4]), alone
    )  # the second is cut, which is nobody's concern
    assert np.abs(load(data, size=64).astype(int) - load(np.asarray(first), size=64)).mean() < 3
    end = data.find(b"\xff\xd9")
    for broken in (data[: end // 2], data[: end // 2] + data[end:]):
        with pytest.raises(ImageError, match=r"truncated|damaged"):
            load(broken)


def test_qoi_is_read_and_refused_where_it_is_cut() -> None:
    data = encoded(Image.fromarray(photo()), "QOI")
    np.testing.assert_array_equal(load(data), photo())
    for length in range(4, len(data) - 8, 97):
        with pytest.raises(ImageError, match="damaged"):
            load(data[:length])
