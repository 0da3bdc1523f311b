"""TIFF files that Pillow's reader takes for something else, or not at all."""

from __future__ import annotations

import functools
from typing import Any

__all__ = ["reader"]

_BITS, _PHOTOMETRIC, _PLANES = 258, 262, 284
_MIN_IS_WHITE, _MIN_IS_BLACK, _APART = 0, 1, 2


@functools.cache
def reader(base: Any) -> Any:
    """Return Pillow's class of TIFF images with two of its gaps closed.

    It turns 8 bits round where white is the smallest value, and leaves more than 8 as they are, or knows nothing of
    them: they are read as if white were the largest, and ``min_is_white`` says what they were. It reads planes of 16
    bits as if they had 8.
    """

    class TiffImageFile(base):  # type: ignore[misc]
        min_is_white = False
        tile: list[Any]

        def _setup(self) -> None:
            deep = max(self.tag_v2.get(_BITS, (1,))) > 8
            if deep and self.tag_v2.get(_PHOTOMETRIC, _MIN_IS_WHITE) == _MIN_IS_WHITE:
                self.min_is_white = True
                self.tag_v2[_PHOTOMETRIC] = _MIN_IS_BLACK
            super()._setup()
            if deep and self.tag_v2.get(_PLANES) == _APART and not self.use_load_libtiff:
                order = "L" if self.tag_v2.prefix == b"II" else "B"
                self.tile = [tile._replace(args=_of_16_bits(tile.args, order)) for tile in self.tile]

    return TiffImageFile


def _of_16_bits(arguments: tuple[str, int, int], order: str) -> tuple[str, int, int]:
    """Say that a plane has two bytes a pixel, in this order."""
    band, stride, direction = arguments
    return f"{band};16{order}" if len(band) == 1 else band, stride, direction
