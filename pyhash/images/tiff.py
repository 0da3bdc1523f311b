"""TIFF files that Pillow's reader takes for something else, or not at all; and what their directories say."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from typing import IO, Any, NamedTuple

__all__ = ["Directory", "directories", "reader", "whole_of"]

_KIND, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _MAKE, _PLANES = 254, 256, 257, 258, 259, 262, 271, 284
_BELOW, _DNG = 330, 50706
_READ = (_KIND, _WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC, _MAKE, _BELOW, _DNG)
_MIN_IS_WHITE, _MIN_IS_BLACK, _APART = 0, 1, 2
_SMALLER, _MASK = 1, 4
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 13: 4, 16: 8, 18: 8}
"""Types of whole numbers, and how long each is."""
_MOST_DIRECTORIES, _MOST_BELOW = 64, 16


class Directory(NamedTuple):
    """What a TIFF file says of one of its images."""

    at: int
    """Where it lies in the file."""
    kind: int = 0
    """NewSubfileType: bits that say whether it is a smaller version of another, or a mask."""
    width: int = 0
    height: int = 0
    compression: int = 1
    photometric: int | None = None
    make: bool = False
    """Whether it names the maker of a camera."""
    dng: bool = False
    """Whether it says that the file is a DNG."""

    @property
    def is_whole(self) -> bool:
        """Whether it is an image of its own, not a smaller version of another, or a mask."""
        return not self.kind & (_SMALLER | _MASK)


def directories(stream: IO[bytes]) -> list[Directory]:
    """Return the directories of a TIFF file, up to 64: each is followed by those that lie below it.

    Where the file is damaged or ends they do; nothing is raised for it.
    """
    stream.seek(0)
    head = stream.read(16)
    order: Any = "little" if head[:2] == b"II" else "big"
    big = b"+" in head[2:4]
    n_count, n_offset, first = (8, 8, head[8:16]) if big else (2, 4, head[4:8])
    found: list[Directory] = []
    todo, seen = [(int.from_bytes(first, order), True)], {0}
    while todo and len(found) < _MOST_DIRECTORIES:
        at, has_next = todo.pop(0)
        if at in seen or at >> 62:
            continue
        seen.add(at)
        stream.seek(at)
        n_bytes = min(int.from_bytes(stream.read(n_count), order), 0xFFFF) * (4 + 2 * n_offset)
        table, following = stream.read(n_bytes), stream.read(n_offset)
        tags = {}
        for start in range(0, len(table), 4 + 2 * n_offset):
            entry = table[start : start + 4 + 2 * n_offset]
            tag = int.from_bytes(entry[:2], order)
            if tag in _READ:
                tags[tag] = _values(stream, entry, order, n_offset)
        numbers = {tag: values[0] for tag, values in tags.items() if values}
        found.append(
            Directory(
                at,
                numbers.get(_KIND, 0),
                numbers.get(_WIDTH, 0),
                numbers.get(_HEIGHT, 0),
                numbers.get(_COMPRESSION, 1),
                numbers.get(_PHOTOMETRIC),
                _MAKE in tags,
                _DNG in tags,
            )
        )
        if has_next and following:
            todo.append((int.from_bytes(following, order), True))
        todo = [*((below, False) for below in tags.get(_BELOW, ())), *todo]
    return found


def _values(stream: IO[bytes], entry: bytes, order: Any, n_offset: int) -> list[int]:
    """Return the first whole numbers of a directory's entry."""
    size = _BYTES.get(int.from_bytes(entry[2:4], order), 0)
    count, data = int.from_bytes(entry[4 : 4 + n_offset], order), entry[4 + n_offset :]
    if not size:
        return []
    if size * count > n_offset:
        at = int.from_bytes(data, order)
        if at >> 62:
            return []
        stream.seek(at)
        data = stream.read(size * min(count, _MOST_BELOW))
    return [int.from_bytes(data[n : n + size], order) for n in range(0, min(len(data), size * count), size)]


def whole_of(stream: IO[bytes], found: Sequence[Directory]) -> IO[bytes]:
    """Return a TIFF file with its first whole image as its first one, where that is but a smaller version of it."""
    first = found[0] if found else Directory(0)
    better = next(
        (each for each in found if each.is_whole and each.width * each.height > first.width * first.height), None
    )
    if first.is_whole or better is None:
        return stream
    stream.seek(0)
    data = bytearray(stream.read())
    order: Any = "little" if data[:2] == b"II" else "big"
    place = slice(8, 16) if b"+" in data[2:4] else slice(4, 8)
    data[place] = better.at.to_bytes(place.stop - place.start, order)
    return io.BytesIO(data)


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
