"""What the user said of two images: that one is no duplicate of the other."""

from __future__ import annotations

import sqlite3

_DIFFERENT = "different"


class Verdicts:
    """The table `verdicts` of one open gallery file; everything happens inside its transactions."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def different(self) -> list[tuple[int, int]]:
        """The ids of images that are no duplicates of one another, the smaller one first."""
        query = "SELECT one, other FROM verdicts WHERE verdict = ? ORDER BY one, other"
        return self._db.execute(query, (_DIFFERENT,)).fetchall()

    def add(self, one: int, other: int) -> None:
        """Remember that two images are no duplicates."""
        pair = min(one, other), max(one, other)
        self._db.execute("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?)", (*pair, _DIFFERENT))

    def drop(self, one: int, other: int) -> bool:
        """Forget that; return whether it was remembered."""
        pair = min(one, other), max(one, other)
        return self._db.execute("DELETE FROM verdicts WHERE one = ? AND other = ?", pair).rowcount > 0
