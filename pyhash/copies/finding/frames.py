"""Whether what lies around a part of an image frames it: a border, a screen; or whether the image goes on there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

    from .placement import Frame

__all__ = ["has_frame"]

_OUT, _IN = (2, 4), (1, 3)
"""Pixels from an edge, outwards and inwards, between which lines are compared: the nearest may show both sides."""
_DEEPER = (5, 7)
_FLAT = 3.0
"""Standard deviation of lines that are plain."""
_STEP, _TIMES = 8.0, 2.5
"""Grey levels between the lines on both sides of an edge that parts them, and how many times those farther in."""
_SHORT = 8


def has_frame(grey: Image.Image, frame: Frame) -> bool:
    """Return whether an image has something around a part of it that is plain or clearly parted from it, at each side
    where there is something around it.
    """
    pixels = np.asarray(grey, np.float32)
    height, width = pixels.shape
    left, top, right, bottom = (
        round(edge * side) for edge, side in zip(frame, (width, height, width, height), strict=True)
    )
    if right - left < _SHORT or bottom - top < _SHORT:
        return False
    # Each side as rows that go outwards: the edge lies before row `at`.
    sides = (
        (pixels[::-1, left:right], height - top),
        (pixels[:, left:right], bottom),
        (pixels.T[::-1, top:bottom], width - left),
        (pixels.T[:, top:bottom], right),
    )
    framed = [_is_parted(rows, at) for rows, at in sides if len(rows) - at >= _OUT[1]]
    return bool(framed) and all(framed)


def _is_parted(rows: NDArray[np.float32], at: int) -> bool:
    outside = rows[at + _OUT[0] : at + _OUT[1]].mean(axis=0)
    if outside.std() <= _FLAT:
        return True
    inside = rows[max(0, at - _IN[1]) : at - _IN[0]].mean(axis=0)
    deeper = rows[max(0, at - _DEEPER[1]) : max(1, at - _DEEPER[0])].mean(axis=0)
    step, usual = float(np.abs(outside - inside).mean()), float(np.abs(inside - deeper).mean())
    return step >= max(_STEP, _TIMES * usual)
