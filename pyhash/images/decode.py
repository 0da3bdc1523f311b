"""Images in: decode, turn upright, make RGB, crop, resize. A file with a fault becomes an `ImageError`.

Supported formats: JPEG, PNG, WebP, BMP, GIF, TIFF, PNM, JPEG 2000 and AVIF, the first frame of each, in every depth
and colour mode that has a meaning as a photograph. Colour profiles are ignored: the numbers are taken as
sRGB.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib
import io
import os
import stat
import threading
import warnings
from contextlib import ExitStack
from typing import IO, TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from ..support import require
from .budget import MAX_PIXELS, PixelBudget
from .orientation import jpeg_exif, upright

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "CROPS",
    "MAX_PIXELS",
    "RESIZES",
    "Crop",
    "ImageError",
    "PixelBudget",
    "Resize",
    "Source",
    "as_shape",
    "decoder_identity",
    "load",
]

Source: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | NDArray[np.uint8]"

MAX_JPEG_BYTES = 1 << 29
"""Largest JPEG file, in bytes: JPEG is read into memory as a whole, the other formats are streamed."""

Resize = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
Crop = Literal["squash", "center"]

RESIZES: tuple[Resize, ...] = get_args(Resize)
"""Pillow's resampling filters; all but ``nearest`` average over the area that a resulting pixel covers."""

CROPS: tuple[Crop, ...] = get_args(Crop)
"""``squash`` resizes the whole image; ``center`` its largest central part of the wanted proportions."""

# How a file begins, what must follow at byte 8, and who decodes it. Pillow's `Image.open` would choose
# alike, but it warns about every image over 89 megapixels, warning filters are process-wide and so cannot
# be set for one thread, and among its formats are some that start external programs.
_FORMATS = (
    (b"\xff\xd8\xff", b"", "JpegImagePlugin.JpegImageFile"),
    (b"\x89PNG\r\n\x1a\n", b"", "PngImagePlugin.PngImageFile"),
    (b"GIF8", b"", "GifImagePlugin.GifImageFile"),
    (b"RIFF", b"WEBP", "WebPImagePlugin.WebPImageFile"),
    (b"II*\0", b"", "TiffImagePlugin.TiffImageFile"),
    (b"MM\0*", b"", "TiffImagePlugin.TiffImageFile"),
    (b"II+\0", b"", "TiffImagePlugin.TiffImageFile"),
    (b"MM\0+", b"", "TiffImagePlugin.TiffImageFile"),
    (b"\0\0\0\x0cjP  ", b"", "Jpeg2KImagePlugin.Jpeg2KImageFile"),
    (b"\xff\x4f\xff\x51", b"", "Jpeg2KImagePlugin.Jpeg2KImageFile"),
    (b"\0\0\0", b"avif", "AvifImagePlugin.AvifImageFile"),
    (b"\0\0\0", b"avis", "AvifImagePlugin.AvifImageFile"),
    (b"BM", b"", "BmpImagePlugin.BmpImageFile"),
    *((b"P%d" % kind, b"", "PpmImagePlugin.PpmImageFile") for kind in range(1, 7)),
)

# A 21x13 JPEG whose pixels show how this machine decodes: chroma at half resolution and odd sides, where
# decoders differ.
_PROBE = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxO"
    "UlNSMj5aYVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09P"
    "T09PT09PT0//wAARCAANABUDASIAAhEBAxEB/8QAGAAAAwEBAAAAAAAAAAAAAAAAAAUHAwb/xAAjEAABAwQCAQUAAAAAAAAAAAAB"
    "AAIDBAURITFREzJhobHR/8QAFQEBAQAAAAAAAAAAAAAAAAAAAgT/xAAlEQABAgUCBwEAAAAAAAAAAAABAgMABAURITGBIlGRobHR"
    "4fD/2gAMAwEAAhEDEQA/ANqa4FhG85TOK4tDSPJ6T89Kfx1smgMjvfKaw1UzWlxdk417JLpjfEhAwO2Njr+ECQpQxeO4be4KNgE0"
    "uC7jRP0hTu8Vsxnja45aGZA62fwIV8tTEpaAGN/h89NIU2txl5TaALDnf3H/2Q=="
)

