"""Whether two images that lie on one another have the same colours."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .local import Floats, blocks

__all__ = ["Hues", "hues"]

_GREY = 6.0
"""Root mean square of colour up to which an image is grey."""
_TURN = 0.6
"""Radians by which hues may be turned as a whole."""
_APART = 25.0
"""Levels of colour by which a block differs clearly."""
_FEW = 0.03
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
    height, width = (side // 4 * 4 for side in without.shape)
    counts = blocks(without[:height, :width].astype(np.float32)) == 0
    for image in (a, b):
        # Where a channel is cut off, colours are others.
        counts &= np.stack([blocks(np.ascontiguousarray(image[:height, :width, k])) for k in range(3)]).max(0) < _CUT
    if counts.sum() < 16:
        return Hues(True, 1.0)
    one, other = (_colours(image[:height, :width])[counts] for image in (a, b))
    strengths = _strength(one), _strength(other)
    strength = (strengths[1] + 1) / (strengths[0] + 1) if max(strengths) > _GREY else 1.0
    if strengths[0] < strengths[1]:
        one, other, a, b = other, one, b, a
    if min(strengths) < _GREY:
        return Hues(True, strength)
    brightness = blocks(a[:height, :width].mean(axis=2))[counts]
    terms = np.stack([one, np.ones_like(one), brightness.astype(np.complex128)], axis=1)
    weight = np.ones(len(one))
    for _ in range(3):
        fitted = np.linalg.lstsq(terms * weight[:, None], other * weight, rcond=None)[0]
        apart = np.abs(other - terms @ fitted)
        weight = 1 / (1 + (apart / _APART) ** 2)
    turned = abs(fitted[0]) > 0.15 and abs(np.angle(fitted[0])) > _TURN
    return Hues(bool(not turned and (apart > _APART).mean() <= _FEW), strength)


def _strength(colours: NDArray[np.complex128]) -> float:
    return float(np.sqrt((np.abs(colours) ** 2).mean()))


def _colours(image: Floats) -> NDArray[np.complex128]:
    """Return red less brightness and blue less brightness as one complex number a block."""
    red, green, blue = (blocks(np.ascontiguousarray(image[..., k])) for k in range(3))
    brightness = 0.299 * red + 0.587 * green + 0.114 * blue
    colours: NDArray[np.complex128] = (red - brightness) + 1j * (blue - brightness)
    return colours
