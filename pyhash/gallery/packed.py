"""Bytes of many rows in memory, packed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_FRESH = 1024  # and an eighth of all: so many lie beside the others before they are put together


class Packed:
    """Bytes of many ids, such as paths: in one string, with the ids and the ends of each."""

    def __init__(self, ids: NDArray[np.int64], ends: NDArray[np.int64], text: bytes, fresh: dict[int, bytes]) -> None:
        self._ids, self._ends, self._text, self._fresh = ids, ends, text, fresh

    @classmethod
    def pack(cls, ids: NDArray[np.int64], texts: list[bytes]) -> Packed:
        """Pack the bytes of ascending ids."""
        ends = np.cumsum([0, *map(len, texts)], dtype=np.int64)
        return cls(ids, ends, b"".join(texts), {})

    def of(self, ids: NDArray[np.int64]) -> list[bytes]:
        """The bytes of ids that there are."""
        slots = np.searchsorted(self._ids, ids)
        begins, ends = self._ends[slots].tolist(), self._ends[np.minimum(slots + 1, len(self._ids))].tolist()
        texts = [self._text[begin:end] for begin, end in zip(begins, ends, strict=True)]
        if self._fresh:
            texts = [self._fresh.get(number, text) for number, text in zip(ids.tolist(), texts, strict=True)]
        return texts

    def changed(self, ids: NDArray[np.int64], texts: list[bytes], there: NDArray[np.int64]) -> Packed:
        """Return it with those of some ids changed or added; only those of the ids that are `there` are still needed.

        Ids ascend.
        """
        fresh = {**self._fresh, **dict(zip(ids.tolist(), texts, strict=True))}
        changed = Packed(self._ids, self._ends, self._text, fresh)
        if len(fresh) <= _FRESH + len(self._ids) // 8:
            return changed
        return Packed.pack(there, changed.of(there))

    def __len__(self) -> int:
        return len(self._ids)