_silence = threading.Lock()


class _Refused(Exception):
    """A reason in our own words, before the name of the image is put to it."""


def load(
    source: Source,
    *,
    size: int | tuple[int, int] | None = None,
    longest: int | None = None,
    resize: Resize = "bilinear",
    crop: Crop = "squash",
    fast_jpeg: bool = False,
    max_pixels: int = MAX_PIXELS,
    budget: PixelBudget | None = None,
) -> NDArray[np.uint8]:
    """Decode an image into upright 8-bit RGB of a fixed size.

    EXIF orientation is applied, and transparency is laid on white. Of 16-bit images the high byte is
    kept; 32-bit integers are read as 16-bit values and floating-point ones as 0 to 1.

    Parameters
    ----------
    source : path, bytes, PIL.Image.Image or numpy.ndarray
        An array is uint8, and grey (h, w) or (h, w, 1), RGB (h, w, 3) or RGBA (h, w, 4).
    size : int or (int, int), optional
        Side of the result, or its (height, width), in pixels; None keeps the image's own.
    longest : int, optional
        Instead of ``size``: an image with a longer side is reduced to this, in its own proportions.
    resize : str
        One of `RESIZES`.
    crop : str
        One of `CROPS`.
    fast_jpeg : bool
        Let the JPEG decoder shrink by 2, 4 or 8 as long as at least twice the wanted size is left. Several times
        faster for large photographs, with slightly other pixels, and so some other bits.
    max_pixels : int
        Larger images are refused before they are decoded.
    budget : PixelBudget, optional
        Shared by the threads that decode together.

    Returns
    -------
    numpy.ndarray
        uint8, shape (height, width, 3).

    Raises
    ------
    ImageError
        When the image cannot be read.
    TypeError, ValueError
        When an argument is none of the above.
    ImportError
        When Pillow is not installed.
    """
    if size is not None and longest is not None:
        raise ValueError(f"size and longest exclude each other, got size={size!r} and longest={longest!r}")
    shape = None if size is None else as_shape(size)
    bound = shape if longest is None else as_shape(longest)
    if resize not in RESIZES:
        raise ValueError(f"resize must be one of {', '.join(RESIZES)}, got {resize!r}")
    if crop not in CROPS:
        raise ValueError(f"crop must be one of {', '.join(CROPS)}, got {crop!r}")
    image_module: Any = require("PIL.Image", "encoder")
    if isinstance(source, np.ndarray):
        name = "<array>"
    elif isinstance(source, image_module.Image):
        name = "<image>"
    elif isinstance(source, (bytes, bytearray, memoryview)):
        name = "<bytes>"
    elif isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)
    else:
        raise TypeError(f"an image must be a path, bytes, a PIL image or a uint8 array, got {type(source).__name__}")
    if budget is None:
        budget = PixelBudget(max_pixels)

    def attempt() -> NDArray[np.uint8]:
        with ExitStack() as held:
            if isinstance(source, np.ndarray):
                image = _from_array(source)
            else:
                image = _decode(source, bound if fast_jpeg else None, max_pixels, budget, held)
            return _finish(image, shape if longest is None else _within(image, longest), resize, crop)

    try:
        try:
            return attempt()
        except Warning:
            # The caller's filters turn warnings into errors. Pillow's are about metadata, and an image
            # must not depend on filters, so it is read again without them.
            with _silence, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return attempt()
    except Exception as error:  # a damaged file can raise nearly anything in Pillow
        raise ImageError(name, _reason(error)) from error


