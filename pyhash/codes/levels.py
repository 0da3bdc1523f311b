"""Levels: named granularities of a code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .checks import MAX_BITS, check_bits, check_int


class Levels(Mapping[str, int]):
    """Named granularities of a code: contiguous runs of its bits, in order.

    A mapping of name to bits that cannot be changed. It equals another mapping with the same names and bits in the same
    order, and a JSON object made of ``dict(levels)`` gives it back.

    Parameters
    ----------
    levels : mapping of str to int, optional
        Bits of each level; or give them by keyword, ``Levels(coarse=16, fine=48)``. With several levels each must be a
        whole number of bytes; all together 1 to 65536 bits.

    Raises
    ------
    TypeError, ValueError
        When it is not such a mapping.

    Examples
    --------
    >>> levels = Levels({"coarse": 16, "fine": 48})
    >>> levels.bits, levels["fine"], levels.byte_range("fine")
    (64, 48, slice(2, 8, None))
    """

    __slots__ = ("_bits", "_ranges")

    def __init__(self, levels: Mapping[str, int] | None = None, /, **named: int) -> None:
        if levels is None:
            levels = named
        elif named:
            raise TypeError("levels must be given as a mapping or by keyword, got both")
        if not isinstance(levels, Mapping):
            raise TypeError(f"levels must be a mapping of name to bits, got {type(levels).__name__}")
        if not levels:
            raise ValueError("levels must name at least one level, got none")
        self._bits: dict[str, int] = {}
        self._ranges: dict[str, slice] = {}
        first = 0
        for name, value in levels.items():
            if not isinstance(name, str):
                raise TypeError(f"levels must have names that are str, got {name!r}")
            if not name:
                raise ValueError("levels must have names that are not empty, got ''")
            bits = check_int(value, f"levels[{name!r}]", 1)
            if bits % 8 and len(levels) > 1:
                raise ValueError(f"levels[{name!r}] must be a whole number of bytes (a multiple of 8 bits), got {bits}")
            self._bits[name] = bits
            self._ranges[name] = slice(first, first := first + (bits + 7) // 8)
        if self.bits > MAX_BITS:
            raise ValueError(f"levels must have at most {MAX_BITS} bits together, got {self.bits}")

    @classmethod
    def single(cls, bits: int) -> Levels:
        """Return the one level ``"code"`` of a plain code of `bits` bits, 1 to 65536."""
        return cls({"code": check_bits(bits)})

    @property
    def bits(self) -> int:
        """Bits of a whole code."""
        return sum(self._bits.values())

    @property
    def n_bytes(self) -> int:
        """Bytes of a whole code."""
        return (self.bits + 7) // 8

    def byte_range(self, name: str) -> slice:
        """Return which bytes of a code hold this level: ``codes[:, levels.byte_range(name)]`` is the level's codes."""
        return self._ranges[name]

    def bit_range(self, name: str) -> slice:
        """Return which bits of a code are those of this level, as columns of logits or of unpacked codes."""
        first = 8 * self._ranges[name].start
        return slice(first, first + self._bits[name])

    def __getitem__(self, name: str) -> int:
        return self._bits[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._bits)

    def __len__(self) -> int:
        return len(self._bits)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        return list(self.items()) == list(other.items())

    def __hash__(self) -> int:
        return hash(tuple(self.items()))

    def __repr__(self) -> str:
        return f"Levels({self._bits!r})"


LevelsLike = Levels | Mapping[str, int] | int
"""Levels as they may be given: an object, a mapping of name to bits, or the bits of the one level ``"code"``."""


def as_levels(levels: LevelsLike) -> Levels:
    """Make `Levels` of levels in any form."""
    if isinstance(levels, Levels):
        return levels
    return Levels(levels) if isinstance(levels, Mapping) else Levels.single(levels)
