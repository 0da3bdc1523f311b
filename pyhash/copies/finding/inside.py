"""Pictures inside of images: a photograph on a screen, in a chat, on a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Box", "pictures_in"]

Box: TypeAlias = tuple[int, int, int, int]
"""Left, top, right and bottom edge, in pixels."""

_PLAIN = (16.0, 28.0, 40.0)
"""Grey levels by which the pixels of a line may differ where nothing is to be seen: little, so that pictures stay
whole, and more, as a picture may lie on a bubble of another shade than what is around that. All are tried."""
_BIN = 8
_APART = 50.0
"""Grey levels from the most frequent one, within which a plain line is ground."""
_SHORT = 20  # pixels of a side from which on something is a picture
_LEAST, _MOST = 0.05, 0.9
"""Share of the image that a picture in it has: what has more is the image itself, or in a border."""
_DEEP = 6
_FEW = 5


def pictures_in(grey: Image.Image) -> list[Box]:
    """Return where pictures may lie in a small grey image, the largest first; few.

    The image is cut where a line from edge to edge is plain, each part again, first across and then down: the recursive
    X-Y cut of document analysis (Nagy and Seth, "Hierarchical representation of optically scanned documents", 1984).
    """
    pixels = np.asarray(grey, np.float32)
    found: list[Box] = []
    ground = float(np.bincount(np.asarray(grey).ravel() // _BIN).argmax() * _BIN + _BIN / 2)
    for plain in _PLAIN:
        _cut(pixels, (0, 0, pixels.shape[1], pixels.shape[0]), plain, ground, _DEEP, found)
    whole = pixels.size
    parts = {box for box in found if _LEAST * whole <= _area(box) <= _MOST * whole}
    return sorted(parts, key=lambda box: (-_area(box), box))[:_FEW]


def _cut(pixels: NDArray[np.float32], box: Box, plain: float, ground: float, deep: int, found: list[Box]) -> None:
    left, top, right, bottom = box
    if min(right - left, bottom - top) < _SHORT:
        return
    inner = pixels[top:bottom, left:right]
    rows = [(left, top + a, right, top + b) for a, b in _runs(_shows(inner, plain, ground))]
    columns = [(left + a, top, left + b, bottom) for a, b in _runs(_shows(inner.T, plain, ground))]
    for parts in (rows, columns):
        if parts != [box] and deep:
            for part in parts:
                _cut(pixels, part, plain, ground, deep - 1, found)
            return
    found.append(box)


def _shows(lines: NDArray[np.float32], plain: float, ground: float) -> NDArray[np.bool_]:
    """In which lines there is something to see: they are not plain, or of another shade than the ground."""
    low, high = lines.min(axis=1), lines.max(axis=1)
    shows: NDArray[np.bool_] = (high - low > plain) | (high < ground - _APART) | (low > ground + _APART)
    return shows


def _runs(marks: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Begin and end of each run of marks."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marks, [False]]).astype(np.int8)))
    return [*zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)]


def _area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])
