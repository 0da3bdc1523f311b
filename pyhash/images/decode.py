"""Images in: decode, turn upright, make RGB, crop, resize. A file with a fault becomes an `ImageError`.

Supported formats: JPEG, PNG, WebP, BMP, GIF, TIFF, PNM, QOI, JPEG 2000, AVIF, and with extras HEIF (``heif``), camera
RAW (``raw``) and JPEG XL (``jxl``), the first frame of each, in every depth and colour mode that has a meaning as a
photograph. Of camera RAW it is the preview that the camera put there, or the sensor's own data where that is small.
What a colour profile says is converted to sRGB; without one, the numbers are taken as sRGB.
"""

from __future__ import annotations

import io
import os
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from ..support import require
from .budget import MAX_PIXELS, PixelBudget
from .colour import in_srgb
from .decoded import THUMBNAIL_SIDE, Decoded, Resize, as_shape, check_how
from .depth import grey_of, is_deep
from .formats import File
from .geometry import Crop, check_fraction, inner
from .orientation import orientation, upright
from .refused import Refused
from .views import Box, Part, Views, factor_for, reduced, room_for

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["ImageError", "Source", "crop_of", "load", "name_of", "opened", "size_of"]

Source: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | NDArray[np.uint8]"

_silence = threading.Lock()
_WHOLE = Views()
_CROPPED = 1024
"""Pixels of either side that are left of a crop: more than networks see."""


def load(
    source: Source,
    *,
    size: int | tuple[int, int] | None = None,
    longest: int | None = None,
    resize: Resize = "bilinear",
    crop: Crop = "squash",
    crop_fraction: float | None = None,
    fill: int | tuple[int, int, int] = 0,
    fast_jpeg: bool = True,
    max_pixels: int = MAX_PIXELS,
    budget: PixelBudget | None = None,
) -> NDArray[np.uint8]:
    """Decode an image into upright 8-bit RGB of a fixed size.

    The orientation that its metadata tell is applied, colours are converted to sRGB where a profile says what they are,
    and transparency is laid on white. Of more than 8 bits the highest 8 of those in use are kept: of 8, 10, 12, 14 or
    16, told by the largest value. Floating-point values are read as 0 to 1, whole ones as integers; other values are
    spread between the least and the largest, and those that are no numbers are black. Of several pages of a TIFF file
    the first is read that is no thumbnail of another.

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
    crop_fraction : float, optional
        The image is resized for a size as much larger, and the middle of that kept: .875 is 256, then 224. For
        ``center`` this is exactly torchvision's ``Resize`` and ``CenterCrop``, of 1 too.
    fill : int or (int, int, int)
        What ``letterbox`` puts where there is no image: one value, or red, green and blue.
    fast_jpeg : bool
        Bring an image near the wanted size first, by a half, a quarter or an eighth: JPEG by its decoder, which is
        several times faster for large photographs, and others by averaging, so that copies in several formats stay
        alike. Pixels then differ a little from those of one exact resizing.
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
    check_how(resize, crop)
    bound = size if longest is None else longest
    height, width = (1, 1) if bound is None else inner(as_shape(bound), check_fraction(crop_fraction))
    enough = (height, width) if fast_jpeg and bound is not None else None
    with opened(source, at_least=enough, max_pixels=max_pixels, budget=budget) as image:
        return image.pixels(size, longest=longest, resize=resize, crop=crop, crop_fraction=crop_fraction, fill=fill)


@contextmanager
def opened(
    source: Source,
    *,
    at_least: int | tuple[int, int] | None = None,
    max_pixels: int = MAX_PIXELS,
    budget: PixelBudget | None = None,
    views: Views = _WHOLE,
) -> Iterator[Decoded]:
    """Decode an image once, for all that is made of it in the block: pixels, look, thumbnail, parts.

    Parameters
    ----------
    source, max_pixels, budget
        As for `load`; the budget is held while the block runs.
    at_least : int or (int, int), optional
        A side or (height, width): the image may be decoded, or else reduced by averaging, at a half, a quarter and so
        on, as long as neither side becomes smaller than this, nor than `THUMBNAIL_SIDE`: what it is opened for does
        not change it. None leaves all of it.
    views : Views
        Which parts are wanted too, each as large as `at_least` says where it has so many pixels.

    Yields
    ------
    Decoded

    Raises
    ------
    ImageError
        When the image cannot be read.
    TypeError, ValueError
        When an argument is none of the above.
    ImportError
        When Pillow is not installed.
    """
    of_parts = None if at_least is None else as_shape(at_least)
    enough = None if of_parts is None else (max(of_parts[0], THUMBNAIL_SIDE), max(of_parts[1], THUMBNAIL_SIDE))
    name = name_of(source)
    if budget is None:
        budget = PixelBudget(max_pixels)

    def room(size: tuple[int, int]) -> tuple[int, int] | None:
        if enough is None or of_parts is None:
            return None
        tall, wide = room_for(views.of(*size), size, of_parts)
        return max(tall, enough[0]), max(wide, enough[1])

    def attempt(held: ExitStack) -> tuple[Image.Image, tuple[int, int]]:
        with ExitStack() as own:
            if isinstance(source, np.ndarray):
                image = _eight_bit(_from_array(source))
                size = image.size
                image = reduced(image, room(size))
            else:
                image, size = _decode(source, room, max_pixels, budget, own)
            held.push(own.pop_all())
        return image, size

    with ExitStack() as held:
        try:
            try:
                image, size = attempt(held)
            except Warning:
                # The caller's filters turn warnings into errors. Pillow's are about metadata, and an image
                # must not depend on filters, so it is read again without them.
                with _silence, warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    image, size = attempt(held)
        except Exception as error:  # a damaged file can raise nearly anything in Pillow
            raise ImageError(name, _reason(error)) from error
        yield Decoded(image, size, views.of(*size), enough, of_parts)


def size_of(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return the width and height of an image file, upright: by what it says of itself, where that is enough.

    Raises
    ------
    ImageError
        When the image cannot be read.
    """
    try:
        with _stream(path) as stream, File(stream).open() as image:
            width, height = image.size
            return (width, height) if orientation(image) < 5 else (height, width)
    except Exception:
        with opened(path, at_least=1) as decoded:
            return decoded.size


