"""The digest of an ONNX model or of a part of it, the files included where it keeps weights outside.

The messages of onnx.proto are read by the numbers of their fields, since the package onnx need not be there and weights
may be large: offsets stand for messages.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["beside", "digest", "digest_of_part", "external_files", "fields", "whole"]

_Message = tuple[int, int]
"""Where a message begins and ends."""


def digest(source: str | bytes) -> str:
    """Return the SHA-256 of a model: of its bytes, or of its file and those that hold weights of it."""
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    with open(source, "rb") as file:
        found = hashlib.file_digest(file, "sha256")
    for name in sorted(external_files(source)):
        with open(beside(source, name), "rb") as file:
            found.update(name.encode() + hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()


def external_files(path: str) -> set[str]:
    """Return the names of the files beside a model where it keeps weights."""
    names: set[str] = set()
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        # A model in ONNX Runtime's own format is no such message, and keeps nothing outside.
        with mapped, contextlib.suppress(IndexError, ValueError):
            for graph in fields(mapped, 0, len(mapped), 7):
                for tensor in fields(mapped, *graph, 5):
                    names |= _locations(mapped, tensor)
    return names


def beside(path: str, name: str) -> str:
    """Return where the file lies that a model names: beside its path, or beside the file that this links to.

    Caches keep both under links to elsewhere; people link to a model and leave its weights where they are.
    """
    files = [os.path.join(os.path.dirname(model), name) for model in (path, os.path.realpath(path))]
    return next(filter(os.path.isfile, files), files[0])


def whole(path: str) -> str:
    """Return the path of a model that ONNX Runtime opens with its weights: the link's target where these lie there."""
    if os.path.islink(path) and any(
        beside(path, name) != os.path.join(os.path.dirname(path), name) for name in external_files(path)
    ):
        return os.path.realpath(path)
    return path


def digest_of_part(source: str | bytes, output: str, after: str | None = None) -> str:
    """Return the SHA-256 of the nodes and weights that an output needs.

    Files that share a network and differ in what comes behind it have the same digest of the network.

    Parameters
    ----------
    source : str or bytes
        Path of the model, or its bytes; of ONNX's own format.
    output : str
        A tensor of the graph.
    after : str, optional
        Another one: what it needs is left out.
    """
    model, path = (source, "") if isinstance(source, bytes) else (Path(source).read_bytes(), source)
    (graph,) = fields(model, 0, len(model), 7)
    nodes = [(node, _names(model, node, 2), _names_read(model, node)) for node in fields(model, *graph, 1)]
    tensors = [(tensor, _names(model, tensor, 8)) for tensor in fields(model, *graph, 5)]
    for sparse in fields(model, *graph, 15):
        tensors += [(sparse, _names(model, values, 8)) for values in fields(model, *sparse, 1)]
    needed = _needed(nodes, output)
    without = _needed(nodes, after) if after is not None else set()
    found = hashlib.sha256()
    for opset in fields(model, 0, len(model), 8):
        found.update(model[slice(*opset)])
    for node, made, _ in nodes:
        if made & needed and not made & without:
            for field in (1, 2, 4, 5, 7):  # what it reads and makes, its operator, attributes and domain
                for part in fields(model, *node, field):
                    found.update(bytes([field]) + model[slice(*part)])
    for tensor, names in tensors:
        if names & needed and not names & without:
            for number, place, _ in _all_fields(model, *tensor):
                if number != 12:  # what is noted of it, which reading and writing a model may add and drop
                    found.update(model[slice(*place)])
            for file in sorted(_locations(model, tensor)):
                with open(beside(path, file), "rb") as weights:
                    found.update(hashlib.file_digest(weights, "sha256").digest())
    return found.hexdigest()


def _needed(nodes: list[tuple[_Message, set[str], set[str]]], output: str) -> set[str]:
    """Return the tensors that one of them is made of, itself included; nodes may be in any order."""
    makers = {name: number for number, (_, made, _) in enumerate(nodes) for name in made}
    needed: set[str] = set()
    waiting = [output]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            if name in makers:
                waiting.extend(nodes[makers[name]][2])
    return needed


def _names_read(model: bytes, node: _Message) -> set[str]:
    """Return the tensors that a node or the graphs inside it read."""
    names = _names(model, node, 1)
    for attribute in fields(model, *node, 5):
        for number in (6, 11):  # a graph, or several
            for graph in fields(model, *attribute, number):
                for inner in fields(model, *graph, 1):
                    names |= _names_read(model, inner)
                for value in fields(model, *graph, 12):
                    names |= _names(model, value, 1)
    return names


def _names(model: bytes, message: _Message, field: int) -> set[str]:
    return {model[slice(*name)].decode() for name in fields(model, *message, field)} - {""}


def _locations(model: bytes | mmap.mmap, tensor: _Message) -> set[str]:
    """Return the names of the files where a tensor is kept: of the pairs of key and value that it has for that."""
    names: set[str] = set()
    for pair in fields(model, *tensor, 13):
        if [model[slice(*key)] for key in fields(model, *pair, 1)] == [b"location"]:
            names.update(model[slice(*value)].decode() for value in fields(model, *pair, 2))
    return names


def fields(model: bytes | mmap.mmap, at: int, end: int, wanted: int) -> Iterator[_Message]:
    """Iterate over where the length-delimited fields of a number lie in the message ``at`` to ``end``."""
    return (content for number, _, content in _all_fields(model, at, end) if content and number == wanted)


def _all_fields(model: bytes | mmap.mmap, at: int, end: int) -> Iterator[tuple[int, _Message, _Message | None]]:
    """Iterate over the fields of a message: number, where it lies, and where its content does if that has a length."""

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
        start = at
        key = varint()
        kind = key & 7
        if kind == 0:
            varint()
            yield key >> 3, (start, at), None
            continue
        length = varint() if kind == 2 else 8 if kind == 1 else 4
        content = (at, at + length)
        at += length
        yield key >> 3, (start, at), content if kind == 2 else None
