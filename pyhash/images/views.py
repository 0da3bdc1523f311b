"""Parts of an image that are looked at besides the whole: mirrored and turned, in tiles, in boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from ..support import require

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["TURNS", "Box", "Part", "Views", "check_grid", "cut", "factor_for", "reduced", "room_for", "tiles_of"]

Box = tuple[int, int, int, int]
"""Left, top, right and bottom edge of a part, in pixels from the left and the top of the upright image."""

TURNS = {
    "mirrored": "FLIP_LEFT_RIGHT",
    "turned by 90°": "ROTATE_270",
    "turned by 90°, mirrored": "TRANSPOSE",
    "turned by 180°": "ROTATE_180",
    "turned by 180°, mirrored": "FLIP_TOP_BOTTOM",
    "turned by 270°": "ROTATE_90",
    "turned by 270°, mirrored": "TRANSVERSE",
}
"""Names of what an image can be turned into, clockwise and then mirrored left to right, by Pillow's transpositions."""

_MOST = 16
"""Rows, and columns, of tiles."""


class Part(NamedTuple):
    """A part of an image, or the image turned."""

    kind: Literal["turned", "tile", "box"]
    box: Box | None = None
    """Where it lies: left, top, right and bottom in pixels of the upright image; None for an image that is turned."""
    name: str | None = None
    """What was done to an image that is turned, one of `TURNS`; what the user calls a box."""


class Views(NamedTuple):
    """Which parts of an image are looked at."""

    turned: bool = False
    """Mirrored and turned, in all seven ways."""
    tiles: tuple[int, int] | None = None
    """Rows and columns, and one tile of the same size in the middle."""
    boxes: Sequence[Part] = ()

    def of(self, width: int, height: int) -> list[Part]:
        """Return the parts of an image of this size; boxes that do not lie inside it are passed over."""
        parts = [Part("turned", None, name) for name in TURNS] if self.turned else []
        if self.tiles is not None:
            parts += [Part("tile", box) for box in tiles_of(width, height, *self.tiles)]
        return parts + [part for part in self.boxes if part.box is None or lies_in(part.box, width, height)]


def check_grid(tiles: Any) -> tuple[int, int] | None:
    """Return a grid of tiles as (rows, columns), None for an empty one; ValueError when it is none."""
    grid = tuple(tiles) if isinstance(tiles, Sequence) and not isinstance(tiles, str) else (tiles,)
    if not grid:
        return None
    whole = all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) and 1 <= n <= _MOST for n in grid)
    if len(grid) != 2 or not whole or grid == (1, 1):
        raise ValueError(
            f"tiles must be (rows, columns), each from 1 to {_MOST} and not both 1, or () for none, got {tiles!r}"
        )
    return int(grid[0]), int(grid[1])


def lies_in(box: Box, width: int, height: int) -> bool:
    """Whether a box has pixels, all of them of an image of this size."""
    left, top, right, bottom = box
    return 0 <= left < right <= width and 0 <= top < bottom <= height


def tiles_of(width: int, height: int, rows: int, columns: int) -> list[Box]:
    """Return the tiles of a grid, row by row, and one of their size in the middle, unless the grid has one there.

    A tile has at least one pixel: where there are more tiles than pixels, some are the same, and each is given once.
    """
    tall, wide = math.ceil(height / rows), math.ceil(width / columns)
    lefts = [min(column * width // columns, width - wide) for column in range(columns)]
    tops = [min(row * height // rows, height - tall) for row in range(rows)]
    corners = [(left, top) for top in tops for left in lefts]
    if rows % 2 == 0 or columns % 2 == 0:
        corners.append(((width - wide) // 2, (height - tall) // 2))
    return list(dict.fromkeys((left, top, left + wide, top + tall) for left, top in corners))


def factor_for(size: tuple[int, int], enough: tuple[int, int]) -> int:
    """Return the largest power of two by which a (width, height) can be divided with enough (height, width) left."""
    ratio = min(size[0] // enough[1], size[1] // enough[0])
    return 1 << max(0, ratio.bit_length() - 1)


def room_for(parts: Sequence[Part], size: tuple[int, int], enough: tuple[int, int]) -> tuple[int, int]:
    """Return what (height, width) an image must keep so that each of its parts keeps enough of a (height, width).

    Parameters
    ----------
    size : (int, int)
        Width and height of the image.
    """
    height, width = enough
    for part in parts:
        if part.box is None:
            height, width = max(height, *enough), max(width, *enough)
        else:
            left, top, right, bottom = part.box
            height = max(height, math.ceil(enough[0] * size[1] / (bottom - top)))
            width = max(width, math.ceil(enough[1] * size[0] / (right - left)))
    return height, width


def reduced(image: Image.Image, enough: tuple[int, int] | None) -> Image.Image:
    """Return an image reduced by averaging, to a half, a quarter and so on, while enough (height, width) is left."""
    factor = 1 if enough is None else factor_for(image.size, enough)
    return image.reduce(factor) if factor > 1 else image


def cut(image: Image.Image, part: Part, size: tuple[int, int], enough: tuple[int, int] | None) -> Image.Image:
    """Return a part of an image that may have been reduced since its boxes were measured at this (width, height)."""
    if part.box is None:
        smaller = reduced(image, None if enough is None else (max(enough), max(enough)))
        return smaller.transpose(require("PIL.Image", "encoder").Transpose[TURNS[part.name or ""]])
    across, down = image.width / size[0], image.height / size[1]
    left = min(round(part.box[0] * across), image.width - 1)
    top = min(round(part.box[1] * down), image.height - 1)
    right, bottom = max(left + 1, round(part.box[2] * across)), max(top + 1, round(part.box[3] * down))
    return reduced(image.crop((left, top, right, bottom)), enough)
