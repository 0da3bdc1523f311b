"""Means over windows of an image, by running sums."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Floats", "around", "blocks", "contrasts", "grown", "smoothed", "windows"]

Floats: TypeAlias = NDArray[np.float32]

BLOCK = 4
"""Pixels of a side of a block; windows are 2 x 2 blocks, and begin at every block."""


def contrasts(grey: Floats, side: int) -> Floats:
    """Return an image without its local brightness and contrast, measured over windows of `side` pixels."""
    mean = around(grey, side)
    spread = np.sqrt(np.maximum(around(grey * grey, side) - mean * mean, 0))
    found: Floats = (grey - mean) / (spread + 5)
    return found


def around(values: Floats, side: int) -> Floats:
    """Return the mean of the window of an odd `side` around each pixel; beyond the edges their pixels go on."""
    reach = side // 2
    height, width = values.shape
    sums = np.zeros((height + side, width + side))
    np.cumsum(np.cumsum(np.pad(values, reach, mode="edge"), axis=0), axis=1, out=sums[1:, 1:])
    total = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    means: Floats = (total / side**2).astype(np.float32)
    return means


def smoothed(values: NDArray[np.uint8]) -> Floats:
    """Return an image averaged with its neighbours: a quarter, a half, a quarter, down and across."""
    padded = np.pad(values, [(1, 1), (1, 1), *[(0, 0)] * (values.ndim - 2)], mode="edge").astype(np.uint16)
    down = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    smooth: Floats = (down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:]) * np.float32(1 / 16)
    return smooth


def blocks(values: Floats) -> Floats:
    """Return the mean of each block of an image whose sides are whole numbers of blocks."""
    means: Floats = _summed(_summed(values).T).T * np.float32(1 / BLOCK**2)
    return means


def _summed(values: Floats) -> Floats:
    """Return the sum of each `BLOCK` rows; slices are faster than sums along axes."""
    sums = values[0::BLOCK] + values[1::BLOCK]
    for k in range(2, BLOCK):
        sums += values[k::BLOCK]
    return sums


def windows(means: Floats) -> Floats:
    """Return the mean of each window, given those of the blocks."""
    found: Floats = (means[1:, 1:] + means[:-1, 1:] + means[1:, :-1] + means[:-1, :-1]) * np.float32(0.25)
    return found


def grown(mask: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """Return the pixels that are no farther than `reach` from one of the mask, along rows and columns."""
    side = 2 * reach + 1
    height, width = mask.shape
    sums = np.zeros((height + side, width + side), np.int32)
    np.cumsum(np.cumsum(np.pad(mask, reach).astype(np.int32), axis=0), axis=1, out=sums[1:, 1:])
    return (sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]) > 0
