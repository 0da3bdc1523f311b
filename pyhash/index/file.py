"""The index file: one header, aligned sections, a checksum on each, so that no damage passes unseen.

Layout, little-endian, every part padded with zeros to 64 bytes::

    magic 8 | version u32 | header size u32 | file size u64 | JSON ... zeros | CRC-32 of the header u32
    section 0 ... section n - 1

The JSON holds what the index needs to know and, for each section, name, dtype, shape, offset and CRC-32 (its padding
included). CRC-32 finds every change of up to 32 neighbouring bits; the sizes find every cut and every addition.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import struct
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backend import Ring
from ..codes import Levels, words_per_code
from ..errors import CorruptIndexError
from ..support import files, memory
from .chunks import BLOCK, Chunks, aligned_bytes, blocks_of
from .segment import Segment
from .snapshot import Snapshot

MAGIC = b"PYHASHIX"
VERSION = 1
_PREFIX = struct.Struct("<8sIIQ")
_CRC = struct.Struct("<I")
_ALIGNMENT = 64
_MAX_HEADER = 1 << 20
_DTYPES: dict[str, np.dtype[Any]] = {name: np.dtype(name) for name in ("<u8", "<i8", "<u4")}

Array = NDArray[Any]


@dataclass
class Section:
    """A named array, given as pieces that follow one another along the first axis."""

    name: str
    pieces: Sequence[Array]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole array."""
        return (sum(len(piece) for piece in self.pieces), *self.pieces[0].shape[1:])

    @property
    def nbytes(self) -> int:
        """Bytes without padding."""
        return sum(piece.nbytes for piece in self.pieces)


def whole(value: object, minimum: int, maximum: int) -> int:
    """Return a number from a header; ValueError unless it is an integer in this range."""
    if type(value) is not int or not minimum <= value <= maximum:
        raise ValueError(f"{value!r} is not an integer from {minimum} to {maximum}")
    return value


