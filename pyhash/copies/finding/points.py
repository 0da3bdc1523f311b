"""Points of an image that are found again in its copies, and where they say that one image lies in another.

Points are blobs and corners (peaks of the determinant of the Hessian: Lindeberg, "Feature detection with automatic
scale selection", 1998) of the small grey image at seven sizes. Each has a patch, by which it is found again; what
agrees about scale and place is counted, as in Lowe, "Distinctive image features from scale-invariant keypoints", 2004.
Patches are not turned: images that may be mirrored or turned are tried in all ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...support import require
from .placement import Placement

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["POINTS", "Found", "Points", "matches", "points_of", "turned_points"]

_STEP = 2 ** (1 / 3)
_MOST = (36, 28, 22, 16, 12, 8, 6)
"""How many points are kept at each size, the largest first; each is smaller than the one before by `_STEP`."""
POINTS = sum(_MOST)
_OFFSETS = np.array([-7, -4, -1, 1, 4, 7])
_PATCH = len(_OFFSETS) ** 2
_SHAPE = (POINTS, _PATCH)
_EDGE = 7  # the farthest offset
_APART = 3  # pixels in each direction in which a point is the strongest
_SMALLEST = 20  # pixels of the shorter side of a size
_NOISE = 8.0  # length of a patch below which it says little
_ONE = 127 * 1.0

_ALIKE = 0.7
"""Correlation of two patches from which on they may show the same."""
_AGREE = 5
"""Points that agree about a placement by chance: of 1,850 pairs of different photographs 12 had as many or more."""
_SLACK = 3.0  # pixels
_SLACK_FAR = 0.13  # of the distance between two points: scales are known to a step


class Points(NamedTuple):
    """The points of images, `POINTS` each; those that an image lacks have patches of zeros."""

    at: NDArray[np.uint16]
    """``(..., POINTS, 2)``: across and down, in 64ths of a pixel of the small image."""
    level: NDArray[np.uint8]
    """``(..., POINTS)``: at which size, 0 for the largest."""
    patch: NDArray[np.int8]
    """``(..., POINTS, 36)``: brightness around it, without its mean and contrast."""

    @classmethod
    def room(cls, n: int) -> Points:
        """Return room for the points of n images."""
        return cls(
            np.zeros((n, POINTS, 2), np.uint16), np.zeros((n, POINTS), np.uint8), np.zeros((n, POINTS, _PATCH), np.int8)
        )

    @classmethod
    def in_file(cls, file: IO[bytes], n: int) -> Points:
        """Return the same, in a temporary file that is empty."""
        shapes = ((np.dtype(np.uint16), (POINTS, 2)), (np.dtype(np.uint8), (POINTS,)), (np.dtype(np.int8), _SHAPE))
        begins = np.cumsum([0, *(n * kind.itemsize * int(np.prod(shape)) for kind, shape in shapes)]).tolist()
        file.truncate(begins[-1])
        maps: list[Any] = [
            np.memmap(file, kind, "r+", offset=begin, shape=(n, *shape))  # type: ignore[call-overload]
            for (kind, shape), begin in zip(shapes, begins, strict=False)
        ]
        return cls(*maps)


class Found(NamedTuple):
    """A placement that points agree about."""

    votes: int
    placement: Placement


def points_of(grey: Image.Image) -> Points:
    """Return the points of a small grey image."""
    at, level, patch = (room[0] for room in Points.room(1))
    filters = require("PIL.ImageFilter", "encoder")
    bilinear = require("PIL.Image", "encoder").Resampling.BILINEAR
    begin = 0
    for number, most in enumerate(_MOST):
        width, height = (max(1, round(side / _STEP**number)) for side in grey.size)
        if min(width, height) < _SMALLEST:
            break
        image = grey if number == 0 else grey.resize((width, height), bilinear)
        across, down = _peaks(np.asarray(image.filter(filters.BoxBlur(2)), np.float32), most)
        if not len(across):
            continue
        values = np.asarray(image.filter(filters.BoxBlur(1)), np.float32)
        patches = values[down[:, None, None] + _OFFSETS[:, None], across[:, None, None] + _OFFSETS].reshape(-1, _PATCH)
        patches -= patches.mean(axis=1, keepdims=True)
        patches *= _ONE / (np.sqrt(np.einsum("ij,ij->i", patches, patches))[:, None] + _NOISE)
        end = begin + len(across)
        at[begin:end, 0] = (across + 0.5) * (64 * grey.width / width)
        at[begin:end, 1] = (down + 0.5) * (64 * grey.height / height)
        level[begin:end] = number
        patch[begin:end] = np.rint(patches)
        begin = end
    return Points(at, level, patch)


def turned_points(points: Points, size: tuple[int, int], turn: int) -> Points:
    """Return the points of a small image of a (width, height) turned in one of the eight ways of `images.turned`."""
    side = len(_OFFSETS)
    x, y = points.at[..., 0].astype(np.int32), points.at[..., 1].astype(np.int32)
    width, height = 64 * size[0], 64 * size[1]
    patch = points.patch.reshape(*points.patch.shape[:-1], side, side)
    if turn >= 4:  # transposed first
        x, y, width, height, patch = y, x, height, width, patch.swapaxes(-1, -2)
    if turn in (1, 2, 5, 6):
        x, patch = width - x, patch[..., ::-1]
    if turn in (2, 3, 6, 7):
        y, patch = height - y, patch[..., ::-1, :]
    at = np.stack([x, y], axis=-1).clip(0, 65535).astype(np.uint16)
    return Points(at, points.level, patch.reshape(points.patch.shape))


def matches(
    one: Points, others: Points, size: tuple[int, int], sizes: Sequence[tuple[int, int]], most: int = 2
) -> list[list[Found]]:
    """Return where an image may lie in each of several others, by how many points agree.

    Parameters
    ----------
    one : Points
        Of one image.
    others : Points
        Of n images.
    size : (int, int)
        Width and height of the one small image.
    sizes : sequence of (int, int)
        Those of the others.
    most : int
        Placements an image, at most.
    """
    n = len(sizes)
    patches = others.patch.reshape(n * POINTS, _PATCH).astype(np.float32)
    alike = (one.patch.astype(np.float32) @ patches.T).reshape(POINTS, n, POINTS)
    best = alike.max(axis=2)
    mine, images = np.nonzero(best >= _ALIKE * _ONE**2)
    theirs = alike[mine, images].argmax(axis=1)
    # Each the other's best.
    mutual = alike.max(axis=0)[images, theirs] == best[mine, images]
    mine, images, theirs = mine[mutual], images[mutual], theirs[mutual]
    found: list[list[Found]] = [[] for _ in range(n)]
    for k in np.flatnonzero(np.bincount(images, minlength=n) >= _AGREE).tolist():
        i, j = mine[images == k], theirs[images == k]
        found[k] = _agreeing(
            one.at[i] / np.float32(64),
            others.at[k][j] / np.float32(64),
            one.level[i].astype(np.int32) - others.level[k][j],
            size,
            sizes[k],
            most,
        )
    return found


def _agreeing(
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    steps: NDArray[np.int32],
    size: tuple[int, int],
    other: tuple[int, int],
    most: int,
) -> list[Found]:
    """Return the placements that the most pairs of points, at a and b in pixels, agree about."""
    scale = (_STEP ** -steps.astype(np.float32))[:, None]  # pixels of b a pixel of a: smaller sizes have larger pixels
    off = np.abs(b[None] - (b[:, None] + scale[:, :, None] * (a[None] - a[:, None]))).max(axis=2)
    slack = _SLACK + _SLACK_FAR * scale * np.hypot(*(a[None] - a[:, None]).transpose(2, 0, 1))
    agree = (off < slack) & (np.abs(steps[None] - steps[:, None]) <= 1)
    votes = agree.sum(axis=1)
    found: list[Found] = []
    while len(found) < most and (best := int(votes.argmax())) >= 0 and votes[best] >= _AGREE:
        some = agree[best]
        middle, there = a[some].mean(axis=0), b[some].mean(axis=0)
        apart = a[some] - middle
        spread = float((apart**2).sum())
        fitted = float((apart * (b[some] - there)).sum()) / spread if spread > 30 else 0.0
        rough = float(scale[best, 0])
        by = fitted if 0.7 < fitted / rough < 1.4 else rough
        left, top = there - by * middle
        right, bottom = left + by * size[0], top + by * size[1]
        found.append(
            Found(
                int(votes[best]),
                Placement(
                    float(left / other[0]), float(top / other[1]), float(right / other[0]), float(bottom / other[1])
                ),
            )
        )
        votes = np.where(some, 0, votes)
    return found


def _peaks(grey: NDArray[np.float32], most: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the strongest blobs and corners, across and down, row by row."""
    middle = grey[1:-1, 1:-1]
    across = grey[1:-1, 2:] + grey[1:-1, :-2] - 2 * middle
    down = grey[2:, 1:-1] + grey[:-2, 1:-1] - 2 * middle
    both = (grey[2:, 2:] + grey[:-2, :-2] - grey[2:, :-2] - grey[:-2, 2:]) / 4
    strength = np.abs(across * down - both * both)[_EDGE - 1 : 1 - _EDGE, _EDGE - 1 : 1 - _EDGE]
    at = np.flatnonzero(_tops(strength) & (strength > 0))
    if len(at) > most:
        # The first of equals: no choice of the sort's.
        at = np.sort(at[np.argsort(-strength.ravel()[at], kind="stable")[:most]])
    rows, columns = np.divmod(at, strength.shape[1])
    return columns + _EDGE, rows + _EDGE


def _tops(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which are the largest of those around them."""
    across = values.copy()
    for k in range(1, _APART + 1):
        np.maximum(across[:, k:], values[:, :-k], out=across[:, k:])
        np.maximum(across[:, :-k], values[:, k:], out=across[:, :-k])
    down = across.copy()
    for k in range(1, _APART + 1):
        np.maximum(down[k:], across[:-k], out=down[k:])
        np.maximum(down[:-k], across[k:], out=down[:-k])
    tops: NDArray[np.bool_] = values >= down
    return tops
