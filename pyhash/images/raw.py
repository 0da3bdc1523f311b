"""Camera RAW: what tells it, the preview that is in it, and the sensor's own data where that is too small."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any

from ..support import DISTRIBUTION, require
from .late import late
from .orientation import stated
from .refused import Refused
from .tiff import Directory

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Raw", "begins_as_raw", "is_raw_tiff"]

MAX_RAW_BYTES = 1 << 30
"""Largest RAW file, in bytes: it is read into memory as a whole."""
ENOUGH = 1024
"""A preview whose longer side has so many pixels is taken for the image, and one of half the sensor's pixels."""
_HALVED = 2048
"""Sensors with a longer side of so many pixels are developed at half their size, four of their cells a pixel."""

_BEGINNINGS = (b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FUJIFILMCCD-RAW", b"FOVb", b"\0MRM", b"II\x1a\0\0\0HEAPCCDR")
_MOSAIC, _LINEAR = 32803, 34892
"""What pixels are in RAW files that are TIFF files, too."""
_COMPRESSIONS = frozenset({32767, 32769, 32770, 32867, 34713, 65000, 65535})
"""Of Sony, Epson, Samsung, Kodak, Nikon, Kodak, Pentax; nobody else has them."""

# LibRaw's `flip` says how to turn in three bits: mirrored left and right, up and down, then along the diagonal.
_EXIF_OF_FLIP = {0: 1, 1: 2, 2: 4, 3: 3, 4: 5, 5: 8, 6: 6, 7: 7}


def begins_as_raw(head: bytes) -> bool:
    """Whether a file that begins so is one of camera RAW; of others only their directories tell (`is_raw_tiff`)."""
    if head[4:12] == b"ftypcrx ":
        return True
    if head[:4] in (b"II*\0", b"MM\0*"):
        return head[8:10] == b"CR" or head[8:12] in (b"IIII", b"MMMM")  # Canon, Phase One
    return head.startswith(_BEGINNINGS)


def is_raw_tiff(found: Sequence[Directory]) -> bool:
    """Whether the directories of a TIFF file are those of a RAW file, the first of which is a mere thumbnail."""
    for each in found:
        if each.dng or each.photometric in (_MOSAIC, _LINEAR) or each.compression in _COMPRESSIONS:
            return True
    return bool(found) and found[0].make and not any(each.is_whole for each in found)


class Raw:
    """A RAW file that LibRaw has opened.

    Parameters
    ----------
    stream : binary file

    Attributes
    ----------
    preview : bytes or None
        The largest JPEG file in it, where that is large enough.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        try:
            self._rawpy: Any = importlib.import_module("rawpy")
        except ModuleNotFoundError:
            raise Refused(
                f"a camera RAW image, for which a package is missing: pip install '{DISTRIBUTION}[raw]'"
            ) from None
        if stream.seek(0, os.SEEK_END) > MAX_RAW_BYTES:
            raise Refused(f"a camera RAW image of over {MAX_RAW_BYTES >> 20} MiB, which is the limit")
        stream.seek(0)
        data = stream.read()
        with self._told():
            self._raw = self._rawpy.imread(io.BytesIO(data))
        self._sizes = self._raw.sizes
        self.preview: bytes | None = self._preview(data)

    def lies(self, preview: Image.Image) -> int:
        """Return how the preview lies, as `orientation` does.

        It has words of its own for that, or those of the RAW file hold for it, or it was turned already: so many it is
        turned that it is upright or across as the RAW file is.
        """
        turned = _EXIF_OF_FLIP.get(self._sizes.flip, 1)
        across = (self._sizes.width > self._sizes.height) ^ (turned >= 5)
        for lies in (stated(preview), turned, 1):
            if lies is not None and (preview.width > preview.height) ^ (lies >= 5) == across:
                return lies
        return turned

    def developed(self) -> Any:
        """Return a class of images, for `File`, of the sensor's own data, upright."""
        return late((self._sizes.raw_width, self._sizes.raw_height), self._develop)

    def _develop(self) -> Image.Image:
        large = max(self._sizes.raw_width, self._sizes.raw_height) >= _HALVED
        with self._told():
            pixels = self._raw.postprocess(use_camera_wb=True, half_size=large)
        grey = pixels.shape[2] == 1  # some sensors see no colours
        image: Image.Image = require("PIL.Image", "encoder").fromarray(pixels[:, :, 0] if grey else pixels)
        return image

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Say in our own words what LibRaw says."""
        try:
            yield
        except self._rawpy.LibRawFileUnsupportedError:
            raise Refused("a camera RAW image that this version of LibRaw cannot read, or damaged") from None
        except self._rawpy.LibRawIOError:
            raise Refused("truncated: the file ends too early") from None
        except self._rawpy.LibRawError as error:
            text = error.args[0] if error.args else error
            raise Refused(f"damaged: {text.decode() if isinstance(text, bytes) else text}") from None

    def _preview(self, whole: bytes) -> bytes | None:
        try:
            found = self._raw.extract_thumb()
        except (self._rawpy.LibRawError, self._rawpy.NotSupportedError):
            return None  # none, or in a format of its own
        if found.format != self._rawpy.ThumbFormat.JPEG:
            return None
        # LibRaw may put a header of its own before the rest; and where the file ends too early, what its memory held.
        given: bytes = found.data
        without = given[:2] + given[4 + int.from_bytes(given[4:6]) :]
        data = next((each for each in (given, without) if each[2:] in whole), None)
        if data is None:
            return None
        with contextlib.suppress(Exception):  # what is wrong with it is nobody's concern: there is the sensor's data
            with require("PIL.JpegImagePlugin", "encoder").JpegImageFile(io.BytesIO(data)) as image:
                longest: int = max(image.size)
            if longest >= min(ENOUGH, max(self._sizes.width, self._sizes.height) // 2):
                return data
        return None
