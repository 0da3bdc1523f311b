"""An image in memory, and what is made of it: pixels for a network, its look, a thumbnail."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..support import require
from .geometry import CROPS, Crop, centred, check_fill, check_fraction, resized
from .looks import Look, look_of
from .views import Part, cut, reduced

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["RESIZES", "THUMBNAIL_SIDE", "Decoded", "Resize", "as_shape", "check_how"]

Resize = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]

RESIZES: tuple[Resize, ...] = get_args(Resize)
"""Pillow's resampling filters; all but ``nearest`` average over the area that a resulting pixel covers."""

THUMBNAIL_SIDE = 160
"""The longest side of a thumbnail, in pixels."""

_SMALL = 160
"""Looks and thumbnails are made of an image reduced by whole numbers, whose shorter side is still this."""


class Decoded:
    """An image in memory, upright, in 8 bits and the colours of sRGB.

    Made by `opened`, and of use in its block alone.

    Parameters
    ----------
    image : PIL.Image.Image
        Of mode L, RGB, RGBX, or RGBa (colour multiplied by alpha).
    size : (int, int)
        Its width and height in full; it may have been reduced.
    parts : sequence of Part
        What is wanted of it besides the whole, in pixels of that size.
    enough, of_parts : (int, int), optional
        The (height, width) that must be left of the whole and of each part, which are reduced until then.

    Attributes
    ----------
    size : (int, int)
    """

    def __init__(
        self,
        image: Image.Image,
        size: tuple[int, int],
        parts: Sequence[Part] = (),
        enough: tuple[int, int] | None = None,
        of_parts: tuple[int, int] | None = None,
    ) -> None:
        self.size = size
        self._large = image
        self._image = reduced(image, enough) if parts else image
        self._parts = parts
        self._enough = of_parts

    def parts(self) -> Iterator[tuple[Part, Decoded]]:
        """Yield the parts that are wanted, each as an image of its own."""
        for part in self._parts:
            image = cut(self._large, part, self.size, self._enough)
            yield part, Decoded(image, image.size)

    def pixels(
        self,
        size: int | tuple[int, int] | None = None,
        *,
        longest: int | None = None,
        resize: Resize = "bilinear",
        crop: Crop = "squash",
        crop_fraction: float | None = None,
        fill: int | tuple[int, int, int] = 0,
    ) -> NDArray[np.uint8]:
        """Return the image as RGB on white; see `load` for the arguments.

        Returns
        -------
        numpy.ndarray
            uint8, shape (height, width, 3).
        """
        check_how(resize, crop)
        fraction, colour = check_fraction(crop_fraction), check_fill(fill)
        image = self._image
        shape = None if size is None else as_shape(size)
        if longest is not None:
            shape = _within(image, longest)
        if shape is None:
            return _on_white(image)
        resampling = require("PIL.Image", "encoder").Resampling[resize.upper()]
        return centred(_on_white(resized(image, shape, resampling, crop, fraction)), shape, colour)

    def look(self) -> Look:
        """Return how the image looks, by which copies of it are found."""
        return look_of(self._small.convert("L"))

    def thumbnail(self) -> bytes:
        """Return a small image as a JPEG file without metadata, its longest side at most 160 pixels."""
        height, width = _within(self._small, THUMBNAIL_SIDE)
        image = self._small.resize((width, height), require("PIL.Image", "encoder").Resampling.BICUBIC)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=75)
        return buffer.getvalue()

    def content(self) -> bytes:
        """Return what tells an image by its pixels, transparent ones too, in 16 bytes: BLAKE2b."""
        image = self._image.convert("RGB") if self._image.mode in ("L", "RGBX") else self._image
        digest = hashlib.blake2b(f"{image.mode} {image.width} {image.height} ".encode(), digest_size=16)
        digest.update(image.tobytes())
        return digest.digest()

    def sharpness(self) -> float:
        """Return how much each pixel differs from those around it, in percent of the deviation over the image."""
        grey = self._image.convert("L") if self._image.mode != "RGBa" else self._flat.convert("L")
        around = grey.filter(require("PIL.ImageFilter", "encoder").BoxBlur(1))
        apart = require("PIL.ImageChops", "encoder").difference(grey, around)
        levels = np.arange(256)
        count = np.array(grey.histogram())
        mean = count @ levels / count.sum()
        deviation = float(np.sqrt(count @ (levels - mean) ** 2 / count.sum()))
        return round(100 * float(np.array(apart.histogram()) @ levels / count.sum()) / (deviation + 1), 2)

    @property
    def _flat(self) -> Image.Image:
        flat: Image.Image = require("PIL.Image", "encoder").fromarray(_on_white(self._image))
        return flat

    @cached_property
    def _small(self) -> Image.Image:
        """The image on white, of mode L or RGB, reduced by averaging whole pixels."""
        factor = max(1, min(self._image.size) // _SMALL)
        image = self._image.reduce(factor) if factor > 1 else self._image
        if image.mode in ("L", "RGB"):
            return image
        flat: Image.Image = require("PIL.Image", "encoder").fromarray(_on_white(image))
        return flat


def check_how(resize: str, crop: str) -> None:
    """Raise ValueError where a filter or a crop is none."""
    if resize not in RESIZES:
        raise ValueError(f"resize must be one of {', '.join(RESIZES)}, got {resize!r}")
    if crop not in CROPS:
        raise ValueError(f"crop must be one of {', '.join(CROPS)}, got {crop!r}")


def as_shape(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return (height, width) for a side or a (height, width), or raise ValueError."""
    shape = size if isinstance(size, (tuple, list)) else (size, size)
    if len(shape) != 2 or any(isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1 for n in shape):
        raise ValueError(f"size must be a number of pixels of at least 1, or (height, width), got {size!r}")
    return int(shape[0]), int(shape[1])


def _on_white(image: Image.Image) -> NDArray[np.uint8]:
    """Return an image as RGB in an array of its own."""
    pixels: NDArray[Any] = np.asarray(image)
    if image.mode == "L":
        return np.repeat(pixels[:, :, None], 3, axis=2)
    if image.mode == "RGBa":
        # Colour is already multiplied by alpha, so what is missing up to 255 is white. Filters with
        # negative lobes overshoot.
        white = 255 - pixels[:, :, 3:].astype(np.int16)
        return np.minimum(pixels[:, :, :3] + white, 255).astype(np.uint8)
    rgb: NDArray[np.uint8] = pixels[:, :, :3].copy()
    return rgb


def _within(image: Image.Image, longest: int) -> tuple[int, int]:
    """Return the (height, width) of an image reduced until no side is longer than this."""
    factor = min(1.0, longest / max(image.size))
    return max(1, round(image.height * factor)), max(1, round(image.width * factor))
