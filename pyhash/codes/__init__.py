"""Packed binary codes: levels, packing, checks."""

from __future__ import annotations

from .checks import MAX_BITS, as_array, check_codes, check_int, check_rows
from .levels import Levels, LevelsLike, as_levels
from .packing import from_words, pack, to_words, unpack, use_packing, words_per_code

__all__ = [
    "MAX_BITS",
    "Levels",
    "LevelsLike",
    "as_array",
    "as_levels",
    "check_codes",
    "check_int",
    "check_rows",
    "from_words",
    "pack",
    "to_words",
    "unpack",
    "use_packing",
    "words_per_code",
]


def __dir__() -> list[str]:
    return __all__
