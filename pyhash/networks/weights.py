"""Large weights are not held twice: networks without them to look at, and on disk to run.

What is deleted from a message of protobuf stays in memory as long as the message, and what is copied or serialised is
there once more. So nodes are worked on beside the weights, and ONNX Runtime maps these from a file.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..support import require

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

__all__ = ["LARGE", "as_source", "skeleton", "without_weights"]

LARGE = 1 << 12
"""Bytes of a weight that is large."""
_LARGE_MODEL = 1 << 24  # bytes of a model that is worth a file
_FILE = "weights"


def _is_large(tensor: TensorProto) -> bool:
    return bool(tensor.HasField("raw_data") and tensor.ByteSize() >= LARGE)


def _bare(model: ModelProto) -> ModelProto:
    """Return a model without any weights in its graph."""
    onnx = require("onnx", "graph")
    bare: ModelProto = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    bare.metadata_props.extend(model.metadata_props)
    graph = model.graph
    bare.graph.name = graph.name
    bare.graph.node.extend(graph.node)
    bare.graph.input.extend(graph.input)
    bare.graph.output.extend(graph.output)
    bare.graph.sparse_initializer.extend(graph.sparse_initializer)
    bare.graph.quantization_annotation.extend(graph.quantization_annotation)
    return bare


def skeleton(model: ModelProto) -> ModelProto:
    """Return a model whose large weights are inputs: quick to check, and to infer shapes of."""
    make = require("onnx", "graph").helper.make_tensor_value_info
    bare = _bare(model)
    for tensor in model.graph.initializer:
        if _is_large(tensor):
            bare.graph.input.append(make(tensor.name, tensor.data_type, tensor.dims))
        else:
            bare.graph.initializer.append(tensor)
    return bare


def without_weights(model: ModelProto) -> ModelProto:
    """Return a model whose large weights lie in a file that `as_source` writes."""
    onnx = require("onnx", "graph")
    bare, start = _bare(model), 0
    for tensor in model.graph.initializer:
        if not _is_large(tensor):
            bare.graph.initializer.append(tensor)
            continue
        outside = bare.graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        outside.data_location = onnx.TensorProto.EXTERNAL
        length = len(tensor.raw_data)
        for key, value in (("location", _FILE), ("offset", start), ("length", length)):
            outside.external_data.add(key=key, value=str(value))
        start += -(-length // LARGE) * LARGE  # where a page begins: it is mapped
    return bare


@contextlib.contextmanager
def as_source(model: ModelProto, bare: ModelProto | None = None) -> Iterator[str | bytes]:
    """Yield what a session opens: bytes of a small model; of a large one a file, with its weights in another.

    Parameters
    ----------
    model : onnx.ModelProto
    bare : onnx.ModelProto, optional
        What `without_weights` made of it, changed since then; the model as it is unless given.
    """
    if bare is None and model.ByteSize() < _LARGE_MODEL:
        yield model.SerializeToString()
        return
    with tempfile.TemporaryDirectory(prefix="pyhash-") as folder:
        with open(os.path.join(folder, _FILE), "wb") as file:
            for tensor in filter(_is_large, model.graph.initializer):
                file.seek(-(-file.tell() // LARGE) * LARGE)
                file.write(tensor.raw_data)
        path = os.path.join(folder, "model.onnx")
        with open(path, "wb") as file:
            file.write((without_weights(model) if bare is None else bare).SerializeToString())
        del model, bare  # which may be held nowhere else
        yield path
