"""Images as they are served: upright, in colours of the web, and without anything that is said of place and time."""

from __future__ import annotations

import io

from ..errors import ImageError
from ..images import load
from ..support import require
from .problems import Problem

__all__ = ["served_image"]


def served_image(path: str, longest: int) -> bytes:
    """Return a JPEG file of an image, no larger than itself; Problem where its file cannot be read."""
    try:
        pixels = load(path, longest=longest, resize="bicubic")
    except ImageError as error:
        raise Problem(404, f"the file of the image cannot be read: {error.reason}", argument="id") from error
    buffer = io.BytesIO()
    require("PIL.Image", "encoder").fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
