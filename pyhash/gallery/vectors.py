"""The tables of a gallery file about embeddings: the vectors, their neighbours, and the head fitted on them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from .opening import CHECKSUM_BITS, checksum, damaged
from .records import NEIGHBOURS, Embedding, Embeddings, Lists, StoredHead

_EMBEDDINGS = (
    "SELECT embeddings.row, vector, norm, embeddings.checksum FROM embeddings "
    "JOIN heads ON heads.network = embeddings.network "
    "JOIN settings ON settings.key = 'head' AND settings.value = heads.id "
    "JOIN codes ON codes.row = embeddings.row AND codes.head = heads.id"
)
_CHANGED = "(SELECT row FROM changes WHERE revision > ?)"


class VectorTables:
    """Of one open gallery file; everything happens inside its transactions."""

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self._db = db
        self._path = path

    # Reading

    def embeddings(self, since: int | None = None, *, between: tuple[int, int] | None = None) -> Embeddings:
        """The embeddings of all rows that are searched, of those changed since a revision, or from one to another."""
        return self._read(self._ask(_EMBEDDINGS, "embeddings.row", since, between))

    def embeddings_of(self, rows: NDArray[np.int64]) -> Embeddings:
        """The embeddings of some of these rows, by ascending row."""
        among = f"{_EMBEDDINGS} WHERE embeddings.row IN (SELECT value FROM json_each(?)) ORDER BY embeddings.row"
        return self._read(self._db.execute(among, (json.dumps(rows.tolist()),)).fetchall())

    def _read(self, found: list[tuple[Any, ...]]) -> Embeddings:
        if not found:
            return Embeddings(np.empty(0, np.int64), np.empty((0, 0), np.int8), np.empty(0, np.float32))
        ids, vectors, norms, sums = map(list, zip(*found, strict=True))
        if not ({*map(type, vectors)} <= {bytes} and {*map(type, norms)} <= {float} and len({*map(len, vectors)}) == 1):
            raise self._damaged("embeddings must be vectors of one length with a norm each")
        texts = [vector + packed(norm) for vector, norm in zip(vectors, norms, strict=True)]
        self._check("embedding", ids, texts, sums)
        norm_values = np.array(norms, np.float32)
        if not (np.isfinite(norm_values) & (norm_values >= 0)).all():
            raise self._damaged("the norm of an embedding must be finite and at least 0")
        dim = len(vectors[0])
        return Embeddings(
            np.array(ids, np.int64), np.frombuffer(b"".join(vectors), np.int8).reshape(-1, dim), norm_values
        )

    def any(self) -> bool:
        """Whether there are embeddings."""
        return self._db.execute("SELECT 1 FROM embeddings LIMIT 1").fetchone() is not None

    def count(self) -> int:
        """How many rows that are searched have embeddings."""
        (count,) = self._db.execute(
            "SELECT count(*) FROM codes JOIN settings ON settings.key = 'head' AND settings.value = codes.head "
            "JOIN embeddings ON embeddings.row = codes.row"
        ).fetchone()
        return int(count)

    def neighbours(self, since: int | None = None, *, between: tuple[int, int] | None = None) -> Lists:
        """The neighbours of all rows, of those changed since a revision, or from one to another."""
        found = self._ask("SELECT row, ids, weights, checksum FROM neighbours", "row", since, between)
        if not found:
            empty = np.empty((0, NEIGHBOURS), np.int64)
            return Lists(np.empty(0, np.int64), empty, empty.astype(np.float32))
        ids, near, weights, sums = map(list, zip(*found, strict=True))
        k = NEIGHBOURS
        if not (
            {*map(type, near), *map(type, weights)} <= {bytes}
            and ({*map(len, near)}, {*map(len, weights)}) == ({8 * k}, {4 * k})
        ):
            raise self._damaged(f"the neighbours of a row must be {k} ids and as many weights")
        self._check("neighbours", ids, [n + w for n, w in zip(near, weights, strict=True)], sums)
        return Lists(
            np.array(ids, np.int64),
            np.frombuffer(b"".join(near), "<i8").reshape(-1, k).astype(np.int64, copy=False),
            np.frombuffer(b"".join(weights), "<f4").reshape(-1, k).astype(np.float32, copy=False),
        )

    def head(self) -> StoredHead | None:
        """The head whose codes are searched; None before the first image."""
        row = self._db.execute(
            "SELECT heads.id, matrix, checksum, fitted_on, levels FROM settings "
            "JOIN heads ON heads.id = settings.value WHERE settings.key = 'head'"
        ).fetchone()
        if row is None:
            return None
        number, matrix, stored, fitted_on, levels = row
        if matrix is not None and (type(matrix) is not bytes or checksum(number, matrix) != stored):
            raise self._damaged("the head does not match its checksum")
        if type(fitted_on) not in (int, type(None)):
            raise self._damaged(f"fitted_on must be a number of images, got {fitted_on!r:.80}")
        return StoredHead(number, matrix, fitted_on or 0, json.loads(levels))

    def row_of_digest(self, digest: bytes) -> int | None:
        """The row of the first image whose file has this digest and that can be searched."""
        row = self._db.execute(
            "SELECT min(images.id) FROM images JOIN codes ON codes.row = images.id "
            "JOIN settings ON key = 'head' AND value = codes.head WHERE digest = ?",
            (digest,),
        ).fetchone()
        found: int | None = row[0]
        return found

    def _ask(
        self, query: str, column: str, since: int | None, between: tuple[int, int] | None
    ) -> list[tuple[Any, ...]]:
        if between is not None:
            return self._db.execute(f"{query} WHERE {column} BETWEEN ? AND ? ORDER BY {column}", between).fetchall()
        if since is None:
            return self._db.execute(f"{query} ORDER BY {column}").fetchall()
        return self._db.execute(f"{query} WHERE {column} IN {_CHANGED} ORDER BY {column}", (since,)).fetchall()

    def _check(self, what: str, ids: list[int], texts: list[bytes], sums: list[int]) -> None:
        begun = (np.array(ids, np.int64) & CHECKSUM_BITS).tolist()
        for number, computed, stored in zip(ids, map(crc32, texts, begun), sums, strict=True):
            if computed != stored:
                raise self._damaged(f"the {what} of row {number} does not match its checksum")

    def _damaged(self, what: str) -> Exception:
        return damaged(self._path, what)

    # Writing

    def put_embedding(self, row: int, head: int, embedding: Embedding) -> None:
        """Store the embedding of a row, made by the network of a head."""
        vector, norm = embedding
        self._db.execute(
            "INSERT INTO embeddings (row, network, vector, norm, checksum) "
            "VALUES (?, (SELECT network FROM heads WHERE id = ?), ?, ?, ?)",
            (row, head, vector, norm, checksum(row, vector, packed(norm))),
        )

    def put_neighbours(self, lists: Lists) -> None:
        """Store the neighbours of rows in place of those that they had."""
        near = _texts(lists.near.astype("<i8"))
        weights = _texts(lists.weights.astype("<f4"))
        values = ((n, a, b, checksum(n, a, b)) for n, a, b in zip(lists.ids.tolist(), near, weights, strict=True))
        self._db.executemany("INSERT OR REPLACE INTO neighbours VALUES (?, ?, ?, ?)", values)

    def put_head(self, levels: dict[str, int], matrix: bytes | None, fitted_on: int) -> int:
        """Store a head in place of the one that there is, with its codes; return its id."""
        old = self._db.execute("SELECT id, network FROM heads").fetchone()
        number = self._db.execute(
            "INSERT INTO heads (network, levels, matrix, fitted_on) VALUES (?, ?, ?, ?)",
            (old[1], json.dumps(levels), matrix, fitted_on),
        ).lastrowid
        assert number is not None
        if matrix is not None:
            self._db.execute("UPDATE heads SET checksum = ? WHERE id = ?", (checksum(number, matrix), number))
        self._db.execute("UPDATE settings SET value = ? WHERE key = 'head'", (number,))
        self._db.execute("DELETE FROM neighbours")
        self._db.execute("DELETE FROM heads WHERE id <> ?", (number,))
        return number

    def put_codes(self, head: int, ids: NDArray[np.int64], codes: NDArray[np.uint8]) -> None:
        """Store the codes of rows in place of those that they had."""
        values = ((n, head, code, checksum(n, code)) for n, code in zip(ids.tolist(), _texts(codes), strict=True))
        self._db.executemany("INSERT OR REPLACE INTO codes VALUES (?, ?, ?, ?)", values)

    def forget_vectors(self) -> None:
        """Drop embeddings and neighbours; codes stay."""
        self._db.execute("DELETE FROM embeddings")
        self._db.execute("DELETE FROM neighbours")

    def forget_row(self, row: int) -> None:
        """Drop what was made of an image that has changed."""
        for table in ("codes", "embeddings", "neighbours"):
            self._db.execute(f"DELETE FROM {table} WHERE row = ?", (row,))


def packed(norm: float) -> bytes:
    """The bytes of a norm that its checksum is of."""
    return np.float64(norm).tobytes()


def _texts(rows: NDArray[Any]) -> Iterator[bytes]:
    """Each row as bytes."""
    whole, width = np.ascontiguousarray(rows).tobytes(), rows.shape[1] * rows.itemsize
    return (whole[start : start + width] for start in range(0, len(whole), width)) if width else iter(())
