"""What a file says of the image in it: its format, and how much was lost when it was compressed."""

from __future__ import annotations

import io
import os
from typing import IO, Any, NamedTuple

from ..errors import ImageError
from .formats import File

__all__ = ["Described", "described"]

_STANDARD = 3688
"""Sum of the table of the JPEG standard (annex K) by which brightness is quantized at quality 50."""
_LOSSLESS = frozenset({"PNG", "BMP", "DIB", "TIFF", "PPM", "QOI"})


class Described(NamedTuple):
    """What a file says of its image."""

    format: str
    """As Pillow calls it, such as ``"JPEG"``; ``"RAW"`` for what cameras keep of their sensor."""
    quality: int | None
    """Of JPEG, 1 to 100, on the scale of libjpeg; None for others."""
    lossless: bool
    """Whether its format loses nothing, as far as that can be told."""


def described(source: str | os.PathLike[str] | bytes) -> Described:
    """Return what an image file, or its bytes, says of itself, told by what it holds.

    Raises
    ------
    ImageError
        When the file cannot be read.
    """
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as stream:
            return _described(stream)
    except Exception as error:
        name = "<bytes>" if isinstance(source, bytes) else str(os.fspath(source))
        raise ImageError(name, str(error) or type(error).__name__) from error


def _described(stream: IO[bytes]) -> Described:
    file = File(stream)
    with file.open() as image:
        if file.is_raw:
            return Described("RAW", None, False)
        name = str(image.format)
        tables: Any = getattr(image, "quantization", None)
        quality = None
        if name == "MPO":
            name = "JPEG"
        if name == "JPEG" and tables:
            scale = 100 * sum(tables[min(tables)]) / _STANDARD
            quality = round(5000 / scale if scale > 100 else (200 - scale) / 2)
            quality = max(1, min(100, quality))
        return Described(name, quality, name in _LOSSLESS)
