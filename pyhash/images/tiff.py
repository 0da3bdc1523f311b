"""TIFF files that Pillow's reader takes for something else, or not at all; and what their directories say."""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from numpy.typing import NDArray

from ..support import require
from .depth import in_8_bits, missing_of
from .refused import Refused
from .samples import samples

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Directory", "directories", "reader", "whole_of"]

_KIND, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _MAKE, _PLANES = 254, 256, 257, 258, 259, 262, 271, 284
_BELOW, _EXTRA, _FORMAT, _PROFILE, _DNG = 330, 338, 339, 34675, 50706
_READ = (_KIND, _WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC, _MAKE, _BELOW, _DNG)
_MIN_IS_WHITE, _MIN_IS_BLACK, _APART, _SIGNED = 0, 1, 2, 2
_MULTIPLIED, _OPACITY = 1, 2
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
        (each for each in found if each.is_whole and each.width * each.height >= first.width * first.height), None
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
    """Return Pillow's class of TIFF images with gaps closed.

    It turns 8 bits round where white is the smallest value, and leaves more than 8 as they are, or knows nothing of
    them: they are read as if white were the largest, and ``min_is_white`` says what they were. It reads planes of 16
    bits as if they had 8, signed bytes as if they had no sign, and what libtiff gives as if it had the file's order of
    bytes. What it has no mode for is made 8 bits here.
    """

    class TiffImageFile(base):  # type: ignore[misc]
        min_is_white = False
        tile: list[Any]
        _by_samples = False

        def _setup(self) -> None:
            bits = self.tag_v2.get(_BITS, (1,))
            deep = max(bits) > 8
            if deep and self.tag_v2.get(_PHOTOMETRIC, _MIN_IS_WHITE) == _MIN_IS_WHITE:
                self.min_is_white = True
                self.tag_v2[_PHOTOMETRIC] = _MIN_IS_BLACK
            try:
                super()._setup()
                self._by_samples = {*self.tag_v2.get(_FORMAT, ())} == {_SIGNED} and {*bits} == {8}
            except (KeyError, SyntaxError):  # of a compression, of anything else
                self._by_samples = True
            if self._by_samples:
                self._size, self._mode, self.tile = (self.tag_v2[_WIDTH], self.tag_v2[_HEIGHT]), "RGB", []
                if profile := self.tag_v2.get(_PROFILE):
                    self.info["icc_profile"] = profile
            elif self.use_load_libtiff:
                self.tile = [tile._replace(args=(_native(tile.args[0]), *tile.args[1:])) for tile in self.tile]
            elif deep and self.tag_v2.get(_PLANES) == _APART:
                order = "L" if self.tag_v2.prefix == b"II" else "B"
                self.tile = [tile._replace(args=_of_16_bits(tile.args, order)) for tile in self.tile]

        def load(self) -> Any:
            if self._by_samples and self._im is None:
                made = _in_8_bits(samples(self.fp, self.tag_v2, base), self)
                self._size, self._mode, self.im = made.size, made.mode, made.im
                self.load_end()
            return super().load()

    return TiffImageFile


def _in_8_bits(values: NDArray[Any], image: Any) -> Image.Image:
    """Return samples as an image of 8 bits; a last one besides the colours is its opacity where the file says so."""
    n_colours = 1 if values.shape[2] < 3 else 3
    colours = in_8_bits(values[:, :, :n_colours], missing_of(image))
    if image.min_is_white or image.tag_v2.get(_PHOTOMETRIC) == _MIN_IS_WHITE:
        colours = 255 - colours
    image_module: Any = require("PIL.Image", "encoder")
    made: Image.Image = image_module.fromarray(colours[:, :, 0] if n_colours == 1 else colours)
    extra = image.tag_v2.get(_EXTRA, (0,))[0]
    if values.shape[2] > n_colours and extra in (_MULTIPLIED, _OPACITY):
        if extra == _MULTIPLIED:
            raise Refused("a TIFF image of a rare kind whose colours are multiplied by their opacity")
        made.putalpha(image_module.fromarray(in_8_bits(values[:, :, n_colours])))
    return made


def _native(mode: str) -> str:
    """Say that numbers of several bytes have the order of this machine."""
    return re.sub(r"^([IF];(?:16|32))B?([SF]?)$", r"\1N\2", mode)


def _of_16_bits(arguments: tuple[str, int, int], order: str) -> tuple[str, int, int]:
    """Say that a plane has two bytes a pixel, in this order."""
    band, stride, direction = arguments
    return f"{band};16{order}" if len(band) == 1 else band, stride, direction
