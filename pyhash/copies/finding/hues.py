"""Whether two images that lie on one another have the same colours."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .local import BLOCK, Floats, blocks, windows

__all__ = ["Hues", "hues"]

_GREY = 6.0
"""Root mean square of colour up to which an image is grey."""
_TURN = 0.6
"""Radians by which hues may be turned as a whole."""
_APART = 35.0
"""Levels of colour by which a window differs clearly."""
_FEW = 0.04
"""Share of windows that may."""
_CUT = 235.0


class Hues(NamedTuple):
    """How the colours of two images compare."""

    same: bool
    """Whether the second has those of the first, up to what photographs are changed by: weaker or stronger ones, none
    at all, a tint of the whole, another white."""
    strength: float
    """Of the colours of the second, by those of the first; 1 where neither has any."""


def hues(a: Floats, b: Floats, without: NDArray[np.bool_]) -> Hues:
    """Compare the colours of two images that lie on one another.

    Parameters
    ----------
    a, b : float32 arrays, shape (h, w, 3)
    without : bool array
        Pixels that do not count.
    """
    height, width = (side // BLOCK * BLOCK for side in without.shape)
    counts = windows(blocks(without[:height, :width].astype(np.float32))) == 0
    channels = [_channels(image[:height, :width]) for image in (a, b)]
    for of_image in channels:
        counts &= of_image.max(axis=0) < _CUT  # where a channel is cut off, colours are others
    if counts.sum() < 16:
        return Hues(True, 1.0)
    one, other = (_colours(of_image)[counts] for of_image in channels)
    strengths = _strength(one), _strength(other)
    strength = (strengths[1] + 1) / (strengths[0] + 1) if max(strengths) > _GREY else 1.0
    same = min(strengths) < _GREY or any(
        _explains(x, y, of_image.mean(axis=0)[counts])
        for x, y, of_image in ((one, other, channels[0]), (other, one, channels[1]))
    )
    return Hues(same, strength)


def _explains(one: NDArray[np.complex128], other: NDArray[np.complex128], brightness: Floats) -> bool:
    """Whether colours become others when they are made weaker or stronger, turned a little and tinted."""
    terms = np.stack([one, np.ones_like(one), brightness.astype(np.complex128)], axis=1)
    weight = np.ones(len(one))
    for _ in range(3):
        fitted = np.linalg.lstsq(terms * weight[:, None], other * weight, rcond=None)[0]
        apart = np.abs(other - terms @ fitted)
        weight = 1 / (1 + (apart / _APART) ** 2)
    if abs(fitted[0]) > 0.15 and abs(np.angle(fitted[0])) > _TURN:
        return False
    return bool((apart > _APART).mean() <= _FEW)


def _strength(colours: NDArray[np.complex128]) -> float:
    return float(np.sqrt((np.abs(colours) ** 2).mean()))


def _channels(image: Floats) -> Floats:
    """Return the means of each channel over windows, shape (3, ...): colours are stored coarser than brightness."""
    return np.stack([windows(blocks(np.ascontiguousarray(image[..., k]))) for k in range(3)])


def _colours(channels: Floats) -> NDArray[np.complex128]:
    """Return red less brightness and blue less brightness as one complex number a window."""
    red, green, blue = channels
    brightness = 0.299 * red + 0.587 * green + 0.114 * blue
    colours: NDArray[np.complex128] = (red - brightness) + 1j * (blue - brightness)
    return colours