def crop_of(source: Source, box: Box, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Return the pixels in a box of an image, upright, as RGB on white; of a large one reduced by averaging.

    Parameters
    ----------
    source, max_pixels
        As for `load`.
    box : (int, int, int, int)
        Left, top, right and bottom, in pixels of the upright image.

    Returns
    -------
    numpy.ndarray
        uint8, shape (height, width, 3).

    Raises
    ------
    ImageError
        When the image cannot be read.
    ValueError
        When the box is empty or does not lie in the image.
    """
    with opened(source, at_least=_CROPPED, max_pixels=max_pixels, views=Views(boxes=[Part("box", box)])) as image:
        for _, part in image.parts():
            return part.pixels()
        width, height = image.size
    left, top, right, bottom = box
    raise ValueError(
        f"crop must have pixels and lie in the image, {name_of(source)} of {width} x {height} pixels, got x0={left}, "
        f"y0={top}, x1={right}, y1={bottom}"
    )


def name_of(source: Any) -> str:
    """Return what to call an image in an error; TypeError where it is none."""
    image_module: Any = require("PIL.Image", "encoder")
    if isinstance(source, np.ndarray):
        return "<array>"
    if isinstance(source, image_module.Image):
        return "<image>"
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "<bytes>"
    if isinstance(source, (str, os.PathLike)):
        return str(os.fspath(source))
    raise TypeError(f"an image must be a path, bytes, a PIL image or a uint8 array, got {type(source).__name__}")


def _decode(
    source: Any,
    room: Callable[[tuple[int, int]], tuple[int, int] | None],
    max_pixels: int,
    budget: PixelBudget,
    held: ExitStack,
) -> tuple[Image.Image, tuple[int, int]]:
    """Return an image of a file or of Pillow, and its (width, height) in full.

    `room` says how much of that must be left; ``held`` keeps its file open and its pixels budgeted.
    """
    file: File | None = None
    if isinstance(source, require("PIL.Image", "encoder").Image):
        image: Image.Image = source
    else:
        file = File(held.enter_context(_stream(source)))
        image = held.enter_context(file.open())
    _check_pixels(image.width, image.height, max_pixels)
    held.enter_context(budget.hold(image.width * image.height))
    size, factor = image.size, 1
    if file is None:
        image.load()
    else:
        if file.is_jpeg:
            stands = size if file.lies(image) < 5 else size[::-1]
            enough = room(stands)
            if enough is not None:
                factor = factor_for(stands, enough)
                image.draft(image.mode, (image.width // factor, image.height // factor))  # by 8 at most
        file.decode(image)
        size = size if file.is_jpeg else image.size  # camera RAW may be developed at half its size
    lies = orientation(image) if file is None else file.lies(image)
    size = size if lies < 5 else size[::-1]
    image = upright(_eight_bit(image), lies)
    if factor == 1:
        return reduced(image, room(size)), size
    return image.reduce(factor // 8) if factor > 8 else image, size  # by what the decoder left of the factor


def _stream(source: Any) -> IO[bytes]:
    """Open a path or bytes to be read."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return io.BytesIO(source)
    kind = os.stat(source).st_mode
    if stat.S_ISDIR(kind):
        raise Refused("a folder, not an image; pyhash.Gallery is for folders")
    if not stat.S_ISREG(kind):  # opening a pipe would wait for its writer
        raise Refused("not a regular file")
    return open(source, "rb")


def _check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise Refused(f"{width} x {height} pixels, over the limit of {max_pixels:,} pixels")


def _from_array(array: NDArray[Any]) -> Image.Image:
    shape = array.shape[:2] if array.ndim == 3 and array.shape[2] == 1 else array.shape
    if array.dtype != np.uint8 or len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (3, 4)):
        raise Refused(
            "must be uint8 of shape (h, w), (h, w, 1), (h, w, 3) or (h, w, 4), "
            f"got {array.dtype} of shape {array.shape}"
            + ("; multiply values from 0 to 1 by 255 and cast them" if array.dtype.kind == "f" else "")
        )
    if 0 in shape:
        raise Refused(f"must have at least one pixel, got shape {array.shape}")
    image: Image.Image = require("PIL.Image", "encoder").fromarray(array.reshape(shape))
    return image


def _eight_bit(image: Image.Image) -> Image.Image:
    """Return an image in sRGB as L, RGB, RGBX (with an unused byte) or RGBa (colour multiplied by alpha)."""
    image = in_srgb(grey_of(image) if is_deep(image) else image)
    mode = image.mode
    if image.has_transparency_data:
        return (image if mode == "RGBA" else image.convert("RGBA")).convert("RGBa")
    if mode in ("L", "RGB", "RGBX"):
        return image
    return image.convert("L" if mode == "1" else "RGB")


def _reason(error: Exception) -> str:
    if isinstance(error, Refused):
        return str(error)
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[0].lower() + error.strerror[1:]
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    text = " ".join(str(error).split()) or type(error).__name__
    return "truncated: the file ends too early" if "truncated" in text.lower() else f"damaged: {text}"
