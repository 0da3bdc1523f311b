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
    """Look at an image once more."""
    source = stock.source(place)
    if place not in stock.given:
        try:
            now = os.stat(stock.path(place))
        except OSError:
            return _AWAY
        if (now.st_size, now.st_mtime_ns) != (int(stock.n_bytes[place]), int(stock.mtime_ns[place])):
            return _AWAY._replace(changed=True)
    try:
        with opened(source, budget=budget) as image:
            width, height = image.size
            seen = Detail(True, False, width, height, sharpness=image.sharpness(), content=image.content())
        if isinstance(source, (str, os.PathLike, bytes)):
            told = described(source)
            return seen._replace(format=told.format, quality=told.quality, lossless=told.lossless)
    except ImageError:
        return _AWAY
    return seen


_AWAY = Detail(False, False)
