"""ONNX models as data: read and clean them, add nodes, rename, cut away, check, run, write."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GraphError
from ..support import files, require
from .model import onnxruntime

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

MIN_OPSET = 11
MAX_MODEL_BYTES = (1 << 31) - 1  # what a protobuf message can hold

# Element types of ONNX tensors (onnx.TensorProto) and the NumPy types that are fed for them.
FLOAT, UINT8, FLOAT16, DOUBLE = 1, 2, 10, 11
FLOATS = (FLOAT, FLOAT16, DOUBLE)
DTYPES = {UINT8: np.uint8, FLOAT: np.float32, FLOAT16: np.float16, DOUBLE: np.float64}

_PREFIX = "pyhash."
MODEL_MARKS = [_PREFIX.encode()]
"""How a model file of our own making is known: its metadata lie at its end."""


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
        if not isinstance(model, bytes):
            try:
                onnx.load_external_data_for_model(own, os.path.dirname(os.path.abspath(model)))
            except (OSError, onnx.checker.ValidationError) as error:  # which one depends on what is wrong
                raise _missing_data(own, error) from error
    else:
        raise TypeError(f"model must be a path, bytes or an onnx.ModelProto, got {type(model).__name__}")
    if not own.graph.node:
        raise GraphError("not an ONNX model, or an empty one: it has no nodes")
    outside = [tensor for tensor in own.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    if outside:
        raise _missing_data(own, "give the path of the model, so that the file beside it is found")
    if opset(own) < MIN_OPSET:
        own = lift(own, MIN_OPSET)
    if own.functions:
        own = require("onnx.inliner", "graph").inline_local_functions(own)
    _strip(own)
    return own


def opset(model: ModelProto) -> int:
    """Return the version of ONNX's own operators that a model uses."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)


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


def _missing_data(model: ModelProto, reason: object) -> GraphError:
    external = [
        (tensor.name, entry.value)
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    ]
    name, file = external[0] if external else ("?", "?")
    return GraphError(f"the weights {name!r} lie in the file {file!r}, which cannot be read: {reason}")


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


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """Yield the graphs inside a node: branches and loop bodies."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def inputs_of(node: NodeProto) -> Iterator[str]:
    """Yield the tensors that a node reads, those that its subgraphs take from outside included."""
    yield from filter(None, node.input)
    for graph in subgraphs(node):
        own = {output for inner in graph.node for output in inner.output}
        own.update(value.name for value in (*graph.input, *graph.initializer))
        for inner in graph.node:
            yield from (name for name in inputs_of(inner) if name not in own)
        yield from (value.name for value in graph.output if value.name not in own)


def attribute_of(node: NodeProto, name: str, default: Any = None) -> Any:
    """Return a node's attribute as a Python value."""
    for attribute in node.attribute:
        if attribute.name == name:
            return require("onnx", "graph").helper.get_attribute_value(attribute)
    return default


def session(model: ModelProto, threads: int | None = None, *, optimize: bool = True) -> Any:
    """Open a model that is in memory in onnxruntime, on the CPU.

    Raises
    ------
    GraphError
        When onnxruntime cannot run it; its own words name the node.
    """
    ort = onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised; it need not be printed too
    if threads is not None:
        options.intra_op_num_threads = threads
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if model.ByteSize() > MAX_MODEL_BYTES:
        raise GraphError(f"the model takes {model.ByteSize():,} bytes; one file can hold {MAX_MODEL_BYTES:,}")
    try:
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has an exception type for each of its status codes
        raise GraphError(f"onnxruntime cannot load the network: {error}") from error


def run(opened: Any, outputs: Sequence[str] | None, feeds: Mapping[str, Any]) -> list[Any]:
    """Run a session; GraphError carries onnxruntime's words."""
    try:
        result: list[Any] = opened.run(outputs, feeds)
    except Exception as error:  # see `session`
        raise GraphError(f"onnxruntime cannot run the network: {error}") from error
    return result


class Emitter:
    """Makes nodes and constants for a model, valid for its opset, under names that it does not have yet."""

    def __init__(self, model: ModelProto) -> None:
        self.nodes: list[Any] = []
        self._onnx = require("onnx", "graph")
        self._initializers = model.graph.initializer
        self._opset = opset(model)
        self._taken = _all_names(model)

    def const(self, values: NDArray[Any]) -> str:
        """Add a constant; return its name."""
        name = self._free("constant")
        self._initializers.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def emit(self, op: str, inputs: Sequence[str], output: str | None = None, **attributes: Any) -> str:
        """Add a node with one output; return the output's name."""
        output = output or self._free(op.lower())
        self.nodes.append(
            self._onnx.helper.make_node(op, inputs, [output], name=self._free(f"{op}_node"), **attributes)
        )
        return output

    def reduce(self, op: str, source: str, axes: Sequence[int], *, keepdims: bool) -> str:
        """Add a reduction over axes, which are an attribute up to opset 17 and an input from then on."""
        if self._opset < 18:
            return self.emit(op, [source], axes=list(axes), keepdims=int(keepdims))
        return self.emit(op, [source, self.const(np.array(axes, np.int64))], keepdims=int(keepdims))

    def _free(self, stem: str) -> str:
        number = 0
        while (name := f"pyhash/{stem}_{number}") in self._taken:
            number += 1
        self._taken.add(name)
        return name


