"""Arrays in files that are mapped: named, written once, and compared page by page with checksums as they are used.

A set of them is files of one folder whose names begin with the set's own, which no other set ever has: so a set is
never replaced, only followed by another, also where a file that is mapped cannot be deleted. What is in a set is noted
elsewhere (`Layout`), with the checksum of each file's checksums: who reads the note knows that all else is what was
written.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from ..support import files

_PAGE = 4096  # bytes that one checksum is of
_SUM = np.dtype("<u4")
_ABANDONED_SECONDS = 3600  # since a file was last written that nobody has noted
_NAME = re.compile(r"\.?[0-9a-f]{32}\.[a-z_.0-9]+")

Rows = NDArray[np.int64]


class MappedFileError(Exception):
    """A mapped file is not what was written: what it is made of has to be read again."""


class Layout(NamedTuple):
    """What is in one file of a set."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    crc32: int
    """Of the checksums of its pages."""

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


class Array:
    """Rows of numbers, in memory or mapped; those of a mapped file are looked at before they are first used."""

    def __init__(self, values: NDArray[Any], sums: NDArray[np.uint32] | None = None, name: str = "") -> None:
        self._values = values
        self._sums = sums
        self._name = name
        self.shape = values.shape
        if sums is not None:
            self._bytes = _bytes_of(values)
            self._width = values[:1].nbytes
            self._seen = np.zeros(len(sums), np.bool_)  # threads that race look twice, and see the same

    def __len__(self) -> int:
        return len(self._values)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the numbers."""
        return self._values.dtype

    def take(self, rows: Rows) -> NDArray[Any]:
        """Copy rows."""
        if self._sums is not None and len(rows):
            self._look(rows * self._width, (rows + 1) * self._width)
        taken: NDArray[Any] = self._values.take(rows, axis=0)
        return taken

    def pieces(self, begins: Rows, ends: Rows) -> list[bytes]:
        """The bytes from each begin to its end, of an array of bytes."""
        if self._sums is not None and len(begins):
            self._look(begins, ends)
        text = _bytes_of(self._values)
        return [text[begin:end].tobytes() for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]

    def whole(self) -> NDArray[Any]:
        """All rows, not to be written."""
        if self._sums is not None:
            self._look_at(np.flatnonzero(~self._seen))
        return self._values

    def _look(self, begins: Rows, ends: Rows) -> None:
        """Look at the pages of the bytes from each begin to its end."""
        assert self._sums is not None
        first, last = begins // _PAGE, np.maximum(ends - 1, begins) // _PAGE
        last = np.minimum(last, len(self._sums) - 1)
        wanted = np.zeros(len(self._sums), np.bool_) if len(first) * 8 > len(self._sums) else None
        pages = [np.minimum(first + step, last) for step in range(int((last - first).max()) + 1)]
        if wanted is None:
            unseen = [some[~self._seen[some]] for some in pages]
            self._look_at(np.unique(np.concatenate(unseen)))
            return
        for some in pages:
            wanted[some] = True
        self._look_at(np.flatnonzero(wanted & ~self._seen))

    def _look_at(self, pages: Rows) -> None:
        assert self._sums is not None
        content, stored = self._bytes, self._sums[pages].tolist()
        for page, sum_ in zip(pages.tolist(), stored, strict=True):
            if crc32(content[page * _PAGE : (page + 1) * _PAGE]) != sum_:
                raise MappedFileError(f"{self._name} is damaged")
        self._seen[pages] = True


def _bytes_of(values: NDArray[Any]) -> memoryview:
    flat: Any = values.reshape(-1).view(np.uint8)
    return memoryview(flat)


def in_memory(parts: Sequence[NDArray[Any]]) -> Array:
    """Put parts together."""
    return Array(parts[0] if len(parts) == 1 else np.concatenate(parts))


class Writer:
    """Writes a set: arrays of which rows are added bit by bit. What is not finished is removed."""

    def __init__(self, folder: Path) -> None:
        self.token = secrets.token_hex(16)
        self._folder = folder
        self._open: dict[str, tuple[IO[bytes], _Sums]] = {}
        self._finished = False

    def __enter__(self) -> Self:
        self._folder.mkdir(exist_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        for file, _ in self._open.values():
            with contextlib.suppress(OSError):
                file.close()
        if not self._finished:
            remove(self._folder, self.token)

    def path(self, name: str) -> Path:
        """Where a file of the set lies."""
        return path_of(self._folder, self.token, name)

    def add(self, name: str, rows: NDArray[Any]) -> None:
        """Add rows to an array."""
        if name not in self._open:
            sums = _Sums(rows.dtype.newbyteorder("<").str, rows.shape[1:])
            self._open[name] = open(self.path(name), "xb"), sums  # noqa: SIM115
        file, sums = self._open[name]
        data = _bytes_of(np.ascontiguousarray(rows, sums.dtype))
        file.write(data)
        sums.add(data, len(rows))

    def finish(self) -> list[Layout]:
        """Have all that was written lie on the disk; return what the set holds."""
        layouts = []
        for name, (file, sums) in self._open.items():
            table = sums.table()
            file.write(b"\0" * (-file.tell() % _SUM.itemsize) + table)
            file.flush()
            os.fsync(file.fileno())
            file.close()
            layouts.append(Layout(name, sums.dtype, (sums.rows, *sums.width), crc32(table)))
        files.sync(self._folder)
        self._finished = True
        return layouts


class _Sums:
    """Checksums of the pages of what is written."""

    def __init__(self, dtype: str, width: tuple[int, ...]) -> None:
        self.dtype, self.width = dtype, width
        self.rows = 0
        self._sums: list[int] = []
        self._rest, self._begun = 0, 0  # the checksum of an unfinished page, and its length

    def add(self, data: memoryview, rows: int) -> None:
        self.rows += rows
        start = 0
        while start < len(data):
            part = data[start : start + _PAGE - self._begun]
            self._rest, self._begun = crc32(part, self._rest), self._begun + len(part)
            start += len(part)
            if self._begun == _PAGE:
                self._sums.append(self._rest)
                self._rest = self._begun = 0

    def table(self) -> bytes:
        return np.array(self._sums + [self._rest] * (self._begun > 0), _SUM).tobytes()


def open_array(folder: Path, token: str, layout: Layout) -> Array:
    """Map an array of a set; MappedFileError where its file is not there, or not what was written."""
    path = path_of(folder, token, layout.name)
    size, pages = layout.nbytes, -(-layout.nbytes // _PAGE)
    begin = size + -size % _SUM.itemsize
    try:
        if os.stat(path).st_size != begin + pages * _SUM.itemsize:
            raise MappedFileError(f"{path} is cut short")
        if not size:
            return Array(np.empty(layout.shape, layout.dtype))
        content = np.memmap(path, np.uint8, "r").view(np.ndarray)
    except (OSError, ValueError) as error:
        raise MappedFileError(f"{path} cannot be read: {error}") from error
    table = content[begin:].copy()
    if crc32(table.tobytes()) != layout.crc32:
        raise MappedFileError(f"{path} is damaged")
    values = content[:size].view(layout.dtype).reshape(layout.shape)
    return Array(values, table.view(_SUM).astype(np.uint32, copy=False), os.fspath(path))


def path_of(folder: Path, token: str, name: str) -> Path:
    """Where a file of a set lies."""
    return folder / f"{token}.{name}"


def remove(folder: Path, token: str) -> None:
    """Delete a set, as far as that can be done now."""
    for path in _ours(folder):
        if path.name.lstrip(".").startswith(token):
            with contextlib.suppress(OSError):
                path.unlink()


def remove_others(folder: Path, keep: str | None, *, at_once: bool = False) -> list[Path]:
    """Delete all sets but one; return what cannot be deleted now, as on Windows what others have mapped.

    What was written not long ago may be a set that nobody has noted yet: it is left alone unless all go `at_once`.
    """
    left = []
    for path in _ours(folder):
        if keep is not None and path.name.lstrip(".").startswith(keep):
            continue
        try:
            if at_once or time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                path.unlink()
        except FileNotFoundError:
            pass
        except OSError:
            left.append(path)
    return left


def sizes(folder: Path) -> Iterator[tuple[Path, int]]:
    """The files of all sets, with their sizes."""
    for path in _ours(folder):
        with contextlib.suppress(FileNotFoundError):
            yield path, path.stat().st_size


def _ours(folder: Path) -> Iterable[Path]:
    try:
        return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))
    except OSError:
        return ()
