"""Colour profiles, made by hand after ICC.1:2001-04, and images in their colours."""

import itertools
import struct

import numpy as np
from PIL import Image

D50 = (0.9642, 1.0, 0.8249)
# XYZ of red, green and blue under D50, and the exponent that makes numbers light.
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
SPACES = {
    "Display P3": (((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)), 2.2),
    "Adobe RGB": (((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)), 563 / 256),
    "linear": (SRGB, 1.0),
}


def _number(value):
    return struct.pack(">i", round(value * 65536))


def _profile(kind, space, connection, tags):
    """A profile of a kind of device: its colour space, the space it connects to, and its tags."""
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(79),
        b"cprt": b"text" + bytes(4) + b"none\0",
        b"wtpt": b"XYZ " + bytes(4) + b"".join(map(_number, D50)),
    } | tags
    at = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        data = data.ljust(-(-len(data) // 4) * 4, b"\0")
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data
    size = struct.pack(">I", at + len(body))
    head = size + bytes(4) + b"\x02\x40\0\0" + kind + space + connection + struct.pack(">6H", 2024, 1, 1, 0, 0, 0)
    return (head + b"acsp" + bytes(28) + b"".join(map(_number, D50))).ljust(128, b"\0") + table + body


def _curve(gamma):
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))


def rgb_profile(primaries, gamma):
    """A profile of three primaries and one exponent."""
    tags = {}
    for letter, point in zip((b"r", b"g", b"b"), primaries, strict=True):
        tags[letter + b"XYZ"] = b"XYZ " + bytes(4) + b"".join(map(_number, point))
        tags[letter + b"TRC"] = _curve(gamma)
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags)


def grey_profile(gamma):
    """A profile of grey with an exponent."""
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": _curve(gamma)})


def cmyk_profile(lab_of):
    """A profile that gives each of the 16 mixtures of full inks a colour (L, a, b), and those between by lines."""
    same = bytes(range(256))
    corners = (lab_of(*inks) for inks in itertools.product((0, 1), repeat=4))
    grid = b"".join(bytes((round(L * 2.55), round(a) + 128, round(b) + 128)) for L, a, b in corners)
    unit = b"".join(map(_number, np.eye(3).ravel()))
    table = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + unit + same * 4 + grid + same * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": table})


def in_space(image, primaries, gamma):
    """The numbers that show an image's colours under other primaries; colours beyond them are cut."""
    value = np.asarray(image, float) / 255
    light = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    other = light @ np.array(SRGB) @ np.linalg.inv(np.array(primaries))
    return Image.fromarray(np.uint8(np.round(np.clip(other, 0, 1) ** (1 / gamma) * 255)))
