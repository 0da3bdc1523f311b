"""JPEG files read so that no damage is passed on.

The decoder fills what is missing from a file with grey, drops what is left over, and tells nobody. So it is given the
coded data piece by piece, without the marker that ends them, and watched: what it asks for, and what it leaves.
"""

from __future__ import annotations

import contextlib
import io
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from ..support import require
from .refused import Refused

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Jpeg"]

# Coded data end at a marker: 0xFF and a byte that is not 0 (which makes a coded 0xFF), a restart or a fill byte.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_SEQUENTIAL, _PROGRESSIVE = (0xC0, 0xC1), 0xC2
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset((0x00, 0x01, *range(0xD0, 0xD9)))  # no length follows them
_EOI, _SOS, _DRI = 0xD9, 0xDA, 0xDD

_AHEAD = bytes(8)
"""The decoder fetches up to 64 bits more than it uses before it gives up its last pixels."""
_LEFT_OVER = 16
"""Bytes that may be left when all pixels are there. What is out of step with its file mostly leaves more, or less."""
_ONES = b"\xff\0"
"""Eight 1 bits. No code word consists of 1 bits alone: a decoder in the middle of a scan is held up by them, one that
looks for the next marker drops them."""
_FILL, _PROBES = 16, 64


class _Component(NamedTuple):
    """A colour component of a frame, and how many of its samples lie where the frame has 8 x 8 pixels."""

    across: int
    down: int


class _Scan(NamedTuple):
    """A scan: whose coefficients it holds, from which to which, down to which bit, and where its coded data lie."""

    components: frozenset[int]
    first: int
    last: int
    bit: int
    start: int
    end: int
    interval: int
    """Units from one restart to the next; 0 where there are none."""


class _Watched(io.BytesIO):
    """A file of which no reading crosses a certain place, so that it is seen whether what lies beyond was needed."""

    def __init__(self, data: bytes, place: int) -> None:
        super().__init__(data)
        self._place = place

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to the place, or beyond it, never both."""
        left = self._place - self.tell()
        return super().read(left if left > 0 and (size is None or size < 0 or size > left) else size)

    @property
    def crossed(self) -> bool:
        """Whether what lies beyond the place was read."""
        return self.tell() > self._place


class Jpeg:
    """A JPEG file in memory.

    Parameters
    ----------
    data : bytes
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._frame = 0
        self._size = 0, 0
        self._components: dict[int, _Component] = {}
        self._scans: list[_Scan] = []
        with contextlib.suppress(IndexError):  # it ends within a header: the decoder notices where it matters
            self._walk()
        self.stream: io.BytesIO = io.BytesIO(data)
        """The file as Pillow is to open it."""
        if self._in_one_scan:
            scan = self._scans[0]
            used = len(data[: scan.end].rstrip(b"\0\xff"))  # some cameras fill the data up to a round size
            self.stream = _Watched(data[: scan.end] + _AHEAD, max(scan.start, used - _LEFT_OVER))

    def load(self, image: Image.Image) -> None:
        """Decode the pixels of an image that Pillow opened from `stream`.

        Raises
        ------
        Refused
            When the coded data are not those of a whole image.
        OSError
            When Pillow or its decoder says so.
        """
        if not all(self._has_all_restarts(scan) for scan in self._scans):
            raise Refused("damaged: parts of it are missing")
        if isinstance(self.stream, _Watched):
            image.load()
            if not self.stream.crossed:
                raise Refused("damaged: its data do not belong together")
        elif self._frame in (*_SEQUENTIAL, _PROGRESSIVE):
            self._load_scans(image)
        else:
            image.load()

    @property
    def _in_one_scan(self) -> bool:
        """Whether one scan holds all of the image."""
        return self._frame in _SEQUENTIAL and bool(self._scans) and self._scans[0].components == self._components.keys()

    def _walk(self) -> None:
        """Find the scans."""
        data, at, interval = self._data, 2, 0
        while (at := data.find(b"\xff", at)) >= 0:
            while data[at + 1] == 0xFF:
                at += 1
            marker, body = data[at + 1], at + 4
            if marker == _EOI:
                break
            if marker in _ALONE:
                at += 2
                continue
            at += 2 + int.from_bytes(data[at + 2 : body])
            if marker in _FRAMES:
                self._frame = marker
                self._size = int.from_bytes(data[body + 3 : body + 5]), int.from_bytes(data[body + 1 : body + 3])
                described = (data[n : n + 2] for n in range(body + 6, at, 3))
                self._components = {key: _Component(both >> 4, both & 15) for key, both in described}
            elif marker == _DRI:
                interval = int.from_bytes(data[body:at])
            elif marker == _SOS:
                found = _MARKER.search(data, at)
                end = len(data) if found is None else found.start()
                while data[end - 1] == 0xFF:
                    end -= 1
                ids, tail = data[body + 1 : at - 3 : 2], data[at - 3 : at]
                self._scans.append(_Scan(frozenset(ids), tail[0], tail[1], tail[2] & 15, at, end, interval))
                if self._in_one_scan:
                    break
                at = end

    def _load_scans(self, image: Image.Image) -> None:
        """Decode an image of several scans, each of which must be whole."""
        if not self._is_complete():
            raise Refused("truncated: the file ends too early")
        codec, extents, _, arguments = image.tile[0]  # type: ignore[attr-defined]
        image_module: Any = require("PIL.Image", "encoder")
        decoder = image_module._getdecoder(image.mode, codec, arguments, image.decoderconfig)  # type: ignore[attr-defined]
        image.load_prepare()  # type: ignore[attr-defined]
        rest = b""

        def feed(data: bytes) -> bool:
            """Give the decoder more, and return whether it is done."""
            nonlocal rest
            rest += data
            n, error = decoder.decode(rest)
            if error < 0:
                raise Refused("damaged: its data cannot be decoded")
            rest = rest[max(n, 0) :]
            return bool(n < 0)

        try:
            decoder.setimage(image.im, extents)
            at = 0
            for scan in self._scans:
                feed(self._data[at : scan.end] + _ONES * _FILL)
                for _ in range(_PROBES):
                    feed(_ONES)
                    if rest:
                        raise Refused("truncated: the file ends too early")
                at = scan.end
            if not feed(bytes((0xFF, _EOI))):
                raise Refused("truncated: the file ends too early")
        finally:
            decoder.cleanup()
        image.tile = []  # type: ignore[attr-defined]

    def _has_all_restarts(self, scan: _Scan) -> bool:
        """Whether the restarts of a scan are as many as it needs, and count from 0 to 7 over and over."""
        if not scan.interval:
            return True
        widest = max(component.across for component in self._components.values())
        tallest = max(component.down for component in self._components.values())
        own = _Component(1, 1)  # several components are interleaved in units as large as the largest
        if len(scan.components) == 1:
            (own,) = (self._components[key] for key in scan.components)
        width, height = self._size
        n_units = -(-width * own.across // (8 * widest)) * -(-height * own.down // (8 * tallest))
        numbers = [mark[1] & 7 for mark in _RESTART.findall(self._data, scan.start, scan.end)]
        return numbers == [n % 8 for n in range(-(-n_units // scan.interval) - 1)]

    def _is_complete(self) -> bool:
        """Whether every coefficient of every component comes in some scan, down to its last bit."""
        known = {(component, k) for component in self._components for k in range(64)}
        for scan in self._scans:
            if scan.bit == 0:
                known -= {(component, k) for component in scan.components for k in range(scan.first, scan.last + 1)}
        return not known
