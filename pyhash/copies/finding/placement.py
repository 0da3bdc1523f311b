"""Where one image lies in another, and the search for the exact place."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...support import require
from .local import BLOCK, Floats, blocks, contrasts, windows

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["WHOLE", "Frame", "Placement", "fits", "pixels_of", "refined", "working_size"]

Frame: TypeAlias = tuple[float, float, float, float]
"""Left, top, right and bottom edge of a part of an image, as shares of its width and height."""

_LEAST = 8  # pixels of a side that both images show: fewer say nothing
_STEPS = ((40, 4), (80, 3), (160, 2))
"""Longest sides at which a placement is made exact, one after another, and how often at each."""
_SETTLED = 0.03  # pixels: a step below it changes nothing
_FARTHEST = 0.08  # of the longest side: a step beyond it has lost its way
_SCALES = (0.05, 20.0)
_APART = 0.45
"""Share of windows that may be different at a small size: it is .32 at most of copies with marks, .5 and more of most
images in one frame."""
_SOMETHING = 0.02
"""Share of windows in which there is something to see, below which nothing can be told."""


class Placement(NamedTuple):
    """Where the whole of one image lies in another, in widths and heights of the other; it may reach beyond."""

    left: float
    top: float
    right: float
    bottom: float

    def frames(self) -> tuple[Frame, Frame]:
        """What both images show: the part of the one, and that of the other."""
        wide, tall = self.right - self.left, self.bottom - self.top
        other = max(0.0, self.left), max(0.0, self.top), min(1.0, self.right), min(1.0, self.bottom)
        one = (
            (other[0] - self.left) / wide,
            (other[1] - self.top) / tall,
            (other[2] - self.left) / wide,
            (other[3] - self.top) / tall,
        )
        return one, other

    def inverse(self) -> Placement:
        """Where the whole of the other image lies in the one."""
        wide, tall = self.right - self.left, self.bottom - self.top
        return Placement(-self.left / wide, -self.top / tall, (1 - self.left) / wide, (1 - self.top) / tall)

    def is_near(self, other: Placement, slack: float) -> bool:
        """Whether no edge lies farther than a slack from that of another placement."""
        return all(abs(a - b) <= slack for a, b in zip(self, other, strict=True))


WHOLE = Placement(0.0, 0.0, 1.0, 1.0)
"""Both images show the same from edge to edge."""


def working_size(one: Image.Image, other: Image.Image, frames: tuple[Frame, Frame], longest: int) -> tuple[int, int]:
    """Return the width and height at which two frames are compared: no larger than either is, nor than `longest`."""
    wide, tall = (
        min((frame[k + 2] - frame[k]) * image.size[k] for image, frame in zip((one, other), frames, strict=True))
        for k in (0, 1)
    )
    factor = min(1.0, longest / max(wide, tall, 1e-9))
    return max(1, round(wide * factor)), max(1, round(tall * factor))


def pixels_of(image: Image.Image, frame: Frame, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a part of an image at a size, each pixel averaged over what it covers."""
    width, height = image.size
    box = frame[0] * width, frame[1] * height, min(frame[2], 1.0) * width, min(frame[3], 1.0) * height
    return np.asarray(image.resize(size, require("PIL.Image", "encoder").Resampling.BILINEAR, box))


def refined(one: Image.Image, other: Image.Image, placement: Placement) -> Placement | None:
    """Return a placement made exact; None where the images do not lie on one another there.

    The edges of the frame in the other image are moved until both look alike: least squares on their local contrasts,
    coarse to fine (Lucas and Kanade, "An iterative image registration technique", 1981), where what differs most
    counts least.
    """
    for longest, steps in _STEPS:
        for step in range(steps):
            frames = placement.frames()
            size = working_size(one, other, frames, longest)
            if min(size) < _LEAST:
                return None
            a, b = _contrasts(one, other, frames, size)
            if step == steps - 1 and _apart(a, b) > _APART:
                return None
            move = _move(a, b)
            if np.abs(move).max() > _FARTHEST * max(size):
                move *= _FARTHEST * max(size) / np.abs(move).max()
            mine, there = frames
            across, down = (there[2] - there[0]) / size[0], (there[3] - there[1]) / size[1]
            left, right = there[0] + move[0] * across, there[2] + move[1] * across
            top, bottom = there[1] + move[2] * down, there[3] + move[3] * down
            wide, tall = (right - left) / (mine[2] - mine[0]), (bottom - top) / (mine[3] - mine[1])
            if not (_SCALES[0] < wide < _SCALES[1] and _SCALES[0] < tall < _SCALES[1]):
                return None
            placement = Placement(
                left - mine[0] * wide, top - mine[1] * tall, right + (1 - mine[2]) * wide, bottom + (1 - mine[3]) * tall
            )
            if min(placement.right, placement.bottom) <= 0 or max(placement.left, placement.top) >= 1:
                return None
            if np.abs(move).max() < _SETTLED:
                break
    return placement


def fits(one: Image.Image, other: Image.Image, placement: Placement) -> bool:
    """Whether a placement may be exact: what both show is alike in most windows at a small size."""
    frames = placement.frames()
    size = working_size(one, other, frames, _STEPS[1][0])
    return min(size) >= _LEAST and _apart(*_contrasts(one, other, frames, size)) <= _APART


def _contrasts(
    one: Image.Image, other: Image.Image, frames: tuple[Frame, Frame], size: tuple[int, int]
) -> tuple[Floats, Floats]:
    side = 9 if max(size) <= _STEPS[0][0] else 15
    return (
        contrasts(pixels_of(one, frames[0], size).astype(np.float32), side),
        contrasts(pixels_of(other, frames[1], size).astype(np.float32), side),
    )


def _apart(a: Floats, b: Floats) -> float:
    """Return the share of windows in which two images are different; all, where there is nothing to see."""
    height, width = (side // BLOCK * BLOCK for side in a.shape)
    if min(height, width) < 2 * BLOCK:
        return 0.0
    a, b = a[:height, :width], b[:height, :width]
    of_a, of_b, of_both = (windows(blocks(values)) for values in (a, b, a * b))
    variances = [windows(blocks(v * v)) - m * m for v, m in ((a, of_a), (b, of_b))]
    alike = (of_both - of_a * of_b) / np.sqrt(np.maximum(variances[0] * variances[1], 0) + 1e-3)
    seen = np.maximum(*variances) > 0.1
    return float((alike[seen] < 0.5).mean()) if seen.mean() >= _SOMETHING else 1.0


def _move(a: Floats, b: Floats) -> NDArray[np.float64]:
    """Return by how many pixels the left, right, top and bottom edges of b are to be moved to make it like a."""
    down, across = np.gradient((a + b) / 2)
    apart = a - b
    spread = 2 * (1.48 * float(np.median(np.abs(apart))) + 0.05)
    weight = 1 / (1 + (apart / spread) ** 2)
    height, width = a.shape
    u = ((np.arange(width, dtype=np.float32) + 0.5) / width)[None, :]
    v = ((np.arange(height, dtype=np.float32) + 0.5) / height)[:, None]
    slopes = np.stack([across * (1 - u), across * u, down * (1 - v), down * v]).reshape(4, -1)
    weighted = slopes * weight.ravel()
    normal = (weighted @ slopes.T).astype(np.float64)
    normal[np.diag_indices(4)] += 1e-3 * np.trace(normal) / 4 + 1e-6
    move: NDArray[np.float64] = np.linalg.solve(normal, (weighted @ apart.ravel()).astype(np.float64))
    return move
