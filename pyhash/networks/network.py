"""Reading an ONNX image network: its picture input, the shape and meaning of its tensors, where its stages end.

Nothing here changes a network; `pyhash.networks` does. A tensor is worth reading ("a tap") when it is known what its
axes mean: a map of channels, tokens, or one vector a picture. ONNX does not say, so the meaning is followed through
the graph from the operators that fix it: convolutions and pools are channels-first, a Transpose swaps, most others
keep it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import GraphError
from ..images import as_shape
from ..support import require
from .surgery import DOUBLE, DTYPES, FLOAT, FLOAT16, attribute_of, inputs_of, read_model, run, session

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

__all__ = ["Network", "Tap"]

_COMPUTING = {"Conv", "ConvInteger", "QLinearConv", "FusedConv", "MatMul", "Gemm", "Einsum", "ConvTranspose"}
_ACTIVATIONS = {
    *("Relu", "Clip", "LeakyRelu", "PRelu", "Elu", "Celu", "Selu", "ThresholdedRelu", "Softplus", "Tanh"),
    *("Gelu", "HardSwish", "Mish", "Swish"),
}
_MERGES = {"Add", "Sum", "Mul", "Div", "Concat"}  # ends of blocks, and x * sigmoid(x), when two inputs hold pictures
_CHANNELS_FIRST = {
    *("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "FusedConv"),
    *("BatchNormalization", "InstanceNormalization", "GroupNormalization", "LRN", "DepthToSpace", "SpaceToDepth"),
    *("QLinearConv", "ConvInteger", "GlobalLpPool"),
}
_CUTS = {"Slice", "Split", "Gather", "Pad"}  # a window of a map or half of a roll is no smaller map, nor a rim a larger
_SHUFFLES = {"Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Cast", "Identity", "Dropout"}


@dataclass(frozen=True)
class Tap:
    """A tensor of a network that can be read as features.

    Attributes
    ----------
    name : str
        The tensor.
    shape : tuple of int
        Its shape for one picture, batch axis included.
    kind : str
        ``"nchw"`` or ``"nhwc"`` (a map), ``"tokens"`` (batch, tokens, channels) or ``"vector"`` (batch, channels).
    stage : int
        Counts the spatial sizes from the picture on: tensors of one size are of one stage.
    op : str
        The operator that makes it.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    stage: int
    op: str

    @property
    def channels(self) -> int:
        """Length of the vector that pooling makes of it."""
        return self.shape[1] if self.kind == "nchw" else self.shape[-1]

    @property
    def positions(self) -> tuple[int, ...]:
        """Spatial size, (height, width) or (tokens,); empty for a vector."""
        return self.shape[2:] if self.kind == "nchw" else self.shape[1:-1]


