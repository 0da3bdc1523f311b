"""What a file is, is told by what it holds."""

from __future__ import annotations

from pathlib import Path

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
        (family(b"heic", b"mif1", b"heic"), "a HEIF image"),
        (family(b"mif1", b"heic", b"miaf"), "a HEIF image"),
        (family(b"msf1", b"hevc"), "a HEIF image"),
        (family(b"isom", b"mp41"), "a video"),
        (family(b"qt  "), "a video"),
        (b"\xff\x0a" + bytes(60), "a JPEG XL image"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(60), "a JPEG XL image"),
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