def as_shape(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return (height, width) for a side or a (height, width), or raise ValueError."""
    shape = size if isinstance(size, (tuple, list)) else (size, size)
    if len(shape) != 2 or any(isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1 for n in shape):
        raise ValueError(f"size must be a number of pixels of at least 1, or (height, width), got {size!r}")
    return int(shape[0]), int(shape[1])


@functools.cache
def decoder_identity() -> str:
    """Return 16 hex digits that stand for what this machine's JPEG decoder and resizing make of an image.

    It is computed from the pixels of a small image, so it stays the same over versions of the libraries
    that decode and resize alike. Whether simplejpeg is installed never matters, because `load` uses it only
    if it decodes that image as Pillow does.
    """
    digest = hashlib.sha256()
    for resize in RESIZES:
        digest.update(load(_PROBE, size=(7, 9), resize=resize).tobytes())
    digest.update(load(_PROBE, size=(3, 5), fast_jpeg=True).tobytes())
    return digest.hexdigest()[:16]


@functools.cache
def _simplejpeg() -> Any:
    """Return simplejpeg, if it is installed and decodes to the pixels that Pillow decodes to.

    It saves a third of the time of `load` for icons and less than a tenth for photographs.
    """
    try:
        simplejpeg: Any = importlib.import_module("simplejpeg")
    except ImportError:
        return None
    with _plugin(io.BytesIO(_PROBE))(io.BytesIO(_PROBE)) as image:
        same = np.array_equal(simplejpeg.decode_jpeg(_PROBE, "RGB"), np.asarray(image))
    return simplejpeg if same else None


def _decode(
    source: Any, draft: tuple[int, int] | None, max_pixels: int, budget: PixelBudget, held: ExitStack
) -> Image.Image:
    """Return an image upright, in its own mode; ``held`` keeps its file open and its pixels budgeted."""
    if isinstance(source, require("PIL.Image", "encoder").Image):
        image: Image.Image = source
    else:
        stream = held.enter_context(_stream(source))
        plugin = _plugin(stream)
        if plugin.__name__ == "JpegImageFile":
            if stream.seek(0, os.SEEK_END) > MAX_JPEG_BYTES:
                raise _Refused(f"a JPEG of over {MAX_JPEG_BYTES >> 20} MiB, which is the limit")
            stream.seek(0)
            data = stream.read()
            turbo = _turbo(data, max_pixels, budget, held) if draft is None else None
            if turbo is not None:
                return upright(turbo, jpeg_exif(data))
            stream = io.BytesIO(data)
        image = held.enter_context(plugin(stream))
    _check_pixels(image.width, image.height, max_pixels)
    held.enter_context(budget.hold(image.width * image.height))
    if draft is not None and image is not source:
        image.draft(image.mode, (2 * draft[1], 2 * draft[0]))
    image.load()
    return upright(image, image.info.get("exif"))


def _stream(source: Any) -> IO[bytes]:
    """Open a path or bytes to be read."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return io.BytesIO(source)
    kind = os.stat(source).st_mode
    if stat.S_ISDIR(kind):
        raise _Refused("a folder, not an image; pyhash.Gallery is for folders")
    if not stat.S_ISREG(kind):  # opening a pipe would wait for its writer
        raise _Refused("not a regular file")
    return open(source, "rb")


def _plugin(stream: IO[bytes]) -> Any:
    """Return the Pillow class that decodes what a stream holds, chosen by how it begins."""
    head = stream.read(16)
    stream.seek(0)
    if not head:
        raise _Refused("empty, 0 bytes long")
    for start, at_8, name in _FORMATS:
        if head.startswith(start) and head[8:].startswith(at_8):
            module, class_name = name.split(".")
            try:
                return getattr(importlib.import_module(f"PIL.{module}"), class_name)
            except ModuleNotFoundError:
                raise _Refused(
                    f"{class_name.removesuffix('ImageFile')}, which this version of Pillow cannot read"
                ) from None
    raise _Refused(f"not an image in a format that can be read; it begins with {head[:12]!r}")


def _check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise _Refused(f"{width} x {height} pixels, over the limit of {max_pixels:,} pixels")


def _turbo(data: bytes, max_pixels: int, budget: PixelBudget, held: ExitStack) -> Image.Image | None:
    """Decode a JPEG with simplejpeg; None leaves it to Pillow, the judge of what can still be read."""
    simplejpeg = _simplejpeg()
    if simplejpeg is None:
        return None
    with ExitStack() as own:
        try:
            height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
            if colours not in ("Gray", "YCbCr", "RGB"):
                return None
            _check_pixels(width, height, max_pixels)
            own.enter_context(budget.hold(width * height))
            mode, raw = ("L", "GRAY") if colours == "Gray" else ("RGBX", "RGBX")
            pixels = simplejpeg.decode_jpeg(data, raw)
        except ValueError:
            return None
        held.enter_context(own.pop_all())
    frombuffer = require("PIL.Image", "encoder").frombuffer
    image: Image.Image = frombuffer(mode, (width, height), pixels, "raw", mode, 0, 1)  # shares the memory
    return image


def _from_array(array: NDArray[Any]) -> Image.Image:
    shape = array.shape[:2] if array.ndim == 3 and array.shape[2] == 1 else array.shape
    if array.dtype != np.uint8 or len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (3, 4)):
        raise _Refused(
            "must be uint8 of shape (h, w), (h, w, 1), (h, w, 3) or (h, w, 4), "
            f"got {array.dtype} of shape {array.shape}"
            + ("; multiply values from 0 to 1 by 255 and cast them" if array.dtype.kind == "f" else "")
        )
    if 0 in shape:
        raise _Refused(f"must have at least one pixel, got shape {array.shape}")
    image: Image.Image = require("PIL.Image", "encoder").fromarray(array.reshape(shape))
    return image


