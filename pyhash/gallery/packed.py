"""Bytes of many rows, packed."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray

from .collection import slots_of
from .mapped import Array


class Packed:
    """Bytes of many ids, such as paths: in one string with the end of each, and beside it those that came since."""

    def __init__(self, ids: NDArray[np.int64], ends: Array, text: Array, fresh: dict[int, bytes] | None = None) -> None:
        self._ids = ids
        self._ends = ends  # one more than ids: the first is 0
        self._text = text
        self._fresh = {} if fresh is None else fresh

    @classmethod
    def pack(cls, ids: NDArray[np.int64], texts: list[bytes]) -> Self:
        """Pack the bytes of ascending ids."""
        return cls(ids, Array(ends_of(texts)), Array(text_of(texts)))

    def of(self, ids: NDArray[np.int64]) -> list[bytes]:
        """The bytes of ids that there are."""
        slots = slots_of(self._ids, ids)
        early = np.flatnonzero(slots >= 0)
        begins, ends = self._ends.take(slots[early]), self._ends.take(slots[early] + 1)
        texts = [b""] * len(ids)
        for place, text in zip(early.tolist(), self._text.pieces(begins, ends), strict=True):
            texts[place] = text
        if self._fresh:
            texts = [self._fresh.get(number, text) for number, text in zip(ids.tolist(), texts, strict=True)]
        return texts

    def changed(self, ids: NDArray[np.int64], texts: list[bytes]) -> Self:
        """Return it with those of some ids changed or added."""
        fresh = {**self._fresh, **dict(zip(ids.tolist(), texts, strict=True))}
        return type(self)(self._ids, self._ends, self._text, fresh)


def ends_of(texts: list[bytes], start: int = 0) -> NDArray[np.int64]:
    """Where texts end that are packed one after another, and before that where the first begins."""
    return start + np.cumsum([0, *map(len, texts)], dtype=np.int64)


def text_of(texts: list[bytes]) -> NDArray[np.uint8]:
    """Texts one after another."""
    return np.frombuffer(b"".join(texts), np.uint8)
