"""What a gallery keeps of its images to find copies of them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .opening import checksum, damaged

_ROWS = 4096
_BLOCKS = np.dtype("<i2")
_N_BLOCKS = 2 * 8 * 8


class Kept(NamedTuple):
    """What is kept of images that can be searched, by ascending id."""

    ids: NDArray[np.int64]
    n_bytes: NDArray[np.int64]
    mtime_ns: NDArray[np.int64]
    digests: list[bytes | None]
    blocks: NDArray[np.int16]
    """``(n, 2, 8, 8)``: of their looks; zeros where none is kept."""
    looked_at: NDArray[np.bool_]
    """Whether a look is kept."""


class Looks:
    """The table `looks` of one open gallery file; everything happens inside its transactions."""

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self._db = db
        self._path = path

    def kept(self, ids: NDArray[np.int64]) -> Kept:
        """What is kept of some images, by ascending id, of those that there are."""
        found = self._db.execute(
            "SELECT images.id, size, mtime_ns, digest, blocks, grey, looks.checksum FROM images "
            "LEFT JOIN looks ON looks.image = images.id "
            "WHERE images.id IN (SELECT value FROM json_each(?)) ORDER BY images.id",
            (json.dumps(ids.tolist()),),
        )
        numbers: list[int] = []
        sizes: list[int] = []
        times: list[int] = []
        digests: list[bytes | None] = []
        looks: list[bytes | None] = []
        for number, size, mtime_ns, digest, blocks, grey, stored in _batches(found):
            if blocks is not None and (
                type(blocks) is not bytes
                or type(grey) is not bytes
                or len(blocks) != _N_BLOCKS * _BLOCKS.itemsize
                or checksum(number, blocks, grey) != stored
            ):
                raise damaged(self._path, f"the look of image {number} does not match its checksum")
            numbers.append(number)
            sizes.append(size)
            times.append(mtime_ns)
            digests.append(digest)
            looks.append(blocks)
        values = np.frombuffer(b"".join(blocks or bytes(256) for blocks in looks), _BLOCKS).reshape(-1, 2, 8, 8)
        return Kept(
            np.array(numbers, np.int64),
            np.array(sizes, np.int64),
            np.array(times, np.int64),
            digests,
            values.astype(np.int16, copy=False),
            np.array([blocks is not None for blocks in looks], np.bool_),
        )

    def of_digest(self, digest: bytes) -> list[int]:
        """The ids of the images whose files have these bytes."""
        return [n for (n,) in self._db.execute("SELECT id FROM images WHERE digest = ? AND error IS NULL", (digest,))]


def _batches(found: sqlite3.Cursor) -> Iterator[tuple[int, int, int, bytes | None, bytes | None, bytes | None, int]]:
    while batch := found.fetchmany(_ROWS):
        yield from batch