def prune(model: ModelProto, image: Any, outputs: Sequence[Any]) -> None:
    """Make these the only input and the outputs, and drop the nodes and weights that the outputs do not need.

    Raises
    ------
    GraphError
        When another input is needed.
    """
    graph = model.graph
    needed = {value.name for value in outputs}
    nodes = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(inputs_of(node))
            nodes.append(node)
    nodes.reverse()
    made = {name for node in nodes for name in node.output}
    made.update((image.name, *(tensor.name for tensor in graph.initializer)))
    made.update(tensor.values.name for tensor in graph.sparse_initializer)
    for node in nodes:
        for name in inputs_of(node):
            if name not in made:
                raise GraphError(f"node {_title(node)} also needs the input {name!r}; pyhash gives pictures only")
    for field, values in (
        (graph.node, nodes),
        (graph.initializer, [tensor for tensor in graph.initializer if tensor.name in needed]),
        (graph.sparse_initializer, [tensor for tensor in graph.sparse_initializer if tensor.values.name in needed]),
        (graph.quantization_annotation, [note for note in graph.quantization_annotation if note.tensor_name in needed]),
        (graph.input, [image]),
        (graph.output, list(outputs)),
    ):
        refill(field, values)


def refill(field: Any, values: Iterable[Any]) -> None:
    """Make a repeated field hold these values, some of which it may hold already."""
    kept = [copy.copy(value) for value in values]  # emptying the field ends the values in it
    del field[:]
    field.extend(kept)


def _title(node: Any) -> str:
    return f"{node.name!r} ({node.op_type})" if node.name else f"{node.op_type} -> {node.output[0]!r}"


def _all_names(model: ModelProto) -> set[str]:
    graph = model.graph
    names = {name for node in graph.node for name in (node.name, *node.output, *inputs_of(node))}
    return names.union(value.name for value in (*graph.input, *graph.output, *graph.initializer))


def free_names(model: ModelProto, wanted: Iterable[str]) -> dict[str, str]:
    """Rename what already has one of these names; return the new name of each."""
    taken = _all_names(model)
    renamed = {}
    for name in wanted:
        if name in taken:
            new = name
            while new in taken:
                new = f"{new}_"
            taken.add(new)
            renamed[name] = new
    _rename(model.graph, renamed)
    return renamed


def _rename(graph: Any, names: Mapping[str, str]) -> None:
    for node in graph.node:
        for field in (node.input, node.output):
            field[:] = [names.get(name, name) for name in field]
        for inner in subgraphs(node):
            _rename(inner, names)
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = names.get(value.name, value.name)


def metadata_of(model: ModelProto) -> dict[str, str]:
    """Return our entries of the model's metadata, without their prefix."""
    return {
        entry.key.removeprefix(_PREFIX): entry.value for entry in model.metadata_props if entry.key.startswith(_PREFIX)
    }


def describe(model: ModelProto, metadata: Mapping[str, str]) -> None:
    """Write our metadata; what the exporter noted goes, since it can name files of the machine it ran on."""
    del model.metadata_props[:]
    require("onnx", "graph").helper.set_model_props(model, {_PREFIX + key: text for key, text in metadata.items()})


def check(model: ModelProto) -> None:
    """Raise GraphError unless the model is valid and fits into one file."""
    onnx = require("onnx", "graph")
    if model.ByteSize() > MAX_MODEL_BYTES:
        raise GraphError(f"the model takes {model.ByteSize():,} bytes; one file can hold {MAX_MODEL_BYTES:,}")
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise GraphError(f"the result is not valid ONNX: {error}") from error


def check_target(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Raise ForeignFileError when `save` would not write there."""
    files.check_target(path, MODEL_MARKS, overwrite=overwrite)


def save(model: ModelProto, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a model so that `path` holds the old file or the whole new one, whatever happens meanwhile.

    What is there is replaced if it is a model with metadata of pyhash; ForeignFileError otherwise, unless `overwrite`.
    """
    files.write(path, [model.SerializeToString()], MODEL_MARKS, overwrite=overwrite)
