"""Reading an ONNX image network: its image input, the shape and meaning of its tensors, as far as it can be read.

Nothing here changes a network. A tensor is worth reading ("a tap") when it is known what its
axes mean: a map of channels, tokens, or one vector an image. ONNX does not say, so the meaning is followed through
the graph from the operators that fix it: convolutions and pools are channels-first, a Transpose swaps, most others
keep it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import GraphError
from ..images import as_shape
from ..support import require
from .axes import CHANNELS_FIRST, SHUFFLES, axes_made, refuse_blocked
from .nodes import DTYPES, FLOATS, attribute_of, inputs_of, op_of, prune
from .onnx_file import read_model
from .preparation import Layout
from .session import Session
from .weights import as_source, skeleton, without_weights

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["ONE_INPUT", "Network", "Tap"]

ONE_INPUT = "only networks with one image input can be read; export it with that input made a constant"


@dataclass(frozen=True)
class Tap:
    """A tensor of a network that can be read as features.

    Attributes
    ----------
    name : str
        The tensor.
    shape : tuple of int
        Its shape for one image, batch axis included.
    kind : str
        ``"nchw"``, ``"nhwc"`` or another order of these (a map), ``"tokens"`` or ``"vector"``.
    stage : int
        Counts the spatial sizes from the image on: tensors of one size are of one stage.
    op : str
        The operator that makes it.
    axes : str
        What each axis holds: ``n`` images, ``c`` channels, ``h`` and ``w`` height and width, ``t`` tokens.
    extra : (int, int)
        How many tokens stand before those of the image, and how many behind: a class token, registers.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    stage: int
    op: str
    axes: str
    extra: tuple[int, int] = (0, 0)

    @property
    def channels(self) -> int:
        """Length of the vector that pooling makes of it."""
        return self.shape[self.axes.index("c")]

    @property
    def positions(self) -> tuple[int, ...]:
        """Spatial size, (height, width) or (tokens,); empty for a vector."""
        return tuple(self.shape[place] for place in self.places)

    @property
    def places(self) -> tuple[int, ...]:
        """Which axes are those of the positions, height before width."""
        return tuple(self.axes.index(letter) for letter in "hwt" if letter in self.axes)

    @property
    def area(self) -> int:
        """How many places of the image it knows apart; 1 for a vector."""
        return max(math.prod(self.positions) - sum(self.extra), 1)


