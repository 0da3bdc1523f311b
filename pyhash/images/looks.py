"""Looks: what an image looks like in a few numbers, by which copies of it are found.

A look is made of the grey image: its mean in each of 32 x 32 cells, and the lowest 8 x 8 coefficients of the
discrete cosine transform of those, once of the whole image and once of what is left when a plain border is taken
off. Signs and a transposition of the coefficients give the look of the image mirrored or turned, and 64 bits of
them (a perceptual hash: Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010) are
compared by Hamming distance.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ..support import require

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Look", "look_codes", "look_of", "turned"]

_CELLS = 32
_SIDE = 8
_UNIT = 4
"""Coefficients are kept in quarters. Of cells up to 255 the largest is 255 * 32 = 8160, and 4 * 8160 < 2**15."""
_BLOCKS = np.dtype("<i2")
_EVEN, _LIKE = 4, 8
"""Grey levels of a line's standard deviation, and between its mean and that of the outermost line, up to which it is
border: lossy compression makes borders uneven where they meet the image."""
_LEFT = 8
"""A border is not taken off where less than a side / 8 would be left: that is no image in a frame."""


class Look(NamedTuple):
    """How an image looks.

    Its bytes are ``blocks.tobytes()``, 256 of them (two blocks, row by row, little-endian), and ``grey.tobytes()``,
    1024; `from_bytes` reads both.

    Attributes
    ----------
    blocks : int16 array, shape (2, 8, 8)
        The lowest coefficients of the orthonormal DCT-II of the cells, vertical frequency first, in quarters: of the
        whole image, and without its plain border.
    grey : uint8 array, shape (32, 32)
        The mean of each cell of the whole image.
    """

    blocks: NDArray[np.int16]
    grey: NDArray[np.uint8]

    @classmethod
    def from_bytes(cls, blocks: bytes, grey: bytes) -> Self:
        """Return the look that these bytes are."""
        return cls(
            np.frombuffer(blocks, _BLOCKS).reshape(2, _SIDE, _SIDE),
            np.frombuffer(grey, np.uint8).reshape(_CELLS, _CELLS),
        )


def look_of(image: Image.Image) -> Look:
    """Return the look of a grey image.

    Parameters
    ----------
    image : PIL.Image.Image
        Of mode L, in about 256 x 256 pixels or more, so that a border is found to half a percent.

    Returns
    -------
    Look
    """
    pixels = np.asarray(image)
    rows, columns = _inside(pixels)
    grey = _cells(image, (0, 0, image.width, image.height))
    inner = _cells(image, (columns.start, rows.start, columns.stop, rows.stop))
    basis = _cosines()
    blocks = _UNIT * (basis @ np.stack([grey, inner]).astype(np.float32) @ basis.T)
    return Look(np.rint(blocks).astype(_BLOCKS), grey)


def look_codes(blocks: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Return the 64 bits of each block: 1 where a coefficient is above the median of all but the constant.

    Parameters
    ----------
    blocks : int16 array, shape (..., 8, 8)

    Returns
    -------
    numpy.ndarray
        uint8, shape (..., 8): bits as `numpy.packbits` orders them, the constant's always 0.
    """
    flat = blocks.reshape(*blocks.shape[:-2], _SIDE * _SIDE)
    varying = flat[..., 1:]
    middle = varying.shape[-1] // 2
    median = np.partition(varying, middle, axis=-1)[..., middle, None]
    bits = flat > median
    bits[..., 0] = False
    return np.packbits(bits, axis=-1)


def turned(blocks: NDArray[np.int16]) -> NDArray[np.int16]:
    """Return the blocks of an image mirrored and turned in each of the eight ways.

    Parameters
    ----------
    blocks : int16 array, shape (..., 8, 8)

    Returns
    -------
    numpy.ndarray
        int16, shape (..., 8, 8, 8), in the order of the EXIF orientations 1 to 8, each as that orientation is turned
        upright: as it is, mirrored left to right, turned by 180 degrees, mirrored top to bottom, transposed, turned
        clockwise by 90 degrees, transposed along the other diagonal, turned counter-clockwise by 90 degrees.
    """
    signs = np.where(np.arange(_SIDE) % 2, -1, 1).astype(blocks.dtype)
    left_right, top_bottom, both = signs[None, :], signs[:, None], signs[None, :] * signs[:, None]
    across = blocks.swapaxes(-1, -2)
    return np.stack(
        [
            blocks,
            blocks * left_right,
            blocks * both,
            blocks * top_bottom,
            across,
            across * left_right,
            across * both,
            across * top_bottom,
        ],
        axis=-3,
    )


def _cells(image: Image.Image, box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Return the means of 32 x 32 cells of equal size in a box (left, top, right, bottom); they may cut pixels."""
    box_filter = require("PIL.Image", "encoder").Resampling.BOX
    return np.asarray(image.resize((_CELLS, _CELLS), box_filter, box))


@functools.cache
def _cosines() -> NDArray[np.float32]:
    """Return the lowest functions of the orthonormal DCT-II, shape (8, 32)."""
    frequency, at = np.arange(_SIDE)[:, None], np.arange(_CELLS)
    waves: NDArray[np.float64] = np.cos(np.pi * (at + 0.5) * frequency / _CELLS) * np.sqrt(2 / _CELLS)
    waves[0] /= np.sqrt(2)
    return waves.astype(np.float32)


def _inside(grey: NDArray[np.uint8]) -> tuple[slice, slice]:
    """Return the rows and columns inside the plain border; all where there is none."""
    rows = _within_border(grey)
    return rows, _within_border(grey[rows].T)


def _within_border(lines: NDArray[np.uint8]) -> slice:
    """Return the rows between those at either end that are even and like the outermost one there."""
    first, last = 0, len(lines)
    if (lines[[0, -1]].std(axis=1) <= _EVEN).any():
        values = lines.astype(np.float32)
        even, means = values.std(axis=1) <= _EVEN, values.mean(axis=1)
        first = _leading(even & (abs(means - means[0]) <= _LIKE))
        last -= _leading((even & (abs(means - means[-1]) <= _LIKE))[::-1])
    return slice(first, last) if last - first >= len(lines) / _LEFT else slice(0, len(lines))


def _leading(flags: NDArray[np.bool_]) -> int:
    """Return how many there are before the first that is false."""
    return int(np.argmin(flags)) if not flags.all() else len(flags)
