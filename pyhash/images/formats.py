"""Who decodes a file: told by what it holds, never by its name."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
from typing import IO, TYPE_CHECKING, Any

from ..support import DISTRIBUTION
from . import png, tiff
from .depth import load_deep
from .jpeg import Jpeg
from .jxl import JXL, jxl_class
from .orientation import orientation
from .raw import Raw, begins_as_raw, is_raw_tiff
from .refused import Refused

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["File", "begins_as_image"]

MAX_JPEG_BYTES = 1 << 29
"""Largest JPEG file, in bytes: JPEG is read into memory as a whole, the other formats are streamed."""

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# How a file begins, what must follow at byte 8, and who decodes it. Pillow's `Image.open` would choose
# alike, but it warns about every image over 89 megapixels, warning filters are process-wide and so cannot
# be set for one thread, and among its formats are some that start external programs.
FORMATS = (
    (b"\xff\xd8\xff", b"", "JpegImagePlugin.JpegImageFile"),
    (b"\x89PNG\r\n\x1a\n", b"", "PngImagePlugin.PngImageFile"),
    (b"GIF8", b"", "GifImagePlugin.GifImageFile"),
    (b"RIFF", b"WEBP", "WebPImagePlugin.WebPImageFile"),
    *((start, b"", "TiffImagePlugin.TiffImageFile") for start in _TIFF),
    (b"\0\0\0\x0cjP  ", b"", "Jpeg2KImagePlugin.Jpeg2KImageFile"),
    (b"\xff\x4f\xff\x51", b"", "Jpeg2KImagePlugin.Jpeg2KImageFile"),
    (b"qoif", b"", "QoiImagePlugin.QoiImageFile"),
    (b"BM", b"", "BmpImagePlugin.BmpImageFile"),
    *((b"P%d" % kind, b"", "PpmImagePlugin.PpmImageFile") for kind in range(1, 7)),
)
_AVIF = "AvifImagePlugin.AvifImageFile"

# What cannot be read, and is still worth its name.
_OTHERS = (
    (b"8BPS", "a Photoshop file"),
    (b"%PDF", "a PDF document"),
    (b"<svg", "an SVG drawing"),
    (b"\0\0\1\0", "an icon file"),
    (b"\x76\x2f\x31\x01", "an OpenEXR image"),
    (b"\x1a\x45\xdf\xa3", "a video"),
    (b"<!DOCTYPE html", "a web page"),
    (b"<html", "a web page"),
)
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"}


class File:
    """A file of a format that can be read.

    Parameters
    ----------
    stream : binary file
        At its beginning.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        head = stream.read(256)
        stream.seek(0)
        self._raw: Raw | None = None
        found = tiff.directories(stream) if head.startswith(_TIFF) else []
        if begins_as_raw(head) or is_raw_tiff(found):
            self._raw = Raw(stream)
            preview = self._raw.preview
            self._class = self._raw.developed() if preview is None else _plugin(preview)
            stream = io.BytesIO(preview or b"")
        elif head.startswith(b"MM\0+"):
            raise Refused("a BigTIFF image with the highest bytes first, which Pillow cannot read")
        elif head.startswith(JXL):
            self._class = jxl_class(stream)
        else:
            self._class = _plugin(head)
        self._jpeg: Jpeg | None = None
        self._stream = stream
        name = self._class.__name__
        if name == "JpegImageFile":
            if stream.seek(0, os.SEEK_END) > MAX_JPEG_BYTES:
                raise Refused(f"a JPEG of over {MAX_JPEG_BYTES >> 20} MiB, which is the limit")
            stream.seek(0)
            self._jpeg = Jpeg(stream.read())
            self._stream = self._jpeg.stream
        elif name == "PngImageFile":
            png.check_checksums(stream)
        elif name == "Jpeg2KImageFile":
            self._stream = _with_end(stream)
        elif name == "TiffImageFile":
            self._class = tiff.reader(self._class)
            self._stream = tiff.whole_of(stream, found)

    @property
    def is_jpeg(self) -> bool:
        """Whether it is a JPEG, which can be decoded at a half, a quarter or an eighth."""
        return self._jpeg is not None

    @property
    def is_raw(self) -> bool:
        """Whether it is camera RAW, of which a preview or the sensor's data are shown."""
        return self._raw is not None

    def lies(self, image: Image.Image) -> int:
        """Return how an image that `open` returned lies, as `orientation` does."""
        return self._raw.lies(image) if self._raw is not None and self.is_jpeg else orientation(image)

    def open(self) -> Image.Image:
        """Return the image, its pixels not yet decoded."""
        self._stream.seek(0)
        image: Image.Image = self._class(self._stream)
        if self._class.__name__ == "PpmImageFile" and image.mode == "RGB":
            # Pillow would scale 16 bits by what could be the largest value, not by what is.
            image.tile = [_as_16_bits(tile) for tile in image.tile]  # type: ignore[attr-defined]
        return image

    def decode(self, image: Image.Image) -> None:
        """Decode the pixels of what `open` returned.

        Raises
        ------
        Exception
            Of any kind, when the file is damaged.
        """
        if self._jpeg is not None:
            self._jpeg.load(image)
        load_deep(image, self.open)
        if self._class.__name__ == "PngImageFile":
            png.check_length(self._stream, image)


