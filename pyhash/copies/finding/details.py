"""What is told of an image in a group: what its file says, and what its pixels are."""

from __future__ import annotations

import os
from typing import NamedTuple

from ...errors import ImageError
from ...images import PixelBudget, described, opened
from .stock import Stock

__all__ = ["Detail", "detail_of"]


class Detail(NamedTuple):
    """What was seen of a file when groups were made."""

    there: bool
    """Whether it is there."""
    changed: bool
    """Whether it is another one than when it was looked at."""
    width: int | None = None
    height: int | None = None
    format: str | None = None
    quality: int | None = None
    """Of JPEG."""
    lossless: bool = False
    sharpness: float | None = None
    content: bytes | None = None
    """What tells its pixels."""

    @property
    def pixels(self) -> int:
        """How many it has; 0 where that is not known."""
        return (self.width or 0) * (self.height or 0)


def detail_of(stock: Stock, place: int, budget: PixelBudget) -> Detail:
    """Look at an image's file once more."""
    path = stock.path(place)
    try:
        now = os.stat(path)
    except OSError:
        return Detail(False, False)
    if (now.st_size, now.st_mtime_ns) != (int(stock.n_bytes[place]), int(stock.mtime_ns[place])):
        return Detail(True, True)
    try:
        told = described(path)
        with opened(path, budget=budget) as image:
            width, height = image.size
            return Detail(
                True,
                False,
                width,
                height,
                told.format,
                told.quality,
                told.lossless,
                image.sharpness(),
                image.content(),
            )
    except ImageError:
        return Detail(False, False)