def _finish(image: Image.Image, shape: tuple[int, int] | None, resize: str, crop: str) -> NDArray[np.uint8]:
    """Crop and resize an upright image, and make it RGB."""
    image = _eight_bit(image)
    if shape is not None and shape != (image.height, image.width):
        resampling = require("PIL.Image", "encoder").Resampling[resize.upper()]
        box = _center(image.width, image.height, shape) if crop == "center" else None
        image = image.resize((shape[1], shape[0]), resampling, box)
    pixels: NDArray[Any] = np.asarray(image)
    if image.mode == "L":
        return np.repeat(pixels[:, :, None], 3, axis=2)
    if image.mode == "RGBa":
        # Colour is already multiplied by alpha, so what is missing up to 255 is white. Filters with
        # negative lobes overshoot.
        white = 255 - pixels[:, :, 3:].astype(np.int16)
        return np.minimum(pixels[:, :, :3] + white, 255).astype(np.uint8)
    rgb: NDArray[np.uint8] = pixels[:, :, :3].copy()
    return rgb


def _within(image: Image.Image, longest: int) -> tuple[int, int]:
    """Return the (height, width) of an image reduced until no side is longer than this."""
    factor = min(1.0, longest / max(image.size))
    return max(1, round(image.height * factor)), max(1, round(image.width * factor))


def _center(width: int, height: int, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the largest central box (left, top, right, bottom) with the proportions of a (height, width)."""
    box_width = min(width, max(1, round(height * shape[1] / shape[0])))
    box_height = min(height, max(1, round(width * shape[0] / shape[1])))
    left, top = (width - box_width) // 2, (height - box_height) // 2
    return left, top, left + box_width, top + box_height


def _eight_bit(image: Image.Image) -> Image.Image:
    """Return an image as L, RGB, RGBX (with an unused byte) or RGBa (colour multiplied by alpha)."""
    mode = image.mode
    if mode in ("I", "F") or mode.startswith("I;16"):
        values = np.asarray(image)
        if mode == "F":
            if not (values.min() >= 0 and values.max() <= 1):
                raise _Refused("floating-point pixels outside 0 to 1")
            values = np.round(values * 255)
        else:
            if mode == "I" and (values.min() < 0 or values.max() > 65535):
                raise _Refused("32-bit pixels outside 0 to 65535")
            values = values >> 8  # as Pillow does with 16-bit RGB
        return _from_array(values.astype(np.uint8))
    if image.has_transparency_data:
        return (image if mode == "RGBA" else image.convert("RGBA")).convert("RGBa")
    if mode in ("L", "RGB", "RGBX"):
        return image
    return image.convert("L" if mode == "1" else "RGB")


def _reason(error: Exception) -> str:
    if isinstance(error, _Refused):
        return str(error)
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[0].lower() + error.strerror[1:]
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    text = str(error) or type(error).__name__
    return "truncated: the file ends too early" if "truncated" in text.lower() else f"damaged: {text}"
