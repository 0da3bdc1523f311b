"""TIFF files written by hand, with directories below others, and camera RAW: DNG files with or without a preview."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from photographs import encoded
from PIL import Image

BYTE, ASCII, SHORT, LONG, RATIONAL, SIGNED_RATIONAL = 1, 2, 3, 4, 5, 10
_LETTERS = {SHORT: "H", LONG: "I", RATIONAL: "I", SIGNED_RATIONAL: "i"}
Tags = dict[Any, Any]


def tiff(chain: Sequence[Tags], order: str = "<", big: bool = False) -> bytes:
    """A file of some directories, before what they describe.

    Each has tags, as (type, values), and may have "below", other directories, and "data", the bytes of its only strip,
    or of several that begin at "starts", or of "tiles" of a side.
    """
    letter, n_offset = ("Q", 8) if big else ("I", 4)
    mark = b"II" if order == "<" else b"MM"
    head = struct.pack(order + "HHHQ", 43, 8, 0, 0) if big else struct.pack(order + "HI", 42, 0)
    out = bytearray(mark + head)
    blobs: list[tuple[int, list[int], bytes]] = []  # where offsets are wanted, and of what

    def offset(at: int, value: int) -> None:
        out[at : at + n_offset] = struct.pack(order + letter, value)

    def write(tags: Tags) -> int:
        tags, at = dict(tags), len(out)
        data, below = tags.pop("data", None), tags.pop("below", ())
        starts, side = tags.pop("starts", [0]), tags.pop("tiles", 0)
        where = 324 if side else 273
        if data is not None:
            ends = [*starts[1:], len(data)]
            tags[where] = LONG, starts
            tags[325 if side else 279] = LONG, [end - start for start, end in zip(starts, ends, strict=True)]
        if side:
            tags[322] = tags[323] = SHORT, [side]
        if below:
            tags[330] = LONG, [0] * len(below)
        entries = sorted((int(tag), kind, values) for tag, (kind, values) in tags.items())
        out.extend(struct.pack(order + ("Q" if big else "H"), len(entries)))
        table = len(out)
        out.extend(bytes(len(entries) * (4 + 2 * n_offset) + n_offset))
        for place, (tag, kind, values) in enumerate(entries):
            start = table + place * (4 + 2 * n_offset)
            packed = (
                bytes(values)
                if kind in (BYTE, ASCII)
                else struct.pack(f"{order}{len(values)}{_LETTERS[kind]}", *values)
            )
            count = len(values) // 2 if kind in (RATIONAL, SIGNED_RATIONAL) else len(values)
            out[start : start + 4 + n_offset] = struct.pack(order + "HH" + letter, tag, kind, count)
            value = start + 4 + n_offset
            if len(packed) > n_offset:
                offset(value, len(out))
                value = len(out)
                out.extend(packed)
            else:
                out[value : value + len(packed)] = packed
            if tag == where and data is not None:
                blobs.append((value, starts, data))
            if tag == 330 and below:
                for number, tags_below in enumerate(below):
                    found = struct.pack(order + "I", write(tags_below))
                    out[value + 4 * number : value + 4 * number + 4] = found
        following.append(table + len(entries) * (4 + 2 * n_offset))
        return at

    following: list[int] = []
    pointer = 8 if big else 4
    for tags in chain:
        offset(pointer, write(tags))
        pointer = following[-1]  # that of the directory itself is noted after those below it
    for at, starts, data in blobs:
        out[at : at + 4 * len(starts)] = struct.pack(f"{order}{len(starts)}I", *(len(out) + start for start in starts))
        out.extend(data)
    return bytes(out)


def page(pixels: Any, order: str = "<", **more: Any) -> Tags:
    """An uncompressed directory of pixels, (h, w) or (h, w, 3), unsigned, signed or floating-point."""
    height, width, channels = (*pixels.shape, 1)[:3]
    dtype = pixels.dtype.newbyteorder(order)
    return {
        256: (LONG, [width]),
        257: (LONG, [height]),
        258: (SHORT, [8 * dtype.itemsize] * channels),
        259: (SHORT, [1]),
        262: (SHORT, [2 if channels == 3 else 1]),
        277: (SHORT, [channels]),
        278: (LONG, [height]),
        339: (SHORT, ["?uif".index(dtype.kind)] * channels),
        "data": pixels.astype(dtype).tobytes(),
        **more,
    }


def preview(picture: Image.Image, **options: Any) -> Tags:
    """A directory of a JPEG preview."""
    return {
        254: (LONG, [1]),
        256: (LONG, [picture.width]),
        257: (LONG, [picture.height]),
        258: (SHORT, [8, 8, 8]),
        259: (SHORT, [7]),
        262: (SHORT, [6]),
        277: (SHORT, [3]),
        278: (LONG, [picture.height]),
        "data": encoded(picture, "JPEG", quality=95, **options),
    }


def sensor(pixels: Any, order: str = "<") -> Tags:
    """A directory of what a sensor saw behind red, green, green and blue: 16 bits, linear."""
    height, width = pixels.shape[:2]
    linear = ((pixels / 255) ** 2.2 * 60000 + 512).astype(order + "u2")
    cells = np.empty((height, width), order + "u2")
    for y, x, colour in (0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2):
        cells[y::2, x::2] = linear[y::2, x::2, colour]
    return {
        254: (LONG, [0]),
        256: (LONG, [width]),
        257: (LONG, [height]),
        258: (SHORT, [16]),
        259: (SHORT, [1]),
        262: (SHORT, [32803]),
        277: (SHORT, [1]),
        278: (LONG, [height]),
        33421: (SHORT, [2, 2]),
        33422: (BYTE, [0, 1, 1, 2]),
        50714: (SHORT, [512]),
        50717: (LONG, [60512]),
        "data": cells.tobytes(),
    }


def dng(
    pixels: Any, *previews: Tags, orientation: int = 1, order: str = "<", is_dng: bool = True, last: str = "preview"
) -> bytes:
    """A RAW file of 8-bit RGB pixels: a thumbnail of 16 x 12, and below it the sensor's data and previews."""
    thumbnail = np.asarray(Image.fromarray(pixels).resize((16, 12)))
    # From XYZ to sRGB's primaries.
    matrix = [32406, -15372, -4986, -9689, 18758, 415, 557, -2040, 10570]
    tags: Tags = {
        254: (LONG, [1]),
        271: (ASCII, b"Maker\0"),
        272: (ASCII, b"Model\0"),
        274: (SHORT, [orientation]),
        "below": [sensor(pixels, order), *previews] if last == "preview" else [*previews, sensor(pixels, order)],
    }
    if is_dng:
        tags |= {
            50706: (BYTE, [1, 4, 0, 0]),
            50707: (BYTE, [1, 1, 0, 0]),
            50708: (ASCII, b"Maker Model\0"),
            50721: (SIGNED_RATIONAL, [number for value in matrix for number in (value, 10000)]),
            50728: (RATIONAL, [1, 1, 1, 1, 1, 1]),
            50778: (SHORT, [21]),
        }
    return tiff([page(thumbnail) | tags], order)
