"""The nodes of a model without its weights: enough to say what a network does, however large it is."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..support import require
from .digest import fields

if TYPE_CHECKING:
    from onnx import GraphProto

__all__ = ["skeleton_of", "trimmed"]

_NODE, _TENSOR, _INPUT, _OUTPUT = 1, 5, 11, 12  # fields of GraphProto
_SMALL = 4096  # bytes of a constant that is kept; weights are larger


def skeleton_of(source: str | bytes) -> GraphProto | None:
    """Return the graph of a model without its large weights; None without the package onnx, or for another format."""
    try:
        onnx = require("onnx", "graph")
    except ImportError:
        return None
    try:
        if isinstance(source, bytes):
            return _read(onnx, source)
        with Path(source).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as model:
            return _read(onnx, model)
    except (IndexError, ValueError):  # a model in ONNX Runtime's own format
        return None


def trimmed(graph: GraphProto) -> GraphProto:
    """Return the same of a graph in memory."""
    found: GraphProto = type(graph)()
    found.node.extend(graph.node)
    found.input.extend(graph.input)
    found.output.extend(graph.output)
    found.initializer.extend(tensor for tensor in graph.initializer if tensor.ByteSize() <= _SMALL)
    return found


def _read(onnx: Any, model: bytes | mmap.mmap) -> GraphProto:
    (graph,) = fields(model, 0, len(model), 7)
    parts = []
    for number in (_NODE, _TENSOR, _INPUT, _OUTPUT):
        for start, end in fields(model, *graph, number):
            if number != _TENSOR or end - start <= _SMALL:
                parts += [bytes([number << 3 | 2]), bytes(_varint(end - start)), model[start:end]]
    found: GraphProto = onnx.GraphProto.FromString(b"".join(parts))
    return found


def _varint(value: int) -> Iterator[int]:
    while value >= 0x80:
        yield value & 0x7F | 0x80
        value >>= 7
    yield value
