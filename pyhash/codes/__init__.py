"""Packed binary codes: levels, packing, checks."""

from __future__ import annotations

from .codes import (
    MAX_BITS,
    Levels,
    as_array,
    check_codes,
    check_int,
    from_words,
    hamming,
    pack,
    to_words,
    unpack,
    words_per_code,
)

__all__ = [
    "MAX_BITS",
    "Levels",
    "as_array",
    "check_codes",
    "check_int",
    "from_words",
    "hamming",
    "pack",
    "to_words",
    "unpack",
    "words_per_code",
]


def __dir__() -> list[str]:
    return __all__
