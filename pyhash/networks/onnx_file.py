"""ONNX models as files: read into memory and cleaned, lifted to a newer opset, checked, written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import GraphError
from ..support import files, require
from .digest import beside
from .metadata import MODEL_MARKS
from .nodes import opset, sort_nodes, subgraphs
from .weights import skeleton

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, TensorProto

MIN_OPSET = 11
MAX_MODEL_BYTES = (1 << 31) - 1  # what a protobuf message can hold


def read_model(model: Any) -> ModelProto:
    """Return a path, bytes or ModelProto as a ModelProto of our own: weights inside, no notes of the exporter.

    Raises
    ------
    GraphError
        When it is no ONNX model, its weights are not there, or it is older than opset 11 and cannot be lifted to it.
    """
    onnx = require("onnx", "graph")
    own: ModelProto
    if isinstance(model, onnx.ModelProto):
        own = onnx.ModelProto()
        own.CopyFrom(model)
    elif isinstance(model, (str, os.PathLike, bytes)):
        try:
            if isinstance(model, bytes):
                own = onnx.load_model_from_string(model)
            else:
                own = onnx.load_model(os.fspath(model), load_external_data=False)
        except OSError:
            raise
        except Exception as error:  # protobuf's DecodeError, whose module depends on its version
            raise GraphError(f"not an ONNX model: {error}") from error
    else:
        raise TypeError(f"model must be a path, bytes or an onnx.ModelProto, got {type(model).__name__}")
    if not own.graph.node:
        raise GraphError("not an ONNX model, or an empty one: it has no nodes")
    _load_weights(own, None if isinstance(model, (bytes, onnx.ModelProto)) else os.path.abspath(model))
    sort_nodes(own.graph)
    if opset(own) < MIN_OPSET:
        own = lift(own, MIN_OPSET)
    if own.functions:
        own = require("onnx.inliner", "graph").inline_local_functions(own)
    _strip(own)
    return own


def lift(model: ModelProto, wanted: int) -> ModelProto:
    """Return a model rewritten for a newer opset.

    Raises
    ------
    GraphError
        When ONNX's converter cannot do that.
    """
    onnx = require("onnx", "graph")
    try:
        lifted: ModelProto = require("onnx.version_converter", "graph").convert_version(model, wanted)
        onnx.checker.check_model(lifted, full_check=True)
    except Exception as error:  # the converter raises RuntimeError, and whatever else it stumbles over
        raise GraphError(f"opset {opset(model)} is too old and cannot be lifted to {wanted}: {error}") from error
    return lifted


def _load_weights(model: ModelProto, path: str | None) -> None:
    """Read the weights that lie in files beside the model's own, whose path is None where it came as bytes."""
    onnx = require("onnx", "graph")
    for tensor in _tensors(model.graph):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        where = {entry.key: entry.value for entry in tensor.external_data}
        name = where.get("location", "")
        try:
            if path is None:
                raise OSError("give the path of the model, so that the file beside it is found")
            if not name or os.path.isabs(name) or ".." in name.replace("\\", "/").split("/"):
                raise OSError("its name must be that of a file beside the model")
            tensor.raw_data = _part_of(beside(path, name), int(where.get("offset", 0)), where.get("length"))
        except (OSError, ValueError) as error:
            reason = f"the weights {tensor.name!r} lie in the file {name!r}, which cannot be read: {error}"
            raise GraphError(reason) from error
        tensor.ClearField("data_location")
        del tensor.external_data[:]


def _part_of(file: str, start: int, length: str | None) -> bytes:
    """Return some bytes of a file, to its end unless a length is given."""
    with open(file, "rb") as opened:
        opened.seek(start)
        data = opened.read(-1 if length is None else int(length))
    if length is not None and len(data) < int(length):
        raise OSError(f"it is cut short: {length} bytes are wanted from byte {start} on, {len(data)} are there")
    return data


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Yield every tensor that a graph holds, those of its nodes and of the graphs inside them included."""
    yield from graph.initializer
    for tensor in graph.sparse_initializer:
        yield from (tensor.values, tensor.indices)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
        for inner in subgraphs(node):
            yield from _tensors(inner)


def _strip(model: ModelProto) -> None:
    """Drop documentation, exporter's notes and inferred shapes: the notes hold paths, the shapes a batch size."""
    graph = model.graph
    del graph.value_info[:]
    model.doc_string = graph.doc_string = ""
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        part.doc_string = ""
        if "metadata_props" in part.DESCRIPTOR.fields_by_name:
            del part.metadata_props[:]
    # Overridable weights count as inputs; ours never are, and from IR version 4 on they need not be listed there.
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    del graph.input[:]
    graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, 4)


def serialized(model: ModelProto) -> bytes:
    """Return a model as the bytes of a file; GraphError when it is too large for one."""
    _check_size(model)
    data: bytes = model.SerializeToString()
    return data


def _check_size(model: ModelProto) -> None:
    if model.ByteSize() > MAX_MODEL_BYTES:
        raise GraphError(f"the model takes {model.ByteSize():,} bytes; one file can hold {MAX_MODEL_BYTES:,}")


def check(model: ModelProto) -> None:
    """Raise GraphError unless the model is valid and fits into one file."""
    onnx = require("onnx", "graph")
    _check_size(model)
    try:
        onnx.checker.check_model(skeleton(model), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise GraphError(f"the result is not valid ONNX: {error}") from error


def check_target(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Raise ForeignFileError when `save` would not write there."""
    files.check_target(path, MODEL_MARKS, overwrite=overwrite)


def save(model: ModelProto | bytes, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a model, or the bytes of one: `path` holds the old file or the whole new one, whatever happens meanwhile.

    What is there is replaced if it is a model with metadata of pyhash; ForeignFileError otherwise, unless `overwrite`.
    """
    files.write(path, [model if isinstance(model, bytes) else serialized(model)], MODEL_MARKS, overwrite=overwrite)
