"""Turning images upright, as their metadata says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..support import require

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["orientation", "stated", "upright"]

_TAG = 0x0112

# EXIF orientation (EXIF 2.3) -> Pillow's transposition that turns the image upright.
_UPRIGHT = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


def orientation(image: Image.Image) -> int:
    """Return how an image lies, 1 (upright) to 8, from where `PIL.ImageOps.exif_transpose` takes it.

    That is EXIF wherever a format has it and whatever its type, or else XMP. Where it is damaged, or says what does
    not exist, the image counts as upright.
    """
    return stated(image) or 1


def stated(image: Image.Image) -> int | None:
    """Return the `orientation` of an image that says it; None of others."""
    try:
        value = image.getexif().get(_TAG)
    except Warning:
        raise  # of a caller's filters; read again without them
    except Exception:  # damaged metadata can raise nearly anything in Pillow
        return None
    return next((number for number in (1, *_UPRIGHT) if number == value), None)


def upright(image: Image.Image, lies: int) -> Image.Image:
    """Return an image turned upright from an `orientation`; as it is, where it is."""
    name = _UPRIGHT.get(lies)
    return image if name is None else image.transpose(require("PIL.Image", "encoder").Transpose[name])
