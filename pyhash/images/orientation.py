"""Turning images upright, as the EXIF block of their file says."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from ..support import require

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["jpeg_exif", "upright"]

# EXIF orientation (EXIF 2.3, tag 0x0112) -> Pillow's transposition that turns the image upright.
_UPRIGHT = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


def jpeg_exif(data: bytes) -> bytes | None:
    """Return the EXIF block of a JPEG, found by walking its segments up to the first scan."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker == 0xDA:
            break
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            return data[at + 4 : end]
        at = end
    return None


def upright(image: Image.Image, exif: Any) -> Image.Image:
    """Return an image turned as an EXIF block says; as it is, where there is none."""
    name = _UPRIGHT.get(_orientation(exif)) if isinstance(exif, bytes) else None
    return image if name is None else image.transpose(require("PIL.Image", "encoder").Transpose[name])


def _orientation(exif: bytes) -> int:
    """Return tag 0x0112 of an EXIF block; 1 (upright) when there is none or the block is damaged.

    Pillow's reader would parse every tag of the block and warn about each that is damaged.
    """
    block = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "I", block, 4)
        (n_tags,) = struct.unpack_from(order + "H", block, start)
        for at in range(start + 2, start + 2 + 12 * n_tags, 12):
            tag, kind, count, value = struct.unpack_from(order + "HHIH", block, at)
            if tag == 0x0112:
                return int(value) if (kind, count) == (3, 1) else 1
    except struct.error:
        pass
    return 1
