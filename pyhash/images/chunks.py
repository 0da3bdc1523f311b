"""Colours of files that say them without a profile, as one: PNG in chunks of its own (gAMA, cHRM), cameras in EXIF."""

from __future__ import annotations

import functools
import struct
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["profile_of_chunks", "profile_of_exif"]

_SRGB_GAMMA, _NEAR = 0.45455, 0.02
_SRGB = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
"""White, red, green and blue, x and y each."""
_D50 = np.array([0.9642, 1, 0.8249])
# How cones see XYZ, after Bradford: by it colours are seen under another white.
_CONES = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


_ADOBE_GAMMA, _ADOBE = 2.19921875, (0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
"""Adobe RGB (1998)."""
_EXIF, _SPACE, _INTEROPERABILITY, _INDEX = 0x8769, 0xA001, 0xA005, 1
_SRGB_SPACE, _ADOBE_INDEX = 1, "R03"


def profile_of_exif(image: Image.Image) -> bytes | None:
    """Return the profile of Adobe RGB for an image that a camera calls so (DCF 2.0: R03), else None."""
    if image.mode != "RGB" or "exif" not in image.info:
        return None
    try:
        exif = image.getexif()
        details = exif.get_ifd(_EXIF)
        index = exif.get_ifd(_INTEROPERABILITY).get(_INDEX)
    except Warning:
        raise  # of a caller's filters; read again without them
    except Exception:  # damaged metadata can raise nearly anything in Pillow
        return None
    if details.get(_SPACE) == _SRGB_SPACE or str(index).rstrip("\0 ") != _ADOBE_INDEX:
        return None
    return _profile(_ADOBE_GAMMA, _ADOBE)


def profile_of_chunks(image: Image.Image) -> bytes | None:
    """Return the profile that says what the chunks of a PNG say; None where that is sRGB, or there are none."""
    gamma = image.info.get("gamma")
    if image.format != "PNG" or "srgb" in image.info or not isinstance(gamma, float) or gamma <= 0:
        return None
    points = image.info.get("chromaticity", _SRGB)
    grey = image.mode in ("1", "L", "LA", "I;16")
    if abs(gamma - _SRGB_GAMMA) < _NEAR and (grey or np.allclose(points, _SRGB, atol=0.005)):
        return None
    return _profile(round(1 / gamma, 4), None if grey else tuple(points))


@functools.lru_cache(maxsize=64)
def _profile(exponent: float, points: tuple[float, ...] | None) -> bytes | None:
    """Return an ICC profile of one exponent, and of white and three primaries, or of grey (ICC.1:2001-04)."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, min(0xFFFF, round(exponent * 256)))
    tags = {b"wtpt": _xyz(_D50)}
    if points is None:
        tags[b"kTRC"] = curve
    else:
        try:
            primaries = _under_d50(points)
        except np.linalg.LinAlgError:  # they lie on one line
            return None
        for letter, point in zip((b"r", b"g", b"b"), primaries.T, strict=True):
            tags |= {letter + b"XYZ": _xyz(point), letter + b"TRC": curve}
    at = 132 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I", at + len(body)) + bytes(4) + b"\x02\x40\0\0mntr" + (b"GRAY" if points is None else b"RGB ")
    head += b"XYZ " + struct.pack(">6H", 2003, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _numbers(_D50)
    return head.ljust(128, b"\0") + table + body


def _under_d50(points: tuple[float, ...]) -> NDArray[np.float64]:
    """Return the XYZ of the primaries, a column each, as they are seen where white is D50."""
    x, y = np.array(points).reshape(4, 2).T
    with np.errstate(all="ignore"):
        white, *primaries = np.stack([x / y, np.ones(4), (1 - x - y) / y], axis=1)
        columns = np.array(primaries).T
        columns = columns * np.linalg.solve(columns, white)
        scale = np.diag((_CONES @ _D50) / (_CONES @ white))
        adapted: NDArray[np.float64] = np.linalg.inv(_CONES) @ scale @ _CONES @ columns
    if not np.isfinite(adapted).all():
        raise np.linalg.LinAlgError
    return adapted


def _xyz(point: NDArray[np.float64]) -> bytes:
    return b"XYZ " + bytes(4) + _numbers(point)


def _numbers(values: NDArray[np.float64]) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)
