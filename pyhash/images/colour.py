"""Colours as they were meant: what a profile says of an image is converted to sRGB.

A profile that is broken, or of another kind of colours than the image, is ignored, as viewers do; so is one that
changes nothing.
"""

from __future__ import annotations

import functools
import importlib
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from ..support import require
from .chunks import profile_of_chunks, profile_of_exif

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["in_srgb"]

# Colour spaces of profiles, as the ICC names them, and the mode of the images that they describe.
_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}
_SAME = 3
"""Levels by which a conversion may change a value and still be none: profiles of sRGB differ in rounding."""


def in_srgb(image: Image.Image) -> Image.Image:
    """Return an image of 8 bits in the colours of sRGB, of mode RGB or RGBA where they were converted."""
    profile = image.info.get("icc_profile") or profile_of_chunks(image) or profile_of_exif(image)
    if image.mode == "LAB":
        # It can be shown by no other way than through a transform.
        return _apply(_transform(profile, "LAB") or _transform(None, "LAB"), image)
    if not isinstance(profile, bytes) or not profile:
        return image
    mode = "L" if image.mode in ("1", "L", "LA", "La") else "CMYK" if image.mode == "CMYK" else "RGB"
    transform = _transform(profile, mode)
    if transform is None:
        return image
    if not image.has_transparency_data:
        return _apply(transform, image if image.mode == mode else image.convert(mode))
    whole = image if image.mode in ("RGBA", "LA") else image.convert("RGBA")
    converted = _apply(transform, whole.convert(mode))
    converted.putalpha(whole.getchannel("A"))
    return converted


def _apply(transform: Any, image: Image.Image) -> Image.Image:
    converted: Image.Image = _cms().applyTransform(image, transform)
    return converted


@functools.lru_cache(maxsize=64)
def _transform(profile: bytes | None, mode: str) -> Any:
    """Return how to convert images of a mode and a profile to RGB in sRGB; None where there is nothing to convert.

    Without a profile it is that of the CIE's Lab under D50.
    """
    try:
        cms = _cms()
        source = cms.createProfile("LAB") if profile is None else cms.ImageCmsProfile(io.BytesIO(profile))
        if profile is not None and _MODES.get(source.profile.xcolor_space.strip()) != mode:
            return None
        transform = cms.buildTransform(source, _srgb(), mode, "RGB")
        return transform if _changes(transform, mode) else None
    except Exception:  # a damaged profile can raise nearly anything
        return None


def _changes(transform: Any, mode: str) -> bool:
    """Whether a transform changes a colour by more than rounding."""
    if mode not in ("L", "RGB"):
        return True
    steps = np.linspace(0, 255, 9).round().astype(np.uint8)
    sample = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(27, 27, 3)
    fromarray = require("PIL.Image", "encoder").fromarray
    image: Image.Image = fromarray(sample) if mode == "RGB" else fromarray(np.arange(256, dtype=np.uint8)[None])
    converted = np.asarray(_apply(transform, image)).astype(np.int16)
    return bool(np.abs(converted - np.asarray(image.convert("RGB"))).max() > _SAME)


@functools.cache
def _srgb() -> Any:
    return _cms().createProfile("sRGB")


@functools.cache
def _cms() -> Any:
    return importlib.import_module("PIL.ImageCms")
