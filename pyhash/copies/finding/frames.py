"""Whether what lies around a part of an image frames it: a border, a screen; or whether the image goes on there."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

    from .placement import Frame

__all__ = ["Surround", "surround"]

_OUT, _IN = (2, 4), (1, 3)
"""Pixels from an edge, outwards and inwards, between which lines are compared: the nearest may show both sides."""
_DEEPER = (5, 7)
_FLAT = 3.0
"""Standard deviation of lines that are plain."""
_STEP, _TIMES = 8.0, 2.5
"""Grey levels between the lines on both sides of an edge that parts them, and how many times those farther in."""
_SHORT = 8


class Surround(NamedTuple):
    """What lies around a part of an image."""

    parted: float
    """Share of the sides at which it is parted from what lies around it: by a clear edge, or as that is plain. Sides
    where nothing lies around it do not count; 0 where there is nothing at all."""
    edged: bool
    """Whether an edge is to be seen at any of them."""


def surround(grey: Image.Image, frame: Frame) -> Surround:
    """Return what lies around a part of an image."""
    pixels = np.asarray(grey, np.float32)
    height, width = pixels.shape
    left, top, right, bottom = (
        round(edge * side) for edge, side in zip(frame, (width, height, width, height), strict=True)
    )
    if right - left < _SHORT or bottom - top < _SHORT:
        return Surround(0.0, False)
    # Each side as rows that go outwards: the edge lies before row `at`.
    sides = (
        (pixels[::-1, left:right], height - top),
        (pixels[:, left:right], bottom),
        (pixels.T[::-1, top:bottom], width - left),
        (pixels.T[:, top:bottom], right),
    )
    steps = [_step(rows, at) for rows, at in sides if len(rows) - at >= _OUT[1]]
    parted = sum(plain or step >= _STEP for step, plain in steps)
    return Surround(parted / max(1, len(steps)), any(step >= _STEP for step, _ in steps))


def _step(rows: NDArray[np.float32], at: int) -> tuple[float, bool]:
    """Return the grey levels between the lines on both sides of an edge, 0 where they are as many farther in, and
    whether the line outside is plain.
    """
    outside = rows[at + _OUT[0] : at + _OUT[1]].mean(axis=0)
    inside = rows[max(0, at - _IN[1]) : at - _IN[0]].mean(axis=0)
    deeper = rows[max(0, at - _DEEPER[1]) : max(1, at - _DEEPER[0])].mean(axis=0)
    step, usual = float(np.abs(outside - inside).mean()), float(np.abs(inside - deeper).mean())
    return step if step >= _TIMES * usual else 0.0, bool(outside.std() <= _FLAT)
