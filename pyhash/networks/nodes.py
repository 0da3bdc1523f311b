"""The nodes and tensors of an ONNX model in memory: what a node reads; adding, renaming and cutting away."""

from __future__ import annotations

import copy
import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GraphError
from ..support import require

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

# Element types of ONNX tensors (onnx.TensorProto) and the NumPy types that are fed for them.
FLOAT, UINT8, FLOAT16, DOUBLE = 1, 2, 10, 11
FLOATS = (FLOAT, FLOAT16, DOUBLE)
DTYPES = {UINT8: np.uint8, FLOAT: np.float32, FLOAT16: np.float16, DOUBLE: np.float64}


def opset(model: ModelProto) -> int:
    """Return the version of ONNX's own operators that a model uses."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)


def op_of(node: NodeProto) -> str:
    """Return a node's operator: its name, and before it the domain, unless it is one of ONNX's own."""
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}:{node.op_type}"


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
        self._initializers.append(self._onnx.numpy_helper.from_array(np.asarray(values, order="C"), name))
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
                raise GraphError(
                    f"node {title(node)} needs a second input, {name!r}; "
                    "only networks with one image input are supported"
                )
    if len(nodes) < len(graph.node):
        refill(graph.node, nodes)
    keep(graph.initializer, lambda tensor: tensor.name in needed)
    keep(graph.sparse_initializer, lambda tensor: tensor.values.name in needed)
    keep(graph.quantization_annotation, lambda note: note.tensor_name in needed)
    refill(graph.input, [image])
    refill(graph.output, list(outputs))


def keep(field: Any, wanted: Callable[[Any], bool]) -> None:
    """Drop from a repeated field what is not wanted, without a copy of what is."""
    for place in reversed(range(len(field))):
        if not wanted(field[place]):
            del field[place]


def refill(field: Any, values: Iterable[Any]) -> None:
    """Make a repeated field hold these values, some of which it may hold already."""
    kept = [copy.copy(value) for value in values]  # emptying the field ends the values in it
    del field[:]
    field.extend(kept)


def title(node: Any) -> str:
    """Return what to call a node in a message."""
    return f"{node.name!r} ({node.op_type})" if node.name else f"{node.op_type} -> {node.output[0]!r}"


def _all_names(model: ModelProto) -> set[str]:
    return set(_names_in(model.graph))


def _names_in(graph: GraphProto) -> Iterator[str]:
    """Yield every name of a graph and of those inside its nodes: in ONNX a name means one thing in all of them."""
    for node in graph.node:
        yield from (node.name, *node.input, *node.output)
        for inner in subgraphs(node):
            yield from _names_in(inner)
    yield from (value.name for value in (*graph.input, *graph.output, *graph.initializer))
    yield from (tensor.values.name for tensor in graph.sparse_initializer)


def sort_nodes(graph: GraphProto) -> None:
    """Put nodes behind those that they read, in graphs inside them too; what is in order keeps its order.

    Raises
    ------
    GraphError
        When nodes read each other in a circle.
    """
    nodes = list(graph.node)
    maker = {name: number for number, node in enumerate(nodes) for name in node.output if name}
    before = [{maker[name] for name in inputs_of(node) if name in maker} for node in nodes]
    if any(source >= number for number, sources in enumerate(before) for source in sources):
        readers: list[list[int]] = [[] for _ in nodes]
        for number, sources in enumerate(before):
            for source in sources:
                readers[source].append(number)
        left = list(map(len, before))
        ready = [number for number, count in enumerate(left) if not count]
        order = []
        while ready:
            number = heapq.heappop(ready)
            order.append(number)
            for reader in readers[number]:
                left[reader] -= 1
                if not left[reader]:
                    heapq.heappush(ready, reader)
        if len(order) < len(nodes):
            circle = next(number for number, count in enumerate(left) if count)
            raise GraphError(f"node {title(nodes[circle])} reads, through others, what it makes itself")
        refill(graph.node, [nodes[number] for number in order])
    for node in graph.node:
        for inner in subgraphs(node):
            sort_nodes(inner)


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
    sparse = (tensor.values for tensor in graph.sparse_initializer)
    for value in (*graph.input, *graph.output, *graph.initializer, *sparse):
        value.name = names.get(value.name, value.name)
    for note in graph.quantization_annotation:
        note.tensor_name = names.get(note.tensor_name, note.tensor_name)