def _padded(n: int) -> int:
    return -(-n // _ALIGNMENT) * _ALIGNMENT


def _parts(meta: Mapping[str, Any], sections: Sequence[Section]) -> Iterator[bytes | memoryview]:
    """Yield the file's content in order."""
    if sys.byteorder != "little":
        raise NotImplementedError("index files need a little-endian machine")
    described = []
    for section in sections:
        crc = 0
        for piece in section.pieces:
            crc = zlib.crc32(_bytes_of(piece), crc)
        crc = zlib.crc32(b"\0" * (_padded(section.nbytes) - section.nbytes), crc)
        dtype = section.pieces[0].dtype.str
        described.append({"name": section.name, "dtype": dtype, "shape": section.shape, "crc32": crc})
    text = json.dumps({"meta": meta, "sections": described}, separators=(",", ":")).encode()
    header_size = _padded(_PREFIX.size + len(text) + _CRC.size)
    if header_size > _MAX_HEADER:
        raise ValueError(f"levels must have shorter names: the header of a file has room for {_MAX_HEADER} bytes")
    file_size = header_size + sum(_padded(section.nbytes) for section in sections)
    header = _PREFIX.pack(MAGIC, VERSION, header_size, file_size) + text
    header = header.ljust(header_size - _CRC.size, b"\0")
    yield header + _CRC.pack(zlib.crc32(header))
    for section in sections:
        for piece in section.pieces:
            yield _bytes_of(piece)
        yield b"\0" * (_padded(section.nbytes) - section.nbytes)


def _bytes_of(array: Array) -> memoryview:
    data: Any = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return memoryview(data)


def content(levels: Levels, structure: str, now: Snapshot) -> tuple[dict[str, Any], list[Section]]:
    """Return the meta of an index file, and its sections."""
    sections = []
    for i, segment in enumerate(now.segments):
        sections.append(Section(f"{i}.blocks", _clean_blocks(segment)))
        if segment.ids is not None:
            sections.append(Section(f"{i}.ids", [segment.ids[: segment.n_codes]]))
        if segment.removed is not None:
            sections.append(Section(f"{i}.dead", [segment.removed[: segment.n_blocks]]))
        if segment.ring is not None:
            sections += [Section(f"{i}.ring.{name}", [array]) for name, array in segment.ring._asdict().items()]
    described = [{"codes": segment.n_codes, "first_id": segment.first_id} for segment in now.segments]
    meta = {"levels": list(levels.items()), "next_id": now.next_id, "structure": structure, "runs": described}
    return meta, sections


def _clean_blocks(segment: Segment) -> list[Array]:
    """Return the blocks in use, lanes after the last code zero: what a file holds does not depend on chance."""
    arrays = list(segment.chunks.used(segment.n_codes))
    used = segment.n_codes % BLOCK
    if used:
        last = arrays[-1][-1:].copy()
        last[..., used:] = 0
        arrays[-1:] = [arrays[-1][:-1], last]
    return arrays


def dump(meta: Mapping[str, Any], sections: Sequence[Section]) -> bytes:
    """Return the file's content as bytes."""
    n_bytes = sum(section.nbytes for section in sections)
    memory.ask(n_bytes, "save must be used instead", "the bytes of an index file")
    return b"".join(_parts(meta, sections))


def save(
    path: str | os.PathLike[str], meta: Mapping[str, Any], sections: Sequence[Section], *, overwrite: bool = False
) -> None:
    """Write a file so that at any moment the path holds the old content or the new, whole."""
    files.write(path, _parts(meta, sections), [MAGIC], overwrite=overwrite)


class Reader:
    """The content of an index file: `meta`, and arrays by name that share the file's memory.

    Raises
    ------
    CorruptIndexError
        When the header is damaged, or a size is not what the header says.
    """

    def __init__(self, content: NDArray[np.uint8], source: str) -> None:
        self._content = content
        self._source = source
        self.meta, self._sections = self._read_header()

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview) -> Reader:
        """Read from bytes; they are copied."""
        source = np.frombuffer(data, np.uint8)
        memory.ask(len(source), "data must be less", "the codes of an index file")
        content = aligned_bytes(len(source))
        content[:] = source
        return cls(content, "data")

    @classmethod
    def open(cls, path: str | os.PathLike[str], mmap: bool) -> Reader:
        """Open a file, mapped or read into memory."""
        path = Path(path)
        if path.stat().st_size == 0:  # which cannot be mapped
            raise CorruptIndexError(f"{path}: the file is empty, not a pyhash index")
        if mmap:
            return cls(np.memmap(path, np.uint8, "r").view(np.ndarray), str(path))
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            memory.ask(size, "mmap must be True", "the codes of %s", path)
            content = aligned_bytes(size)
            if file.readinto(_bytes_of(content)) != len(content):
                raise CorruptIndexError(f"{path}: the file shrank while it was read")
        return cls(content, str(path))

    @property
    def nbytes(self) -> int:
        """Size of the file."""
        return self._content.size

    def failure(self, reason: str) -> CorruptIndexError:
        """Return the error that names the file and what is wrong with it."""
        return CorruptIndexError(f"{self._source}: {reason}")

    def _read_header(self) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        size = len(self._content)
        begin = self._content[: len(MAGIC)].tobytes()
        if not MAGIC.startswith(begin):
            raise self.failure(f"not a pyhash index: it begins with {begin!r}")
        if size < _PREFIX.size:
            raise self.failure(f"cut short: {size} bytes cannot hold a header")
        prefix = self._content[: _PREFIX.size].tobytes()
        _, version, header_size, file_size = _PREFIX.unpack(prefix)
        if header_size > min(size, _MAX_HEADER) or header_size < _PREFIX.size + _CRC.size:
            raise self.failure(f"damaged or cut short: the header says it has {header_size} bytes")
        header = self._content[:header_size].tobytes()
        if zlib.crc32(header[: -_CRC.size]) != _CRC.unpack(header[-_CRC.size :])[0]:
            raise self.failure("the header is damaged (its checksum does not match)")
        if version != VERSION:
            raise self.failure(f"format version {version}; this pyhash reads version {VERSION}")
        if file_size != size:
            raise self.failure(f"the file must have {file_size} bytes, it has {size}")
        with self.expecting_sense():
            content = json.loads(header[_PREFIX.size : -_CRC.size].rstrip(b"\0"))
            offset = header_size
            sections = {}
            for section in content["sections"]:
                whole(section["crc32"], 0, 2**32 - 1)
                n_items = math.prod(whole(n, 0, size) for n in section["shape"])
                section["offset"] = offset
                section["nbytes"] = _DTYPES[section["dtype"]].itemsize * n_items
                offset += _padded(section["nbytes"])
                sections[section["name"]] = section
            if offset != file_size or len(sections) != len(content["sections"]):
                raise self.failure("the sections do not fill the file")
            return content["meta"], sections

    @contextlib.contextmanager
    def expecting_sense(self) -> Iterator[None]:
        """Take what goes wrong inside for what it shows: a header that is whole, but says what cannot be."""
        try:
            yield
        except CorruptIndexError:
            raise
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise self.failure(f"the header is inconsistent: {error!r}") from error

    def _take(self, name: str, dtype: str, *shape: int | None) -> Array:
        """Return a section's array, read-only where the content is; it must be of this shape, None being any length."""
        section = self._sections[name]
        found = tuple(section["shape"])
        fits = len(found) == len(shape) and all(want in (None, n) for n, want in zip(found, shape, strict=True))
        if section["dtype"] != dtype or not fits:
            raise self.failure(f"section {name!r} must be {dtype} {shape}, it is {section['dtype']} {found}")
        data = self._content[section["offset"] : section["offset"] + section["nbytes"]]
        array: Array = data.view(_DTYPES[dtype]).reshape(found)
        return array

    def index(self) -> tuple[Levels, Any, Snapshot]:
        """Return levels, structure and what the index holds, sharing the content's memory."""
        with self.expecting_sense():
            levels = Levels(dict(self.meta["levels"]))
            next_id = whole(self.meta["next_id"], 0, 2**63)
            return levels, self.meta["structure"], Snapshot(self._segments(words_per_code(levels.n_bytes)), next_id)

    def _segments(self, n_words: int) -> list[Segment]:
        segments = []
        known = set()
        for i, described in enumerate(self.meta["runs"]):
            n = whole(described["codes"], 1, self._content.size)
            first_id = whole(described["first_id"], -(2**63), 2**63 - n)
            blocks = self._take(f"{i}.blocks", "<u8", blocks_of(n), n_words, BLOCK)
            ids = self._take(f"{i}.ids", "<i8", n) if f"{i}.ids" in self._sections else None
            removed = self._take(f"{i}.dead", "<u8", len(blocks)) if f"{i}.dead" in self._sections else None
            ring = None
            if f"{i}.ring.order" in self._sections:
                least = self._take(f"{i}.ring.least", "<u4", None)
                ring = Ring(
                    self._take(f"{i}.ring.order", "<u4", n),
                    self._take(f"{i}.ring.centres", "<u8", blocks_of(len(least)), n_words, BLOCK),
                    least,
                    self._take(f"{i}.ring.first", "<u4", len(least) + 1),
                    self._take(f"{i}.ring.starts", "<u4", None),
                )
            known |= {f"{i}.{name}" for name in ("blocks", "ids", "dead", *(f"ring.{name}" for name in Ring._fields))}
            n_removed = 0 if removed is None else int(np.bitwise_count(removed).sum())
            segments.append(Segment(Chunks.of_blocks(blocks), n, first_id, ids, removed, n_removed, ring))
        if strange := self._sections.keys() - known:
            raise self.failure(f"unknown section {min(strange)!r}, perhaps of a newer pyhash")
        return segments

    def verify(self) -> None:
        """Check the checksum of every section."""
        for section in self._sections.values():
            data = self._content[section["offset"] : section["offset"] + _padded(section["nbytes"])]
            if zlib.crc32(_bytes_of(data)) != section["crc32"]:
                raise self.failure(f"section {section['name']!r} is damaged (its checksum does not match)")