class Network:
    """A network and what is known about its tensors.

    Parameters
    ----------
    model : path, bytes or onnx.ModelProto
    size : int or (int, int), optional
        Side or (height, width) of its pictures in pixels; needed when the network takes any size.
    layout : str, optional
        ``"nchw"`` or ``"nhwc"``; needed when neither shape nor operators tell.
    input : str, optional
        The picture input, where several could be it.

    Attributes
    ----------
    model : onnx.ModelProto
    input, layout : str
    dtype : int
        Element type of the picture input, as of `onnx.TensorProto`.
    size : (int, int)
        Height and width of its pictures.
    batch : int or None
        The batch size that the network was exported for; None for any.

    Raises
    ------
    GraphError
        When it has no picture input, or its size is not known.
    """

    def __init__(
        self, model: Any, size: int | tuple[int, int] | None = None, layout: str | None = None, input: str | None = None
    ) -> None:
        if layout not in (None, "nchw", "nhwc"):
            raise ValueError(f"layout must be 'nchw' or 'nhwc', got {layout!r}")
        self.model = read_model(model)
        self._no_shapes = "inference gives none"
        value = self._picture_input(input)
        self.input = value.name
        tensor = value.type.tensor_type
        self.dtype = tensor.elem_type
        dims = [dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in tensor.shape.dim]
        self.layout = layout or self._guess_layout(dims)
        channels = dims[1 if self.layout == "nchw" else 3]
        if channels not in (3, None):
            raise GraphError(f"input {self.input!r} must take 3 channels ({self.layout}), got {channels}")
        self.batch = dims[0]
        self.size = self._picture_size(dims[2:] if self.layout == "nchw" else dims[1:3], size)

    def _picture_input(self, name: str | None) -> Any:
        inputs = list(self.model.graph.input)
        if name is not None:
            inputs = [value for value in inputs if value.name == name]
            if not inputs:
                raise GraphError(f"input must be one of the network's, {_names(self.model.graph.input)}, got {name!r}")
        pictures = [
            value
            for value in inputs
            if value.type.tensor_type.elem_type in DTYPES and len(value.type.tensor_type.shape.dim) == 4
        ]
        if not pictures:
            described = ", ".join(f"{value.name!r} {_describe(value)}" for value in inputs) or "none"
            raise GraphError(f"the network has no picture input (4 axes, float, float16, double or uint8): {described}")
        if len(pictures) > 1:
            raise GraphError(f"several inputs could be the picture, {_names(pictures)}: input must name one")
        return pictures[0]

    def _guess_layout(self, dims: list[int | None]) -> str:
        if (dims[1] == 3) != (dims[3] == 3):
            return "nchw" if dims[1] == 3 else "nhwc"
        if None not in dims[1:] and 3 not in (dims[1], dims[3]):
            raise GraphError(f"input {self.input!r} must take 3 channels, got shape {dims}")
        for node in self.model.graph.node:
            if self.input in node.input:
                if node.op_type == "Transpose" and list(attribute_of(node, "perm", ())) == [0, 3, 1, 2]:
                    return "nhwc"
                if node.op_type in _CHANNELS_FIRST:
                    return "nchw"
        raise GraphError(
            f"input {self.input!r} {dims}: cannot tell where its channels are: layout must say, nchw or nhwc"
        )

    def _picture_size(self, dims: list[int | None], size: int | tuple[int, int] | None) -> tuple[int, int]:
        wanted = as_shape(size) if size is not None else tuple(dims)
        for dim, side in zip(dims, wanted, strict=True):
            if side is None:
                raise GraphError(f"input {self.input!r} takes pictures of any size: size must say which")
            if dim not in (None, side):
                raise GraphError(
                    f"input {self.input!r} takes pictures of {dims[0]} x {dims[1]} pixels, got size {size}"
                )
        return wanted  # type: ignore[return-value]  # no None is left

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input, for one picture or for as many as it insists on."""
        batch, (height, width) = self.batch or 1, self.size
        return (batch, 3, height, width) if self.layout == "nchw" else (batch, height, width, 3)

    @cached_property
    def carriers(self) -> dict[str, int]:
        """Return the tensors that depend on the picture and not only on its size, each with the number of its node."""
        found = {self.input: -1}
        for number, node in enumerate(self.model.graph.node):
            if node.op_type not in ("Shape", "Size") and any(name in found for name in inputs_of(node)):
                found.update((name, number) for name in node.output if name)
        return found

    @cached_property
    def shapes(self) -> dict[str, tuple[tuple[int, ...], int]]:
        """Return shape and element type of every tensor that depends on the picture.

        ONNX's shape inference gives most; for the rest the network is run once, on zeros.
        """
        inferred = require("onnx", "graph").shape_inference.infer_shapes(self._skeleton(), data_prop=True)
        found = {}
        for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output):
            tensor = value.type.tensor_type
            if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim):
                found[value.name] = tuple(dim.dim_value for dim in tensor.shape.dim), tensor.elem_type
        missing = [name for name in self.carriers if name not in found]
        if missing:
            try:
                found.update(self._run_shapes(missing))
            except GraphError as error:  # perhaps only behind the last tensor that is wanted
                self._no_shapes = str(error)
        return found

    def _skeleton(self) -> ModelProto:
        """Return the network with the input's shape fixed and its large weights as inputs: quick to infer shapes of."""
        onnx = require("onnx", "graph")
        skeleton: ModelProto = onnx.ModelProto(ir_version=self.model.ir_version, opset_import=self.model.opset_import)
        graph = skeleton.graph
        graph.name = "skeleton"
        graph.node.extend(self.model.graph.node)
        graph.output.extend(onnx.ValueInfoProto(name=value.name, type=value.type) for value in self.model.graph.output)
        for value in graph.output:
            value.type.tensor_type.ClearField("shape")
        helper = onnx.helper
        graph.input.append(helper.make_tensor_value_info(self.input, self.dtype, self.input_shape))
        graph.input.extend(value for value in self.model.graph.input if value.name != self.input)
        for tensor in self.model.graph.initializer:
            if np.prod(tensor.dims) > 1024:
                graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
            else:
                graph.initializer.append(tensor)
        return skeleton

    def _run_shapes(self, names: Iterable[str]) -> dict[str, tuple[tuple[int, ...], int]]:
        onnx = require("onnx", "graph")
        probe = onnx.ModelProto()
        probe.CopyFrom(self.model)
        del probe.graph.output[:]
        probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        feeds = {self.input: np.zeros(self.input_shape, DTYPES[self.dtype])}
        opened = session(probe, optimize=False)
        unfed = [value.name for value in opened.get_inputs() if value.name not in feeds]
        if unfed:
            raise GraphError(
                f"the network also needs the inputs {', '.join(map(repr, unfed))}; pyhash gives pictures only"
            )
        types = {np.dtype(dtype): element for element, dtype in DTYPES.items()}
        found = {}
        for name, array in zip(probe.graph.output, run(opened, None, feeds), strict=True):
            if isinstance(array, np.ndarray):
                found[name.name] = (array.shape, types.get(array.dtype, 0))
        return found

    @cached_property
    def kinds(self) -> dict[str, str]:
        """Return what the axes of tensors mean, where that is known: the kinds of `Tap`, and ``"nct"``."""
        shapes = self.shapes
        kinds = {self.input: self.layout}
        carriers = self.carriers
        for node in self.model.graph.node:
            sources = [name for name in inputs_of(node) if name in carriers]
            for name in node.output:
                if name in carriers and name in shapes:
                    kind = self._kind(node, sources, shapes[name][0], kinds)
                    if kind is not None:
                        kinds[name] = kind
        return kinds

    def _kind(self, node: NodeProto, sources: list[str], shape: tuple[int, ...], kinds: dict[str, str]) -> str | None:
        rank = len(shape)
        if rank == 2:
            return "vector"
        if rank not in (3, 4) or not sources:
            return None
        source = sources[0]
        before = self.shapes.get(source, ((), 0))[0]
        if rank == 4 and node.op_type in _CHANNELS_FIRST:
            return "nchw"
        if node.op_type == "Transpose":
            swaps = {
                ("nchw", (0, 2, 3, 1)): "nhwc",
                ("nhwc", (0, 3, 1, 2)): "nchw",
                ("nct", (0, 2, 1)): "tokens",
                ("tokens", (0, 2, 1)): "nct",
            }
            return swaps.get((kinds.get(source, ""), tuple(attribute_of(node, "perm", ()))))
        if node.op_type in ("Reshape", "Flatten", "Squeeze", "Unsqueeze") and before != shape:
            return _reshaped(before, shape, kinds.get(source))
        same = [kinds[name] for name in sources if name in kinds and len(self.shapes[name][0]) == rank]
        if same:
            return same[0]
        return "tokens" if rank == 3 else None

    @cached_property
    def stages(self) -> dict[tuple[int, ...], int]:
        """Return the place of each spatial size: maps, then tokens, then vectors, large ones first."""
        sizes = {
            _spatial(Tap(name, self.shapes[name][0], kind, 0, ""))
            for name, kind in self.kinds.items()
            if name != self.input and kind != "nct"
        }
        ordered = sorted(sizes, key=lambda size: (-len(size), -np.prod(size), size))
        return {size: stage for stage, size in enumerate(ordered)}

    def taps(self) -> list[Tap]:
        """Return every tensor that can be read, in the order of the graph, except what only moves numbers."""
        nodes = self.model.graph.node
        found = [
            self.find(name)
            for name, number in self.carriers.items()
            if number >= 0 and nodes[number].op_type not in _SHUFFLES
        ]
        return [tap for tap in found if isinstance(tap, Tap)]

    def find(self, name: str) -> Tap | str:
        """Return a tensor as a tap, or the reason why it cannot be one."""
        if name not in self.carriers:
            return "does not depend on the picture" if name in self._made() else "is not in the network"
        if name == self.input:
            return "is the picture itself"
        if name not in self.shapes:
            return f"has no known shape: {self._no_shapes}"
        shape, element = self.shapes[name]
        if element not in (FLOAT, FLOAT16, DOUBLE):
            return "does not hold floats"
        if not 2 <= len(shape) <= 4:
            return f"must have 2, 3 or 4 axes, got {len(shape)}, {list(shape)}"
        if shape[0] != (self.batch or 1):
            return f"must have the batch as its first axis, got shape {list(shape)} for {self.batch or 1} picture"
        kind = self.kinds.get(name)
        if kind in (None, "nct"):
            return f"has axes {list(shape)} of unknown meaning: it is not clear which one holds the channels"
        op = self.model.graph.node[self.carriers[name]].op_type
        tap = Tap(name, shape, kind, 0, op)
        return replace(tap, stage=self.stages.get(_spatial(tap), 0))

    def _made(self) -> set[str]:
        graph = self.model.graph
        return {name for node in graph.node for name in node.output}.union(tensor.name for tensor in graph.initializer)

    def trunk(self) -> list[Tap]:
        """Return the taps that all of the picture flows through on its way to the deepest maps, and to vectors behind.

        Side branches (the inside of residual blocks, squeeze-and-excitation, auxiliary outputs) are not among them, nor
        is a decoder, where maps grow again.
        """
        nodes = self.model.graph.node
        carriers = self.carriers
        before: list[list[int]] = []
        depth: list[int] = []
        for node in nodes:
            sources = sorted({carriers[name] for name in inputs_of(node) if name in carriers})
            before.append(sources)
            depth.append(1 + max((depth[source] for source in sources if source >= 0), default=0) if sources else 0)
        ends = [carriers[value.name] for value in self.model.graph.output if value.name in carriers]
        if not ends:
            raise GraphError(f"no output of the network depends on its picture input {self.input!r}")
        path = [max(ends, key=depth.__getitem__)]
        while any(source >= 0 for source in before[path[-1]]):
            path.append(max((s for s in before[path[-1]] if s >= 0), key=depth.__getitem__))
        by_node: dict[int, list[Tap]] = {}
        for tap in self.taps():
            by_node.setdefault(carriers[tap.name], []).append(tap)
        deepest, decodes = self._deepest(path[::-1], by_node)

        def through(target: int) -> list[Tap]:
            dominator = _dominators(before, target)
            chain = []
            while target >= 0:
                if len(by_node.get(target, ())) == 1:
                    chain += by_node[target]
                target = dominator[target]
            return chain[::-1]

        vectors = [] if decodes else [tap for tap in through(path[0]) if not _spatial(tap)]
        return through(deepest) + [tap for tap in vectors if carriers[tap.name] > deepest]

    def _deepest(self, path: list[int], by_node: dict[int, list[Tap]]) -> tuple[int, bool]:
        """Return the last node of a path that gives maps or tokens, before maps grow; and whether they do."""
        smallest, computed, last = None, False, path[-1]
        for number in path:
            computed = computed or self.model.graph.node[number].op_type in _COMPUTING
            taps = by_node.get(number, [])
            # Maps of one pixel are skipped: squeeze-and-excitation makes them inside a block.
            if not computed or not taps or not _spatial(taps[0]) or taps[0].op in _CUTS:
                continue
            area = int(np.prod(taps[0].positions)) if len(taps[0].positions) == 2 else None
            if area is not None:
                if smallest is not None and area >= 2 * smallest:  # less can be what convolutions pad
                    return last, True
                smallest = min(area, smallest or area)
            last = number
        return last, False

    def stage_ends(self, n: int) -> list[Tap]:
        """Return the ends of the last `n` stages; for a network of one long stage, `n` even depths of it."""
        trunk = [tap for tap in self.trunk() if tap.op not in _CUTS]
        producer = {name: node for node in self.model.graph.node for name in node.output}
        carriers = self.carriers
        numbers = [carriers[tap.name] for tap in trunk]
        outputs = {value.name for value in self.model.graph.output}

        def merges(tap: Tap) -> bool:
            node = producer[tap.name]
            return tap.op in _MERGES and sum(name in carriers for name in node.input) > 1

        ends: list[Tap] = []
        blocks: list[Tap] = []
        for first, last in _groups(trunk):
            # A stage that only pools or reshapes repeats the one before it.
            start = numbers[first - 1] + 1 if first else 0
            if not any(node.op_type in _COMPUTING for node in self.model.graph.node[start : numbers[last] + 1]):
                continue
            group = trunk[first : last + 1]
            finished = [tap for tap in group if tap.op in _ACTIVATIONS or merges(tap) or tap.op == "LayerNormalization"]
            if _spatial(group[0]) == ():
                # A classifier's answer says less than what it was computed from.
                group = [tap for tap in finished if tap.op != "LayerNormalization" and tap.name not in outputs]
                finished = group
            if finished or group:
                ends.append((finished or group)[-1])
            blocks += [tap for tap in group if _spatial(tap) and merges(tap) and tap.op in ("Add", "Sum")]
        spatial = [tap for tap in ends if _spatial(tap)]
        if len(spatial) < 3 and len(blocks) >= max(n, 4):
            depths = [round(len(blocks) * (part + 1) / n) - 1 for part in range(n)]
            return [blocks[depth] for depth in depths]
        return ends[-n:]


