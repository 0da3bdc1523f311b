"""Samples of TIFF files that Pillow knows no mode for: floating-point colours, half and double floats, signed bytes.

The predictors are those of TIFF 6.0 (2) and of Adobe Photoshop TIFF Technical Note 3 (3).
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .refused import Refused

__all__ = ["samples"]

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _CHANNELS, _PLANES = 256, 257, 258, 259, 262, 277, 284
_STRIP_OFFSETS, _STRIP_ROWS, _STRIP_COUNTS = 273, 278, 279
_PREDICTOR, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS, _EXTRA, _FORMAT = 317, 322, 323, 324, 325, 338, 339
_KINDS = {1: "u", 2: "i", 3: "f"}
_COLOURS = {0: 1, 1: 1, 2: 3}
"""How many samples make a colour: of grey, where white or black is the smallest value, and of RGB."""
_DEFLATE, _BYTEWISE = (8, 32946), (5, 32773, 34925, 50000)
"""Compressions: two numbers of one, and those that do not ask what the bytes mean (LZW, PackBits, LZMA, Zstandard)."""

_SPARE = 1 << 20
"""So many pixels more than the image's a tile may have."""


class _Block(NamedTuple):
    """A strip or a tile: where its data lie in the file, and its pixels in the image."""

    offset: int
    length: int
    x: int
    y: int
    width: int
    height: int
    plane: int


def samples(stream: IO[bytes], tags: Any, open_tiff: Callable[[IO[bytes]], Any]) -> NDArray[Any]:
    """Return the samples of a TIFF image.

    Parameters
    ----------
    stream : binary file
    tags : mapping
        Of the image's directory, as Pillow reads them (``tag_v2``).
    open_tiff : callable
        Pillow's reader of TIFF files.

    Returns
    -------
    numpy.ndarray
        Shape (height, width, channels): of grey or red, green and blue, and of one extra sample where there is one.

    Raises
    ------
    Refused
        When they are of a kind that is not read here either, or the file ends too early.
    """
    bits, formats = {*tags.get(_BITS, (1,))}, {*tags.get(_FORMAT, (1,))}
    channels, colours = tags.get(_CHANNELS, 1), _COLOURS.get(tags.get(_PHOTOMETRIC, 0), 0)
    compression = tags.get(_COMPRESSION, 1)
    kind = _KINDS.get(formats.pop(), "") if len(formats) == 1 else ""
    depth = bits.pop() if len(bits) == 1 else 0
    known = kind and depth in ((16, 32, 64) if kind == "f" else (8, 16, 32, 64)) and colours
    if not known or channels not in (colours, colours + 1) or compression not in (1, *_DEFLATE, *_BYTEWISE):
        raise Refused(
            f"a TIFF image that cannot be read: {channels} samples of {depth or 'several numbers of'} bits, "
            f"photometric interpretation {tags.get(_PHOTOMETRIC)}, compression {compression}"
        )
    if not {_STRIP_OFFSETS, _STRIP_COUNTS} <= {*tags} and not {_TILE_OFFSETS, _TILE_COUNTS} <= {*tags}:
        raise Refused("damaged: it does not say where its pixels are")
    dtype = np.dtype(f"{'<' if tags.prefix == b'II' else '>'}{kind}{depth // 8}")
    apart = tags.get(_PLANES, 1) == 2
    blocks = [*_blocks(tags, channels if apart else 1)]
    if any(block.width * block.height > 4 * tags[_WIDTH] * tags[_HEIGHT] + _SPARE for block in blocks):
        raise Refused("damaged: its tiles are far larger than the image")
    result = np.zeros((tags[_HEIGHT], tags[_WIDTH], channels), dtype)
    for block in blocks:
        stream.seek(block.offset)
        width = 1 if apart else channels
        n_bytes = block.height * block.width * width * dtype.itemsize
        data = _unpacked(stream.read(block.length), compression, n_bytes, open_tiff)
        if len(data) < n_bytes:
            raise Refused("truncated: the file ends too early")
        rows = np.frombuffer(data, np.uint8, n_bytes).reshape(block.height, -1)
        values = _predicted(rows, tags.get(_PREDICTOR, 1) if compression != 1 else 1, dtype, width)
        part = result[block.y : block.y + block.height, block.x : block.x + block.width]
        inside = values.reshape(block.height, block.width, width)[: part.shape[0], : part.shape[1]]
        part[:, :, block.plane : block.plane + width] = inside
    return result


def _blocks(tags: Any, planes: int) -> Iterator[_Block]:
    width, height = tags[_WIDTH], tags[_HEIGHT]
    tiled = _TILE_OFFSETS in tags
    across, down = (tags[_TILE_WIDTH], tags[_TILE_HEIGHT]) if tiled else (width, tags.get(_STRIP_ROWS, height))
    offsets = tags[_TILE_OFFSETS if tiled else _STRIP_OFFSETS]
    lengths = tags[_TILE_COUNTS if tiled else _STRIP_COUNTS]
    down = down if tiled else min(down, height)
    places = [(plane, y, x) for plane in range(planes) for y in range(0, height, down) for x in range(0, width, across)]
    for (plane, y, x), offset, length in zip(places, offsets, lengths, strict=True):
        yield _Block(offset, length, x, y, across, down if tiled else min(down, height - y), plane)


def _unpacked(data: bytes, compression: int, n_bytes: int, open_tiff: Callable[[IO[bytes]], Any]) -> bytes:
    """Return the bytes of a strip or a tile."""
    if compression == 1:
        return data
    if compression in _DEFLATE:
        return zlib.decompressobj().decompress(data, n_bytes)
    # As one row of bytes, so that libtiff need not know what they mean.
    tags = {_WIDTH: n_bytes, _HEIGHT: 1, _BITS: 8, _COMPRESSION: compression, _PHOTOMETRIC: 1}
    tags |= {_STRIP_OFFSETS: 8, _CHANNELS: 1, _STRIP_ROWS: 1, _STRIP_COUNTS: len(data)}
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    file = struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + struct.pack("<H", len(tags)) + table + bytes(4)
    with open_tiff(io.BytesIO(file)) as image:
        found: bytes = image.tobytes()
    return found


def _predicted(rows: NDArray[np.uint8], predictor: int, dtype: np.dtype[Any], channels: int) -> NDArray[Any]:
    """Return the samples of rows of bytes."""
    if predictor == 1:
        return rows.view(dtype)
    if predictor == 2:
        whole = rows.view(dtype.str[0] + "u" + dtype.str[2:]).reshape(len(rows), -1, channels)
        summed = np.cumsum(whole, axis=1, dtype=whole.dtype.newbyteorder("=")).astype(whole.dtype)
        return summed.reshape(len(rows), -1).view(dtype)
    if predictor == 3 and dtype.kind == "f":
        summed = np.cumsum(rows.reshape(len(rows), -1, channels), axis=1, dtype=np.uint8).reshape(len(rows), -1)
        highest_first = summed.reshape(len(rows), dtype.itemsize, -1).transpose(0, 2, 1)
        return np.ascontiguousarray(highest_first).view(dtype.newbyteorder(">"))[:, :, 0]
    raise Refused(f"a TIFF image with a predictor that cannot be read: {predictor}")