class Network:
    """A network and what is known about its tensors.

    Parameters
    ----------
    model : path, bytes or onnx.ModelProto
    size : int or (int, int), optional
        Side or (height, width) of its images in pixels; needed when the network takes any size.
    layout : str, optional
        ``"nchw"`` or ``"nhwc"``; needed when neither shape nor operators tell.
    input : str, optional
        The image input, where several could be it.

    Attributes
    ----------
    model : onnx.ModelProto
    input, layout : str
    dtype : int
        Element type of the image input, as of `onnx.TensorProto`.
    size : (int, int)
        Height and width of its images.
    batch : int or None
        The batch size that the network was exported for; None for any.

    Raises
    ------
    GraphError
        When it has no image input, or its size is not known.
    """

    def __init__(
        self,
        model: Any,
        size: int | tuple[int, int] | None = None,
        layout: Layout | None = None,
        input: str | None = None,
    ) -> None:
        if layout not in (None, "nchw", "nhwc"):
            raise ValueError(f"layout must be 'nchw' or 'nhwc', got {layout!r}")
        self.model = read_model(model)
        refuse_blocked(self.model)
        self._no_shapes = "inference gives none"
        value = self._image_input(input)
        self.input = value.name
        tensor = value.type.tensor_type
        self.dtype = tensor.elem_type
        dims = [dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in tensor.shape.dim]
        self.layout: Layout = layout or self._guess_layout(dims)
        channels = dims[1 if self.layout == "nchw" else 3]
        if channels not in (3, None):
            raise GraphError(f"input {self.input!r} must take 3 channels ({self.layout}), got {channels}")
        self.batch = dims[0]
        self.size = self._image_size(dims[2:] if self.layout == "nchw" else dims[1:3], size)

    def _image_input(self, name: str | None) -> Any:
        inputs = list(self.model.graph.input)
        if name is not None:
            inputs = [value for value in inputs if value.name == name]
            if not inputs:
                raise GraphError(f"input must be one of the network's, {_names(self.model.graph.input)}, got {name!r}")
        images = [
            value
            for value in inputs
            if value.type.tensor_type.elem_type in DTYPES and len(value.type.tensor_type.shape.dim) == 4
        ]
        if not images:
            described = ", ".join(f"{value.name!r} {_describe(value)}" for value in inputs) or "none"
            raise GraphError(f"the network has no image input (4 axes, float, float16, double or uint8): {described}")
        if len(images) > 1:
            raise GraphError(f"several inputs could be the image, {_names(images)}: input must name one")
        return images[0]

    def _guess_layout(self, dims: list[int | None]) -> Layout:
        if (dims[1] == 3) != (dims[3] == 3):
            return "nchw" if dims[1] == 3 else "nhwc"
        if None not in dims[1:] and 3 not in (dims[1], dims[3]):
            raise GraphError(f"input {self.input!r} must take 3 channels, got shape {dims}")
        for node in self.model.graph.node:
            if self.input in node.input:
                if node.op_type == "Transpose" and list(attribute_of(node, "perm", ())) == [0, 3, 1, 2]:
                    return "nhwc"
                if op_of(node) in CHANNELS_FIRST:
                    return "nchw"
        raise GraphError(
            f"input {self.input!r} {dims}: cannot tell where its channels are: layout must say, nchw or nhwc"
        )

    def _image_size(self, dims: list[int | None], size: int | tuple[int, int] | None) -> tuple[int, int]:
        wanted = as_shape(size) if size is not None else tuple(dims)
        for dim, side in zip(dims, wanted, strict=True):
            if side is None:
                raise GraphError(f"input {self.input!r} takes images of any size: size must say which")
            if dim not in (None, side):
                raise GraphError(f"input {self.input!r} takes images of {dims[0]} x {dims[1]} pixels, got size {size}")
        return wanted  # type: ignore[return-value]  # no None is left

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input, for one image or for the only batch that it takes."""
        batch, (height, width) = self.batch or 1, self.size
        return (batch, 3, height, width) if self.layout == "nchw" else (batch, height, width, 3)

    @cached_property
    def carriers(self) -> dict[str, int]:
        """Return the tensors that depend on the image and not only on its size, each with the number of its node."""
        found = {self.input: -1}
        for number, node in enumerate(self.model.graph.node):
            if node.op_type not in ("Shape", "Size") and any(name in found for name in inputs_of(node)):
                found.update((name, number) for name in node.output if name)
        return found

    @cached_property
    def others(self) -> dict[str, str]:
        """Return the tensors that another input is needed for, each with that input and what it takes."""
        inputs = [value for value in self.model.graph.input if value.name != self.input]
        found = {value.name: f"{value.name!r} {_describe(value)}" for value in inputs}
        for node in self.model.graph.node if found else ():
            other = next((found[name] for name in inputs_of(node) if name in found), None)
            if other is not None:
                found.update((name, other) for name in node.output if name)
        return found

    @cached_property
    def shapes(self) -> dict[str, tuple[tuple[int, ...], int]]:
        """Return shape and element type of every tensor that depends on the image.

        ONNX's shape inference gives most; for the rest the network is run once, on zeros.
        """
        inferred = require("onnx", "graph").shape_inference.infer_shapes(self._skeleton(), data_prop=True)
        found = {}
        for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output):
            tensor = value.type.tensor_type
            if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim):
                found[value.name] = tuple(dim.dim_value for dim in tensor.shape.dim), tensor.elem_type
        missing = [name for name in self.carriers if name not in found and name not in self.others]
        if missing:
            try:
                found.update(self._run_shapes(missing))
            except GraphError as error:  # perhaps only behind the last tensor that is wanted
                self._no_shapes = str(error)
        return found

    def _skeleton(self) -> ModelProto:
        """Return the network with the input's shape fixed and no large weights: quick to infer shapes of."""
        bare = skeleton(self.model)
        for value in bare.graph.output:
            value.type.tensor_type.ClearField("shape")
        (image,) = (value for value in bare.graph.input if value.name == self.input)
        image.CopyFrom(require("onnx", "graph").helper.make_tensor_value_info(self.input, self.dtype, self.input_shape))
        return bare

    def _run_shapes(self, names: Iterable[str]) -> dict[str, tuple[tuple[int, ...], int]]:
        onnx = require("onnx", "graph")
        probe = without_weights(self.model)
        outputs = [onnx.ValueInfoProto(name=name) for name in names]
        prune(probe, next(value for value in probe.graph.input if value.name == self.input), outputs)
        feeds = {self.input: np.zeros(self.input_shape, DTYPES[self.dtype])}
        with as_source(self.model, probe) as source:
            arrays = Session(source, optimize=False).run(None, feeds)
        types = {np.dtype(dtype): element for element, dtype in DTYPES.items()}
        found = {}
        for name, array in zip(probe.graph.output, arrays, strict=True):
            if isinstance(array, np.ndarray):
                found[name.name] = (array.shape, types.get(array.dtype, 0))
        return found

    @cached_property
    def axes(self) -> dict[str, str]:
        """Return what the axes of tensors mean, where that is known; see `pyhash.networks.axes`."""
        shapes = {name: shape for name, (shape, _) in self.shapes.items()}
        known: dict[str, str] = {self.input: self.layout}
        for node in self.model.graph.node:
            sources = [name for name in inputs_of(node) if name in self.carriers and name in shapes]
            for name in node.output:
                if name in self.carriers and name in shapes:
                    axes = axes_made(node, sources, shapes, known, shapes[name], self.batch or 1)
                    if axes is not None:
                        known[name] = axes
        return known

    @cached_property
    def extra(self) -> dict[str, tuple[int, int]]:
        """Return how many tokens were put before and behind those of the image: class tokens, registers."""
        found: dict[str, tuple[int, int]] = {}
        for node in self.model.graph.node:
            sources = [name for name in node.input if "t" in self.axes.get(name, "")]
            for name in node.output if len(sources) else ():
                if self._tokens(name) == self._tokens(sources[0]):
                    found[name] = found.get(sources[0], (0, 0))
                elif node.op_type == "Concat" and len(sources) == 1 and self._tokens(name):
                    place, n_others = list(node.input).index(sources[0]), len(node.input) - 1
                    added = self._tokens(name) - self._tokens(sources[0])
                    before, behind = found.get(sources[0], (0, 0))
                    if place in (0, n_others):
                        found[name] = (before + added, behind) if place else (before, behind + added)
        return found

    def _tokens(self, name: str) -> int:
        axes = self.axes.get(name, "")
        return self.shapes[name][0][axes.index("t")] if "t" in axes else 0

    @cached_property
    def stages(self) -> dict[int, int]:
        """Return the place of each number of positions, large ones first; what differs by less than half is alike."""
        areas = {tap.area for tap in map(self._tap, self.carriers) if isinstance(tap, Tap)}
        found: dict[int, int] = {}
        stage, first = -1, 0
        for area in sorted(areas, reverse=True):
            if stage < 0 or area == 1 or first >= 2 * area:
                stage, first = stage + 1, area
            found[area] = stage
        return found

    def taps(self) -> list[Tap]:
        """Return every tensor that can be read, in the order of the graph; of what only moves numbers the outputs."""
        nodes = self.model.graph.node
        outputs = {value.name for value in self.model.graph.output}
        found = [
            self.find(name)
            for name, number in self.carriers.items()
            if number >= 0 and (nodes[number].op_type not in SHUFFLES or name in outputs)
        ]
        return [tap for tap in found if isinstance(tap, Tap)]

    def find(self, name: str) -> Tap | str:
        """Return a tensor as a tap, or the reason why it cannot be one."""
        found = self._tap(name)
        return replace(found, stage=self.stages[found.area]) if isinstance(found, Tap) else found

    def _tap(self, name: str) -> Tap | str:
        if name not in self.carriers:
            return "does not depend on the image" if name in self._made() else "is not in the network"
        if name == self.input:
            return "is the image itself"
        if name in self.others:
            return f"also needs the input {self.others[name]}: {ONE_INPUT}"
        if name not in self.shapes:
            return f"has no known shape: {self._no_shapes}"
        shape, element = self.shapes[name]
        if element not in FLOATS:
            return "does not hold floats"
        if not 2 <= len(shape) <= 4:
            return f"must have 2, 3 or 4 axes, got {len(shape)}, {list(shape)}"
        axes = self.axes.get(name)
        batch = 0 if axes is None else axes.index("n")
        if shape[batch] != (self.batch or 1):
            return f"must have the batch as its first axis, got shape {list(shape)} for {self.batch or 1} image"
        if axes is None or not math.prod(shape):
            return f"has axes {list(shape)} of unknown meaning: it is not clear which one holds the channels"
        kind = {2: "vector", 3: "tokens"}.get(len(shape), axes)
        node = self.model.graph.node[self.carriers[name]]
        op = attribute_of(node, "activation", b"").decode() or op_of(node)  # a convolution can have one inside
        return Tap(name, shape, kind, 0, op, axes, self.extra.get(name, (0, 0)))

    def _made(self) -> set[str]:
        graph = self.model.graph
        return {name for node in graph.node for name in node.output}.union(tensor.name for tensor in graph.initializer)


def _names(values: Iterable[Any]) -> str:
    return ", ".join(repr(value.name) for value in values)


def _describe(value: Any) -> str:
    tensor = value.type.tensor_type
    element = require("onnx", "graph").TensorProto.DataType.Name(tensor.elem_type)
    return f"{element.lower()} {[dim.dim_value or dim.dim_param or '?' for dim in tensor.shape.dim]}"
