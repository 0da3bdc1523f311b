"""The digest of an ONNX model, the files included where it keeps weights outside."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
from collections.abc import Iterator
from pathlib import Path

__all__ = ["digest"]


def digest(source: str | bytes) -> str:
    """Return the SHA-256 of a model: of its bytes, or of its file and those that hold weights of it."""
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    names: set[str] = set()
    with open(source, "rb") as file:
        found = hashlib.file_digest(file, "sha256")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        # A model in ONNX Runtime's own format is no such message, and keeps nothing outside.
        with mapped, contextlib.suppress(IndexError, ValueError):
            names = _external_files(mapped)
    for name in sorted(names):
        with open(Path(source).parent / name, "rb") as file:
            found.update(name.encode() + hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()


def _external_files(model: mmap.mmap) -> set[str]:
    """Return the names of the files where a serialised model keeps weights outside.

    By the field numbers of onnx.proto: ModelProto.graph is 7, GraphProto.initializer 5,
    TensorProto.external_data 13, and that is pairs of a key, 1, and a value, 2. Offsets stand for messages,
    as weights may be large.
    """
    names: set[str] = set()
    for graph in _fields(model, 0, len(model), 7):
        for tensor in _fields(model, *graph, 5):
            for pair in _fields(model, *tensor, 13):
                if [model[slice(*key)] for key in _fields(model, *pair, 1)] == [b"location"]:
                    names.update(model[slice(*value)].decode() for value in _fields(model, *pair, 2))
    return names


def _fields(model: mmap.mmap, at: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
    """Iterate over where the length-delimited fields of a number lie in the message ``at`` to ``end``."""

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = model[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    while at < end:
        key = varint()
        kind = key & 7
        if kind == 0:
            varint()
            continue
        length = varint() if kind == 2 else 8 if kind == 1 else 4
        if kind == 2 and key >> 3 == wanted:
            yield at, at + length
        at += length