def begins_as_image(head: bytes) -> bool:
    """Return whether a file that begins so, in 256 bytes, is an image beyond doubt: two bytes alone may be chance."""
    if head[4:8] == b"ftyp":
        return bool(_brands(head) & _HEIF_BRANDS.union(_AVIF_BRANDS))
    marks = [(start, at_8) for start, at_8, _ in FORMATS if len(start) > 2]
    return head.startswith(JXL[1]) or any(head.startswith(start) and head[8:].startswith(at_8) for start, at_8 in marks)


def _plugin(head: bytes) -> Any:
    """Return the Pillow class that decodes a file that begins so."""
    if not head:
        raise Refused("empty, 0 bytes long")
    names = [name for start, at_8, name in FORMATS if head.startswith(start) and head[8:].startswith(at_8)]
    if not names and head[4:8] == b"ftyp":
        brands = _brands(head)
        if brands & _AVIF_BRANDS:
            names = [_AVIF]
        elif brands & _HEIF_BRANDS:
            return _heif_class()
        else:
            raise _not_read("a video")
    if not names:
        for start, what in _OTHERS:
            if head.startswith(start):
                raise _not_read(what)
        raise Refused(f"not an image in a format that can be read; it begins with {head[:12]!r}")
    module, class_name = names[0].split(".")
    try:
        return getattr(importlib.import_module(f"PIL.{module}"), class_name)
    except ModuleNotFoundError:
        raise Refused(f"{class_name.removesuffix('ImageFile')}, which this version of Pillow cannot read") from None


def _brands(head: bytes) -> set[bytes]:
    """Return of what kinds a file of the family of MP4 is: its major brand and those it is compatible with."""
    end = min(int.from_bytes(head[:4]), len(head))
    return {head[8:12], *(head[at : at + 4] for at in range(16, end, 4))}


def _heif_class() -> Any:
    """Return the class that decodes HEIF as Pillow's own decode other formats; it is in a package of its own."""
    for package in ("pi_heif", "pillow_heif"):  # the second is the first with encoders
        with contextlib.suppress(ImportError):
            return importlib.import_module(package).HeifImageFile
    raise Refused(f"a HEIF image, for which a package is missing: pip install '{DISTRIBUTION}[heif]'")


def _not_read(what: str) -> Refused:
    return Refused(f"{what}, which cannot be read: save it as JPEG, for example")


def _as_16_bits(tile: Any) -> Any:
    """Return how the pixels of a PPM are to be read, two bytes each where their largest value needs that."""
    if tile.codec_name != "ppm" or tile.args[1] <= 255:
        return tile
    return tile._replace(codec_name="raw", args=("RGB;16B", 0, 1))


def _with_end(stream: IO[bytes]) -> IO[bytes]:
    """Return a JPEG 2000 file with the marker that ends it: that may be missing where no pixel is."""
    data = stream.read()
    return io.BytesIO(data if data.endswith(b"\xff\xd9") else data.removesuffix(b"\xff") + b"\xff\xd9")