def _groups(trunk: list[Tap]) -> Iterator[tuple[int, int]]:
    """Yield first and last place of each run of one spatial size."""
    first = 0
    for place in range(1, len(trunk) + 1):
        if place == len(trunk) or _spatial(trunk[place]) != _spatial(trunk[first]):
            yield first, place - 1
            first = place


def _spatial(tap: Tap) -> tuple[int, ...]:
    """Return the spatial size; a map of one pixel is a vector."""
    return () if tap.positions == (1, 1) else tap.positions


def _reshaped(before: tuple[int, ...], after: tuple[int, ...], kind: str | None) -> str | None:
    """Return what the axes mean after a reshape that merges or splits the spatial axes only."""
    if len(before) == 4 and len(after) == 3:
        if kind == "nchw" and before[1] == after[1]:
            return "nct"
        return "tokens" if kind == "nhwc" and before[3] == after[2] else None
    if len(before) == 3 and len(after) == 4:
        if kind == "tokens" and before[2] == after[3] and before[1] == after[1] * after[2]:
            return "nhwc"
        return "nchw" if kind == "nct" and before[1] == after[1] else None
    return None


def _dominators(before: list[list[int]], target: int) -> dict[int, int]:
    """Return each node's immediate dominator, -1 being the picture (Cooper, Harvey, Kennedy 2001)."""
    dominator = {-1: -1}
    for number in range(target + 1):
        sources = [source for source in before[number] if source in dominator]
        if not sources:
            continue
        common = sources[0]
        for other in sources[1:]:
            while common != other:
                if common > other:
                    common = dominator[common]
                else:
                    other = dominator[other]
        dominator[number] = common
    return dominator


def _names(values: Iterable[Any]) -> str:
    return ", ".join(repr(value.name) for value in values)


def _describe(value: Any) -> str:
    tensor = value.type.tensor_type
    element = require("onnx", "graph").TensorProto.DataType.Name(tensor.elem_type)
    return f"{element.lower()} {[dim.dim_value or dim.dim_param or '?' for dim in tensor.shape.dim]}"
