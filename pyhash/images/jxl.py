"""JPEG XL: what its header says, and its pixels by a package of its own.

The header is that of ISO/IEC 18181-1, the boxes that may lie around it are those of 18181-2.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from ..support import DISTRIBUTION
from .late import late
from .refused import Refused

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["JXL", "jxl_class"]

JXL = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")
"""How files begin: bare, and in boxes."""
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}


class _Header(NamedTuple):
    width: int
    height: int
    turned: bool
    """Whether the decoder turns it upright."""
    animated: bool


def jxl_class(stream: IO[bytes]) -> Any:
    """Return the class that decodes a JPEG XL image."""
    try:
        plugin: Any = importlib.import_module("pillow_jxl.JpegXLImagePlugin")
    except ModuleNotFoundError:
        raise Refused(f"a JPEG XL image, for which a package is missing: pip install '{DISTRIBUTION}[jxl]'") from None
    stream.seek(0)
    data = stream.read()
    header = _header(data)
    if header.animated:
        raise Refused(
            "an animation in JPEG XL, of which no package gives the first frame: save that as JPEG, for example"
        )

    def make() -> Image.Image:
        try:
            image: Image.Image = plugin.JXLImageFile(io.BytesIO(data))
        except RuntimeError as error:  # whose text is about how to build libjxl
            raise Refused("damaged: its data cannot be decoded") from error
        if header.turned and not image.jpeg:  # type: ignore[attr-defined]
            image.info.pop("exif", None)  # it would be turned twice
        return image

    return late((header.width, header.height), make)


def _header(data: bytes) -> _Header:
    start = _codestream(data)
    bits = _Bits(start[2:64])
    if not start.startswith(JXL[0]):
        raise Refused("damaged: it has no header")
    width, height = bits.size()
    turned = animated = False
    if not bits.take(1) and bits.take(1):  # neither all as usual, nor all of these
        turned = bits.take(3) != 0
        if bits.take(1):
            bits.size()
        if bits.take(1):
            bits.preview()
        animated = bits.take(1) == 1
    return _Header(width, height, turned, animated)


def _codestream(data: bytes) -> bytes:
    """Return the beginning of what lies in the boxes of a file."""
    if data.startswith(JXL[0]):
        return data[:64]
    return b"".join(_parts(data))[:64]


def _parts(data: bytes) -> Iterator[bytes]:
    at = 0
    while at + 8 <= len(data):
        length, kind, head = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8], 8
        if length == 1:
            length, head = int.from_bytes(data[at + 8 : at + 16]), 16
        end = at + max(length, head) if length else len(data)
        if kind == b"jxlc":
            yield data[at + head : min(end, at + head + 64)]
        elif kind == b"jxlp":
            yield data[at + head + 4 : min(end, at + head + 68)]
        at = end


class _Bits:
    """The bits of a header, the lowest of each byte first."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "little")

    def take(self, n: int) -> int:
        """The next bits as a number."""
        found = self._value & (1 << n) - 1
        self._value >>= n
        return found

    def size(self) -> tuple[int, int]:
        """A width and a height."""
        small = self.take(1)
        height = self._side(small)
        ratio = _RATIOS.get(self.take(3))
        return (self._side(small) if ratio is None else height * ratio[0] // ratio[1]), height

    def preview(self) -> None:
        """Pass over the size of a preview."""
        eighths = self.take(1)

        def side() -> None:
            choice = self.take(2)
            if eighths:
                self.take((0, 0, 5, 9)[choice])
            else:
                self.take((6, 8, 10, 12)[choice])

        side()
        if not self.take(3):
            side()

    def _side(self, small: int) -> int:
        if small:
            return 8 * (self.take(5) + 1)
        return 1 + self.take((9, 13, 18, 30)[self.take(2)])
