"""PNG files checked where the decoder does not look: checksums of pixels, and data that end before the image does."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

import numpy as np

from .refused import Refused

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["check_checksums", "check_length"]

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Where the seven passes of an interlaced image begin, and how far apart their pixels are: x, y, across, down.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_AT_ONCE = 1 << 20


def check_checksums(stream: IO[bytes]) -> None:
    """Raise Refused when the checksum of compressed pixels is wrong; the decoder looks at those of headers alone.

    What is missing at the end is left to it: it knows whether that is needed.
    """
    for data, checksum in _pixel_chunks(stream):
        if len(checksum) == 4 and zlib.crc32(data, zlib.crc32(b"IDAT")) != int.from_bytes(checksum):
            raise Refused("damaged: the checksum of its pixels is wrong")
    stream.seek(0)


def check_length(stream: IO[bytes], image: Image.Image) -> None:
    """Raise Refused when the compressed pixels of a decoded image end, as if they were all, before its last row.

    The decoder leaves zeros for what is missing, so that only images that end in zeros need be counted; of an
    interlaced image any pixel may be missing.
    """
    interlaced = bool(image.info.get("interlace"))
    last = image.crop((0, image.height - 1, image.width, image.height))
    if not interlaced and np.asarray(last).any():
        return
    stream.seek(16)
    width, height, depth, colour = struct.unpack(">IIBB", stream.read(10))
    wanted = 0
    for x, y, across, down in _PASSES if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - x) // across), -(-(height - y) // down)
        if columns > 0 and rows > 0:
            wanted += rows * (1 + (columns * depth * _CHANNELS[colour] + 7) // 8)
    inflate, found = zlib.decompressobj(), 0
    for data, _ in _pixel_chunks(stream):
        while data and found < wanted:
            found += len(inflate.decompress(data, _AT_ONCE))
            data = inflate.unconsumed_tail
    if found < wanted:
        raise Refused("truncated: its pixels end too early")


def _pixel_chunks(stream: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the compressed pixels of a file, chunk by chunk, and the checksum of each."""
    stream.seek(8)
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IEND":
            break
        if kind == b"IDAT":
            yield stream.read(length), stream.read(4)
        else:
            stream.seek(length + 4, os.SEEK_CUR)
