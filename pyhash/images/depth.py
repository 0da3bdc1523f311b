"""Pixels of more than 8 bits, made 8 bits by what the data hold and not by what their container could.

Scanners, cameras and microscopes store 8, 10, 12 or 14 bits in 16, so the largest value tells the depth. Where values
have no depth that is usual (negative ones, large ones, fractions over 1) their own range is spread over 0 to 255.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..support import require
from .chunks import profile_of_chunks
from .refused import Refused

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["grey_of", "in_8_bits", "is_deep", "load_deep", "missing_of"]

_DEPTHS = (8, 10, 12, 14, 16)
_PHOTOMETRIC, _GDAL_NODATA, _MIN_IS_WHITE = 262, 42113, 0
_SWAPPED = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}


def is_deep(image: Image.Image) -> bool:
    """Whether a loaded image is grey and has more than 8 bits."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def grey_of(image: Image.Image) -> Image.Image:
    """Return a deep grey image in 8 bits."""
    values = np.asarray(image)
    grey = in_8_bits(values, missing_of(image))
    tags = getattr(image, "tag_v2", {})
    if getattr(image, "min_is_white", False) or tags.get(_PHOTOMETRIC) == _MIN_IS_WHITE:
        grey = 255 - grey
    image_module: Any = require("PIL.Image", "encoder")
    result: Image.Image = image_module.fromarray(np.ascontiguousarray(grey))
    key = image.info.get("transparency")
    if isinstance(key, int):
        opaque = image_module.fromarray(np.where(values == key, 0, 255).astype(np.uint8))
        result = image_module.merge("LA", (result, opaque))
    profile = image.info.get("icc_profile") or profile_of_chunks(image)
    if profile:
        result.info["icc_profile"] = profile
    return result


def load_deep(image: Image.Image, reopen: Callable[[], Image.Image]) -> None:
    """Decode an image; one in colour and 16 bits, of which Pillow keeps the high bytes, by the depth of its data.

    Parameters
    ----------
    image : PIL.Image.Image
        Opened, not decoded; it holds the result.
    reopen : callable
        Opens the same file again.
    """
    raw = {_raw_mode(tile) for tile in image.tile}  # type: ignore[attr-defined]
    image.load()
    if not any(";16" in mode for mode in raw) or is_deep(image):
        return
    high = np.asarray(image)
    n_colours = sum(band not in "AX" for band in image.getbands())
    shift = _shift(int(high[..., :n_colours].max()) << 8 | 255)
    if isinstance(key := image.info.get("transparency"), tuple):
        image.info["transparency"] = tuple(value >> shift for value in key)
    if shift == 8:
        return
    if any("a" in mode for mode in raw):
        raise Refused("16-bit colours multiplied by their alpha, of which few bits are used")
    with reopen() as again:
        # Low bytes are what is read where high and low are taken for each other.
        again.tile = [_swapped(tile) for tile in again.tile]  # type: ignore[attr-defined]
        low = np.asarray(again)
    if "LA;16B" in raw:
        low = low[..., (1, 1, 1, 3)]
    values = high.astype(np.uint16) << 8 | low
    pixels = high.copy()
    pixels[..., :n_colours] = _whole(values[..., :n_colours])
    if "A" in image.getbands():
        pixels[..., -1] = _whole(values[..., -1])
    image.paste(require("PIL.Image", "encoder").frombuffer(image.mode, image.size, pixels, "raw", image.mode, 0, 1))


def _raw_mode(tile: Any) -> str:
    """Return how the bytes of a part of a file are to be read, in Pillow's words."""
    mode = tile.args[0] if isinstance(tile.args, tuple) else tile.args
    return mode if isinstance(mode, str) else ""


def _swapped(tile: Any) -> Any:
    """Return a part of a file that is read with the bytes of each pair swapped."""
    mode = _raw_mode(tile)
    mode = "RGBA" if mode == "LA;16B" else mode[:-1] + _SWAPPED[mode[-1]]  # both bytes of both, one after the other
    return tile._replace(args=(mode, *tile.args[1:]) if isinstance(tile.args, tuple) else mode)


def in_8_bits(values: NDArray[Any], missing: float | None = None) -> NDArray[np.uint8]:
    """Return numbers of any kind in 8 bits; a certain floating-point number may stand for missing ones."""
    if values.dtype.kind != "f":
        return _whole(values)
    return _fractions(values.astype(np.float64 if values.dtype.itemsize > 4 else np.float32), missing)


def missing_of(image: Any) -> float | None:
    """Return the number that stands for missing ones in a TIFF image of the GDAL library."""
    text = getattr(image, "tag_v2", {}).get(_GDAL_NODATA)
    try:
        return float(str(text).strip("\0 "))
    except ValueError:
        return None


def _whole(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return whole numbers in 8 bits: the highest of as many bits as their largest value needs."""
    least, most = int(values.min()), int(values.max())
    if least < 0 or most > 0xFFFF:
        return _spread(values)
    return (values >> _shift(most)).astype(np.uint8)


def _shift(most: int) -> int:
    """Return how many bits are too many where this is the largest value."""
    return next(depth for depth in _DEPTHS if most < 1 << depth) - 8


def _fractions(values: NDArray[Any], missing: float | None) -> NDArray[np.uint8]:
    """Return floating-point numbers in 8 bits: what is none is black, infinity the largest or the least of the others.

    A number that is said to stand for missing ones is none.
    """
    absent = np.isnan(values) if missing is None else np.isnan(values) | (values == missing)
    known = np.isfinite(values) & ~absent
    if not known.any():
        raise Refused("floating-point pixels none of which is a number")
    least, most = float(values.min(where=known, initial=np.inf)), float(values.max(where=known, initial=-np.inf))
    if not known.all():
        values = np.where(absent, 0 if least >= 0 and most <= 1 else least, values.clip(least, most))
    if least >= 0 and most <= 1:
        return np.round(values * 255).astype(np.uint8)
    if least >= 0 and most <= 0xFFFF and (values == np.floor(values)).all():
        return _whole(values.astype(np.uint16))
    return _spread(values)


def _spread(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Spread values without a usual depth over 0 to 255."""
    least, most = float(values.min()), float(values.max())
    if least == most:
        raise Refused(f"pixels that are all {least:g}, and nothing says between which values")
    return np.round((values - least) * (255 / (most - least))).astype(np.uint8)
