"""How an image becomes one of a wanted size: resized as a whole or by a part, and what is left over cut or filled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["CROPS", "Crop", "centred", "check_fill", "check_fraction", "inner", "resized"]

Crop = Literal["squash", "center", "letterbox"]

CROPS: tuple[Crop, ...] = get_args(Crop)
"""``squash`` resizes the whole image; ``center`` its largest central part of the wanted proportions; ``letterbox`` the
whole image in its own proportions, with a fill at two sides."""

# A panorama is not made large only to be cut: beyond this many times the wanted area its middle alone is resized.
_MAX_OVERHANG = 16


def check_fraction(fraction: Any) -> float | None:
    """Return a ``crop_fraction`` as a float; ValueError when it is none."""
    if fraction is None:
        return None
    if isinstance(fraction, bool) or not isinstance(fraction, (int, float, np.number)) or not 0 < fraction <= 1:
        raise ValueError(f"crop_fraction must be above 0 and at most 1, or None, got {fraction!r}")
    return float(fraction)


def check_fill(fill: Any) -> tuple[int, int, int]:
    """Return a ``fill`` as red, green and blue; ValueError when it is none."""
    values = fill if isinstance(fill, (tuple, list)) else (fill,) * 3
    if len(values) != 3 or any(isinstance(value, bool) or value not in range(256) for value in values):
        raise ValueError(f"fill must be a whole number from 0 to 255, or three, got {fill!r}")
    return int(values[0]), int(values[1]), int(values[2])


def inner(shape: tuple[int, int], fraction: float | None) -> tuple[int, int]:
    """Return the (height, width) that an image is resized for, of which `fraction` is kept."""
    return shape if fraction is None else (round(shape[0] / fraction), round(shape[1] / fraction))


def resized(
    image: Image.Image, shape: tuple[int, int], resampling: Any, crop: Crop, fraction: float | None
) -> Image.Image:
    """Resize an image for `centred`.

    Parameters
    ----------
    image : PIL.Image.Image
    shape : (int, int)
        Wanted height and width.
    resampling : PIL.Image.Resampling
    crop : str
        One of `CROPS`.
    fraction : float, optional
        How much of each side of the resized image is kept; with ``center`` that is torchvision's ``Resize`` of the
        shorter side followed by its ``CenterCrop``. None resizes for the wanted size itself, at once.
    """
    if fraction is None and crop != "letterbox":
        if shape == (image.height, image.width):
            return image
        box = _largest_center(image.width, image.height, shape) if crop == "center" else None
        return image.resize((shape[1], shape[0]), resampling, box)
    width, height = _size(image.width, image.height, inner(shape, fraction), crop)
    if width * height > _MAX_OVERHANG * shape[0] * shape[1]:
        seen = min(width, shape[1]), min(height, shape[0])
        left, top = _margin(width, seen[0]), _margin(height, seen[1])
        across, down = image.width / width, image.height / height
        part = (left * across, top * down, (left + seen[0]) * across, (top + seen[1]) * down)
        return image.resize(seen, resampling, part)
    return image if (width, height) == image.size else image.resize((width, height), resampling)


def centred(pixels: NDArray[np.uint8], shape: tuple[int, int], fill: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Cut or fill pixels (h, w, 3) at their sides, evenly, until they are of a (height, width)."""
    if pixels.shape[:2] == shape:
        return pixels
    top, left = (max(0, _margin(have, want)) for have, want in zip(pixels.shape, shape, strict=False))
    part = pixels[top : top + shape[0], left : left + shape[1]]
    if part.shape[:2] == shape:
        return np.ascontiguousarray(part)
    whole = np.empty((*shape, 3), np.uint8)
    whole[:] = fill
    top, left = (shape[0] - part.shape[0]) // 2, (shape[1] - part.shape[1]) // 2
    whole[top : top + part.shape[0], left : left + part.shape[1]] = part
    return whole


def _margin(have: int, want: int) -> int:
    """Return where a central part begins; half pixels to the even side, as torchvision has it."""
    return round((have - want) / 2)


def _size(width: int, height: int, shape: tuple[int, int], crop: Crop) -> tuple[int, int]:
    """Return the (width, height) that an image is resized to: this, or one that covers it or fits into it."""
    if crop == "squash":
        return shape[1], shape[0]
    # Whole numbers are compared, so that no rounding decides which side fits.
    by_height = (height * shape[1] <= width * shape[0]) == (crop == "center")
    if crop == "center":  # the longer side is rounded down, as torchvision does
        if by_height:
            return max(shape[1], shape[0] * width // height), shape[0]
        return shape[1], max(shape[0], shape[1] * height // width)
    if by_height:
        return min(shape[1], max(1, round(shape[0] * width / height))), shape[0]
    return shape[1], min(shape[0], max(1, round(shape[1] * height / width)))


def _largest_center(width: int, height: int, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the largest central box (left, top, right, bottom) with the proportions of a (height, width)."""
    box_width = min(width, max(1, round(height * shape[1] / shape[0])))
    box_height = min(height, max(1, round(width * shape[0] / shape[1])))
    left, top = (width - box_width) // 2, (height - box_height) // 2
    return left, top, left + box_width, top + box_height
